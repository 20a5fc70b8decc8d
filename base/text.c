/*
 * UTF-8 checks and JSON string output.
 *
 * The validity rule is table 3-7 of the Unicode standard (15.0): the second byte's range depends on
 * the first, which excludes surrogates, overlong forms and everything above U+10FFFF.
 * Pure functions: no I/O, no clock, any thread.
 */
#include "sluice/text.h"

#include <stdint.h>
#include <string.h>

static size_t character_len(const unsigned char *at, size_t left);
static size_t plain_run(const unsigned char *at, size_t left);
static int append_escape(struct sl_buffer *buffer, const unsigned char *at, size_t left,
                         size_t *ret_used);

size_t sl_utf8_valid_prefix(const char *text, size_t len)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t done = 0;

    while (done < len) {
        size_t n = at[done] < 0x80 ? 1 : character_len(at + done, len - done);
        if (n == 0) {
            break;
        }
        done += n;
    }
    return done;
}

bool sl_utf8_valid(const char *text, size_t len)
{
    return sl_utf8_valid_prefix(text, len) == len;
}

size_t sl_utf8_cut(const char *text, size_t len, size_t limit)
{
    if (limit >= len) {
        return len;
    }
    while (limit > 0 && ((unsigned char)text[limit] & 0xc0) == 0x80) {
        limit--;
    }
    return limit;
}

int sl_json_append_string(struct sl_buffer *buffer, const char *text, size_t len)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t start = buffer->len;
    int err = sl_buffer_append(buffer, "\"", 1);

    for (size_t done = 0; err == 0 && done < len;) {
        size_t plain = plain_run(at + done, len - done);
        if (plain > 0) {
            err = sl_buffer_append(buffer, at + done, plain);
            done += plain;
            continue;
        }
        size_t used = 0;
        err = append_escape(buffer, at + done, len - done, &used);
        done += used;
    }
    if (err == 0) {
        err = sl_buffer_append(buffer, "\"", 1);
    }
    if (err != 0) {
        buffer->len = start;
    }
    return err;
}

/* The length of the run that goes out as it is. */
static size_t plain_run(const unsigned char *at, size_t left)
{
    size_t done = 0;

    while (done < left) {
        unsigned char c = at[done];
        if (c >= 0x20 && c < 0x80) {
            if (c == '"' || c == '\\' || c == 0x7f) {
                break;
            }
            done++;
            continue;
        }
        size_t n = c < 0x20 ? 0 : character_len(at + done, left - done);
        /* U+2028 and U+2029 end a line in old JavaScript and in some line splitters */
        if (n == 0 || (n == 3 && c == 0xe2 && at[done + 1] == 0x80 &&
                       (at[done + 2] == 0xa8 || at[done + 2] == 0xa9))) {
            break;
        }
        done += n;
    }
    return done;
}

static int append_escape(struct sl_buffer *buffer, const unsigned char *at, size_t left,
                         size_t *ret_used)
{
    static const char shorts[] = "\"\"\\\\\bb\ff\nn\rr\tt";

    for (size_t i = 0; i + 1 < sizeof(shorts); i += 2) {
        if (at[0] == (unsigned char)shorts[i]) {
            char out[2] = {'\\', shorts[i + 1]};
            *ret_used = 1;
            return sl_buffer_append(buffer, out, 2);
        }
    }
    if (at[0] < 0x80) {
        *ret_used = 1;
        return sl_buffer_appendf(buffer, "\\u%04x", (unsigned)at[0]);
    }
    if (character_len(at, left) == 3) {
        *ret_used = 3;
        return sl_buffer_append_str(buffer, at[2] == 0xa8 ? "\\u2028" : "\\u2029");
    }
    /* One replacement per ill-formed byte; the count does not matter, valid output does. */
    *ret_used = 1;
    return sl_buffer_append(buffer, "\xef\xbf\xbd", 3);
}

/* The length of the well-formed character at `at`, or 0. */
static size_t character_len(const unsigned char *at, size_t left)
{
    unsigned char c = at[0];
    unsigned char low = 0x80, high = 0xbf;
    size_t n;

    if (c < 0x80) {
        return 1;
    } else if (c >= 0xc2 && c <= 0xdf) {
        n = 2;
    } else if (c >= 0xe0 && c <= 0xef) {
        n = 3;
        low = c == 0xe0 ? 0xa0 : 0x80;
        high = c == 0xed ? 0x9f : 0xbf;
    } else if (c >= 0xf0 && c <= 0xf4) {
        n = 4;
        low = c == 0xf0 ? 0x90 : 0x80;
        high = c == 0xf4 ? 0x8f : 0xbf;
    } else {
        return 0;
    }
    if (left < n || at[1] < low || at[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < n; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return n;
}
