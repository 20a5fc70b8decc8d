/**
 * The inside of the page of /metrics, for the files that make it up: metrics.c (most of it),
 * metrics_turns.c (how turns ended), metrics_genai.c (OpenTelemetry's names), metrics_process.c (what the
 * system says of the process). Nobody else includes this.
 */
#pragma once

#include "sluice/buffer.h"
#include "totals.h"

struct gw_server;

/* One series. `labels` is the inside of the braces, or "". */
struct gw_metrics_histogram {
    const char *name, *help, *labels;
    const struct sl_histogram *histogram;
};

/* Each appends its part; errors as sl_buffer_append. */

/** The head of a family: its help and type. Once per family, in front of its series. */
SL_MUST_CHECK int gw_metrics_write_head(struct sl_buffer *page, const char *name, const char *help,
                                        const char *type);

/** Histograms of times; those of one family follow each other, and the first one's help is taken. */
SL_MUST_CHECK int gw_metrics_write_histograms(struct sl_buffer *page,
                                              const struct gw_metrics_histogram *rows,
                                              size_t count);

SL_MUST_CHECK int gw_metrics_write_turns(const struct gw_totals *totals, struct sl_buffer *page);
SL_MUST_CHECK int gw_metrics_write_genai(const struct gw_totals *totals, struct sl_buffer *page);
SL_MUST_CHECK int gw_metrics_write_process(const struct gw_server *server, struct sl_buffer *page);
