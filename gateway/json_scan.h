/**
 * A strict pull scanner over a bounded JSON text (RFC 8259): walks it in place, builds no tree.
 *
 * It is there for the hot path and for what a tree parser refuses: an upstream may split a surrogate
 * pair over two chunks, so a string that holds half a pair is read here, not refused. The nesting is
 * bounded and nothing recurses; the text is never read beyond its end, and no byte is visited more
 * than twice.
 *
 * Usage: gw_json_init; gw_json_peek tells the type of the value at the cursor; read, enter or skip
 * it; inside a container call gw_json_next_member or gw_json_next_element until it says END; last
 * comes gw_json_end. The first fault is kept (`fault`, `fault_at`) and every later call fails too.
 *
 * Duplicate keys are passed on as they come. Thread: any. Ownership: the text is the caller's and
 * outlives the scanner and the strings it gave out.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "json_string.h"

enum { GW_JSON_DEPTH_MAX = 64 };

enum gw_json_type {
    GW_JSON_BROKEN,
    GW_JSON_OBJECT,
    GW_JSON_ARRAY,
    GW_JSON_STRING,
    GW_JSON_NUMBER,
    GW_JSON_TRUE,
    GW_JSON_FALSE,
    GW_JSON_NULL,
};

enum gw_json_step { GW_JSON_STEP_BROKEN, GW_JSON_STEP_END, GW_JSON_STEP_MORE };

struct gw_json {
    const char *at, *end;
    const char *fault_at;
    const char *lone_at; /* the first escape that is half a surrogate pair; NULL: none so far */
    enum gw_json_fault fault;
    unsigned depth; /* containers open */
    bool fresh;     /* a container was just entered: no comma before its first value */
    bool repair_utf8;
};

void gw_json_init(struct gw_json *scan, const char *text, size_t len);

/** From now on ill-formed UTF-8 in strings is no fault; it is decoded as U+FFFD, one per byte. */
void gw_json_repair_utf8(struct gw_json *scan);

/** The type of the value at the cursor, by its first character; GW_JSON_BROKEN when none stands there. */
enum gw_json_type gw_json_peek(struct gw_json *scan);

/** Enters the object or array at the cursor. False: something else stands there, or it is too deep. */
SL_MUST_CHECK bool gw_json_enter(struct gw_json *scan);

/**
 * Moves to the next member or element of the container entered last. After MORE the cursor is at the
 * value, which the caller reads, enters or skips before the next step; after END behind the container.
 */
SL_MUST_CHECK enum gw_json_step gw_json_next_member(struct gw_json *scan,
                                                    struct gw_json_string *ret_key);
SL_MUST_CHECK enum gw_json_step gw_json_next_element(struct gw_json *scan);

/** Steps over one value of any kind, checking it. False: it is not valid. */
SL_MUST_CHECK bool gw_json_skip(struct gw_json *scan);

/** Reads the string at the cursor. False: it is not valid, or no string. */
SL_MUST_CHECK bool gw_json_read_string(struct gw_json *scan, struct gw_json_string *ret_string);

/**
 * Reads the number at the cursor; too large ones become infinite. A number is looked at up to its
 * 63rd character. False: it is not valid, or no number.
 */
SL_MUST_CHECK bool gw_json_read_number(struct gw_json *scan, double *ret_number);

/** True when nothing but white space is left and there was no fault. */
SL_MUST_CHECK bool gw_json_end(struct gw_json *scan);
