/*
 * Log-linear histogram: the step of a value is its highest bits, the bucket is found by a shift.
 *
 * Values below 2^(STEP_BITS+1) have a bucket each; above, every power of two has 2^STEP_BITS steps.
 * Failure: none. Thread: one at a time. Ownership: see histogram.h.
 */
#include "histogram.h"

static const uint64_t VALUE_MAX = (UINT64_C(1) << LT_HISTOGRAM_VALUE_BITS) - 1;

static size_t bucket_of(uint64_t value_us)
{
    uint64_t value = value_us < VALUE_MAX ? value_us : VALUE_MAX;
    unsigned shift = 0;
    if (value >> (LT_HISTOGRAM_STEP_BITS + 1) != 0) {
        shift = 63u - (unsigned)__builtin_clzll(value) - LT_HISTOGRAM_STEP_BITS;
    }
    return ((size_t)shift << LT_HISTOGRAM_STEP_BITS) + (size_t)(value >> shift);
}

/** The largest value that falls into the bucket. */
static uint64_t bucket_top(size_t bucket)
{
    size_t steps = (size_t)1 << LT_HISTOGRAM_STEP_BITS;
    if (bucket < 2 * steps) {
        return bucket;
    }
    unsigned shift = (unsigned)(bucket >> LT_HISTOGRAM_STEP_BITS) - 1;
    uint64_t step = bucket - ((size_t)shift << LT_HISTOGRAM_STEP_BITS);
    return ((step + 1) << shift) - 1;
}

void lt_histogram_record(struct lt_histogram *histogram, uint64_t value_us)
{
    histogram->count++;
    histogram->sum_us += value_us;
    if (value_us > histogram->max_us) {
        histogram->max_us = value_us;
    }
    histogram->buckets[bucket_of(value_us)]++;
}

uint64_t lt_histogram_percentile(const struct lt_histogram *histogram, double percent)
{
    if (histogram->count == 0) {
        return 0;
    }
    /* Rounded up, but not for the last bits of a product such as 99.9 % of 1000. */
    double exact_rank = percent / 100.0 * (double)histogram->count - 1e-6;
    uint64_t rank = exact_rank > 0 ? (uint64_t)exact_rank + 1 : 1;
    uint64_t seen = 0;
    for (size_t i = 0; i < LT_HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen >= rank) {
            uint64_t top = bucket_top(i);
            return top < histogram->max_us ? top : histogram->max_us;
        }
    }
    return histogram->max_us;
}

uint64_t lt_histogram_count_above(const struct lt_histogram *histogram, uint64_t value_us)
{
    uint64_t count = 0;
    for (size_t i = bucket_of(value_us) + 1; i < LT_HISTOGRAM_BUCKETS; i++) {
        count += histogram->buckets[i];
    }
    return count;
}
