/*
 * GET /api/v1/chat/turns/:id/stream and POST /api/v1/chat/turns/:id/stop (wire.md section 2).
 *
 * Where to go on comes from `?after=N` or from Last-Event-ID, which a browser's EventSource sends; without
 * either, everything is replayed. Thread: the request's worker.
 */
#include <string.h>

#include "event_id.h"
#include "reply.h"
#include "routes.h"
#include "turn_request.h"

static bool take_id(struct gw_exchange *exchange, struct sl_uuid *ret_turn_id);
static bool take_cursor(struct gw_exchange *exchange, const struct sl_uuid *turn_id,
                        uint32_t *ret_after);

void gw_turn_stream_route(struct gw_exchange *exchange)
{
    struct gw_turn_view view = {.stream = true};
    struct sl_uuid turn_id;

    if (take_id(exchange, &turn_id) && take_cursor(exchange, &turn_id, &view.after)) {
        gw_turn_request_follow(exchange, &turn_id, &view);
    }
}

void gw_turn_stop_route(struct gw_exchange *exchange)
{
    struct sl_uuid turn_id;

    if (take_id(exchange, &turn_id)) {
        gw_turn_request_stop(exchange, &turn_id);
    }
}

/* False: it is answered. What is no id names nothing. */
static bool take_id(struct gw_exchange *exchange, struct sl_uuid *ret_turn_id)
{
    if (sl_uuid_parse(exchange->id.base, exchange->id.len, ret_turn_id) == 0) {
        return true;
    }
    gw_reply_problem(exchange, SL_E_NOT_FOUND, NULL, NULL);
    return false;
}

/* The header is the newer one: an EventSource repeats its URL and adds what it has read last. */
static bool take_cursor(struct gw_exchange *exchange, const struct sl_uuid *turn_id,
                        uint32_t *ret_after)
{
    h2o_iovec_t header = gw_exchange_header(exchange, "last-event-id");
    h2o_iovec_t query = gw_exchange_query(exchange, "after");
    struct sl_uuid named;

    if (header.len > 0) {
        if (gw_event_id_parse(header.base, header.len, &named, ret_after) &&
            sl_uuid_equal(&named, turn_id)) {
            return true;
        }
        gw_reply_problem(exchange, SL_E_INVALID_VALUE, "Last-Event-ID is not one of this turn's.",
                         "Last-Event-ID");
        return false;
    }
    if (query.base == NULL || gw_event_seq_parse(query.base, query.len, ret_after)) {
        return true;
    }
    gw_reply_problem(exchange, SL_E_INVALID_VALUE, "after is not a sequence number.", "after");
    return false;
}
