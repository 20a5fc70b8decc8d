/**
 * A subscriber: one SSE response that follows a feed.
 *
 * Thread: the worker of its exchange. Ownership: it owns itself; it is gone when the response has
 * ended or the client has left.
 */
#pragma once

#include "exchange.h"
#include "feed.h"

struct gw_subscription {
    uint32_t after; /* the events behind this one; 0: all */
    bool with_ids;  /* write `id:` lines */
    bool
        is_asking; /* this response belongs to the request that asked: the time to its first token counts */
};

/**
 * Starts the response: head and all events so far leave in one write; a heartbeat stands in where there
 * are none yet. 0, or SL_E_NO_MEMORY (nothing was sent).
 */
SL_MUST_CHECK int gw_subscriber_start(struct gw_exchange *exchange, struct gw_feed *feed,
                                      const struct gw_subscription *subscription);
