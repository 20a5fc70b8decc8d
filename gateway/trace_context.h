/**
 * W3C Trace Context: which distributed trace a turn belongs to, read from a request and passed on.
 *
 * Source: W3C Recommendation "Trace Context", sections 3.2 (traceparent) and 3.3 (tracestate). Only the
 * request headers are in it, so responses carry nothing. Thread: any (pure functions). Ownership: none.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sluice/error.h"

enum { GW_TRACEPARENT_LEN = 55, GW_TRACEPARENT_SIZE = 56, GW_TRACESTATE_MAX = 512 };

struct gw_trace_context {
    uint64_t id_high, id_low; /* both 0: no trace */
    uint64_t parent;          /* the span that asks us; 0: there is none, the trace begins here */
    bool sampled;             /* whoever began it wants it recorded */
};

static inline bool gw_trace_context_is_set(const struct gw_trace_context *context)
{
    return (context->id_high | context->id_low) != 0;
}

/**
 * Reads the value of `traceparent`, with or without blanks around it. Version 00 must fit exactly; of a
 * higher one the part that looks like 00 is read. SL_E_INVALID_VALUE for anything else: upper case,
 * version ff, an id of zeros.
 */
SL_MUST_CHECK int gw_trace_context_parse(const char *text, size_t len,
                                         struct gw_trace_context *ret_context);

/** Writes `traceparent` for a request that the span `parent` makes, and a NUL. */
void gw_trace_context_format(const struct gw_trace_context *context, uint64_t parent,
                             char text[GW_TRACEPARENT_SIZE]);

/** A new trace, with random ids and no parent. `sample_percent` of those are sampled. */
struct gw_trace_context gw_trace_context_begin(unsigned sample_percent);

/**
 * Whether this may be passed on as `tracestate`: up to 512 bytes and 32 members of the form key=value,
 * empty ones between them allowed. Several header lines are to be joined by commas first.
 */
bool gw_trace_state_is_valid(const char *text, size_t len);
