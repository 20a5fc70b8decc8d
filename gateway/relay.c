/*
 * Turns that live on another loop.
 *
 *      asking loop                           the turn's loop
 *   relay ---- visit (errand) ------------>  is there such a turn? stop it, or:
 *   copy                                     source, which follows the turn
 *   copy <---- batch, batch, ... ----------  source, at each wake
 *   relay <--- the visit is back ----------
 *   copy ----- farewell (errand) --------->  source leaves and is freed
 *   freed <---
 *
 * All who follow a turn from this loop share one copy, until it says farewell. Each sends a visit all the
 * same: messages of one sender arrive in order, so when it is back the copy has everything that the turn
 * had said when it was asked for, which is at least what its client has read; and no batch is on its way
 * any more when the farewell is back.
 * Failure modes: there is no such turn. Memory that cannot be had aborts.
 * Thread: marked per function. Ownership: the asking loop owns copies and visits, the turn's loop sources.
 */
#include "relay.h"

#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "errand.h"
#include "stats.h"
#include "turn.h"

/* On the asking loop. */
struct copy {
    struct gw_errand farewell;
    struct sl_link link; /* in turns->copies, until the farewell */
    struct gw_turns *turns;
    struct sl_uuid turn_id;
    struct gw_user user;
    struct gw_feed feed;
    size_t counted_bytes;
    unsigned visits; /* that are not back yet */
    int reason;      /* why the last follower left */
    struct sl_task depart;
    /* set by the first visit that finds the turn; looked at here only while none is under way */
    struct source *source;
    char session_id[SL_UUID_TEXT_SIZE];
};

struct visit {
    struct gw_errand errand;
    struct gw_relay *relay; /* who asked; NULL: nobody waits any more */
    struct copy *copy;      /* NULL: to stop it */
    struct sl_uuid turn_id;
    struct gw_user user;
    int status;
};

/* On the turn's loop. */
struct source {
    struct gw_follower follower;
    struct copy *copy; /* only named here */
    struct gw_turns *there;
    size_t log_offset;
};

struct batch {
    struct sl_message message;
    struct copy *copy;
    int error; /* how the turn ended, once its last event is here */
    size_t count;
    struct gw_event *events; /* behind the struct; their payloads follow */
};

static struct copy *find_or_create(const struct gw_relay *relay);
static void visit(struct gw_errand *errand);
static void follow(struct copy *copy, struct gw_turns *there, struct gw_feed *feed);
static void on_visited(struct gw_errand *errand);
static void on_wake(struct gw_follower *follower);
static void receive_batch(struct sl_message *message);
static void on_left(struct gw_feed *feed, int reason);
static void on_token_delivered(struct gw_feed *feed);
static void depart(struct sl_task *task);
static void say_farewell(struct gw_errand *errand);
static void on_farewell_said(struct gw_errand *errand);
static void finish_cancelled(struct sl_task *task);
static void destroy(struct copy *copy);

static const struct gw_feed_owner feed_owner = {on_left, on_token_delivered};

void gw_relay_start(struct gw_relay *relay)
{
    struct visit *visitor = calloc(1, sizeof(*visitor));

    if (visitor == NULL) {
        abort();
    }
    sl_op_start(&relay->op);
    relay->finish.run = finish_cancelled;
    relay->visit = visitor;
    visitor->errand = (struct gw_errand){.run = visit, .back = on_visited};
    visitor->relay = relay;
    visitor->turn_id = relay->turn_id;
    visitor->user = *relay->user;
    if (relay->wish == GW_RELAY_FOLLOW) {
        visitor->copy = find_or_create(relay);
        visitor->copy->visits++;
    }
    gw_errand_send(&visitor->errand, relay->turns, gw_turns_of(relay->turns, &relay->turn_id));
}

static struct copy *find_or_create(const struct gw_relay *relay)
{
    struct sl_link *bucket = gw_turns_bucket(relay->turns->copies, &relay->turn_id);
    const struct sl_uuid unknown = {{0}};

    SL_LIST_EACH(bucket, link, after)
    {
        struct copy *copy = SL_CONTAINER_OF(link, struct copy, link);
        if (sl_uuid_equal(&copy->turn_id, &relay->turn_id) &&
            copy->user.id_len == relay->user->id_len &&
            memcmp(copy->user.id, relay->user->id, copy->user.id_len) == 0) {
            return copy;
        }
    }
    struct copy *copy = calloc(1, sizeof(*copy));
    if (copy == NULL) {
        abort();
    }
    copy->turns = relay->turns;
    copy->turn_id = relay->turn_id;
    copy->user = *relay->user;
    copy->depart.run = depart;
    copy->farewell = (struct gw_errand){.run = say_farewell, .back = on_farewell_said};
    /* events may arrive before the visit is back */
    gw_feed_init(&copy->feed, &feed_owner, &copy->turn_id, &unknown, SIZE_MAX / 2);
    sl_list_append(bucket, &copy->link);
    gw_turns_go_away(copy->turns); /* until it is destroyed */
    return copy;
}

/* On the turn's loop. */
static void visit(struct gw_errand *errand)
{
    struct visit *visitor = SL_CONTAINER_OF(errand, struct visit, errand);
    struct copy *copy = visitor->copy;

    if (copy != NULL && copy->source != NULL) {
        if (copy->source->follower.feed != NULL) { /* else it has had the last event */
            on_wake(&copy->source->follower);
        }
        return;
    }
    struct gw_turn *turn =
        gw_turns_find(errand->to, &visitor->turn_id, visitor->user.id, visitor->user.id_len);
    if (turn == NULL) {
        visitor->status = SL_E_NOT_FOUND;
    } else if (copy == NULL) {
        gw_turn_stop(turn);
    } else {
        follow(copy, errand->from, gw_turn_feed(turn));
    }
}

static void follow(struct copy *copy, struct gw_turns *there, struct gw_feed *feed)
{
    struct source *source = calloc(1, sizeof(*source));

    if (source == NULL) {
        abort();
    }
    source->follower.wake = on_wake;
    source->copy = copy;
    source->there = there;
    copy->source = source;
    memcpy(copy->session_id, feed->session_id, sizeof(copy->session_id));
    gw_feed_follow(feed, &source->follower);
    on_wake(&source->follower); /* what there is already */
}

/* Back on the asking loop. */
static void on_visited(struct gw_errand *errand)
{
    struct visit *visitor = SL_CONTAINER_OF(errand, struct visit, errand);
    struct gw_relay *relay = visitor->relay;
    struct copy *copy = visitor->copy;
    int status = visitor->status;

    free(visitor);
    if (copy != NULL && status == 0) {
        memcpy(copy->feed.session_id, copy->session_id, sizeof(copy->session_id));
    }
    if (copy != NULL && sl_list_is_empty(&copy->feed.followers)) {
        copy->reason =
            SL_E_CLIENT_GONE; /* unless a follower comes now and leaves for another one */
    }
    if (relay != NULL) {
        relay->visit = NULL;
        relay->feed = copy != NULL && status == 0 ? &copy->feed : NULL;
        sl_op_finish(&relay->op, status);
    }
    if (copy != NULL) {
        copy->visits--;
        sl_loop_defer(copy->turns->loop, &copy->depart); /* if nobody has come to follow it */
    }
}

void gw_relay_cancel(struct gw_relay *relay)
{
    if (relay->visit != NULL) {
        relay->visit->relay = NULL;
        relay->visit = NULL;
        sl_loop_defer(relay->turns->loop, &relay->finish);
    }
}

static void finish_cancelled(struct sl_task *task)
{
    sl_op_finish(&SL_CONTAINER_OF(task, struct gw_relay, finish)->op, SL_E_CANCELLED);
}

/* ---------------------------------------------------------------- events on their way */

/* On the turn's loop: everything new, as one message. */
static void on_wake(struct gw_follower *follower)
{
    struct source *source = SL_CONTAINER_OF(follower, struct source, follower);
    const struct gw_turn_log *log = &follower->feed->log;
    size_t offset = source->log_offset, count = 0, len = 0;
    struct gw_event event;

    while (gw_turn_log_read(log, &offset, &event)) {
        count++;
        len += event.payload_len;
    }
    if (count == 0) {
        return;
    }
    struct batch *batch = malloc(sizeof(*batch) + count * sizeof(event) + len);
    if (batch == NULL) {
        abort();
    }
    *batch = (struct batch){
        .message.receive = receive_batch,
        .copy = source->copy,
        .error = follower->feed->error,
        .count = count,
        .events = (struct gw_event *)(void *)(batch + 1),
    };
    char *text = (char *)(batch->events + count);
    for (size_t i = 0; i < count && gw_turn_log_read(log, &source->log_offset, &event); i++) {
        memcpy(text, event.payload, event.payload_len);
        event.payload = text;
        text += event.payload_len;
        batch->events[i] = event;
    }
    bool is_last = log->ended;
    sl_loop_post(source->there->loop, &batch->message);
    if (is_last) {
        gw_feed_leave(follower, 0); /* the turn need not wait for our readers */
    }
}

/* On the asking loop. */
static void receive_batch(struct sl_message *message)
{
    struct batch *batch = SL_CONTAINER_OF(message, struct batch, message);
    struct copy *copy = batch->copy;

    for (size_t i = 0; i < batch->count; i++) {
        const struct gw_event *event = &batch->events[i];
        if (gw_turn_log_append(&copy->feed.log, event->type, event->payload, event->payload_len) !=
            0) {
            abort();
        }
    }
    copy->feed.error = batch->error;
    size_t bytes = sizeof(*copy) + copy->feed.log.bytes.capacity;
    sl_counter_add(&copy->turns->stats->log_bytes, bytes - copy->counted_bytes);
    copy->counted_bytes = bytes;
    free(batch);
    gw_feed_publish(&copy->feed);
}

/* ---------------------------------------------------------------- leaving */

static void on_left(struct gw_feed *feed, int reason)
{
    struct copy *copy = SL_CONTAINER_OF(feed, struct copy, feed);

    if (sl_list_is_empty(&feed->followers)) {
        copy->reason = reason;
        sl_loop_defer(copy->turns->loop, &copy->depart); /* somebody may be at work in it */
    }
}

/* The time to the first token is measured where the question was asked. */
static void on_token_delivered(struct gw_feed *feed)
{
    (void)feed;
}

static void depart(struct sl_task *task)
{
    struct copy *copy = SL_CONTAINER_OF(task, struct copy, depart);

    if (!sl_link_is_listed(&copy->link) || copy->visits > 0 ||
        !sl_list_is_empty(&copy->feed.followers)) {
        return;
    }
    sl_link_remove(&copy->link);
    if (copy->source == NULL) {
        destroy(copy); /* there was no such turn */
    } else {
        gw_errand_send(&copy->farewell, copy->turns, gw_turns_of(copy->turns, &copy->turn_id));
    }
}

/* On the turn's loop. */
static void say_farewell(struct gw_errand *errand)
{
    struct copy *copy = SL_CONTAINER_OF(errand, struct copy, farewell);

    gw_feed_leave(&copy->source->follower, copy->reason);
    free(copy->source);
    copy->source = NULL;
}

static void on_farewell_said(struct gw_errand *errand)
{
    destroy(SL_CONTAINER_OF(errand, struct copy, farewell));
}

static void destroy(struct copy *copy)
{
    struct gw_turns *turns = copy->turns;

    sl_loop_undefer(turns->loop, &copy->depart);
    sl_counter_add(&turns->stats->log_bytes, -(uint64_t)copy->counted_bytes);
    gw_feed_dispose(&copy->feed);
    free(copy);
    gw_turns_come_back(turns);
}
