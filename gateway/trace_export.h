/**
 * Sends the spans of finished turns to a collector: OTLP/HTTP in JSON, from one thread of its own.
 *
 * A turn's loop hands a record over and goes on. A collector that is slow or away costs spans, never time:
 * what does not fit the queue, and what one request could not deliver, is dropped and counted.
 * Thread: made and destroyed by main; records are pushed from any thread. Ownership: see each function.
 */
#pragma once

#include "sluice/histogram.h"
#include "trace_span.h"

struct gw_config;
struct gw_trace_export;

struct gw_trace_counts {
    sl_counter exported, dropped; /* spans */
};

/**
 * Starts the thread that posts to tracing.url, which is set. The configuration outlives it. 0 or
 * SL_E_NO_MEMORY.
 */
SL_MUST_CHECK int gw_trace_export_create(const struct gw_config *config,
                                         struct gw_trace_export **ret_export);

/** Takes the record. Never waits for the collector. */
void gw_trace_export_push(struct gw_trace_export *export, struct gw_trace_record *record);

/** The figures so far; all zero for NULL. They stay the exporter's. */
const struct gw_trace_counts *gw_trace_export_counts(const struct gw_trace_export *export);

/** Sends what waits, for a second at most, and ends the thread. Nobody pushes any more. NULL is accepted. */
void gw_trace_export_destroy(struct gw_trace_export *export);
