/**
 * JSON strings where they stand in a text: checked once, decoded on request (RFC 8259 section 7).
 *
 * Thread: any (pure functions). Ownership: a string points into its text, which outlives it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "sluice/buffer.h"

enum gw_json_fault {
    GW_JSON_FINE,
    GW_JSON_FAULT_SYNTAX,
    GW_JSON_FAULT_DEPTH,   /* more than GW_JSON_DEPTH_MAX containers open */
    GW_JSON_FAULT_UTF8,    /* a string with ill-formed UTF-8 */
    GW_JSON_FAULT_CONTROL, /* an unescaped control character in a string */
};

/** A string in the text, still as it is written there; checked. */
struct gw_json_string {
    const char *base;    /* after the opening quote; NULL: no string was read */
    size_t len;          /* up to the closing quote */
    bool plain;          /* nothing to decode: base and len are the text itself */
    bool ill_formed;     /* holds ill-formed UTF-8 (only when repairing) */
    const char *lone_at; /* the first escape that is half a surrogate pair; NULL: none */
};

/**
 * Checks the string whose first character is at `text`. GW_JSON_FINE and the string, or what is wrong
 * with it; `ret_stopped_at` gets the place of the closing quote or of the fault. With `repair_utf8`
 * ill-formed UTF-8 is no fault.
 */
enum gw_json_fault gw_json_string_check(const char *text, const char *end, bool repair_utf8,
                                        struct gw_json_string *ret_string,
                                        const char **ret_stopped_at);

/**
 * Appends the decoded text. Half a surrogate pair is kept as its three bytes (WTF-8: ED A0 80 to
 * ED BF BF, which well-formed UTF-8 cannot contain) for the caller to join or replace; U+0000 becomes
 * U+FFFD, since no store takes it. Errors as sl_buffer_append, and then nothing was appended.
 */
SL_MUST_CHECK int gw_json_string_append(const struct gw_json_string *string, struct sl_buffer *to);

/** Copies the decoded text, cut at a character to `size` - 1 bytes; always valid UTF-8, NUL-terminated. */
void gw_json_string_copy(const struct gw_json_string *string, char *to, size_t size);

/** For gw_json_string_is: the comparison where decoding is needed. */
bool gw_json_string_is_decoded(const struct gw_json_string *string, const char *literal);

/** True when the decoded text is `literal` (up to 63 bytes). Inline so that literals fold to a length and a compare. */
static inline bool gw_json_string_is(const struct gw_json_string *string, const char *literal)
{
    if (!string->plain) {
        return gw_json_string_is_decoded(string, literal);
    }
    size_t len = strlen(literal);
    return string->len == len && memcmp(string->base, literal, len) == 0;
}
