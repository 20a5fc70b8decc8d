/**
 * Values as upstreams really write them, for every dialect: what is of another type is stepped over.
 *
 * Each returns false only for a text that is not valid JSON. Thread: any (pure functions).
 */
#pragma once

#include "delta.h"
#include "json_scan.h"

/** Reads a string. Anything else leaves `ret_string` alone. */
SL_MUST_CHECK bool gw_provider_read_string(struct gw_json *scan, struct gw_json_string *ret_string);

/** Reads a count, cut to 0 … INT32_MAX, and sets `ret_found`. Anything else leaves both alone. */
SL_MUST_CHECK bool gw_provider_read_count(struct gw_json *scan, int32_t *ret_count,
                                          bool *ret_found);

/** Reads the value of an `error` key; the delta has failed when it says so. */
SL_MUST_CHECK bool gw_provider_read_error(struct gw_json *scan, struct gw_delta *delta);

/** The whole text is an error, JSON or not: the delta has failed. */
void gw_provider_read_failure(const char *text, size_t len, struct gw_delta *delta);
