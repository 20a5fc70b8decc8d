/*
 * From a request to its handler.
 *
 * In order: ambiguous framing is refused (and the connection closed), OPTIONS is answered for every
 * known path, the token is checked where the route wants one, the handler runs. A known path with the
 * wrong method is 405 with `Allow`; everything else is 404. Thread: the request's worker.
 */
#include "routes.h"

#include <string.h>
#include <time.h>

#include "config.h"
#include "framing.h"
#include "reply.h"

enum { ALLOW_SIZE = 64 };

static const struct gw_route routes[] = {
    {"POST", "/api/v1/chat/message/stream", GW_ROUTE_AUTH, gw_chat_route},
    {"POST", "/chat/message/stream", GW_ROUTE_AUTH, gw_chat_route},
    {"GET", "/api/v1/chat/turns/:id/stream", GW_ROUTE_AUTH, gw_turn_stream_route},
    {"POST", "/api/v1/chat/turns/:id/stop", GW_ROUTE_AUTH, gw_turn_stop_route},
    {"GET", "/api/v1/chat/sessions", GW_ROUTE_AUTH, gw_session_list_route},
    {"GET", "/api/v1/chat/sessions/:id/messages", GW_ROUTE_AUTH, gw_session_messages_route},
    {"PATCH", "/api/v1/chat/sessions/:id", GW_ROUTE_AUTH, gw_session_rename_route},
    {"DELETE", "/api/v1/chat/sessions/:id", GW_ROUTE_AUTH, gw_session_delete_route},
    {"POST", "/api/v1/chat/preload", GW_ROUTE_AUTH, gw_preload_route},
    {"GET", "/api/v1/profile", GW_ROUTE_AUTH, gw_profile_get_route},
    {"PUT", "/api/v1/profile", GW_ROUTE_AUTH, gw_profile_put_route},
    {"GET", "/healthz", 0, gw_healthz_route},
    {"GET", "/readyz", 0, gw_readyz_route},
    {"GET", "/metrics", GW_ROUTE_OPS, gw_metrics_route},
    {"GET", "/api/v1/performance", GW_ROUTE_OPS, gw_performance_route},
    {"GET", "/performance", GW_ROUTE_OPS, gw_performance_page_route},
    {"GET", "/", 0, gw_page_route},
    {"GET", "/assets/:id", 0, gw_page_route},
};

static int check_framing(const struct gw_exchange *exchange);
static bool path_matches(const char *pattern, const char *path, size_t len, h2o_iovec_t *ret_id);
static bool method_matches(const struct gw_route *route, const h2o_req_t *req);
static bool is_served_here(const struct gw_route *route, const h2o_req_t *req);
static bool authenticate(struct gw_exchange *exchange);

int gw_routes_on_request(h2o_handler_t *handler, h2o_req_t *req)
{
    struct gw_exchange *exchange = gw_exchange_create(req);
    const char *path = req->path.base;
    size_t path_len = req->query_at != SIZE_MAX ? req->query_at : req->path.len;
    char allow[ALLOW_SIZE] = "";

    (void)handler;
    int err = check_framing(exchange);
    if (err != 0) {
        req->http1_is_persistent = 0; /* what follows on this connection is never parsed */
        gw_reply_problem(exchange, err, NULL, NULL);
        return 0;
    }
    if (req->query_at != SIZE_MAX) {
        exchange->query = h2o_iovec_init(path + path_len + 1, req->path.len - path_len - 1);
    }
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        h2o_iovec_t id = h2o_iovec_init(NULL, 0);
        if (!path_matches(routes[i].path, path, path_len, &id) ||
            !is_served_here(&routes[i], req)) {
            continue;
        }
        if (method_matches(&routes[i], req)) {
            exchange->route = &routes[i];
            exchange->id = id;
            break;
        }
        if (allow[0] != '\0') {
            (void)strncat(allow, ", ", sizeof(allow) - strlen(allow) - 1);
        }
        (void)strncat(allow, routes[i].method, sizeof(allow) - strlen(allow) - 1);
    }
    if (exchange->route != NULL) {
        if ((exchange->route->flags & GW_ROUTE_AUTH) == 0 || authenticate(exchange)) {
            exchange->route->run(exchange);
        }
    } else if (allow[0] == '\0') {
        gw_reply_problem(exchange, SL_E_NOT_FOUND, NULL, NULL);
    } else {
        (void)strncat(allow, ", OPTIONS", sizeof(allow) - strlen(allow) - 1);
        if (h2o_memis(req->method.base, req->method.len, H2O_STRLIT("OPTIONS"))) {
            gw_reply_preflight(exchange, allow);
        } else {
            gw_reply_add_header(req, "allow", allow, strlen(allow));
            gw_reply_problem(exchange, SL_E_METHOD_NOT_ALLOWED, NULL, NULL);
        }
    }
    return 0;
}

/* The raw head is still at the start of the socket's input buffer while a handler runs. */
static int check_framing(const struct gw_exchange *exchange)
{
    h2o_conn_t *conn = exchange->req->conn;
    h2o_socket_t *socket = conn->callbacks->get_socket(conn);

    return gw_framing_check(socket->input->bytes, socket->input->size,
                            exchange->req->version & 0xff,
                            exchange->worker->config->http.head_max_bytes);
}

static bool path_matches(const char *pattern, const char *path, size_t len, h2o_iovec_t *ret_id)
{
    size_t at = 0;

    while (*pattern != '\0') {
        if (*pattern == ':') {
            size_t start = at;
            while (at < len && path[at] != '/') {
                at++;
            }
            if (at == start) {
                return false;
            }
            *ret_id = h2o_iovec_init(path + start, at - start);
            pattern += strcspn(pattern, "/");
            continue;
        }
        if (at == len || path[at] != *pattern) {
            return false;
        }
        at++;
        pattern++;
    }
    return at == len;
}

static bool method_matches(const struct gw_route *route, const h2o_req_t *req)
{
    const char *wanted = route->method;

    if (strcmp(wanted, "GET") == 0 &&
        h2o_memis(req->method.base, req->method.len, H2O_STRLIT("HEAD"))) {
        return true; /* reply.c leaves the body out */
    }
    return h2o_memis(req->method.base, req->method.len, wanted, strlen(wanted));
}

/* With ops.listen set, the operators' routes do not exist on the public address. */
static bool is_served_here(const struct gw_route *route, const h2o_req_t *req)
{
    int ops_port = gw_worker_of(req)->server->ops_port;
    struct sockaddr_storage address;

    if ((route->flags & GW_ROUTE_OPS) == 0 || ops_port == 0) {
        return true;
    }
    return req->conn->callbacks->get_sockname(req->conn, (struct sockaddr *)&address) > 0 &&
           h2o_socket_getport((struct sockaddr *)&address) == ops_port;
}

static bool authenticate(struct gw_exchange *exchange)
{
    struct gw_worker *worker = exchange->worker;
    h2o_iovec_t header = gw_exchange_header(exchange, "authorization");
    uint64_t verified, cached, verified_before, cached_before;

    gw_auth_counts(worker->auth, &verified_before, &cached_before);
    int err =
        gw_auth_check(worker->auth, header.base, header.len, (int64_t)time(NULL), &exchange->user);
    gw_auth_counts(worker->auth, &verified, &cached);
    sl_counter_add(&worker->stats.auth_verified, verified - verified_before);
    sl_counter_add(&worker->stats.auth_cached, cached - cached_before);
    if (err == 0) {
        return true;
    }
    sl_counter_add(&worker->stats.auth_refused, 1);
    gw_reply_problem(exchange, SL_E_INVALID_TOKEN, NULL, NULL);
    return false;
}
