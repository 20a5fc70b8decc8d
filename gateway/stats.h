/**
 * One loop's figures, written by that loop only, added up by whoever reads /metrics.
 *
 * Thread: written by its loop, read by any. Names follow gateway/metrics.c, which defines each once.
 */
#pragma once

#include "sluice/histogram.h"

enum { GW_STATS_ERRORS = 64 }; /* one slot per row of the error table */

/* The letters of a log line's `term` (turn_report.c): who ended the turn, and in which state. */
#define GW_STATS_TERM_WHO "-CcUuRrDdLlI"
#define GW_STATS_TERM_STATES "BCASVD"
enum { GW_STATS_TERMS = (sizeof(GW_STATS_TERM_WHO) - 1) * (sizeof(GW_STATS_TERM_STATES) - 1) };

/* Numbers of tokens. The upper bounds are powers of four from 1 on, as OpenTelemetry has them. */
enum { GW_STATS_TOKEN_BOUNDS = 14 };
struct gw_stats_tokens {
    sl_counter buckets[GW_STATS_TOKEN_BOUNDS + 1]; /* the last one is +Inf; not cumulative */
    sl_counter sum;
};

struct gw_stats {
    /* requests and connections */
    sl_counter connections_accepted, connections_closed, connections_refused;
    sl_counter requests[6]; /* by status class: [2] is 2xx; [0] is unused */
    sl_counter turns_refused;
    /* turns by result: index is enum store_status */
    sl_counter turns_started, turns_ended, turns[6];
    sl_counter turn_errors[GW_STATS_ERRORS]; /* index: position in the error table */
    sl_counter turns_by_term[GW_STATS_TERMS];
    sl_counter tokens_prompt, tokens_completion, deltas;
    struct gw_stats_tokens tokens_input, tokens_output; /* of a turn */
    sl_counter warnings_profile, warnings_history, warnings_rag;
    sl_counter clients_gone, heartbeats;
    sl_counter log_bytes; /* a gauge: memory of the turn logs of this loop */
    sl_counter upstream_retries, upstream_failovers, upstream_hedges, upstream_hedges_won;
    sl_counter resumed, stopped,
        repeated; /* streams taken up again, stop requests, repeats by key */
    sl_counter auth_refused, auth_verified, auth_cached;
    /* stages, in the order in which they happen */
    struct sl_histogram session_event; /* request received -> head and first event written */
    struct sl_histogram profile, history, context;
    struct sl_histogram connect, upstream_first_byte, upstream_first_token;
    struct sl_histogram ttft;      /* request received -> first token written */
    struct sl_histogram added;     /* first token parsed -> first token written */
    struct sl_histogram token_gap; /* delta parsed -> next delta parsed */
    struct sl_histogram save, total;
    /* complete turns only */
    struct sl_histogram complete_ttft, per_output_token;
};

/** The slot of an error in turn_errors. */
static inline size_t gw_stats_error_slot(int err)
{
    size_t slot = (size_t)(err - (-999)); /* SL_E_FIRST_ + 1 */

    return slot < GW_STATS_ERRORS ? slot : GW_STATS_ERRORS - 1;
}

/** The slot of a term in turns_by_term; a letter that is not listed above counts as the last one there. */
static inline size_t gw_stats_term_slot(char who, char state)
{
    static const char whos[] = GW_STATS_TERM_WHO, states[] = GW_STATS_TERM_STATES;
    size_t row = 0, column = 0;

    while (row < sizeof(whos) - 2 && whos[row] != who) {
        row++;
    }
    while (column < sizeof(states) - 2 && states[column] != state) {
        column++;
    }
    return row * (sizeof(states) - 1) + column;
}

/** Counts one number of tokens. */
static inline void gw_stats_tokens_record(struct gw_stats_tokens *histogram, uint64_t tokens)
{
    size_t slot = 0;

    while (slot < GW_STATS_TOKEN_BOUNDS && tokens > UINT64_C(1) << (2 * slot)) {
        slot++;
    }
    sl_counter_add(&histogram->buckets[slot], 1);
    sl_counter_add(&histogram->sum, tokens);
}
