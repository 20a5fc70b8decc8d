/*
 * POST /api/v1/chat/message/stream: a question comes in, a turn is born, its feed is followed.
 *
 * A request that carries Last-Event-ID follows that turn and starts none: clients that reconnect repeat
 * their POST (clients.md section 0, finding 5). One that carries a key of the client's own may be a
 * repeat; turn_request.c finds out. Errors up to the birth of the turn are plain HTTP errors, and overload
 * is refused before anything has been asked of the stores or the model, so that refusing costs nothing.
 * Thread: the request's worker.
 */
#include "chat_route.h"

#include <string.h>

#include "config.h"
#include "event_id.h"
#include "reply.h"
#include "routes.h"
#include "subscriber.h"
#include "turn.h"
#include "user_turns.h"
#include "whole_reply.h"

static int take_key(const struct gw_exchange *exchange, struct gw_chat_request *request);
static void take_trace(const struct gw_exchange *exchange, struct gw_chat_request *request);
static bool wants_timings(const struct gw_exchange *exchange);
static int admit(struct gw_exchange *exchange, uint32_t *ret_user_ticket);
static bool take_place(struct gw_server *server, unsigned turns_max);
static void give_place_back(struct gw_server *server);
static size_t log_bytes(const struct gw_server *server);
static void refuse(struct gw_exchange *exchange, int err);

void gw_chat_route(struct gw_exchange *exchange)
{
    struct gw_worker *worker = exchange->worker;
    struct gw_chat_request request;
    struct gw_request_error error = {.param = ""};
    h2o_iovec_t entity = exchange->req->entity;
    h2o_iovec_t last_event = gw_exchange_header(exchange, "last-event-id");
    struct sl_uuid turn_id;
    struct gw_turn_view view = {.stream = true};

    if (last_event.len > 0) {
        if (gw_event_id_parse(last_event.base, last_event.len, &turn_id, &view.after)) {
            gw_turn_request_follow(exchange, &turn_id, &view);
        } else {
            gw_reply_problem(exchange, SL_E_INVALID_VALUE, "Last-Event-ID is not one of ours.",
                             "Last-Event-ID");
        }
        return;
    }
    if (worker->draining) {
        exchange->req->http1_is_persistent = 0;
        refuse(exchange, SL_E_SHUTTING_DOWN);
        return;
    }
    if (!gw_exchange_is_json(exchange)) {
        gw_reply_problem(exchange, SL_E_UNSUPPORTED_MEDIA_TYPE, NULL, NULL);
        return;
    }
    int err = gw_chat_request_parse(entity.base, entity.len, worker->config, &request, &error);
    if (err != 0) {
        gw_reply_problem(exchange, err, error.detail, error.param);
        return;
    }
    take_trace(exchange, &request);
    request.debug_timings = wants_timings(exchange);
    err = take_key(exchange, &request);
    if (err != 0) {
        gw_chat_request_dispose(&request);
        gw_reply_problem(
            exchange, err,
            "Idempotency-Key must be 1 to 64 printable ASCII characters, and the same as "
            "client_message_id where both are given.",
            "Idempotency-Key");
    } else if (request.client_message_id[0] != '\0') {
        gw_turn_request_ask(exchange, &request);
    } else {
        struct sl_uuid id = gw_turns_new_id(&worker->turns);
        (void)gw_chat_begin(exchange, &id, &request);
    }
}

/* RFC draft "Idempotency-Key": the header names what `client_message_id` names in the body. */
static int take_key(const struct gw_exchange *exchange, struct gw_chat_request *request)
{
    h2o_iovec_t key = gw_exchange_header(exchange, "idempotency-key");

    if (key.base == NULL) {
        return 0;
    }
    if (!gw_chat_request_key_is_valid(key.base, key.len)) {
        return SL_E_INVALID_VALUE;
    }
    if (request->client_message_id[0] != '\0') {
        bool is_same = strlen(request->client_message_id) == key.len &&
                       memcmp(request->client_message_id, key.base, key.len) == 0;
        return is_same ? 0 : SL_E_INVALID_VALUE;
    }
    memcpy(request->client_message_id, key.base, key.len);
    request->client_message_id[key.len] = '\0';
    return 0;
}

/*
 * The trace that the caller is in. What is ill-formed, or there twice, is as good as not there
 * (Trace Context section 3.2); without it the state means nothing.
 */
static void take_trace(const struct gw_exchange *exchange, struct gw_chat_request *request)
{
    const h2o_headers_t *headers = &exchange->req->headers;
    struct sl_buffer state;
    size_t parents = 0;
    int err = 0;

    sl_buffer_init(&state, GW_TRACESTATE_MAX + 1);
    for (size_t i = 0; i < headers->size; i++) {
        const h2o_iovec_t *name = headers->entries[i].name, value = headers->entries[i].value;
        if (h2o_memis(name->base, name->len, H2O_STRLIT("traceparent"))) {
            parents++;
            if (gw_trace_context_parse(value.base, value.len, &request->trace) != 0) {
                parents = 2;
            }
        } else if (err == 0 && h2o_memis(name->base, name->len, H2O_STRLIT("tracestate"))) {
            err = sl_buffer_appendf(&state, "%s%.*s", state.len > 0 ? "," : "", (int)value.len,
                                    value.base);
        }
    }
    if (parents != 1) {
        request->trace = (struct gw_trace_context){0};
    } else if (err == 0 && gw_trace_state_is_valid(state.base, state.len)) {
        request->trace_state = strndup(state.base, state.len);
    }
    sl_buffer_dispose(&state);
}

static bool wants_timings(const struct gw_exchange *exchange)
{
    h2o_iovec_t wish = gw_exchange_header(exchange, "x-sluice-debug");

    return h2o_memis(wish.base, wish.len, H2O_STRLIT("timings"));
}

bool gw_chat_begin(struct gw_exchange *exchange, const struct sl_uuid *turn_id,
                   struct gw_chat_request *request)
{
    struct gw_worker *worker = exchange->worker;
    const struct gw_turn_view view = {.stream =
                                          request->stream}; /* the request moves into the turn */
    struct gw_turn *turn;
    uint32_t ticket = 0;

    int err = admit(exchange, &ticket);
    if (err == 0) {
        err = gw_turn_start(&worker->turns, turn_id, &exchange->user, request, ticket,
                            exchange->request_id, exchange->received_us, &turn);
        if (err != 0) {
            gw_user_turns_leave(worker->server->user_turns, ticket);
            give_place_back(worker->server);
        }
    }
    if (err != 0) {
        gw_chat_request_dispose(request);
        refuse(exchange, err);
        return false;
    }
    gw_chat_show(exchange, gw_turn_feed(turn), &view, true);
    return true;
}

/* In the order of what it costs; everything here is a few loads. */
static int admit(struct gw_exchange *exchange, uint32_t *ret_user_ticket)
{
    struct gw_worker *worker = exchange->worker;
    const struct gw_config *config = worker->config;

    if (worker->draining) {
        return SL_E_SHUTTING_DOWN; /* since the key was claimed */
    }
    if (log_bytes(worker->server) >= config->chat.log_bytes_max) {
        return SL_E_OVERLOADED;
    }
    int err = store_admission(worker->store);
    if (err != 0) {
        return err;
    }
    if (!take_place(worker->server, config->chat.turns_max)) {
        return SL_E_OVERLOADED;
    }
    if (!gw_user_turns_enter(worker->server->user_turns, exchange->user.id, exchange->user.id_len,
                             config->chat.turns_per_user_max, ret_user_ticket)) {
        give_place_back(worker->server);
        return SL_E_RATE_LIMITED;
    }
    return 0;
}

/* Other loops take places at the same time: to look and to count is one step. */
static bool take_place(struct gw_server *server, unsigned turns_max)
{
    unsigned running = atomic_load_explicit(&server->turns, memory_order_relaxed);

    do {
        if (running >= turns_max) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&server->turns, &running, running + 1,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

/* Of a turn that was not started; worker.c counts those that end. */
static void give_place_back(struct gw_server *server)
{
    (void)atomic_fetch_sub_explicit(&server->turns, 1, memory_order_relaxed);
}

/* What all turn logs take, as their loops have it in their figures. */
static size_t log_bytes(const struct gw_server *server)
{
    size_t sum = 0;

    for (unsigned i = 0; i < server->workers_count; i++) {
        sum += sl_counter_get(&server->workers[i].stats.log_bytes);
    }
    return sum;
}

static void refuse(struct gw_exchange *exchange, int err)
{
    sl_counter_add(&exchange->worker->stats.turns_refused, 1);
    gw_reply_problem(exchange, err, NULL, NULL);
}

void gw_chat_show(struct gw_exchange *exchange, struct gw_feed *feed,
                  const struct gw_turn_view *view, bool is_asking)
{
    h2o_iovec_t accept = gw_exchange_header(exchange, "accept");
    /* a cursor from beyond what there is (not one of ours) follows from here on, so that it sees the end */
    struct gw_subscription subscription = {
        .after = view->after < feed->log.last_seq ? view->after : feed->log.last_seq,
        .is_asking = is_asking,
    };
    int err;

    if (feed->log.ended && view->after >= feed->log.last_seq) {
        gw_reply_empty(exchange, 204); /* an EventSource stops asking then */
        return;
    }
    if (view->stream) {
        subscription.with_ids = h2o_strstr(accept.base != NULL ? accept.base : "", accept.len,
                                           H2O_STRLIT("text/event-stream")) != SIZE_MAX;
        err = gw_subscriber_start(exchange, feed, &subscription);
    } else {
        err = gw_whole_reply_start(exchange, feed, is_asking);
    }
    if (err != 0) {
        gw_reply_problem(exchange, err, NULL, NULL);
    }
}
