/**
 * An incremental parser for Server-Sent Events (WHATWG HTML section 9.2.6).
 *
 * Bytes in, events out: no I/O, no clock; the same events for every way of splitting the bytes.
 * CRLF, LF and CR end a line, also when split between two reads; one leading BOM is dropped; comments
 * are counted and skipped; an unfinished event at the end is discarded. Thread: one at a time.
 * Ownership: embedded in the caller; the event's text is valid during the callback only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sluice/buffer.h"

struct gw_sse_event {
    const char *name; /* the `event` field, not NUL-terminated; "message" is spelled as length 0 */
    size_t name_len;
    const char *text; /* the `data` lines joined by LF */
    size_t text_len;
};

/** Returns 0 to go on; anything else stops the parser and comes back from gw_sse_parser_feed. */
typedef int (*gw_sse_event_fn)(void *context, const struct gw_sse_event *event);

struct gw_sse_parser {
    gw_sse_event_fn on_event;
    void *context;
    size_t event_max_bytes;
    /* private */
    struct sl_buffer line, text, name;
    bool after_cr, has_text, started;
    uint64_t comments; /* readable: comments seen */
};

void gw_sse_parser_init(struct gw_sse_parser *parser, size_t event_max_bytes,
                        gw_sse_event_fn on_event, void *context);

/** Takes the next bytes. 0, SL_E_UPSTREAM_MALFORMED (an event or a line over the maximum), or what on_event returned. */
SL_MUST_CHECK int gw_sse_parser_feed(struct gw_sse_parser *parser, const char *bytes, size_t len);

void gw_sse_parser_dispose(struct gw_sse_parser *parser);
