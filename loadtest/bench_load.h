/**
 * The load: virtual users that do turns, closed loop or open loop, and what they measured.
 *
 * Thread: main, blocking until the run is over. Ownership: the caller owns options and results.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bench_stream.h"
#include "histogram.h"
#include "net.h"

enum { BENCH_ABORTS_MAX = 8 };

struct bench_options {
    const char *url; /* as given, for the report */
    struct lt_address address;
    char host[256]; /* for the Host header */
    char path[256];
    enum bench_protocol protocol;
    const char *message;
    char **tokens; /* one per user, in turn; may be empty */
    size_t token_count;
    bool fixed_sessions;
    unsigned concurrency; /* users, each with one connection and one turn at a time */
    double rate;          /* turns per second; 0: closed loop */
    uint64_t turns;       /* 0: by time */
    double seconds;       /* 0: by turns */
    unsigned warmup;      /* turns per user before the measurement */
    double timeout_s;     /* per turn */
    /* Leave after so many tokens (0: after the head), turn by turn one of these; none: stay. */
    uint64_t abort_after[BENCH_ABORTS_MAX];
    size_t abort_count;
    uint64_t seed;
};

/* Times since the turn's start: in the open loop the start is the SCHEDULED one. */
enum bench_metric {
    BENCH_HEAD,
    BENCH_SESSION_ID,
    BENCH_ACCEPTED,
    BENCH_FIRST_TOKEN,
    BENCH_GAP, /* between two tokens */
    BENCH_TOTAL,
    BENCH_LATE, /* open loop: how long the turn waited for a free user */
    BENCH_METRICS,
};

struct bench_results {
    struct lt_histogram metrics[BENCH_METRICS]; /* of turns that did not fail; gaps of all */
    uint64_t turns;                             /* finished: complete, aborted or failed */
    uint64_t aborted;                           /* left as asked; their verdict is BENCH_OK */
    uint64_t failures[BENCH_FAILURES];
    uint64_t statuses[600]; /* refusals by HTTP status */
    uint64_t warmup_failures;
    uint64_t tokens;
    uint64_t connections; /* opened, warm-up included */
    uint64_t reconnects;  /* kept connections that had died and were replaced */
    double seconds;       /* from the first turn's start to the last one's end */
};

/** Runs the whole load. 0, or -1 when it could not start. */
int bench_load_run(const struct bench_options *options, struct bench_results *results);
