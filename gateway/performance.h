/**
 * The last 15 minutes of the process, one sample per second, as JSON text.
 *
 * A sample says what happened between two readings of the counters. It becomes text when it is taken,
 * so that whoever shows it only copies: about 0.9 kB per sample with one upstream, 2.5 kB with
 * sixteen; 0.8 MB to 2.3 MB once 15 minutes are full.
 *
 * Thread: main adds, any worker writes a page of them out. One mutex that only these two use guards the
 * ring: it is held for the exchange of one pointer, or while texts are copied (all of them: well under
 * a millisecond); no turn ever takes it. Ownership: the ring owns its texts.
 */
#pragma once

#include "breaker.h"
#include "config.h"
#include "sluice/buffer.h"
#include "totals.h"

enum {
    GW_PERFORMANCE_SAMPLES = 900,
    GW_PERFORMANCE_SAMPLE_MAX_BYTES = 4096,
    GW_PERFORMANCE_PAGE_MAX_BYTES =
        (GW_PERFORMANCE_SAMPLES + 1) * (GW_PERFORMANCE_SAMPLE_MAX_BYTES + 1),
};

/** Everything that a sample is made from, at one moment. Counts are since the start of the process. */
struct gw_performance_reading {
    uint64_t at_us;  /* monotonic */
    int64_t unix_ms; /* the same moment for people */
    struct gw_totals totals;
    struct store_journal_summary journal;
    struct {
        uint64_t records_waiting, rows, failures, dead_letters;
        bool connected;
    } writer;
    struct {
        const char *name; /* letters, digits, '-' and '_' */
        uint64_t requests, failures;
        enum gw_breaker_state breaker;
    } upstreams[GW_UPSTREAMS_MAX];
    size_t upstreams_count;
    const void *upstreams_list; /* whose counts these are: a reload may begin others */
    unsigned threads;
    bool draining;
};

struct gw_performance;

/** Makes an empty ring; `started_unix_ms` tells one process from the next. 0 or SL_E_NO_MEMORY. */
SL_MUST_CHECK int gw_performance_create(int64_t started_unix_ms,
                                        struct gw_performance **ret_performance);

/** Nobody may use it any more. NULL is accepted. */
void gw_performance_destroy(struct gw_performance *performance);

/**
 * Main only. Adds the sample between two readings, the oldest one gives way. On an error (as
 * sl_buffer_append) nothing is added: let the next sample begin at `before` too, and no count is lost.
 */
SL_MUST_CHECK int gw_performance_add(struct gw_performance *performance,
                                     const struct gw_performance_reading *before,
                                     const struct gw_performance_reading *now);

/**
 * Any thread. Appends one JSON object with the samples after number `since` (0: all that are kept). A
 * number that was not given out yet comes from an earlier process: all. Errors as sl_buffer_append.
 */
SL_MUST_CHECK int gw_performance_write(struct gw_performance *performance, uint64_t since,
                                       struct sl_buffer *page);

/**
 * The quantile `q` (0 to 1) of the values that `now` counts and `before` does not, in milliseconds:
 * interpolated within its bucket as Prometheus does (histogram_quantile); beyond the last bound, that
 * bound. False: there is none.
 */
bool gw_performance_quantile(const struct sl_histogram *before, const struct sl_histogram *now,
                             double q, double *ret_ms);
