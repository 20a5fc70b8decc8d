/**
 * One loop's figures, written by that loop only, added up by whoever reads /metrics.
 *
 * Thread: written by its loop, read by any. Names follow gateway/metrics.c, which defines each once.
 */
#pragma once

#include "sluice/histogram.h"

enum { GW_STATS_ERRORS = 64 }; /* one slot per row of the error table */

struct gw_stats {
    /* requests and connections */
    sl_counter connections_accepted, connections_closed, connections_refused;
    sl_counter requests[6]; /* by status class: [2] is 2xx; [0] is unused */
    sl_counter turns_refused;
    /* turns by result: index is enum store_status */
    sl_counter turns_started, turns_ended, turns[6];
    sl_counter turn_errors[GW_STATS_ERRORS]; /* index: position in the error table */
    sl_counter tokens_prompt, tokens_completion, deltas;
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
    struct sl_histogram ttft;  /* request received -> first token written */
    struct sl_histogram added; /* first token parsed -> first token written */
    struct sl_histogram save, total;
};

/** The slot of an error in turn_errors. */
static inline size_t gw_stats_error_slot(int err)
{
    size_t slot = (size_t)(err - (-999)); /* SL_E_FIRST_ + 1 */

    return slot < GW_STATS_ERRORS ? slot : GW_STATS_ERRORS - 1;
}
