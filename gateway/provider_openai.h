/**
 * The `openai` dialect: chat/completions requests and chunks (clients.md section 1.1).
 *
 * Pure: bytes in, deltas out; no I/O, no clock. Thread: one at a time. Ownership: embedded in the caller.
 */
#pragma once

#include "delta.h"
#include "sse_parser.h"

struct gw_openai_stream {
    /* private */
    struct sl_buffer content, reasoning;
    uint16_t content_high,
        reasoning_high; /* a high surrogate that waits for its other half; 0: none */
    size_t text_max_bytes;
};

void gw_openai_stream_init(struct gw_openai_stream *stream, size_t text_max_bytes);
void gw_openai_stream_dispose(struct gw_openai_stream *stream);

/**
 * Translates one event. 0 and a delta (possibly an empty one: role chunks, pings), or
 * SL_E_UPSTREAM_MALFORMED for text that is not JSON or has a known key of the wrong type in a way that
 * loses content. Tolerates every row of clients.md section 8.
 */
SL_MUST_CHECK int gw_openai_stream_event(struct gw_openai_stream *stream,
                                         const struct gw_sse_event *event,
                                         struct gw_delta *ret_delta);

/** Translates a whole non-streamed body (a server that ignored `stream: true`). As gw_openai_stream_event. */
SL_MUST_CHECK int gw_openai_stream_body(struct gw_openai_stream *stream, const char *body,
                                        size_t len, struct gw_delta *ret_delta);

/** The end of the stream: what was held back (a lone surrogate becomes U+FFFD) as a last delta. */
SL_MUST_CHECK int gw_openai_stream_finish(struct gw_openai_stream *stream,
                                          struct gw_delta *ret_delta);
