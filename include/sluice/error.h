/**
 * Every error that crosses a folder, in one table.
 *
 * Thread: any (constant data). Ownership: all strings are static.
 *
 * A function that can fail returns 0 or one of these negative numbers. Each row carries what the
 * three audiences need: the client (HTTP status, code and sentence: no host, path, SQL or library
 * text ever), the retry logic (retryable) and the operator (the `term` letter of the log line:
 * C client, U upstream, R Redis, D database, L our limit, I bug; lower case is a timeout).
 */
#pragma once

#include <stdbool.h>

#define SL_MUST_CHECK __attribute__((warn_unused_result))

/* clang-format off */
/*        name                          http  code                       retryable term  client text */
#define SL_ERRORS(X) \
    X(SL_E_INVALID_JSON,               400, "invalid_json",              false, 'C', "The request body is not valid JSON.") \
    X(SL_E_INVALID_VALUE,              400, "invalid_value",             false, 'C', "A value in the request is not valid.") \
    X(SL_E_BAD_FRAMING,                400, "bad_framing",               false, 'C', "The request's framing is ambiguous.") \
    X(SL_E_INVALID_TOKEN,              401, "invalid_token",             false, 'C', "A valid bearer token is required.") \
    X(SL_E_NOT_FOUND,                  404, "not_found",                 false, 'C', "There is no such resource.") \
    X(SL_E_METHOD_NOT_ALLOWED,         405, "method_not_allowed",        false, 'C', "The method is not allowed here.") \
    X(SL_E_CONFLICT,                   409, "conflict",                  false, 'C', "The request conflicts with the current state.") \
    X(SL_E_GONE,                       410, "gone",                      false, 'C', "The resource is no longer available.") \
    X(SL_E_BODY_TOO_LARGE,             413, "body_too_large",            false, 'C', "The request body is too large.") \
    X(SL_E_UNSUPPORTED_MEDIA_TYPE,     415, "unsupported_media_type",    false, 'C', "The content type must be application/json.") \
    X(SL_E_UNPROCESSABLE,              422, "unprocessable",             false, 'C', "The request cannot be carried out.") \
    X(SL_E_HEAD_TOO_LARGE,             431, "head_too_large",            false, 'C', "The request's headers are too large.") \
    X(SL_E_RATE_LIMITED,               429, "rate_limit_exceeded",       true,  'L', "Too many requests.") \
    X(SL_E_OVERLOADED,                 503, "overloaded",                true,  'L', "The server is busy. Try again shortly.") \
    X(SL_E_SHUTTING_DOWN,              503, "shutting_down",             true,  'L', "The server is restarting. Try again shortly.") \
    X(SL_E_STORAGE_UNAVAILABLE,        503, "storage_unavailable",       true,  'D', "Messages cannot be stored right now.") \
    X(SL_E_INTERNAL,                   500, "internal_error",            true,  'I', "Something went wrong on our side.") \
    X(SL_E_LIMIT,                      500, "limit_exceeded",            false, 'L', "An internal limit was reached.") \
    X(SL_E_NO_MEMORY,                  503, "overloaded",                true,  'L', "The server is busy. Try again shortly.") \
    X(SL_E_CANCELLED,                  503, "cancelled",                 true,  'C', "The request was cancelled.") \
    X(SL_E_CLIENT_GONE,                499, "client_gone",               true,  'C', "The client went away.") \
    X(SL_E_SLOW_READER,                499, "slow_reader",               true,  'c', "The client read too slowly.") \
    X(SL_E_REDIS_UNAVAILABLE,          503, "cache_unavailable",         true,  'R', "A cache is unavailable.") \
    X(SL_E_REDIS_TIMEOUT,              503, "cache_timeout",             true,  'r', "A cache did not answer in time.") \
    X(SL_E_DATABASE_UNAVAILABLE,       503, "database_unavailable",      true,  'D', "The database is unavailable.") \
    X(SL_E_DATABASE_TIMEOUT,           503, "database_timeout",          true,  'd', "The database did not answer in time.") \
    X(SL_E_DATABASE_REFUSED,           500, "database_error",            false, 'D', "The database refused the request.") \
    X(SL_E_STOPPED,                    499, "stopped",                   false, 'C', "The answer was stopped.") \
    X(SL_E_UPSTREAM_UNAVAILABLE,       503, "upstream_unavailable",      true,  'U', "No model server is available. Try again shortly.") \
    X(SL_E_UPSTREAM_ADDRESS_REFUSED,   502, "upstream_address_refused",  false, 'U', "The model server cannot be reached.") \
    X(SL_E_UPSTREAM_UNREACHABLE,       502, "upstream_unreachable",      true,  'U', "The model server cannot be reached.") \
    X(SL_E_UPSTREAM_CONNECT_TIMEOUT,   504, "upstream_connect_timeout",  true,  'u', "The model server did not accept the connection in time.") \
    X(SL_E_UPSTREAM_FIRST_TOKEN_TIMEOUT, 504, "upstream_first_token_timeout", true, 'u', "The model did not start to answer in time.") \
    X(SL_E_UPSTREAM_IDLE_TIMEOUT,      504, "upstream_idle_timeout",     true,  'u', "The model stopped in the middle of its answer.") \
    X(SL_E_UPSTREAM_TOTAL_TIMEOUT,     504, "upstream_total_timeout",    true,  'u', "The answer took too long.") \
    X(SL_E_UPSTREAM_REJECTED,          502, "upstream_rejected",         false, 'U', "The model server refused the request.") \
    X(SL_E_UPSTREAM_RATE_LIMITED,      502, "upstream_rate_limited",     true,  'U', "The model server is busy.") \
    X(SL_E_UPSTREAM_FAILED,            502, "upstream_error",            true,  'U', "The model server reported an error.") \
    X(SL_E_UPSTREAM_MALFORMED,         502, "upstream_malformed",        true,  'U', "The model server sent something that cannot be read.") \
    X(SL_E_UPSTREAM_TRUNCATED,         502, "upstream_truncated",        true,  'U', "The model's answer was cut off.") \
    X(SL_E_ANSWER_TOO_LONG,            502, "answer_too_long",           false, 'L', "The answer exceeded the size limit.")
/* clang-format on */

enum sl_error {
    SL_OK = 0,
    SL_E_FIRST_ = -1000, /* the rows count upwards from here; errno values stay out of this range */
#define SL_ERROR_ENUM(name, http, code, retryable, term, text) name,
    SL_ERRORS(SL_ERROR_ENUM)
#undef SL_ERROR_ENUM
};

struct sl_error_info {
    const char *name;
    int http_status;
    const char *code;
    bool retryable;
    char term;
    const char *text;
};

/** The row of `err`. Unknown numbers get the row of SL_E_INTERNAL; 0 has no row and gets it too. */
const struct sl_error_info *sl_error_info(int err);
