/* Plain HTTP replies. Thread: the exchange's worker. Ownership: everything lives in the request's pool. */
#include "reply.h"

#include <string.h>

#include "config.h"
#include "sluice/text.h"

enum { PROBLEM_MAX_BYTES = 4096 };

/* wire.md section 4; `*` would not cover Authorization (Fetch standard, CORS-unsafe request headers) */
static const char allowed_headers[] =
    "authorization, content-type, accept, last-event-id, idempotency-key, traceparent, tracestate, "
    "x-api-key, anthropic-version, x-request-id, x-sluice-debug, x-stainless-arch, "
    "x-stainless-async, "
    "x-stainless-custom-poll-interval, x-stainless-helper-method, x-stainless-lang, "
    "x-stainless-os, "
    "x-stainless-package-version, x-stainless-poll-helper, x-stainless-retry-count, "
    "x-stainless-runtime, x-stainless-runtime-version, x-stainless-timeout";

static void send_body(struct gw_exchange *exchange, int status, const char *type, const char *body,
                      size_t len);
static const char *reason_of(int status);
static const char *error_type_of(int status);
static bool origin_is_allowed(const struct gw_config *config, h2o_iovec_t origin);

void gw_reply_json(struct gw_exchange *exchange, int status, const char *body, size_t len)
{
    h2o_iovec_t copy = h2o_strdup(&exchange->req->pool, body, len);

    gw_reply_add_header(exchange->req, "cache-control", H2O_STRLIT("no-store"));
    send_body(exchange, status, "application/json", copy.base, copy.len);
}

void gw_reply_text(struct gw_exchange *exchange, const char *type, const char *body, size_t len)
{
    h2o_iovec_t copy = h2o_strdup(&exchange->req->pool, body, len);

    gw_reply_add_header(exchange->req, "cache-control", H2O_STRLIT("no-store"));
    send_body(exchange, 200, type, copy.base, copy.len);
}

void gw_reply_static(struct gw_exchange *exchange, const char *type, const char *body, size_t len,
                     const char *cache_control)
{
    const char *cache = cache_control != NULL ? cache_control : "no-store";

    gw_reply_add_header(exchange->req, "cache-control", cache, strlen(cache));
    send_body(exchange, 200, type, body, len);
}

void gw_reply_empty(struct gw_exchange *exchange, int status)
{
    static h2o_generator_t generator = {NULL, NULL};
    h2o_req_t *req = exchange->req;
    h2o_iovec_t nothing = h2o_iovec_init("", 0);

    req->res.status = status;
    req->res.reason = reason_of(status);
    req->res.content_length = SIZE_MAX; /* RFC 9110 section 8.6: none on a 204 */
    gw_reply_add_common_headers(exchange);
    h2o_start_response(req, &generator);
    h2o_send(req, &nothing, 1, H2O_SEND_STATE_FINAL);
}

void gw_reply_problem(struct gw_exchange *exchange, int err, const char *detail, const char *param)
{
    const struct sl_error_info *info = sl_error_info(err);
    struct sl_buffer body;

    sl_buffer_init(&body, PROBLEM_MAX_BYTES);
    if (gw_reply_problem_body(err, detail, param, exchange->request_id, &body) != 0) {
        h2o_fatal("the memory of an error body");
    }
    h2o_iovec_t copy = h2o_strdup(&exchange->req->pool, body.base, body.len);
    sl_buffer_dispose(&body);
    if (info->http_status == 429 || info->http_status == 503) {
        gw_reply_add_header(exchange->req, "retry-after", H2O_STRLIT("1"));
    }
    if (info->http_status == 401) {
        gw_reply_add_header(exchange->req, "www-authenticate", H2O_STRLIT("Bearer"));
    }
    gw_reply_add_header(exchange->req, "cache-control", H2O_STRLIT("no-store"));
    send_body(exchange, info->http_status, "application/problem+json", copy.base, copy.len);
}

int gw_reply_problem_body(int err, const char *detail, const char *param, const char *request_id,
                          struct sl_buffer *body)
{
    const struct sl_error_info *info = sl_error_info(err);
    const char *text = detail != NULL ? detail : info->text;

    int result = sl_buffer_appendf(body,
                                   "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,"
                                   "\"detail\":",
                                   reason_of(info->http_status), info->http_status);
    if (result == 0) {
        result = sl_json_append_string(body, text, strlen(text));
    }
    /* A 401 is the same body for every reason and every request (wire.md section 4). */
    if (result == 0 && info->http_status != 401) {
        result = sl_buffer_appendf(body, ",\"request_id\":\"%s\"", request_id);
    }
    if (result == 0) {
        result = sl_buffer_append_str(body, ",\"error\":{\"message\":");
    }
    if (result == 0) {
        result = sl_json_append_string(body, text, strlen(text));
    }
    if (result == 0) {
        result = sl_buffer_appendf(body, ",\"type\":\"%s\",\"code\":\"%s\",\"param\":",
                                   error_type_of(info->http_status), info->code);
    }
    if (result == 0) {
        result = param != NULL && param[0] != '\0'
                     ? sl_json_append_string(body, param, strlen(param))
                     : sl_buffer_append_str(body, "null");
    }
    return result != 0 ? result : sl_buffer_append_str(body, "}}");
}

static void send_body(struct gw_exchange *exchange, int status, const char *type, const char *body,
                      size_t len)
{
    static h2o_generator_t generator = {NULL, NULL};
    h2o_req_t *req = exchange->req;
    h2o_iovec_t bytes = h2o_iovec_init(body, len);
    bool is_head = h2o_memis(req->method.base, req->method.len, H2O_STRLIT("HEAD"));

    req->res.status = status;
    req->res.reason = reason_of(status);
    req->res.content_length = len;
    gw_reply_add_header(req, "content-type", type, strlen(type));
    gw_reply_add_header(req, "x-content-type-options", H2O_STRLIT("nosniff"));
    gw_reply_add_common_headers(exchange);
    if (is_head) {
        bytes.len = 0;
    }
    h2o_start_response(req, &generator);
    h2o_send(req, &bytes, 1, H2O_SEND_STATE_FINAL);
}

void gw_reply_add_header(h2o_req_t *req, const char *name, const char *value, size_t value_len)
{
    h2o_iovec_t copy = h2o_strdup(&req->pool, value, value_len);

    h2o_add_header_by_str(&req->pool, &req->res.headers, name, strlen(name), 1, NULL, copy.base,
                          copy.len);
}

void gw_reply_add_common_headers(struct gw_exchange *exchange)
{
    gw_reply_add_header(exchange->req, "x-request-id", exchange->request_id,
                        strlen(exchange->request_id));
    gw_reply_add_cors(exchange->req);
}

void gw_reply_add_cors(h2o_req_t *req)
{
    static const char expose[] =
        "retry-after, x-request-id, x-session-id, x-turn-id, server-timing";
    const struct gw_config *config = gw_worker_of(req)->config;
    ssize_t at = h2o_find_header_by_str(&req->headers, H2O_STRLIT("origin"), -1);

    if (config->http.cors_origins_count == 0) {
        return;
    }
    gw_reply_add_header(req, "vary", H2O_STRLIT("origin"));
    if (at == -1 || !origin_is_allowed(config, req->headers.entries[at].value)) {
        return;
    }
    gw_reply_add_header(req, "access-control-allow-origin", req->headers.entries[at].value.base,
                        req->headers.entries[at].value.len);
    gw_reply_add_header(req, "access-control-expose-headers", expose, sizeof(expose) - 1);
}

static bool origin_is_allowed(const struct gw_config *config, h2o_iovec_t origin)
{
    for (unsigned i = 0; i < config->http.cors_origins_count; i++) {
        const char *allowed = config->http.cors_origins[i];
        if (strcmp(allowed, "*") == 0 ||
            h2o_memis(origin.base, origin.len, allowed, strlen(allowed))) {
            return true;
        }
    }
    return false;
}

void gw_reply_preflight(struct gw_exchange *exchange, const char *allowed_methods)
{
    h2o_req_t *req = exchange->req;

    gw_reply_add_header(req, "allow", allowed_methods, strlen(allowed_methods));
    gw_reply_add_header(req, "access-control-allow-methods", allowed_methods,
                        strlen(allowed_methods));
    gw_reply_add_header(req, "access-control-allow-headers", allowed_headers,
                        sizeof(allowed_headers) - 1);
    gw_reply_add_header(req, "access-control-max-age", H2O_STRLIT("7200"));
    gw_reply_empty(exchange, 204);
}

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {{200, "OK"},
                   {202, "Accepted"},
                   {204, "No Content"},
                   {400, "Bad Request"},
                   {401, "Unauthorized"},
                   {404, "Not Found"},
                   {405, "Method Not Allowed"},
                   {409, "Conflict"},
                   {410, "Gone"},
                   {413, "Content Too Large"},
                   {415, "Unsupported Media Type"},
                   {422, "Unprocessable Content"},
                   {431, "Request Header Fields Too Large"},
                   {429, "Too Many Requests"},
                   {499, "Client Closed Request"},
                   {500, "Internal Server Error"},
                   {502, "Bad Gateway"},
                   {503, "Service Unavailable"},
                   {504, "Gateway Timeout"}};

    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i].status == status) {
            return reasons[i].reason;
        }
    }
    return "Error";
}

/* The `type` that OpenAI-style SDKs expect beside the code. */
static const char *error_type_of(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_error";
    default:
        return status < 500 ? "invalid_request_error" : "server_error";
    }
}
