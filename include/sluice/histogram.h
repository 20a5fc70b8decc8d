/**
 * Counters and latency histograms with one writing thread each and any number of readers.
 *
 * The writer uses plain relaxed stores, so counting costs no locked instruction; a reader may see a
 * count a moment before its sum, never a torn number. Values of several threads are added up by the
 * reader (gateway/metrics.c).
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

typedef _Atomic uint64_t sl_counter;

static inline void sl_counter_add(sl_counter *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline uint64_t sl_counter_get(const sl_counter *counter)
{
    return atomic_load_explicit((sl_counter *)(uintptr_t)counter, memory_order_relaxed);
}

/* Upper bounds in microseconds: fine from 0.1 to 1 ms, wide enough for a minute. */
#define SL_HISTOGRAM_BOUNDS_US                                                                     \
    {                                                                                              \
        50, 100, 150, 200, 300, 400, 500, 750, 1000, 1500, 2000, 3000, 5000, 7500, 10000, 20000,   \
            30000, 50000, 75000, 100000, 200000, 300000, 500000, 750000, 1000000, 2000000,         \
            3000000, 5000000, 10000000, 20000000, 30000000, 60000000                               \
    }
enum { SL_HISTOGRAM_BOUNDS = 32 };

extern const uint64_t sl_histogram_bounds_us[SL_HISTOGRAM_BOUNDS];

struct sl_histogram {
    sl_counter buckets[SL_HISTOGRAM_BOUNDS + 1]; /* the last one is +Inf; not cumulative */
    sl_counter sum_us;
};

/** Counts one value. Writing thread only. */
void sl_histogram_record(struct sl_histogram *histogram, uint64_t value_us);

/**
 * The same in one store instead of two, for what happens with every token: the value's part of `sum_us`
 * is left to the caller, who may add that of many values at once. Writing thread only.
 */
void sl_histogram_count(struct sl_histogram *histogram, uint64_t value_us);

/** Adds `from` to `into`, a plain copy of the reader's. */
void sl_histogram_add(struct sl_histogram *into, const struct sl_histogram *from);
