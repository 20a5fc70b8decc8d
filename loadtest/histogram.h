/**
 * Log-linear histogram of microseconds: exact below 256, then 128 steps per power of two, so every
 * percentile is at most 0.8 % too high. 0 to 2^40 µs (12 days); more counts as the highest.
 *
 * Thread: one at a time. Ownership: the struct is the caller's (about 34 KiB), all zero is empty.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
    LT_HISTOGRAM_STEP_BITS = 7,
    LT_HISTOGRAM_VALUE_BITS = 40,
    LT_HISTOGRAM_BUCKETS = (LT_HISTOGRAM_VALUE_BITS - LT_HISTOGRAM_STEP_BITS + 1)
                           << LT_HISTOGRAM_STEP_BITS,
};

struct lt_histogram {
    uint64_t count;
    uint64_t sum_us;
    uint64_t max_us;
    uint64_t buckets[LT_HISTOGRAM_BUCKETS];
};

void lt_histogram_record(struct lt_histogram *histogram, uint64_t value_us);

/**
 * The smallest value that at least `percent` of the values do not exceed (nearest rank), rounded up
 * to its step and never over the maximum; 0 when empty. `percent` is in 0 .. 100.
 */
uint64_t lt_histogram_percentile(const struct lt_histogram *histogram, double percent);

/** How many values lie in a step above the one that `value_us` falls in. */
uint64_t lt_histogram_count_above(const struct lt_histogram *histogram, uint64_t value_us);
