/*
 * Directives: one table row per key, which says how its value is read and where it goes.
 *
 * Happy path: find "[[stub", split at blanks up to "]]", look each key up, store its value.
 * Failure: the first unknown key, wrong value or missing "]]" gives -1 and a text that names it, so
 * a typo in a test is an HTTP 400 and not a test of something else.
 * Thread: any. Ownership: see stub_script.h.
 */
#include "stub_script.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char OPENING[] = "[[stub";
static const char CLOSING[] = "]]";

enum value_kind {
    FLAG,           /* stands alone */
    COUNT,          /* a whole number 0 .. max */
    FLAG_OR_COUNT,  /* alone means `max_or_alone` */
    MILLIS,         /* decimal milliseconds -> microseconds */
    FLAG_OR_MILLIS, /* alone means 0 */
    WORD,           /* text without blanks */
    CUT,            /* alone or "rst", or "fin" */
};

struct directive {
    const char *name;
    enum value_kind kind;
    size_t place;
    int64_t max_or_alone;
};

#define AT(member) offsetof(struct stub_script, member)
enum { COUNT_MAX = 100 * 1000 * 1000, MILLIS_MAX = 24 * 3600 * 1000 };

static const struct directive directives[] = {
    {"delay", MILLIS, AT(delay_us), 0},
    {"first", MILLIS, AT(first_us), 0},
    {"role_then", MILLIS, AT(role_then_us), 0},
    {"gap", MILLIS, AT(gap_us), 0},
    {"jitter", MILLIS, AT(jitter_us), 0},
    {"tokens", COUNT, AT(tokens), COUNT_MAX},
    {"long", COUNT, AT(long_bytes), STUB_SCRIPT_BYTES_MAX},
    {"utf8", FLAG, AT(utf8), 0},
    {"echo", FLAG, AT(echo), 0},
    {"surrogates", FLAG, AT(surrogates), 0},
    {"lone_surrogate", FLAG, AT(lone_surrogate), 0},
    {"reasoning", COUNT, AT(reasoning), COUNT_MAX},
    {"reasoning_key", WORD, AT(reasoning_key), 0},
    {"bigline", COUNT, AT(bigline_bytes), STUB_SCRIPT_BYTES_MAX},
    {"finish", WORD, AT(finish), 0},
    {"id", WORD, AT(id), 0},
    {"tool_calls", FLAG, AT(tool_calls), 0},
    {"no_usage", FLAG, AT(no_usage), 0},
    {"usage_each", FLAG, AT(usage_each), 0},
    {"json", FLAG, AT(json), 0},
    {"status", COUNT, AT(status), 599},
    {"retry_after", COUNT, AT(retry_after_s), COUNT_MAX},
    {"html", FLAG, AT(html), 0},
    {"empty", FLAG, AT(empty), 0},
    {"quota", FLAG, AT(quota), 0},
    {"head_bytes", COUNT, AT(head_bytes), STUB_SCRIPT_BYTES_MAX},
    {"drop", CUT, AT(drop), 0},
    {"stall_after", COUNT, AT(stall_after), COUNT_MAX},
    {"fin_after", COUNT, AT(fin_after), COUNT_MAX},
    {"rst_after", COUNT, AT(rst_after), COUNT_MAX},
    {"error_after", COUNT, AT(error_after), COUNT_MAX},
    {"malformed", FLAG_OR_COUNT, AT(malformed_after), 1},
    {"no_done", FLAG, AT(no_done), 0},
    {"no_finish", FLAG, AT(no_finish), 0},
    {"half_dead", CUT, AT(half_dead), 0},
    {"crlf", FLAG, AT(crlf), 0},
    {"cr", FLAG, AT(cr), 0},
    {"nospace", FLAG, AT(nospace), 0},
    {"multiline", FLAG, AT(multiline), 0},
    {"bytes", FLAG, AT(bytes), 0},
    {"split", COUNT, AT(split_seed), INT64_MAX / 10 - 1},
    {"comments", FLAG_OR_MILLIS, AT(comments_us), 0},
    {"pings", FLAG_OR_MILLIS, AT(pings_us), 0},
    {"at", COUNT, AT(at_port), 65535},
    {"times", COUNT, AT(times), COUNT_MAX},
};

void stub_script_init(struct stub_script *script)
{
    *script = (struct stub_script){0};
    for (size_t i = 0; i < sizeof(directives) / sizeof(directives[0]); i++) {
        enum value_kind kind = directives[i].kind;
        if (kind == COUNT || kind == FLAG_OR_COUNT || kind == FLAG_OR_MILLIS) {
            memcpy((char *)script + directives[i].place, &(int64_t){-1}, sizeof(int64_t));
        }
    }
    strcpy(script->reasoning_key, "reasoning_content");
}

static bool read_count(const char *value, int64_t max, int64_t *ret_count)
{
    int64_t count = 0;
    if (*value == 0) {
        return false;
    }
    for (; *value != 0; value++) {
        if (*value < '0' || *value > '9') {
            return false;
        }
        count = count * 10 + (*value - '0');
        if (count > max) {
            return false;
        }
    }
    *ret_count = count;
    return true;
}

static bool read_millis(const char *value, int64_t *ret_us)
{
    char *end;
    if ((*value < '0' || *value > '9') && *value != '.') {
        return false;
    }
    double millis = strtod(value, &end);
    if (*end != 0 || !(millis >= 0 && millis <= MILLIS_MAX)) {
        return false;
    }
    *ret_us = (int64_t)(millis * 1000.0 + 0.5);
    return true;
}

static bool read_cut(const char *value, enum stub_cut *ret_cut)
{
    if (value == NULL || strcmp(value, "rst") == 0) {
        *ret_cut = STUB_CUT_RST;
    } else if (strcmp(value, "fin") == 0) {
        *ret_cut = STUB_CUT_FIN;
    } else {
        return false;
    }
    return true;
}

/** `value` is NULL when the key stands alone. */
static bool store_value(const struct directive *directive, struct stub_script *script,
                        const char *value)
{
    void *place = (char *)script + directive->place;
    bool alone = value == NULL;
    switch (directive->kind) {
    case FLAG:
        *(bool *)place = true;
        return alone;
    case COUNT:
        return !alone && read_count(value, directive->max_or_alone, place);
    case FLAG_OR_COUNT:
        *(int64_t *)place = directive->max_or_alone;
        return alone || read_count(value, COUNT_MAX, place);
    case MILLIS:
        return !alone && read_millis(value, place);
    case FLAG_OR_MILLIS:
        *(int64_t *)place = 0;
        return alone || read_millis(value, place);
    case WORD:
        if (!alone) {
            memcpy(place, value, strlen(value) + 1); /* item is no longer than WORD_MAX */
        }
        return !alone && *value != 0;
    case CUT:
        return read_cut(value, place);
    }
    return false;
}

/** One `key` or `key=value`, NUL-terminated; it is cut in two here. */
static int read_item(struct stub_script *script, char *item, char *ret_error)
{
    char *equals = strchr(item, '=');
    const char *value = NULL;
    if (equals != NULL) {
        *equals = 0;
        value = equals + 1;
    }
    for (size_t i = 0; i < sizeof(directives) / sizeof(directives[0]); i++) {
        if (strcmp(directives[i].name, item) == 0) {
            if (store_value(&directives[i], script, value)) {
                return 0;
            }
            snprintf(ret_error, STUB_SCRIPT_ERROR_MAX, "stub directive %s: wrong value '%s'", item,
                     value != NULL ? value : "");
            return -1;
        }
    }
    snprintf(ret_error, STUB_SCRIPT_ERROR_MAX, "unknown stub directive '%s'", item);
    return -1;
}

/** FNV-1a; tells directives apart for `times`. */
static uint64_t hash_bytes(const char *bytes, size_t len)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3u;
    }
    return hash;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int read_items(struct stub_script *script, const char *at, const char *end, char *ret_error)
{
    while (true) {
        while (at < end && is_blank(*at)) {
            at++;
        }
        if (at == end) {
            return 0;
        }
        if (end - at >= 5 && memcmp(at, "text=", 5) == 0) {
            script->text = at + 5;
            script->text_len = (size_t)(end - script->text);
            return 0;
        }
        const char *start = at;
        while (at < end && !is_blank(*at)) {
            at++;
        }
        char item[STUB_SCRIPT_WORD_MAX];
        size_t item_len = (size_t)(at - start);
        if (item_len >= sizeof(item)) {
            snprintf(ret_error, STUB_SCRIPT_ERROR_MAX, "stub directive too long: '%.40s...'",
                     start);
            return -1;
        }
        memcpy(item, start, item_len);
        item[item_len] = 0;
        if (read_item(script, item, ret_error) != 0) {
            return -1;
        }
    }
}

int stub_script_parse(struct stub_script *script, const char *message, size_t len,
                      char ret_error[STUB_SCRIPT_ERROR_MAX])
{
    const char *start = len != 0 ? memmem(message, len, OPENING, strlen(OPENING)) : NULL;
    if (start == NULL) {
        return 0;
    }
    const char *items = start + strlen(OPENING);
    const char *message_end = message + len;
    const char *end = memmem(items, (size_t)(message_end - items), CLOSING, strlen(CLOSING));
    if (end == NULL || !(items == end || is_blank(*items))) {
        snprintf(ret_error, STUB_SCRIPT_ERROR_MAX,
                 "stub directive is not of the form "
                 "'[[stub key=value ...]]'");
        return -1;
    }
    script->directive_hash = hash_bytes(start, (size_t)(end - start));
    if (read_items(script, items, end, ret_error) != 0) {
        return -1;
    }
    if (script->status >= 0 && script->status < 400 && !(script->status == 200 && script->html)) {
        snprintf(ret_error, STUB_SCRIPT_ERROR_MAX,
                 "stub directive status: 400 to 599, or 200 with html");
        return -1;
    }
    return 0;
}

void stub_script_clear_faults(struct stub_script *script)
{
    script->delay_us = script->first_us = script->role_then_us = 0;
    script->status = script->retry_after_s = -1;
    script->html = script->empty = script->quota = script->json = false;
    script->head_bytes = -1;
    script->drop = script->half_dead = STUB_CUT_NONE;
    script->stall_after = script->fin_after = script->rst_after = -1;
    script->error_after = script->malformed_after = -1;
    script->no_done = script->no_finish = false;
}
