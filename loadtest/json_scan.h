/**
 * A tolerant reader of JSON text: walks it in place, builds no tree.
 *
 * It reads what trusted peers send, so it does not check everything (skipped values may be odd);
 * but it never reads outside the text, never recurses and stops at the first thing it cannot follow.
 *
 * Thread: any. Ownership: the text is the caller's and must outlive the cursor.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"

enum { LT_JSON_KEY_MAX = 32 };

struct lt_json {
    const char *at;
    const char *end;
};

/** The first character of the next value, 0 at the end of the text. */
char lt_json_peek(struct lt_json *json);

/** The cursor stands before a value: reads or skips it. False: broken, the walk ends. */
typedef bool lt_json_take_member(struct lt_json *json, const char *key, void *context);
typedef bool lt_json_take_element(struct lt_json *json, void *context);

/**
 * Walks over an object or an array and has each value taken. Keys are cut to LT_JSON_KEY_MAX-1
 * bytes. False: something else stands there, it is broken, or `take` said so.
 */
bool lt_json_walk_object(struct lt_json *json, lt_json_take_member *take, void *context);
bool lt_json_walk_array(struct lt_json *json, lt_json_take_element *take, void *context);

/** Steps over one value of any kind. False: broken. */
bool lt_json_skip(struct lt_json *json);

/**
 * Reads a string and appends it, unescaped, to `text` (lone surrogates become U+FFFD). NULL: only
 * steps over it. False: broken, or not a string.
 */
bool lt_json_read_string(struct lt_json *json, struct lt_buffer *text);

/** As above into an array, cut to `size`-1 bytes and NUL-terminated. */
bool lt_json_read_short(struct lt_json *json, char *ret_text, size_t size);

/** Reads true or false. False: another value stands there; nothing was read. */
bool lt_json_read_bool(struct lt_json *json, bool *ret_value);

/** Reads an integer >= 0. False: another value stands there. */
bool lt_json_read_count(struct lt_json *json, uint64_t *ret_value);
