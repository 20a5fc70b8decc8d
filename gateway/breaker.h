/**
 * A circuit breaker for one upstream: stops asking it while it only fails, then tries with one
 * call.
 *
 * Thread: any, without locks; every change is one compare-and-swap of one word, so what several
 * threads do happens in some order, as if they had taken turns. Ownership: embedded where the
 * upstream is kept; zeroed memory is a closed breaker, and there is nothing to free.
 *
 * Time is the monotonic clock in microseconds. Threads may pass clocks that differ a little (each
 * loop keeps its own), up to one window of the rate rule.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/*
 *             too many failures
 *    CLOSED ---------------------> OPEN <----------+
 *      ^                             |             |
 *      |                             | open_us     | the probe failed
 *      |                             v             |
 *      +--- the probe succeeded - HALF_OPEN -------+
 *
 * HALF_OPEN admits one probe at a time; after one that says nothing, the next call is the probe.
 */
enum gw_breaker_state { GW_BREAKER_CLOSED, GW_BREAKER_OPEN, GW_BREAKER_HALF_OPEN };

enum gw_breaker_outcome {
    GW_BREAKER_SUCCESS,
    GW_BREAKER_FAILURE,
    GW_BREAKER_UNKNOWN, /* cancelled by us: says nothing about the upstream */
};

/*
 * Too many failures: `failures` in a row, or one after which at least half of the calls reported in
 * this window have failed, and there are RATE_CALLS_MIN of them. A window is RATE_WINDOW_US long and
 * starts at a multiple of it, with no calls.
 */
enum { GW_BREAKER_RATE_CALLS_MIN = 20, GW_BREAKER_RATE_WINDOW_US = 10 * 1000 * 1000 };

struct gw_breaker_limits {
    unsigned failures; /* in a row; 1 to 255, others are taken as the nearest of these */
    uint64_t open_us;
};

struct gw_breaker {
    /* private */
    _Atomic uint64_t word;
    _Atomic uint64_t opened;
};

/* The ticket of a probe; any other names the closed period in which its call was admitted. */
enum { GW_BREAKER_PROBE = 1 << 16 };

/** Would gw_breaker_admit say yes now? Changes nothing. */
bool gw_breaker_is_usable(const struct gw_breaker *breaker, uint64_t now_us);

/**
 * May the upstream be asked? If so, the ticket has to be given back by exactly one
 * gw_breaker_report, once the upstream has shown how it is: at the first token, not at the end of a
 * long answer. A probe whose report never comes would keep the breaker half-open for ever.
 */
bool gw_breaker_admit(struct gw_breaker *breaker, uint64_t now_us, uint32_t *ret_ticket);

/**
 * Says how an admitted call went. Only the probe's report moves a breaker that is not closed. A
 * report of any other call counts only within the closed period in which the call was admitted:
 * once the breaker has opened, it neither closes it nor keeps it open, nor does it count after it
 * has closed again, when calls that hung since before the outage come to their timeouts.
 */
void gw_breaker_report(struct gw_breaker *breaker, const struct gw_breaker_limits *limits,
                       uint64_t now_us, enum gw_breaker_outcome outcome, uint32_t ticket);

enum gw_breaker_state gw_breaker_state(const struct gw_breaker *breaker, uint64_t now_us);

/** How often it has opened, after failed probes too. */
uint64_t gw_breaker_opened(const struct gw_breaker *breaker);

/** "closed", "open" or "half_open". */
const char *gw_breaker_state_name(enum gw_breaker_state state);
