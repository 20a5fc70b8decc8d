/**
 * Server-Sent Events and HTTP chunks, well-formed or bent as the script asks.
 *
 * Thread: one at a time. Ownership: embedded in its reply; `script` and `out` are the caller's and
 * stay valid; free with stub_frame_finish.
 */
#pragma once

#include <stdbool.h>

#include "buffer.h"
#include "random.h"
#include "stub_script.h"

struct stub_frame {
    const struct stub_script *script;
    struct lt_buffer *out;
    bool chunked;  /* false for an HTTP/1.0 client: the body ends with the connection */
    bool straight; /* no bending: the fast path */
    struct lt_random random;
    struct lt_buffer event; /* scratch: one event before it is cut up */
    struct lt_buffer carry; /* split: body bytes that wait for their piece to fill up */
    size_t piece;           /* split: size of the next piece */
};

void stub_frame_init(struct stub_frame *frame, const struct stub_script *script,
                     struct lt_buffer *out, bool chunked);
void stub_frame_finish(struct stub_frame *frame);

/** One event; `name` NULL: no `event:` line. `json` holds no line break. */
void stub_frame_event(struct stub_frame *frame, const char *name, const char *json, size_t len);

/** A comment line and blank lines. */
void stub_frame_comment(struct stub_frame *frame, const char *text);

/** Lets go of held-back bytes; before every pause. */
void stub_frame_flush(struct stub_frame *frame);

/** Ends the body cleanly: the last chunk. */
void stub_frame_end(struct stub_frame *frame);
