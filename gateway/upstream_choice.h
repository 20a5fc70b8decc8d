/**
 * Who is asked: picks one of the upstreams that could answer a turn.
 *
 * Thread: any (pure functions). Ownership: the caller's; nothing is kept.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What an upstream is to this turn's user. */
enum gw_canary {
    GW_CANARY_NONE,   /* an ordinary upstream: for everybody */
    GW_CANARY_TAKES,  /* a canary, and the user belongs to its share */
    GW_CANARY_PASSES, /* a canary for other users: never asked */
};

struct gw_candidate {
    unsigned priority; /* the lowest is asked first */
    unsigned weight;   /* its share among those of its priority; at least 1 */
    enum gw_canary canary;
    bool excluded; /* does not serve the model, was tried before, or its breaker says no */
    bool resting;  /* asked us to wait */
};

/**
 * Does a canary upstream that takes `percent` of the users take this one? Always the same users, in
 * every process; raising `percent` only adds some; the shares of two upstreams are independent.
 */
bool gw_upstream_canary_takes(const char *upstream_name, unsigned percent, const char *user,
                              size_t user_len);

/**
 * The index of the one to ask, or SIZE_MAX when nobody is left. First those that do not rest before
 * those that do, then canaries before others, then the lowest priority; by weight within these.
 * `random` is evenly distributed over 32 bits. The weights add up to less than 2^32.
 */
size_t gw_upstream_choose(const struct gw_candidate *candidates, size_t count, uint32_t random);
