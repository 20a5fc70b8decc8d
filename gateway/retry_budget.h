/**
 * A budget for asking twice (retries, hedges), so that it cannot multiply the load of an upstream
 * in trouble: a share of the turns, and a small reserve so that a quiet server can do it too.
 *
 * Takes that succeed: since the start, at most reserve + n * percent / 100 for n turns, so with a
 * reserve of 0 "percent of the turns" holds strictly at every moment; in any stretch of n turns,
 * fewer than max(reserve, 1) + 1 + n * percent / 100, since what a quiet stretch earns is not kept.
 *
 * Thread: one (one budget per loop). Ownership: embedded.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The reserve that suits retries; hedges, which nobody needs, start with none. */
enum { GW_RETRY_RESERVE = 10 };

struct gw_retry_budget {
    /* private */
    uint64_t credit, credit_max; /* in hundredths of a retry */
    bool allowed;
};

/** Full: `reserve` takes are there before the first turn has earned anything. */
void gw_retry_budget_init(struct gw_retry_budget *budget, unsigned reserve);

/**
 * A turn has started: earns `percent` (0 to 100) hundredths. 0: none may be taken from now on, not
 * even from the reserve, until a turn comes with another figure.
 */
void gw_retry_budget_turn(struct gw_retry_budget *budget, unsigned percent);

/** True, and one less is left. False before the first turn. */
bool gw_retry_budget_take(struct gw_retry_budget *budget);
