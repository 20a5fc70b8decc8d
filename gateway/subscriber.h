/**
 * A subscriber: one SSE response that follows a turn log.
 *
 * Thread: the worker of its exchange. Ownership: it owns itself; it is gone when the response has
 * ended or the client has left.
 */
#pragma once

#include "exchange.h"
#include "turn.h"

/**
 * Starts the response: head and all events so far leave in one write. `with_ids` writes `id:` lines.
 * 0, or SL_E_NO_MEMORY (nothing was sent).
 */
SL_MUST_CHECK int gw_subscriber_start(struct gw_exchange *exchange, struct gw_turn *turn,
                                      bool with_ids);
