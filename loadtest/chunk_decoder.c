/*
 * Chunked bodies, byte by byte for the framing and run by run for the payload.
 *
 *   SIZE_FIRST -> SIZE -> [EXTENSION] -> SIZE_LF -> PAYLOAD -> PAYLOAD_CR -> PAYLOAD_LF -> (again)
 *                                           \ size 0 -> TRAILER_START <-> TRAILER
 *                                                            \ CR -> LAST_LF -> DONE
 *
 * Failure: -1 for framing that RFC 9112 does not allow; strict, since it also judges the gateway.
 * Thread: any. Ownership: keeps nothing of the caller's bytes.
 */
#include "chunk_decoder.h"

enum { LINE_BYTES_MAX = 8 * 1024 };

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static bool read_size_digit(struct lt_chunk_decoder *decoder, char c)
{
    int digit = hex_digit(c);
    if (digit < 0 || decoder->remaining >> 56 != 0) {
        return false;
    }
    decoder->remaining = decoder->remaining << 4 | (unsigned)digit;
    decoder->state = LT_CHUNK_SIZE;
    return true;
}

static bool expect(struct lt_chunk_decoder *decoder, char c, char wanted, enum lt_chunk_state next)
{
    decoder->state = next;
    return c == wanted;
}

/** One byte of framing. False: broken. */
static bool read_framing(struct lt_chunk_decoder *decoder, char c)
{
    switch (decoder->state) {
    case LT_CHUNK_SIZE_FIRST:
        return read_size_digit(decoder, c);
    case LT_CHUNK_SIZE:
        if (c == '\r') {
            decoder->state = LT_CHUNK_SIZE_LF;
            return true;
        }
        if (c == ';' || c == ' ' || c == '\t') {
            decoder->state = LT_CHUNK_EXTENSION;
            return true;
        }
        return read_size_digit(decoder, c);
    case LT_CHUNK_EXTENSION:
        if (c == '\r') {
            decoder->state = LT_CHUNK_SIZE_LF;
            return true;
        }
        return c != '\n' && ++decoder->line_bytes <= LINE_BYTES_MAX;
    case LT_CHUNK_SIZE_LF:
        return expect(decoder, c, '\n',
                      decoder->remaining != 0 ? LT_CHUNK_PAYLOAD : LT_CHUNK_TRAILER_START);
    case LT_CHUNK_PAYLOAD_CR:
        return expect(decoder, c, '\r', LT_CHUNK_PAYLOAD_LF);
    case LT_CHUNK_PAYLOAD_LF:
        return expect(decoder, c, '\n', LT_CHUNK_SIZE_FIRST);
    case LT_CHUNK_TRAILER_START:
        decoder->state = c == '\r' ? LT_CHUNK_LAST_LF : LT_CHUNK_TRAILER;
        return c != '\n' && ++decoder->line_bytes <= LINE_BYTES_MAX;
    case LT_CHUNK_TRAILER:
        if (c == '\n') {
            decoder->state = LT_CHUNK_TRAILER_START;
        }
        return ++decoder->line_bytes <= LINE_BYTES_MAX;
    case LT_CHUNK_LAST_LF:
        return expect(decoder, c, '\n', LT_CHUNK_DONE);
    case LT_CHUNK_PAYLOAD:
    case LT_CHUNK_DONE:
        break;
    }
    return false;
}

ssize_t lt_chunk_decoder_read(struct lt_chunk_decoder *decoder, const char *bytes, size_t len,
                              const char **ret_payload, size_t *ret_payload_len)
{
    size_t used = 0;
    while (used < len && decoder->state != LT_CHUNK_DONE) {
        if (decoder->state == LT_CHUNK_PAYLOAD) {
            size_t run = len - used;
            if (run >= decoder->remaining) {
                run = (size_t)decoder->remaining;
                decoder->state = LT_CHUNK_PAYLOAD_CR;
            }
            decoder->remaining -= run;
            *ret_payload = bytes + used;
            *ret_payload_len = run;
            return (ssize_t)(used + run);
        }
        if (!read_framing(decoder, bytes[used++])) {
            return -1;
        }
    }
    *ret_payload = bytes + used;
    *ret_payload_len = 0;
    return (ssize_t)used;
}
