/** The part of asking that comes after it is clear that a turn is to be born. Thread: the request's worker. */
#pragma once

#include "exchange.h"
#include "turn_request.h"

/**
 * Admits and starts a turn with this id and shows it, or answers with the reason why not. The request's
 * content moves or is freed. False: there is no turn.
 */
bool gw_chat_begin(struct gw_exchange *exchange, const struct sl_uuid *turn_id,
                   struct gw_chat_request *request);

/** Follows a feed in the way the client asked for. */
void gw_chat_show(struct gw_exchange *exchange, struct gw_feed *feed,
                  const struct gw_turn_view *view, bool is_asking);
