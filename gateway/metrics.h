/**
 * The figures of all loops and of the store as Prometheus text (exposition format 0.0.4).
 *
 * Thread: any worker's; it reads the others' counters while they count (histogram.h). Every metric is
 * defined once, in the tables of metrics.c and
 * the files that metrics_page.h names, and written down in docs/OPERATIONS.md.
 */
#pragma once

#include "sluice/buffer.h"

struct gw_server;

/** Appends the whole page. Errors as sl_buffer_append. */
SL_MUST_CHECK int gw_metrics_write(const struct gw_server *server, struct sl_buffer *page);
