/*
 * Halves of surrogate pairs in a text that comes in pieces.
 *
 * Nearly every text holds none, and one memchr tells; the rest is settled in place, as nothing that is
 * written is longer than what it stands for. Thread: any. Ownership: the buffer is the caller's.
 */
#include "surrogates.h"

#include <string.h>

static uint16_t half_at(const struct sl_buffer *text, size_t at);
static size_t write_pair(char *to, uint16_t high, uint16_t low);

int gw_surrogates_put_back(struct sl_buffer *text, uint16_t held)
{
    char bytes[GW_SURROGATE_BYTES] = {(char)(0xe0 | held >> 12), (char)(0x80 | (held >> 6 & 0x3f)),
                                      (char)(0x80 | (held & 0x3f))};

    return held != 0 ? sl_buffer_append(text, bytes, sizeof(bytes)) : 0;
}

uint16_t gw_surrogates_settle(struct sl_buffer *text, bool last)
{
    /* U+D000 to U+DFFF begin with this byte and nothing else does */
    char *first = text->len > 0 ? memchr(text->base, 0xed, text->len) : NULL;

    if (first == NULL) {
        return 0;
    }
    uint16_t held = 0;
    size_t at = (size_t)(first - text->base), to = at;
    while (at < text->len) {
        uint16_t half = half_at(text, at);
        if (half == 0) {
            text->base[to++] = text->base[at++];
            continue;
        }
        uint16_t other = half_at(text, at + GW_SURROGATE_BYTES);
        at += GW_SURROGATE_BYTES;
        if (half < 0xdc00 && other >= 0xdc00) {
            to += write_pair(text->base + to, half, other);
            at += GW_SURROGATE_BYTES;
        } else if (half < 0xdc00 && at == text->len && !last) {
            held = half;
        } else {
            memcpy(text->base + to, "\xef\xbf\xbd", 3);
            to += 3;
        }
    }
    text->len = to;
    return held;
}

/* The half that stands at `at`, or 0. */
static uint16_t half_at(const struct sl_buffer *text, size_t at)
{
    if (at + GW_SURROGATE_BYTES > text->len) {
        return 0;
    }
    const unsigned char *bytes = (const unsigned char *)text->base + at;
    if (bytes[0] != 0xed || bytes[1] < 0xa0) {
        return 0;
    }
    return (uint16_t)(0xd000 | (bytes[1] & 0x3f) << 6 | (bytes[2] & 0x3f));
}

static size_t write_pair(char *to, uint16_t high, uint16_t low)
{
    uint32_t code = 0x10000 + ((uint32_t)(high & 0x3ff) << 10 | (low & 0x3ff));

    to[0] = (char)(0xf0 | code >> 18);
    to[1] = (char)(0x80 | (code >> 12 & 0x3f));
    to[2] = (char)(0x80 | (code >> 6 & 0x3f));
    to[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}
