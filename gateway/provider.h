/**
 * Providers: the dialects that upstreams speak, and what every dialect has in common.
 *
 * A provider builds request bodies from a prompt and translates what comes back into deltas. Pure:
 * bytes in, bytes and deltas out; no I/O, no clock. Thread: providers are constant data, any; a stream
 * is used by one thread at a time. Ownership: a stream is embedded in its caller.
 */
#pragma once

#include "delta_texts.h"
#include "prompt.h"
#include "sse_parser.h"

struct gw_provider_stream;

/**
 * A provider: the dialect that an upstream speaks. `event` and `body` are the dialect's half of the
 * gw_provider_stream_ functions, which are what to call; they find the stream's texts begun, and a
 * delta that is empty but for its texts, and add what the upstream said.
 */
struct gw_provider {
    const char *name;           /* as in the configuration: "openai", "anthropic" */
    const char *path;           /* behind the base URL (…/v1): "/chat/completions", "/messages" */
    const char *key_prefix;     /* the header that carries the key, up to the key */
    const char *const *headers; /* further request headers, NULL-terminated */
    /** Appends the body of a streaming request. As gw_prompt_build. */
    int (*build)(const struct gw_prompt *prompt, struct sl_buffer *body, size_t *ret_history_used,
                 unsigned *ret_tokens);
    int (*event)(struct gw_provider_stream *stream, const struct gw_sse_event *event,
                 struct gw_delta *delta);
    int (*body)(struct gw_provider_stream *stream, const char *body, size_t len,
                struct gw_delta *delta);
};

/** The provider of that name, or NULL: there is none. */
const struct gw_provider *gw_provider_find(const char *name);

/** One response on its way into deltas. */
struct gw_provider_stream {
    const struct gw_provider *provider;
    /* private */
    struct gw_delta_texts texts;
    struct {
        int32_t input, cache_creation, cache_read, output;
    } usage; /* the newest of each, where a dialect reports them one by one */
};

/** `text_max_bytes`: of each text of one event. Allocates nothing yet. */
void gw_provider_stream_init(struct gw_provider_stream *stream, const struct gw_provider *provider,
                             size_t text_max_bytes);

/**
 * Translates one event. 0 and a delta (possibly an empty one: role chunks, pings), or
 * SL_E_UPSTREAM_MALFORMED for text that is not JSON or has a known key of the wrong type in a way that
 * loses content, SL_E_ANSWER_TOO_LONG, SL_E_NO_MEMORY. An `error` event and a `[DONE]` mean the same in
 * every dialect. The stream can go on after an error. Tolerates every row of clients.md section 8.
 */
SL_MUST_CHECK int gw_provider_stream_event(struct gw_provider_stream *stream,
                                           const struct gw_sse_event *event,
                                           struct gw_delta *ret_delta);

/**
 * Translates a whole non-streamed body (a server that ignored `stream: true`); the delta has `ended`.
 * As gw_provider_stream_event; other JSON than an answer or an error is SL_E_UPSTREAM_MALFORMED too.
 */
SL_MUST_CHECK int gw_provider_stream_body(struct gw_provider_stream *stream, const char *body,
                                          size_t len, struct gw_delta *ret_delta);

/** The end of the stream: what was held back (a lone surrogate becomes U+FFFD) as a last delta. */
SL_MUST_CHECK int gw_provider_stream_finish(struct gw_provider_stream *stream,
                                            struct gw_delta *ret_delta);

void gw_provider_stream_dispose(struct gw_provider_stream *stream);
