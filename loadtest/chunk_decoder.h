/**
 * Incremental decoder of HTTP/1.1 chunked bodies (RFC 9112 section 7.1), without copying.
 *
 * Thread: one at a time. Ownership: the struct is the caller's, all zero is the start; payload
 * points into the caller's bytes. No I/O: input may be split anywhere.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum lt_chunk_state {
    LT_CHUNK_SIZE_FIRST = 0, /* before the first hex digit */
    LT_CHUNK_SIZE,
    LT_CHUNK_EXTENSION,
    LT_CHUNK_SIZE_LF,
    LT_CHUNK_PAYLOAD,
    LT_CHUNK_PAYLOAD_CR,
    LT_CHUNK_PAYLOAD_LF,
    LT_CHUNK_TRAILER_START, /* at the start of a trailer line, or of the empty last one */
    LT_CHUNK_TRAILER,
    LT_CHUNK_LAST_LF,
    LT_CHUNK_DONE,
};

struct lt_chunk_decoder {
    enum lt_chunk_state state;
    uint64_t remaining;  /* payload bytes of this chunk still to come */
    unsigned line_bytes; /* of extensions and trailers, bounded */
};

/**
 * Reads on until a run of payload ends, the body ends or the input is used up.
 * Returns the number of bytes used, or -1 for broken framing (bare CR, no hex digit, a size over
 * 2^60, over 8 KiB of extensions and trailers); the decoder is useless after that. `ret_payload`
 * and `ret_payload_len` name the run, of length 0 when there was none. Call again while bytes are
 * left and the body is not done.
 */
ssize_t lt_chunk_decoder_read(struct lt_chunk_decoder *decoder, const char *bytes, size_t len,
                              const char **ret_payload, size_t *ret_payload_len);

static inline bool lt_chunk_decoder_done(const struct lt_chunk_decoder *decoder)
{
    return decoder->state == LT_CHUNK_DONE;
}
