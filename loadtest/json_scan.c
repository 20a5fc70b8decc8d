/*
 * JSON in place: a cursor that is moved over values, members and elements.
 *
 * Happy path: walk_object -> for each member the caller's function reads or skips the value -> '}'.
 * Failure: false; the cursor is useless after that.
 * Thread: any. Ownership: keeps nothing.
 */
#include "json_scan.h"

#include <string.h>

static void skip_blanks(struct lt_json *json)
{
    while (json->at < json->end &&
           (*json->at == ' ' || *json->at == '\n' || *json->at == '\r' || *json->at == '\t')) {
        json->at++;
    }
}

char lt_json_peek(struct lt_json *json)
{
    skip_blanks(json);
    return json->at < json->end ? *json->at : 0;
}

static bool take(struct lt_json *json, char wanted)
{
    if (lt_json_peek(json) != wanted || wanted == 0) {
        return false;
    }
    json->at++;
    return true;
}

bool lt_json_walk_object(struct lt_json *json, lt_json_take_member *take_member, void *context)
{
    char key[LT_JSON_KEY_MAX];
    if (!take(json, '{')) {
        return false;
    }
    for (bool first = true; !take(json, '}'); first = false) {
        if ((!first && !take(json, ',')) || !lt_json_read_short(json, key, sizeof(key)) ||
            !take(json, ':') || !take_member(json, key, context)) {
            return false;
        }
    }
    return true;
}

bool lt_json_walk_array(struct lt_json *json, lt_json_take_element *take_element, void *context)
{
    if (!take(json, '[')) {
        return false;
    }
    for (bool first = true; !take(json, ']'); first = false) {
        if ((!first && !take(json, ',')) || !take_element(json, context)) {
            return false;
        }
    }
    return true;
}

bool lt_json_skip(struct lt_json *json)
{
    size_t depth = 0; /* a count instead of recursion: the text decides how deep it goes */
    do {
        char c = lt_json_peek(json);
        if (c == 0) {
            return false;
        }
        if (c == '"') {
            if (!lt_json_read_string(json, NULL)) {
                return false;
            }
        } else if (c == '{' || c == '[') {
            depth++;
            json->at++;
        } else if (c == '}' || c == ']') {
            if (depth == 0) {
                return false;
            }
            depth--;
            json->at++;
        } else if (c == ',' || c == ':') {
            if (depth == 0) {
                return false;
            }
            json->at++;
        } else {
            while (json->at < json->end && strchr(",:{}[]\" \t\r\n", *json->at) == NULL) {
                json->at++;
            }
        }
    } while (depth != 0);
    return true;
}

static bool read_hex4(struct lt_json *json, unsigned *ret_unit)
{
    if (json->end - json->at < 4) {
        return false;
    }
    unsigned unit = 0;
    for (int i = 0; i < 4; i++) {
        char c = json->at[i];
        char lower = (char)(c | 0x20);
        if (c >= '0' && c <= '9') {
            unit = unit << 4 | (unsigned)(c - '0');
        } else if (lower >= 'a' && lower <= 'f') {
            unit = unit << 4 | (unsigned)(lower - 'a' + 10);
        } else {
            return false;
        }
    }
    json->at += 4;
    *ret_unit = unit;
    return true;
}

static void append_utf8(struct lt_buffer *text, unsigned point)
{
    char bytes[4];
    size_t n = 0;
    if (point < 0x80) {
        bytes[n++] = (char)point;
    } else if (point < 0x800) {
        bytes[n++] = (char)(0xc0 | point >> 6);
        bytes[n++] = (char)(0x80 | (point & 0x3f));
    } else if (point < 0x10000) {
        bytes[n++] = (char)(0xe0 | point >> 12);
        bytes[n++] = (char)(0x80 | (point >> 6 & 0x3f));
        bytes[n++] = (char)(0x80 | (point & 0x3f));
    } else {
        bytes[n++] = (char)(0xf0 | point >> 18);
        bytes[n++] = (char)(0x80 | (point >> 12 & 0x3f));
        bytes[n++] = (char)(0x80 | (point >> 6 & 0x3f));
        bytes[n++] = (char)(0x80 | (point & 0x3f));
    }
    lt_buffer_append(text, bytes, n);
}

/** The four digits after "\u", and the second half of a surrogate pair when one follows. */
static bool read_unicode_escape(struct lt_json *json, struct lt_buffer *text)
{
    unsigned point;
    if (!read_hex4(json, &point)) {
        return false;
    }
    if (point >= 0xd800 && point < 0xdc00 && json->end - json->at >= 6 && json->at[0] == '\\' &&
        json->at[1] == 'u') {
        struct lt_json ahead = {.at = json->at + 2, .end = json->end};
        unsigned low;
        if (read_hex4(&ahead, &low) && low >= 0xdc00 && low < 0xe000) {
            point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
            json->at = ahead.at;
        }
    }
    if (point >= 0xd800 && point < 0xe000) {
        point = 0xfffd;
    }
    if (text != NULL) {
        append_utf8(text, point);
    }
    return true;
}

static bool read_escape(struct lt_json *json, struct lt_buffer *text)
{
    static const char letters[] = "bfnrt\"\\/";
    static const char meanings[] = "\b\f\n\r\t\"\\/";
    if (json->at == json->end) {
        return false;
    }
    char letter = *json->at++;
    if (letter == 'u') {
        return read_unicode_escape(json, text);
    }
    const char *found = letter != 0 ? strchr(letters, letter) : NULL;
    if (found == NULL) {
        return false;
    }
    if (text != NULL) {
        lt_buffer_append(text, &meanings[found - letters], 1);
    }
    return true;
}

bool lt_json_read_string(struct lt_json *json, struct lt_buffer *text)
{
    if (!take(json, '"')) {
        return false;
    }
    while (json->at < json->end) {
        const char *run = json->at;
        while (json->at < json->end && *json->at != '"' && *json->at != '\\') {
            json->at++;
        }
        if (text != NULL) {
            lt_buffer_append(text, run, (size_t)(json->at - run));
        }
        if (json->at == json->end) {
            return false;
        }
        if (*json->at++ == '"') {
            return true;
        }
        if (!read_escape(json, text)) {
            return false;
        }
    }
    return false;
}

bool lt_json_read_short(struct lt_json *json, char *ret_text, size_t size)
{
    struct lt_json start = *json;
    if (!lt_json_read_string(json, NULL)) {
        return false;
    }
    skip_blanks(&start);
    const char *raw = start.at + 1;
    size_t raw_len = (size_t)(json->at - raw) - 1;
    if (raw_len < size && memchr(raw, '\\', raw_len) == NULL) {
        memcpy(ret_text, raw, raw_len); /* nearly always: no escapes, nothing to cut */
        ret_text[raw_len] = 0;
        return true;
    }
    struct lt_buffer text = {0};
    (void)lt_json_read_string(&start, &text);
    size_t n = text.len < size ? text.len : size - 1;
    if (n != 0) {
        memcpy(ret_text, text.base, n);
    }
    ret_text[n] = 0;
    lt_buffer_free(&text);
    return true;
}

bool lt_json_read_bool(struct lt_json *json, bool *ret_value)
{
    skip_blanks(json);
    size_t left = (size_t)(json->end - json->at);
    if (left >= 4 && memcmp(json->at, "true", 4) == 0) {
        json->at += 4;
        *ret_value = true;
        return true;
    }
    if (left >= 5 && memcmp(json->at, "false", 5) == 0) {
        json->at += 5;
        *ret_value = false;
        return true;
    }
    return false;
}

bool lt_json_read_count(struct lt_json *json, uint64_t *ret_value)
{
    skip_blanks(json);
    const char *start = json->at;
    uint64_t value = 0;
    while (json->at < json->end && *json->at >= '0' && *json->at <= '9' &&
           value < UINT64_MAX / 10 - 1) {
        value = value * 10 + (uint64_t)(*json->at++ - '0');
    }
    if (json->at == start) {
        return false;
    }
    *ret_value = value;
    return true;
}
