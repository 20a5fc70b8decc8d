/**
 * HTTP/1.1 as far as a model server needs it: an incremental request reader, a reply writer.
 *
 * No I/O. Thread: one at a time. Ownership: the reader is embedded in its connection, all zero is
 * the start; what `request` points to lives until stub_http_next or until the input moves.
 * Bounds: head 64 KiB, body 4 MiB (8 MiB of chunked framing).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "buffer.h"
#include "chunk_decoder.h"

struct stub_request {
    char method[16];
    char path[128];   /* without the query */
    const char *head; /* request line and headers, verbatim */
    size_t head_len;
    const char *body; /* decoded */
    size_t body_len;
    bool keep_alive;
    bool http_1_0; /* such a client knows no chunked encoding */
    bool has_key;  /* authorization or x-api-key */
    bool has_anthropic_version;
};

enum stub_http_result {
    STUB_HTTP_MORE,     /* not complete yet */
    STUB_HTTP_CONTINUE, /* as MORE, and the client waits for "100 Continue" (reported once) */
    STUB_HTTP_READY,
    STUB_HTTP_BROKEN, /* answer `status` and close */
};

struct stub_http {
    struct stub_request request;
    int status;
    size_t scanned; /* bytes of the head already searched for its end */
    size_t used;    /* bytes of the input that the head, then also the body have taken */
    bool have_head, chunked, expects_continue;
    size_t content_length;
    struct lt_chunk_decoder chunks;
    struct lt_buffer decoded;
};

/** Reads on in `input`, which must begin with this request and only ever grow at its end. */
enum stub_http_result stub_http_read(struct stub_http *http, const char *input, size_t len);

/** Forgets the request that was READY. Returns how many bytes of input it took. */
size_t stub_http_next(struct stub_http *http);

void stub_http_finish(struct stub_http *http);

/** The reason phrase, "Unknown" for a status that the stub never sends. */
const char *stub_http_reason(int status);

/**
 * Appends a whole reply with Content-Length. `headers` are further lines, each with its CRLF.
 * `type` NULL: no Content-Type.
 */
void stub_http_respond(struct lt_buffer *out, int status, const char *type, const char *headers,
                       const void *body, size_t body_len, bool keep_alive);
