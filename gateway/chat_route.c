/*
 * POST /api/v1/chat/message/stream: a question comes in, a turn is born, its log is followed.
 *
 * Errors up to the birth of the turn are plain HTTP errors. The order matters: overload and draining are
 * refused before the body is looked at, so that refusing costs nothing. Thread: the request's worker.
 */
#include "chat_request.h"
#include "config.h"
#include "reply.h"
#include "routes.h"
#include "subscriber.h"
#include "whole_reply.h"

static int admit(struct gw_exchange *exchange);

void gw_chat_route(struct gw_exchange *exchange)
{
    struct gw_worker *worker = exchange->worker;
    struct gw_chat_request request;
    struct gw_request_error error = {.param = ""};
    h2o_iovec_t entity = exchange->req->entity;
    struct gw_turn *turn;

    int err = admit(exchange);
    if (err != 0) {
        sl_counter_add(&worker->stats.turns_refused, 1);
        gw_reply_problem(exchange, err, NULL, NULL);
        return;
    }
    if (!gw_exchange_is_json(exchange)) {
        gw_reply_problem(exchange, SL_E_UNSUPPORTED_MEDIA_TYPE, NULL, NULL);
        return;
    }
    err = gw_chat_request_parse(entity.base, entity.len, worker->config, &request, &error);
    if (err != 0) {
        gw_reply_problem(exchange, err, error.detail, error.param);
        return;
    }
    bool stream = request.stream; /* the request moves into the turn */
    err = gw_turn_start(&worker->turns, &exchange->user, &request, exchange->request_id,
                        exchange->received_us, &turn);
    if (err != 0) {
        gw_chat_request_dispose(&request);
        sl_counter_add(&worker->stats.turns_refused, 1);
        gw_reply_problem(exchange, err, NULL, NULL);
        return;
    }
    atomic_fetch_add_explicit(&worker->server->turns, 1, memory_order_relaxed);
    if (stream) {
        h2o_iovec_t accept = gw_exchange_header(exchange, "accept");
        bool with_ids = h2o_strstr(accept.base != NULL ? accept.base : "", accept.len,
                                   H2O_STRLIT("text/event-stream")) != SIZE_MAX;
        err = gw_subscriber_start(exchange, turn, with_ids);
    } else {
        err = gw_whole_reply_start(exchange, turn);
    }
    if (err != 0) {
        gw_reply_problem(exchange, err, NULL, NULL);
    }
}

static int admit(struct gw_exchange *exchange)
{
    struct gw_worker *worker = exchange->worker;
    const struct gw_config *config = worker->config;

    if (worker->draining) {
        exchange->req->http1_is_persistent = 0;
        return SL_E_SHUTTING_DOWN;
    }
    if (atomic_load_explicit(&worker->server->turns, memory_order_relaxed) >=
        config->chat.turns_max) {
        return SL_E_OVERLOADED;
    }
    if (gw_turns_of_user(&worker->turns, exchange->user.id, exchange->user.id_len) >=
        config->chat.turns_per_user_max) {
        return SL_E_RATE_LIMITED;
    }
    return store_admission(worker->store);
}
