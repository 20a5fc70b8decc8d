/*
 * A strict pull scanner over a bounded JSON text.
 *
 * Happy path: peek skips white space and looks at one character; enter and next_* keep the nesting
 * as a count and one flag (the caller knows what it entered); skip keeps one bit per open container.
 * Strings are json_string.c's.
 *
 * Failure modes: anything that RFC 8259 does not allow, and nesting beyond GW_JSON_DEPTH_MAX. The
 * first fault is kept and the cursor goes to the end, where every later call fails.
 *
 * Exceptions to what jansson 2.14 accepts: half a surrogate pair, numbers beyond a double and U+0000
 * in keys are accepted here; nesting of more than 64 is not (jansson: 2048), nor is a NUL byte behind a
 * number or a literal, which jansson swallows.
 *
 * Thread: any. Ownership: the text is the caller's.
 */
#include "json_scan.h"

#include <stdlib.h>

enum { NUMBER_SIZE = 64, INTEGER_DIGITS_MAX = 15 };

static bool broken(struct gw_json *scan, enum gw_json_fault fault, const char *at);
static void skip_space(struct gw_json *scan);
static bool skip_scalar(struct gw_json *scan, enum gw_json_type type);
static bool scan_number(struct gw_json *scan);
static const char *digits(const char *at, const char *end);

void gw_json_init(struct gw_json *scan, const char *text, size_t len)
{
    *scan = (struct gw_json){.at = text, .end = text + len};
}

void gw_json_repair_utf8(struct gw_json *scan)
{
    scan->repair_utf8 = true;
}

/* ---- values and containers ---- */

enum gw_json_type gw_json_peek(struct gw_json *scan)
{
    skip_space(scan);
    if (scan->at == scan->end) {
        return GW_JSON_BROKEN;
    }
    switch (*scan->at) {
    case '{':
        return GW_JSON_OBJECT;
    case '[':
        return GW_JSON_ARRAY;
    case '"':
        return GW_JSON_STRING;
    case 't':
        return GW_JSON_TRUE;
    case 'f':
        return GW_JSON_FALSE;
    case 'n':
        return GW_JSON_NULL;
    default:
        return *scan->at == '-' || (*scan->at >= '0' && *scan->at <= '9') ? GW_JSON_NUMBER
                                                                          : GW_JSON_BROKEN;
    }
}

bool gw_json_enter(struct gw_json *scan)
{
    enum gw_json_type type = gw_json_peek(scan);

    if (type != GW_JSON_OBJECT && type != GW_JSON_ARRAY) {
        return broken(scan, GW_JSON_FAULT_SYNTAX, scan->at);
    }
    if (scan->depth == GW_JSON_DEPTH_MAX) {
        return broken(scan, GW_JSON_FAULT_DEPTH, scan->at);
    }
    scan->depth++;
    scan->at++;
    scan->fresh = true;
    return true;
}

/* Steps over the comma, if one is due, or over `closing`. */
static enum gw_json_step next_value(struct gw_json *scan, char closing)
{
    bool first = scan->fresh;

    skip_space(scan);
    scan->fresh = false;
    if (scan->at < scan->end && *scan->at == closing) {
        scan->at++;
        scan->depth--;
        return GW_JSON_STEP_END;
    }
    if (first) {
        return GW_JSON_STEP_MORE;
    }
    if (scan->at == scan->end || *scan->at != ',') {
        (void)broken(scan, GW_JSON_FAULT_SYNTAX, scan->at);
        return GW_JSON_STEP_BROKEN;
    }
    scan->at++;
    return GW_JSON_STEP_MORE;
}

enum gw_json_step gw_json_next_member(struct gw_json *scan, struct gw_json_string *ret_key)
{
    enum gw_json_step step = next_value(scan, '}');

    if (step != GW_JSON_STEP_MORE) {
        return step;
    }
    if (!gw_json_read_string(scan, ret_key)) {
        return GW_JSON_STEP_BROKEN;
    }
    skip_space(scan);
    if (scan->at == scan->end || *scan->at != ':') {
        (void)broken(scan, GW_JSON_FAULT_SYNTAX, scan->at);
        return GW_JSON_STEP_BROKEN;
    }
    scan->at++;
    return GW_JSON_STEP_MORE;
}

enum gw_json_step gw_json_next_element(struct gw_json *scan)
{
    return next_value(scan, ']');
}

bool gw_json_skip(struct gw_json *scan)
{
    _Static_assert(GW_JSON_DEPTH_MAX <= 64, "one bit per open container");
    unsigned floor = scan->depth;
    uint64_t objects = 0;
    struct gw_json_string key;

    do {
        enum gw_json_type type = gw_json_peek(scan);
        if (type == GW_JSON_OBJECT || type == GW_JSON_ARRAY) {
            if (!gw_json_enter(scan)) {
                return false;
            }
            uint64_t bit = (uint64_t)1 << (scan->depth - 1);
            objects = type == GW_JSON_OBJECT ? objects | bit : objects & ~bit;
        } else if (!skip_scalar(scan, type)) {
            return false;
        }
        /* On to the next value; closed containers lead back to their parents. */
        while (scan->depth > floor) {
            bool in_object = (objects >> (scan->depth - 1) & 1) != 0;
            enum gw_json_step step =
                in_object ? gw_json_next_member(scan, &key) : gw_json_next_element(scan);
            if (step == GW_JSON_STEP_BROKEN) {
                return false;
            }
            if (step == GW_JSON_STEP_MORE) {
                break;
            }
        }
    } while (scan->depth > floor);
    return true;
}

static bool skip_scalar(struct gw_json *scan, enum gw_json_type type)
{
    static const char *const literals[] = {
        [GW_JSON_TRUE] = "true", [GW_JSON_FALSE] = "false", [GW_JSON_NULL] = "null"};
    struct gw_json_string string;

    if (type == GW_JSON_STRING) {
        return gw_json_read_string(scan, &string);
    }
    if (type == GW_JSON_NUMBER) {
        return scan_number(scan);
    }
    if (type == GW_JSON_BROKEN) {
        return broken(scan, GW_JSON_FAULT_SYNTAX, scan->at);
    }
    size_t len = strlen(literals[type]);
    if ((size_t)(scan->end - scan->at) < len || memcmp(scan->at, literals[type], len) != 0) {
        return broken(scan, GW_JSON_FAULT_SYNTAX, scan->at);
    }
    scan->at += len;
    return true;
}

bool gw_json_end(struct gw_json *scan)
{
    skip_space(scan);
    if (scan->fault == GW_JSON_FINE && scan->at != scan->end) {
        (void)broken(scan, GW_JSON_FAULT_SYNTAX, scan->at);
    }
    return scan->fault == GW_JSON_FINE;
}

static bool broken(struct gw_json *scan, enum gw_json_fault fault, const char *at)
{
    if (scan->fault == GW_JSON_FINE) {
        scan->fault = fault;
        scan->fault_at = at;
    }
    scan->at = scan->end;
    return false;
}

static void skip_space(struct gw_json *scan)
{
    while (scan->at < scan->end &&
           (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\r' || *scan->at == '\t')) {
        scan->at++;
    }
}

/* ---- strings and numbers ---- */

bool gw_json_read_string(struct gw_json *scan, struct gw_json_string *ret_string)
{
    struct gw_json_string string;
    const char *stopped_at;

    if (gw_json_peek(scan) != GW_JSON_STRING) {
        return broken(scan, GW_JSON_FAULT_SYNTAX, scan->at);
    }
    enum gw_json_fault fault =
        gw_json_string_check(scan->at + 1, scan->end, scan->repair_utf8, &string, &stopped_at);
    if (fault != GW_JSON_FINE) {
        return broken(scan, fault, stopped_at);
    }
    if (string.lone_at != NULL && scan->lone_at == NULL) {
        scan->lone_at = string.lone_at;
    }
    scan->at = stopped_at + 1;
    *ret_string = string;
    return true;
}

bool gw_json_read_number(struct gw_json *scan, double *ret_number)
{
    char text[NUMBER_SIZE];

    if (gw_json_peek(scan) != GW_JSON_NUMBER) {
        return broken(scan, GW_JSON_FAULT_SYNTAX, scan->at);
    }
    const char *start = scan->at;
    if (!scan_number(scan)) {
        return false;
    }
    size_t len = (size_t)(scan->at - start);
    if (len <= INTEGER_DIGITS_MAX && digits(start, scan->at) == scan->at) {
        int64_t value = 0;
        for (size_t i = 0; i < len; i++) {
            value = value * 10 + (start[i] - '0');
        }
        *ret_number = (double)value;
        return true;
    }
    len = len < sizeof(text) - 1 ? len : sizeof(text) - 1;
    memcpy(text, start, len);
    text[len] = '\0';
    *ret_number = strtod(text, NULL);
    return true;
}

/* number = [ minus ] int [ frac ] [ exp ] (RFC 8259 section 6) */
static bool scan_number(struct gw_json *scan)
{
    const char *at = scan->at, *end = scan->end;
    const char *after;

    at += *at == '-' ? 1 : 0;
    after = digits(at, end);
    if (after == at || (*at == '0' && after != at + 1)) {
        return broken(scan, GW_JSON_FAULT_SYNTAX, at);
    }
    at = after;
    if (at < end && *at == '.') {
        after = digits(at + 1, end);
        if (after == at + 1) {
            return broken(scan, GW_JSON_FAULT_SYNTAX, after);
        }
        at = after;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        at += at < end && (*at == '+' || *at == '-') ? 1 : 0;
        after = digits(at, end);
        if (after == at) {
            return broken(scan, GW_JSON_FAULT_SYNTAX, after);
        }
        at = after;
    }
    scan->at = at;
    return true;
}

static const char *digits(const char *at, const char *end)
{
    while (at < end && *at >= '0' && *at <= '9') {
        at++;
    }
    return at;
}
