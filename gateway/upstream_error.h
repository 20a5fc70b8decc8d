/**
 * The error bodies of upstreams, in whatever dialect: is there an error, and would waiting help?
 *
 * Servers fill `code` with a number or a string, `type` and `message` with almost anything, wrap the
 * object once more or send a bare string or a page of HTML. A status number decides when there is
 * one, words do otherwise. Thread: any (pure functions).
 */
#pragma once

#include "json_scan.h"

struct gw_error_verdict {
    bool retryable; /* rate limits, overload, timeouts and server errors: the same may work later */
    bool
        spent; /* a quota or the bill: looks like a rate limit, but only the operator can cure it */
};

/**
 * Reads the value of an `error` key. `ret_failed` becomes true and `ret_verdict` is set when it says
 * so; both are left alone otherwise: null, false, 0 and "" are no error. False: the text is not valid.
 */
SL_MUST_CHECK bool gw_upstream_error_read(struct gw_json *scan, bool *ret_failed,
                                          struct gw_error_verdict *ret_verdict);

/**
 * Judges what came in place of an answer: an object with or without an `error` key, one that was cut
 * off, or no JSON at all (any bytes; none: neither retryable nor spent). Linear, allocates nothing.
 */
struct gw_error_verdict gw_upstream_error_judge(const char *text, size_t len);
