/**
 * Plain (not streaming) HTTP replies in one shape each.
 *
 * Every reply carries X-Request-Id and, where they apply, the CORS headers; errors are
 * application/problem+json (RFC 9457) with the `error` object that OpenAI-style SDKs read (wire.md
 * section 4). Thread: the exchange's worker. A reply ends the exchange: nothing may follow.
 */
#pragma once

#include "exchange.h"

/** A JSON body. It is copied. */
void gw_reply_json(struct gw_exchange *exchange, int status, const char *body, size_t len);

/** A body of any type that outlives the response. `cache_control` may be NULL: no-store. */
void gw_reply_static(struct gw_exchange *exchange, const char *type, const char *body, size_t len,
                     const char *cache_control);

/** A copied text body (metrics). */
void gw_reply_text(struct gw_exchange *exchange, const char *type, const char *body, size_t len);

/** A status without a body: 204. */
void gw_reply_empty(struct gw_exchange *exchange, int status);

/**
 * The error `err`. `detail` (NULL: the table's sentence) and `param` (NULL: none) name what was wrong;
 * neither ever holds a library's text. 429 and 503 get a Retry-After.
 */
void gw_reply_problem(struct gw_exchange *exchange, int err, const char *detail, const char *param);

/** The JSON text of a problem, appended; for the filter that replaces h2o's own error bodies. */
SL_MUST_CHECK int gw_reply_problem_body(int err, const char *detail, const char *param,
                                        const char *request_id, struct sl_buffer *body);

/** Adds a response header; the value is copied. `name` is a lower-case literal. */
void gw_reply_add_header(h2o_req_t *req, const char *name, const char *value, size_t value_len);

/** X-Request-Id and CORS, for responses that are not made here (the stream). */
void gw_reply_add_common_headers(struct gw_exchange *exchange);

/** CORS headers for this request's Origin, if the configuration allows it. */
void gw_reply_add_cors(h2o_req_t *req);

/** The answer to an OPTIONS preflight. */
void gw_reply_preflight(struct gw_exchange *exchange, const char *allowed_methods);
