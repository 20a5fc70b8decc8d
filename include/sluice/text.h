/**
 * UTF-8 checks and JSON string output.
 *
 * Thread: any (pure functions).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "sluice/buffer.h"

/** True for well-formed UTF-8 (Unicode 15 table 3-7: no surrogates, nothing over U+10FFFF, no overlong forms). NUL is allowed. */
bool sl_utf8_valid(const char *text, size_t len);

/** The length of the longest prefix that is well-formed UTF-8. */
size_t sl_utf8_valid_prefix(const char *text, size_t len);

/** The largest n <= limit at which `text` can be cut without splitting a character. */
size_t sl_utf8_cut(const char *text, size_t len, size_t limit);

/**
 * Appends `text` as one JSON string with its quotes, on one line: control characters, quotation
 * mark, backslash, U+2028 and U+2029 escaped; ill-formed UTF-8 becomes U+FFFD. On failure nothing
 * was appended. Errors as sl_buffer_append.
 */
SL_MUST_CHECK int sl_json_append_string(struct sl_buffer *buffer, const char *text, size_t len);
