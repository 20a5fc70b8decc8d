/*
 * Quantiles of the last minutes: two histograms, one for this minute and one for the minute before.
 *
 * Values below 32 have a bucket each. From there on, the four bits behind a value's highest one
 * choose among the sixteen buckets of its power of two, as in an HDR histogram. Thread: one; see
 * the header.
 */
#include "recent_times.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

enum { SUB_BITS = 4, SUB = 1 << SUB_BITS };

static void turn_to(struct gw_recent_times *times, uint64_t now_us);
static size_t bucket_of(uint64_t value_us);
static uint64_t longest_of(size_t bucket);

void gw_recent_times_record(struct gw_recent_times *times, uint64_t now_us, uint64_t value_us)
{
    turn_to(times, now_us);
    struct gw_recent_times_half *half = &times->halves[times->minute % 2];
    half->buckets[bucket_of(value_us)]++;
    half->count++;
}

bool gw_recent_times_quantile(struct gw_recent_times *times, uint64_t now_us, double q,
                              uint64_t *ret_us)
{
    const struct gw_recent_times_half *a = &times->halves[0], *b = &times->halves[1];
    uint64_t passed = 0;
    size_t bucket = 0;

    turn_to(times, now_us);
    uint64_t count = a->count + b->count;
    if (count < GW_RECENT_TIMES_SAMPLES_MIN) {
        return false;
    }
    uint64_t rank = (uint64_t)ceil(q * (double)count);
    while ((passed += (uint64_t)a->buckets[bucket] + b->buckets[bucket]) < rank) {
        bucket++;
    }
    *ret_us = longest_of(bucket);
    return true;
}

/* Begins this minute's histogram, and forgets what is older than the minute before. */
static void turn_to(struct gw_recent_times *times, uint64_t now_us)
{
    uint64_t minute = now_us / GW_RECENT_TIMES_MINUTE_US;

    if (minute == times->minute) {
        return;
    }
    if (minute == times->minute + 1) {
        memset(&times->halves[minute % 2], 0, sizeof(times->halves[0]));
    } else {
        memset(times->halves, 0, sizeof(times->halves));
    }
    times->minute = minute;
}

static size_t bucket_of(uint64_t value_us)
{
    if (value_us > GW_RECENT_TIMES_VALUE_MAX_US) {
        value_us = GW_RECENT_TIMES_VALUE_MAX_US;
    }
    if (value_us < SUB) {
        return value_us;
    }
    unsigned shift = 63 - (unsigned)__builtin_clzll(value_us) - SUB_BITS;
    return (size_t)shift * SUB + (value_us >> shift);
}

/* The longest value that falls into this bucket. */
static uint64_t longest_of(size_t bucket)
{
    if (bucket < SUB) {
        return bucket;
    }
    size_t shift = bucket / SUB - 1;
    return ((uint64_t)(bucket % SUB + SUB + 1) << shift) - 1;
}
