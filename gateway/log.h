/**
 * Log lines: one JSON object per line on standard error, written by the main thread alone.
 *
 * A loop must not wait for whoever reads the log, so lines travel to the main loop as messages; when
 * more than LOG_WAITING_MAX bytes wait (the reader is stuck), new ones are dropped and counted.
 * Thread: any thread writes lines; the main loop prints them.
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "sluice/loop.h"

enum { GW_LOG_WAITING_MAX = 8 << 20 /* bytes */ };

struct gw_log {
    struct sl_loop *main_loop;
    _Atomic size_t waiting_bytes;
    _Atomic uint64_t dropped;
};

void gw_log_init(struct gw_log *log, struct sl_loop *main_loop);

/** Hands one line (a JSON object, without its newline) to the main thread. It is copied. */
void gw_log_line(struct gw_log *log, const char *line, size_t len);

/**
 * A line about the process: {"time":…,"level":…,"event":…,<fields>}. `fields` is the literal inside of a
 * JSON object with printf conversions for numbers and for text that needs no escaping.
 */
void gw_log_event(struct gw_log *log, const char *level, const char *event, const char *fields, ...)
    __attribute__((format(printf, 4, 5)));
