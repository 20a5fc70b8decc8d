/* The log of a turn together with those who follow it. Thread and ownership: see feed.h. */
#include "feed.h"

#include "sluice/op.h"

void gw_feed_init(struct gw_feed *feed, const struct gw_feed_owner *owner,
                  const struct sl_uuid *turn_id, const struct sl_uuid *session_id, size_t max_bytes)
{
    *feed = (struct gw_feed){.owner = owner};
    gw_turn_log_init(&feed->log, max_bytes);
    sl_list_init(&feed->followers);
    sl_uuid_format(turn_id, feed->turn_id);
    sl_uuid_format(session_id, feed->session_id);
}

void gw_feed_dispose(struct gw_feed *feed)
{
    gw_turn_log_dispose(&feed->log);
}

void gw_feed_publish(struct gw_feed *feed)
{
    if (feed->published_seq == feed->log.last_seq) {
        return;
    }
    feed->published_seq = feed->log.last_seq;
    SL_LIST_EACH(&feed->followers, link, after) /* a follower that is done leaves inside wake */
    {
        struct gw_follower *follower = SL_CONTAINER_OF(link, struct gw_follower, link);
        follower->wake(follower);
    }
}

void gw_feed_follow(struct gw_feed *feed, struct gw_follower *follower)
{
    follower->feed = feed;
    sl_list_append(&feed->followers, &follower->link);
}

void gw_feed_leave(struct gw_follower *follower, int reason)
{
    struct gw_feed *feed = follower->feed;

    if (feed == NULL) {
        return;
    }
    sl_link_remove(&follower->link);
    follower->feed = NULL;
    feed->owner->left(feed, reason);
}

void gw_feed_token_delivered(struct gw_feed *feed)
{
    feed->owner->token_delivered(feed);
}
