/**
 * How long something took lately: quantiles over the last one to two minutes.
 *
 * Thread: one (one per loop and upstream). Ownership: embedded; zeroed memory is an empty one.
 *
 * sl_histogram is made for graphs: its bounds are up to a factor of two apart, too coarse to time a
 * hedge by. Here each power of two has sixteen buckets, so a quantile is at most 1/16 (6.25 %) too
 * long and never too short, from 0 to 268 seconds; below 32 microseconds it is exact.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    GW_RECENT_TIMES_BUCKETS = 400,
    GW_RECENT_TIMES_VALUE_MAX_US = (1 << 28) - 1, /* longer ones count as this */
    GW_RECENT_TIMES_SAMPLES_MIN = 20,
    GW_RECENT_TIMES_MINUTE_US = 60 * 1000 * 1000,
};

struct gw_recent_times {
    /* private */
    uint64_t minute; /* of the monotonic clock; its values are in halves[minute % 2] */
    struct gw_recent_times_half {
        uint64_t count;
        uint32_t buckets[GW_RECENT_TIMES_BUCKETS];
    } halves[2];
};

/** Counts one value. `now_us` (monotonic) never goes back between calls on one object. */
void gw_recent_times_record(struct gw_recent_times *times, uint64_t now_us, uint64_t value_us);

/**
 * The value that at least `q` (above 0, at most 1) of the values do not exceed; of this minute and
 * the one before. False: fewer than GW_RECENT_TIMES_SAMPLES_MIN values are known.
 */
bool gw_recent_times_quantile(struct gw_recent_times *times, uint64_t now_us, double q,
                              uint64_t *ret_us);
