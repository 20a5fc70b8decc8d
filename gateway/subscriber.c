/*
 * One SSE response that follows a feed.
 *
 * Happy path: start sends the head and the first event in one write. Each wake encodes all events that
 * are new into the subscriber's buffer and hands them to h2o as one send; until h2o says that it was
 * written (proceed), new events just wait in the log: that is the whole flow control. A reader that is
 * far behind gets the log in pieces of SEND_BYTES, so that it costs no second copy of it. The last
 * event goes out together with the end of the body.
 *
 * Failure modes: the client leaves (seen by EPOLLRDHUP on the connection, because h2o 2.2.5 stops
 * looking at a connection while a response is under way; or by a failing write, as disposal of the
 * request); it stops reading (takes nothing for http.write_timeout_ms; seen after twice that at the
 * latest). Both cut the connection without a clean end. One timer serves heartbeats and the write
 * timeout; it is not touched by sends.
 *
 * Thread: its worker's. Ownership: itself; freed when the request is disposed of.
 */
#include "subscriber.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "config.h"
#include "encoder_native.h"
#include "reply.h"
#include "sluice/op.h"

enum {
    SEND_BYTES = 64 << 10, /* enough for one send */
    KEEP_BYTES = 4 << 10,  /* of memory, while nothing is sent */
    SEND_MAX_BYTES =
        SEND_BYTES * 4 /* one event more: 16 KiB of text, escaped (turn.c), and its frame */
};

struct subscriber {
    h2o_generator_t generator; /* h2o calls us back through it */
    struct gw_follower follower;
    struct gw_exchange *exchange;
    struct sl_watch hangup;
    struct sl_timer timer;
    struct sl_buffer sending; /* must not change while a send is in flight */
    size_t log_offset;
    uint32_t after;        /* events up to this one are skipped */
    const char *id_prefix; /* NULL: no id lines */
    char id_text[SL_UUID_TEXT_SIZE];
    uint64_t
        last_send_us; /* or when the client was last seen to take something of what is in flight */
    uint64_t taken_bytes; /* by then */
    bool in_flight, ended;
    bool awaits_token; /* the first one has yet to be written, and its time counts */
};

static void on_wake(struct gw_follower *follower);
static void add_headers(struct subscriber *subscriber, const struct gw_feed *feed);
static bool encode_new_events(struct subscriber *subscriber, const struct gw_turn_log *log);
static void send_new_events(struct subscriber *subscriber);
static void send_heartbeat(struct subscriber *subscriber);
static void on_written(h2o_generator_t *generator, h2o_req_t *req);
static void on_hangup(struct sl_watch *watch, unsigned events);
static void on_timer(struct sl_timer *timer);
static void arm(struct subscriber *subscriber);
static void cut(struct subscriber *subscriber, int reason);
static void on_gone(struct gw_exchange *exchange);

int gw_subscriber_start(struct gw_exchange *exchange, struct gw_feed *feed,
                        const struct gw_subscription *subscription)
{
    struct subscriber *subscriber = calloc(1, sizeof(*subscriber));

    if (subscriber == NULL) {
        return SL_E_NO_MEMORY;
    }
    subscriber->generator.proceed = on_written;
    subscriber->follower.wake = on_wake;
    subscriber->exchange = exchange;
    subscriber->after = subscription->after;
    subscriber->awaits_token = subscription->is_asking;
    subscriber->hangup.ready = on_hangup;
    subscriber->timer.expired = on_timer;
    sl_buffer_init(&subscriber->sending, SEND_MAX_BYTES);
    if (subscription->with_ids) {
        memcpy(subscriber->id_text, feed->turn_id, SL_UUID_TEXT_LEN);
        subscriber->id_prefix = subscriber->id_text;
    }
    exchange->on_gone = on_gone;
    exchange->waiter = subscriber;
    exchange->worker->streams++;
    gw_feed_follow(feed, &subscriber->follower);

    add_headers(subscriber, feed);
    h2o_start_response(exchange->req, &subscriber->generator);
    send_new_events(subscriber);
    if (!subscriber->in_flight && !subscriber->ended) {
        send_heartbeat(subscriber); /* h2o sends the head along with the first bytes of a body */
    }
    if (subscription->is_asking) {
        sl_histogram_record(&exchange->worker->stats.session_event,
                            subscriber->last_send_us - exchange->received_us);
    }
    /* an epoll that refuses the descriptor only means that a departure is noticed at the next write */
    int err =
        sl_loop_watch(exchange->worker->loop, &subscriber->hangup, gw_exchange_fd(exchange), 0);
    (void)err;
    arm(subscriber);
    return 0;
}

static void add_headers(struct subscriber *subscriber, const struct gw_feed *feed)
{
    h2o_req_t *req = subscriber->exchange->req;

    req->res.status = 200;
    req->res.reason = "OK";
    req->compress_hint =
        H2O_COMPRESS_HINT_DISABLE; /* it would hold events back; we say no-transform */
    gw_reply_add_header(req, "content-type", H2O_STRLIT("text/event-stream; charset=utf-8"));
    gw_reply_add_header(req, "cache-control", H2O_STRLIT("no-cache, no-transform"));
    gw_reply_add_header(req, "x-accel-buffering", H2O_STRLIT("no"));
    gw_reply_add_header(req, "x-content-type-options", H2O_STRLIT("nosniff"));
    gw_reply_add_header(req, "x-session-id", feed->session_id, SL_UUID_TEXT_LEN);
    gw_reply_add_header(req, "x-turn-id", feed->turn_id, SL_UUID_TEXT_LEN);
    gw_reply_add_common_headers(subscriber->exchange);
}

/* ---------------------------------------------------------------- sending */

static void on_wake(struct gw_follower *follower)
{
    struct subscriber *subscriber = SL_CONTAINER_OF(follower, struct subscriber, follower);

    if (!subscriber->in_flight) {
        send_new_events(subscriber);
    }
}

static void on_written(h2o_generator_t *generator, h2o_req_t *req)
{
    struct subscriber *subscriber = SL_CONTAINER_OF(generator, struct subscriber, generator);

    (void)req;
    subscriber->in_flight = false;
    subscriber->last_send_us = sl_loop_now_us(subscriber->exchange->worker->loop);
    send_new_events(subscriber);
}

static void send_new_events(struct subscriber *subscriber)
{
    struct gw_feed *feed = subscriber->follower.feed;

    if (feed == NULL || subscriber->ended) {
        return;
    }
    if (subscriber->sending.capacity > KEEP_BYTES) {
        sl_buffer_dispose(&subscriber->sending);
    }
    sl_buffer_clear(&subscriber->sending);
    bool has_token = encode_new_events(subscriber, &feed->log);
    if (subscriber->sending.len == 0) {
        return;
    }
    h2o_iovec_t bytes = h2o_iovec_init(subscriber->sending.base, subscriber->sending.len);
    subscriber->in_flight = true;
    subscriber->ended = gw_turn_log_is_read(&feed->log, subscriber->log_offset);
    h2o_send(subscriber->exchange->req, &bytes, 1,
             subscriber->ended ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_IN_PROGRESS);
    subscriber->last_send_us = sl_loop_now_us(subscriber->exchange->worker->loop);
    if (has_token && subscriber->awaits_token) {
        subscriber->awaits_token = false;
        gw_feed_token_delivered(feed);
    }
    if (subscriber->ended) {
        gw_feed_leave(&subscriber->follower, 0);
    }
}

/* Encodes what the log has beyond our offset, up to what is enough for one send. True: a token is among it. */
static bool encode_new_events(struct subscriber *subscriber, const struct gw_turn_log *log)
{
    struct gw_event event;
    bool has_token = false;

    while (subscriber->sending.len < SEND_BYTES &&
           gw_turn_log_read(log, &subscriber->log_offset, &event)) {
        if (event.seq <= subscriber->after) {
            continue;
        }
        if (gw_encoder_native_event(&event, subscriber->id_prefix, &subscriber->sending) != 0) {
            abort(); /* larger than any event, or out of memory for some kilobytes */
        }
        has_token = has_token || event.type == SL_EVENT_TOKEN;
    }
    return has_token;
}

/* ---------------------------------------------------------------- silence */

static void arm(struct subscriber *subscriber)
{
    const struct gw_config *config = subscriber->exchange->worker->config;
    uint64_t write_us = 1000UL * config->http.write_timeout_ms;
    uint64_t heartbeat_us = 1000000UL * config->chat.heartbeat_s;
    uint64_t longest_us = write_us < heartbeat_us
                              ? write_us
                              : heartbeat_us; /* so that a send in between is noticed */
    uint64_t now_us = sl_loop_now_us(subscriber->exchange->worker->loop);
    uint64_t due_us = subscriber->last_send_us + (subscriber->in_flight ? write_us : heartbeat_us);
    uint64_t wait_us = due_us > now_us ? due_us - now_us : 0;

    sl_loop_arm(subscriber->exchange->worker->loop, &subscriber->timer,
                wait_us < longest_us ? wait_us : longest_us);
}

static void on_timer(struct sl_timer *timer)
{
    struct subscriber *subscriber = SL_CONTAINER_OF(timer, struct subscriber, timer);
    struct gw_worker *worker = subscriber->exchange->worker;
    uint64_t now_us = sl_loop_now_us(worker->loop);
    uint64_t silent_us = now_us - subscriber->last_send_us;

    if (subscriber->in_flight) {
        uint64_t taken_bytes = gw_exchange_taken_bytes(subscriber->exchange);
        if (taken_bytes != subscriber->taken_bytes) {
            subscriber->taken_bytes = taken_bytes;
            subscriber->last_send_us = now_us;
        } else if (silent_us >= 1000UL * worker->config->http.write_timeout_ms) {
            cut(subscriber, SL_E_SLOW_READER);
            return;
        }
    } else if (!subscriber->ended && silent_us >= 1000000UL * worker->config->chat.heartbeat_s) {
        send_heartbeat(subscriber);
    }
    arm(subscriber);
}

static void send_heartbeat(struct subscriber *subscriber)
{
    struct gw_worker *worker = subscriber->exchange->worker;

    sl_buffer_clear(&subscriber->sending);
    if (gw_encoder_native_heartbeat(subscriber->id_prefix != NULL, &subscriber->sending) != 0) {
        return; /* no memory for four bytes: the next one may find some */
    }
    h2o_iovec_t bytes = h2o_iovec_init(subscriber->sending.base, subscriber->sending.len);
    subscriber->in_flight = true;
    subscriber->last_send_us = sl_loop_now_us(worker->loop);
    sl_counter_add(&worker->stats.heartbeats, 1);
    h2o_send(subscriber->exchange->req, &bytes, 1, H2O_SEND_STATE_IN_PROGRESS);
}

/* ---------------------------------------------------------------- the end */

static void on_hangup(struct sl_watch *watch, unsigned events)
{
    struct subscriber *subscriber = SL_CONTAINER_OF(watch, struct subscriber, hangup);

    (void)events;
    cut(subscriber, SL_E_CLIENT_GONE);
}

/*
 * Breaks the connection without a clean end of the body. Shutting the descriptor down makes a write
 * that is in flight fail, after which h2o disposes of the request; without one, a send in the error
 * state does the same.
 */
static void cut(struct subscriber *subscriber, int reason)
{
    struct gw_exchange *exchange = subscriber->exchange;

    sl_loop_unwatch(exchange->worker->loop, &subscriber->hangup);
    sl_loop_disarm(exchange->worker->loop, &subscriber->timer);
    sl_counter_add(&exchange->worker->stats.clients_gone, 1);
    gw_feed_leave(&subscriber->follower, reason);
    (void)shutdown(gw_exchange_fd(exchange), SHUT_RDWR);
    if (!subscriber->in_flight && !subscriber->ended) {
        h2o_iovec_t nothing = h2o_iovec_init("", 0);
        subscriber->ended = true;
        h2o_send(exchange->req, &nothing, 1, H2O_SEND_STATE_ERROR);
    }
}

static void on_gone(struct gw_exchange *exchange)
{
    struct subscriber *subscriber = exchange->waiter;

    sl_loop_unwatch(exchange->worker->loop, &subscriber->hangup);
    sl_loop_disarm(exchange->worker->loop, &subscriber->timer);
    if (subscriber->follower.feed != NULL) {
        sl_counter_add(&exchange->worker->stats.clients_gone, 1);
        gw_feed_leave(&subscriber->follower, SL_E_CLIENT_GONE);
    }
    sl_buffer_dispose(&subscriber->sending);
    free(subscriber);
    exchange->worker->streams--;
    gw_worker_check_drained(exchange->worker);
}
