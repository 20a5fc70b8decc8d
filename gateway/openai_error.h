/**
 * The error objects of the `openai` dialect: is there one, and may the request be tried again?
 *
 * Servers fill `code` with a number or a string, `type` and `message` with almost anything, and some
 * send a bare string. A status number decides when there is one, words do otherwise. A spent quota
 * looks like a rate limit but waiting does not cure it. Thread: any (pure functions).
 */
#pragma once

#include "json_scan.h"

/**
 * Reads the value of an `error` key. `ret_failed` and `ret_retryable` become true when it says so and
 * are left alone otherwise: null, false, 0 and "" are no error. False: the text is not valid.
 */
SL_MUST_CHECK bool gw_openai_error_read(struct gw_json *scan, bool *ret_failed,
                                        bool *ret_retryable);

/** Judges the text of an error event: an object with or without an `error` key, or no JSON at all. */
bool gw_openai_error_retryable(const char *text, size_t len);
