/*
 * libFuzzer: whatever the bytes and however they are split, the parser gives the same events.
 *
 * Input: one byte that seeds the splits, one byte for the maximum, then the stream. Built with the
 * fuzz preset; needs sse_parser.c and base/buffer.c.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sse_parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

enum { OUT_MAX = 1 << 22 };

static int record(void *context, const struct gw_sse_event *event)
{
    struct sl_buffer *out = context;
    size_t lengths[2] = {event->name_len, event->text_len};

    if (sl_buffer_append(out, lengths, sizeof(lengths)) != 0 ||
        sl_buffer_append(out, event->name, event->name_len) != 0 ||
        sl_buffer_append(out, event->text, event->text_len) != 0) {
        abort();
    }
    return 0;
}

/* Feeds pieces of 1 to `piece_max` bytes, each in its own allocation; 0: all at once. */
static int parse(const char *stream, size_t len, size_t event_max, uint32_t seed, size_t piece_max,
                 struct sl_buffer *out, uint64_t *ret_comments)
{
    struct gw_sse_parser parser;
    int err = 0;

    gw_sse_parser_init(&parser, event_max, record, out);
    while (err == 0 && len > 0) {
        size_t n = len;
        if (piece_max > 0) {
            seed = seed * 1664525 + 1013904223;
            n = 1 + (seed >> 16) % piece_max;
            n = n < len ? n : len;
        }
        char *piece = malloc(n);
        if (piece == NULL) {
            abort();
        }
        memcpy(piece, stream, n);
        err = gw_sse_parser_feed(&parser, piece, n);
        free(piece);
        stream += n;
        len -= n;
    }
    *ret_comments = parser.comments;
    gw_sse_parser_dispose(&parser);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    static const size_t piece_max[] = {1, 2, 7, 40};

    if (size < 2) {
        return 0;
    }
    const char *stream = (const char *)input + 2;
    size_t event_max = input[1];
    struct sl_buffer whole;
    uint64_t comments = 0;
    sl_buffer_init(&whole, OUT_MAX);
    int err = parse(stream, size - 2, event_max, 0, 0, &whole, &comments);
    for (size_t i = 0; i < sizeof(piece_max) / sizeof(piece_max[0]); i++) {
        struct sl_buffer pieces;
        uint64_t pieces_comments = 0;
        sl_buffer_init(&pieces, OUT_MAX);
        int pieces_err =
            parse(stream, size - 2, event_max, input[0], piece_max[i], &pieces, &pieces_comments);
        if (pieces_err != err || pieces.len != whole.len || pieces_comments != comments ||
            (whole.len > 0 && memcmp(pieces.base, whole.base, whole.len) != 0)) {
            abort();
        }
        sl_buffer_dispose(&pieces);
    }
    sl_buffer_dispose(&whole);
    return 0;
}
