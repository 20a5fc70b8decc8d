/**
 * All configured upstreams as one loop sees them, and what the loops share about them.
 *
 * Thread: struct gw_upstreams belongs to its loop; struct gw_upstreams_shared is written by all of them
 * through atomics. Ownership: main owns the shared part, one per configuration; the worker owns its
 * gw_upstreams, which owns its endpoints.
 */
#pragma once

#include "breaker.h"
#include "config.h"
#include "provider.h"
#include "recent_times.h"
#include "retry_budget.h"
#include "upstream.h"

struct gw_resolver;

struct gw_upstreams_shared {
    const struct gw_config *config; /* the first one with these endpoints */
    struct {
        struct gw_breaker breaker;
        _Atomic uint64_t resting_until_us; /* it asked for a pause (Retry-After): others first */
        _Atomic uint64_t requests, failures;
        struct gw_resolver *resolver; /* NULL: its address needs no look-up */
    } of[GW_UPSTREAMS_MAX];
};

struct gw_upstreams {
    struct sl_loop *loop;
    const struct gw_config *config;
    struct gw_upstreams_shared *shared;
    struct gw_stats *stats;
    struct {
        struct gw_upstream *endpoint;
        const struct gw_provider *provider;
        struct gw_recent_times first_tokens; /* how long it took to the first token, of late */
    } of[GW_UPSTREAMS_MAX];
    struct gw_retry_budget retries, hedges;
    struct gw_upstreams *older; /* replaced by a reload; calls may still be under way there */
};

/** Makes the shared part: breakers closed, a resolver for every host name. 0 or SL_E_NO_MEMORY. */
SL_MUST_CHECK int gw_upstreams_share(const struct gw_config *config,
                                     struct gw_upstreams_shared **ret_shared);

/** Frees it after every loop's gw_upstreams is gone. NULL is accepted. */
void gw_upstreams_unshare(struct gw_upstreams_shared *shared);

/**
 * Makes a loop's upstreams. `older` (NULL: none) are those that they replace after a reload: they are
 * kept and freed along with the new ones. With the same `shared` they hand on what they have measured.
 */
SL_MUST_CHECK int gw_upstreams_create(struct sl_loop *loop, const struct gw_config *config,
                                      struct gw_upstreams_shared *shared, struct gw_stats *stats,
                                      struct gw_upstreams *older,
                                      struct gw_upstreams **ret_upstreams);

/** No call may be under way. NULL is accepted. */
void gw_upstreams_destroy(struct gw_upstreams *upstreams);
