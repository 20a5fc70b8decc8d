/*
 * Turns that live on another loop.
 *
 *      asking loop                           the turn's loop
 *   copy ---- visit (errand) ------------->  source, which follows the turn
 *   copy <--- batch, batch, ... -----------  source, at each wake
 *   copy ---- farewell (errand) ---------->  source leaves and is freed
 *   freed <---
 *
 * Messages of one sender arrive in order, so no batch is on its way any more when the farewell is back.
 * A copy serves all who ask for its turn until it says farewell; they wait in it while its visit is out.
 * Failure modes: there is no such turn; memory that cannot be had aborts (upstream.answer_max_bytes limits
 * what a batch can take).
 * Thread: marked per function. Ownership: the asking loop owns the copy, the turn's loop the source.
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
    struct gw_errand visit, farewell;
    struct sl_link link;   /* copies that others may share */
    struct sl_link asking; /* relays; they are told by `serve` */
    struct sl_task serve;
    struct gw_turns *turns;
    enum gw_relay_wish wish;
    struct sl_uuid turn_id;
    struct gw_user user;
    struct gw_feed feed;
    size_t counted_bytes;
    /* the visit's result; `source` belongs to the other loop */
    int status;
    char session_id[SL_UUID_TEXT_SIZE];
    struct source *source;
    int reason; /* why the last follower left */
    bool is_visited, is_leaving;
    struct sl_task depart;
};

/* On the turn's loop. */
struct source {
    struct gw_follower follower;
    struct copy *copy; /* only named here */
    struct gw_turns *home, *there;
    size_t log_offset;
};

struct batch {
    struct sl_message message;
    struct copy *copy;
    int error; /* how the turn ended, once its last event is here */
    size_t count, len;
    struct gw_event *events; /* behind the struct; their payloads follow */
};

static struct copy *find(const struct gw_relay *relay);
static struct copy *create(const struct gw_relay *relay);
static void visit(struct gw_errand *errand);
static void on_visited(struct gw_errand *errand);
static void serve(struct sl_task *task);
static void answer_all(struct copy *copy);
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
    struct copy *copy = find(relay);

    sl_op_start(&relay->op);
    relay->finish.run = finish_cancelled;
    if (copy == NULL) {
        copy = create(relay);
    } else if (copy->is_visited) {
        sl_loop_defer(copy->turns->loop, &copy->serve);
    }
    relay->copy = copy;
    sl_list_append(&copy->asking, &relay->link);
}

/* A copy of this user's that is not on its way out. A stop has nothing to share. */
static struct copy *find(const struct gw_relay *relay)
{
    if (relay->wish != GW_RELAY_FOLLOW) {
        return NULL;
    }
    SL_LIST_EACH(gw_turns_bucket(relay->turns->copies, &relay->turn_id), link, after)
    {
        struct copy *copy = SL_CONTAINER_OF(link, struct copy, link);
        if (sl_uuid_equal(&copy->turn_id, &relay->turn_id) &&
            copy->user.id_len == relay->user->id_len &&
            memcmp(copy->user.id, relay->user->id, copy->user.id_len) == 0) {
            return copy;
        }
    }
    return NULL;
}

/* Makes one and sends its visit. */
static struct copy *create(const struct gw_relay *relay)
{
    struct copy *copy = calloc(1, sizeof(*copy));
    const struct sl_uuid unknown = {{0}};

    if (copy == NULL) {
        abort();
    }
    copy->turns = relay->turns;
    copy->wish = relay->wish;
    copy->turn_id = relay->turn_id;
    copy->user = *relay->user;
    copy->serve.run = serve;
    copy->depart.run = depart;
    copy->visit = (struct gw_errand){.run = visit, .back = on_visited};
    copy->farewell = (struct gw_errand){.run = say_farewell, .back = on_farewell_said};
    sl_list_init(&copy->asking);
    if (copy->wish == GW_RELAY_FOLLOW) {
        sl_list_append(gw_turns_bucket(copy->turns->copies, &copy->turn_id), &copy->link);
    }
    /* events may arrive before the visit is back */
    gw_feed_init(&copy->feed, &feed_owner, &copy->turn_id, &unknown, SIZE_MAX / 2);
    gw_turns_go_away(copy->turns); /* the copy itself, until it is destroyed */
    gw_errand_send(&copy->visit, copy->turns, gw_turns_of(copy->turns, &copy->turn_id));
    return copy;
}

/* On the turn's loop. */
static void visit(struct gw_errand *errand)
{
    struct copy *copy = SL_CONTAINER_OF(errand, struct copy, visit);
    struct gw_turn *turn =
        gw_turns_find(errand->to, &copy->turn_id, copy->user.id, copy->user.id_len);

    if (turn == NULL) {
        copy->status = SL_E_NOT_FOUND;
        return;
    }
    if (copy->wish == GW_RELAY_STOP) {
        gw_turn_stop(turn);
        return;
    }
    struct source *source = calloc(1, sizeof(*source));
    if (source == NULL) {
        abort();
    }
    source->follower.wake = on_wake;
    source->copy = copy;
    source->home = errand->to;
    source->there = errand->from;
    copy->source = source;
    memcpy(copy->session_id, gw_turn_feed(turn)->session_id, sizeof(copy->session_id));
    gw_feed_follow(gw_turn_feed(turn), &source->follower);
    on_wake(&source->follower); /* what there is already */
}

/* Back on the asking loop. */
static void on_visited(struct gw_errand *errand)
{
    struct copy *copy = SL_CONTAINER_OF(errand, struct copy, visit);

    if (copy->status != 0 || copy->wish == GW_RELAY_STOP) {
        sl_link_remove(&copy->link); /* who asks from now on may find what was not there yet */
        answer_all(copy);
        destroy(copy);
        return;
    }
    copy->is_visited = true;
    memcpy(copy->feed.session_id, copy->session_id, sizeof(copy->session_id));
    copy->reason = SL_E_CLIENT_GONE; /* unless a follower comes and leaves for another one */
    serve(&copy->serve);
}

static void serve(struct sl_task *task)
{
    struct copy *copy = SL_CONTAINER_OF(task, struct copy, serve);

    answer_all(copy);
    if (sl_list_is_empty(&copy->feed.followers)) {
        sl_loop_defer(copy->turns->loop, &copy->depart);
    }
}

static void answer_all(struct copy *copy)
{
    struct sl_link *first;

    while ((first = sl_list_first(&copy->asking)) != NULL) {
        struct gw_relay *relay = SL_CONTAINER_OF(first, struct gw_relay, link);
        sl_link_remove(first);
        relay->copy = NULL;
        relay->feed = copy->status == 0 ? &copy->feed : NULL;
        sl_op_finish(&relay->op, copy->status);
    }
}

void gw_relay_cancel(struct gw_relay *relay)
{
    if (relay->copy != NULL) {
        sl_link_remove(&relay->link);
        relay->copy = NULL;
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

    if (!copy->is_leaving && sl_list_is_empty(&copy->feed.followers) &&
        sl_list_is_empty(&copy->asking)) {
        copy->is_leaving = true;
        sl_link_remove(&copy->link);
        gw_errand_send(&copy->farewell, copy->turns, copy->visit.to);
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

    sl_loop_undefer(turns->loop, &copy->serve);
    sl_loop_undefer(turns->loop, &copy->depart);
    sl_counter_add(&turns->stats->log_bytes, -(uint64_t)copy->counted_bytes);
    gw_feed_dispose(&copy->feed);
    free(copy);
    gw_turns_come_back(turns);
}
