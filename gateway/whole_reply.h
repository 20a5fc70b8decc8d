/**
 * `stream: false`: one JSON object when the turn is done (wire.md section 1).
 *
 * Thread: the worker of its exchange. Ownership: it owns itself, as a subscriber does.
 */
#pragma once

#include "exchange.h"
#include "feed.h"

/**
 * Follows the feed and answers at its end, at once when it has ended. `is_asking`: see struct
 * gw_subscription. 0 or SL_E_NO_MEMORY (nothing was sent).
 */
SL_MUST_CHECK int gw_whole_reply_start(struct gw_exchange *exchange, struct gw_feed *feed,
                                       bool is_asking);
