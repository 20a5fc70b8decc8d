/**
 * An HTTP request that needs a turn which may live elsewhere: a repeat, a resumed stream, a stop.
 *
 * Finding out takes a word from another loop, and perhaps one from the database; the request waits for
 * it here. Thread: the worker of its exchange. Ownership: a request that waits owns itself and survives
 * its exchange, since what it has asked for must come back first.
 */
#pragma once

#include "chat_request.h"
#include "exchange.h"

/** How the events of a turn are to be shown. */
struct gw_turn_view {
    bool stream;    /* false: one JSON object at the end */
    uint32_t after; /* the events behind this one */
};

/** Shows the events of this user's turn; 404, 410 when it has gone from memory, 204 when all is read. */
void gw_turn_request_follow(struct gw_exchange *exchange, const struct sl_uuid *turn_id,
                            const struct gw_turn_view *view);

/** Stops this user's turn: 202, also when it is over; 404 or 410. */
void gw_turn_request_stop(struct gw_exchange *exchange, const struct sl_uuid *turn_id);

/**
 * Answers a question that carries a key of the client's (request->client_message_id): with the turn that
 * has the key, or with a new one. 422 when the key came with another question. The request's content moves.
 */
void gw_turn_request_ask(struct gw_exchange *exchange, struct gw_chat_request *request);
