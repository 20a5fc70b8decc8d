/*
 * One JSON object for a whole turn: its log is read once, when it has ended.
 *
 * A turn that ended with `error` becomes a problem with that error's status, so that a client which does
 * not stream sees failures as HTTP failures. The client's departure is watched as in subscriber.c.
 * Thread: its worker's. Ownership: itself; freed when the request is disposed of.
 */
#include "whole_reply.h"

#include <stdlib.h>

#include "reply.h"
#include "sluice/op.h"
#include "sluice/text.h"

enum { BODY_MAX_BYTES = 64 << 20 };

struct whole_reply {
    struct gw_follower follower;
    struct gw_exchange *exchange;
    struct sl_watch hangup;
    bool is_asking;
};

static void on_wake(struct gw_follower *follower);
static void answer(struct whole_reply *reply);
static int build(const struct gw_feed *feed, struct sl_buffer *body);
static int append_text(const struct gw_turn_log *log, enum sl_event_type type, const char *key,
                       struct sl_buffer *body);
static int append_warnings(const struct gw_turn_log *log, struct sl_buffer *body);
static void on_hangup(struct sl_watch *watch, unsigned events);
static void on_gone(struct gw_exchange *exchange);

int gw_whole_reply_start(struct gw_exchange *exchange, struct gw_feed *feed, bool is_asking)
{
    struct whole_reply *reply = calloc(1, sizeof(*reply));

    if (reply == NULL) {
        return SL_E_NO_MEMORY;
    }
    reply->follower.wake = on_wake;
    reply->exchange = exchange;
    reply->hangup.ready = on_hangup;
    reply->is_asking = is_asking;
    exchange->on_gone = on_gone;
    exchange->waiter = reply;
    exchange->worker->streams++;
    gw_feed_follow(feed, &reply->follower);
    if (feed->log.ended) {
        answer(reply);
        return 0;
    }
    int err = sl_loop_watch(exchange->worker->loop, &reply->hangup, gw_exchange_fd(exchange), 0);
    (void)err; /* a departure is then noticed at the write */
    return 0;
}

static void on_wake(struct gw_follower *follower)
{
    if (follower->feed->log.ended) {
        answer(SL_CONTAINER_OF(follower, struct whole_reply, follower));
    }
}

static void answer(struct whole_reply *reply)
{
    struct gw_exchange *exchange = reply->exchange;
    struct gw_feed *feed = reply->follower.feed;
    struct sl_buffer body;
    int err = feed->error;

    sl_loop_unwatch(exchange->worker->loop, &reply->hangup);
    sl_buffer_init(&body, BODY_MAX_BYTES);
    gw_reply_add_header(exchange->req, "x-session-id", feed->session_id, SL_UUID_TEXT_LEN);
    gw_reply_add_header(exchange->req, "x-turn-id", feed->turn_id, SL_UUID_TEXT_LEN);
    if (err == 0) {
        err = build(feed, &body);
    }
    if (err == 0 && reply->is_asking && feed->log.first_token_seq != 0) {
        gw_feed_token_delivered(feed);
    }
    gw_feed_leave(&reply->follower, 0);
    if (err == 0) {
        gw_reply_json(exchange, 200, body.base, body.len);
    } else {
        gw_reply_problem(exchange, err, NULL, NULL);
    }
    sl_buffer_dispose(&body);
}

static int build(const struct gw_feed *feed, struct sl_buffer *body)
{
    const struct gw_turn_log *log = &feed->log;
    struct gw_event event;
    size_t offset = 0;
    int err = sl_buffer_appendf(body, "{\"session_id\":\"%s\",\"turn_id\":\"%s\",",
                                feed->session_id, feed->turn_id);

    if (err == 0) {
        err = append_text(log, SL_EVENT_TOKEN, "content", body);
    }
    if (err == 0 && log->reasoning_bytes > 0) {
        err = append_text(log, SL_EVENT_REASONING, "reasoning", body);
    }
    if (err == 0) {
        err = append_warnings(log, body);
    }
    while (err == 0 && gw_turn_log_read(log, &offset, &event)) {
        if (event.type == SL_EVENT_DONE) {
            err = sl_buffer_append(body, event.payload, event.payload_len);
        }
    }
    return err != 0 ? err : sl_buffer_append_str(body, "}\n");
}

static int append_text(const struct gw_turn_log *log, enum sl_event_type type, const char *key,
                       struct sl_buffer *body)
{
    struct sl_buffer text;

    sl_buffer_init(&text, body->max);
    int err = gw_turn_log_text(log, type, &text);
    if (err == 0) {
        err = sl_buffer_appendf(body, "\"%s\":", key);
    }
    if (err == 0) {
        err = sl_json_append_string(body, text.base, text.len);
    }
    if (err == 0) {
        err = sl_buffer_append_str(body, ",");
    }
    sl_buffer_dispose(&text);
    return err;
}

static int append_warnings(const struct gw_turn_log *log, struct sl_buffer *body)
{
    struct gw_event event;
    size_t offset = 0;
    bool first = true;
    int err = sl_buffer_append_str(body, "\"warnings\":[");

    while (err == 0 && gw_turn_log_read(log, &offset, &event)) {
        if (event.type == SL_EVENT_WARNING) {
            err = sl_buffer_appendf(body, "%s{%.*s}", first ? "" : ",", (int)event.payload_len,
                                    event.payload);
            first = false;
        }
    }
    return err != 0 ? err : sl_buffer_append_str(body, "],");
}

static void on_hangup(struct sl_watch *watch, unsigned events)
{
    struct whole_reply *reply = SL_CONTAINER_OF(watch, struct whole_reply, hangup);

    (void)events;
    sl_loop_unwatch(reply->exchange->worker->loop, &reply->hangup);
    sl_counter_add(&reply->exchange->worker->stats.clients_gone, 1);
    gw_feed_leave(&reply->follower, SL_E_CLIENT_GONE);
    /* nobody reads it; it ends the request and with it the connection */
    reply->exchange->req->http1_is_persistent = 0;
    gw_reply_problem(reply->exchange, SL_E_CLIENT_GONE, NULL, NULL);
}

static void on_gone(struct gw_exchange *exchange)
{
    struct whole_reply *reply = exchange->waiter;

    sl_loop_unwatch(exchange->worker->loop, &reply->hangup);
    gw_feed_leave(&reply->follower, SL_E_CLIENT_GONE);
    free(reply);
    exchange->worker->streams--;
    gw_worker_check_drained(exchange->worker);
}
