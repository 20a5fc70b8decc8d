/* One HTTP request as our routes see it. Thread: its worker's. Ownership: the request's pool. */
#include "exchange.h"

#include <linux/tcp.h> /* its tcp_info has what that of netinet/tcp.h lacks */
#include <string.h>
#include <strings.h>

#include "sluice/uuid.h"

static void on_dispose(void *memory);
static void choose_request_id(struct gw_exchange *exchange);
static h2o_iovec_t decode(const struct gw_exchange *exchange, const char *text, size_t len);
static int hex_value(char c);

struct gw_exchange *gw_exchange_create(h2o_req_t *req)
{
    struct gw_exchange *exchange =
        h2o_mem_alloc_shared(&req->pool, sizeof(struct gw_exchange), on_dispose);

    memset(exchange, 0, sizeof(*exchange));
    exchange->req = req;
    exchange->worker = gw_worker_of(req);
    exchange->received_us = sl_loop_now_us(exchange->worker->loop);
    choose_request_id(exchange);
    return exchange;
}

static void on_dispose(void *memory)
{
    struct gw_exchange *exchange = memory;
    int status = exchange->req->res.status;

    if (status >= 100 && status < 600) {
        sl_counter_add(&exchange->worker->stats.requests[status / 100], 1);
    }
    if (exchange->on_gone != NULL) {
        exchange->on_gone(exchange);
    }
}

/* The client's own id is kept when it is harmless, so that its logs and ours can be joined. */
static void choose_request_id(struct gw_exchange *exchange)
{
    static const char allowed[] =
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.";
    h2o_iovec_t given = gw_exchange_header(exchange, "x-request-id");

    if (given.len > 0 && given.len <= GW_REQUEST_ID_MAX) {
        memcpy(exchange->request_id, given.base, given.len);
        exchange->request_id[given.len] = '\0';
        if (strspn(exchange->request_id, allowed) == given.len) {
            return;
        }
    }
    struct sl_uuid id = sl_uuid_v7();
    sl_uuid_format(&id, exchange->request_id);
}

h2o_iovec_t gw_exchange_header(const struct gw_exchange *exchange, const char *name)
{
    const h2o_headers_t *headers = &exchange->req->headers;
    size_t len = strlen(name);

    for (size_t i = 0; i < headers->size; i++) {
        if (headers->entries[i].name->len == len &&
            memcmp(headers->entries[i].name->base, name, len) == 0) {
            return headers->entries[i].value;
        }
    }
    return h2o_iovec_init(NULL, 0);
}

h2o_iovec_t gw_exchange_query(const struct gw_exchange *exchange, const char *key)
{
    const char *at = exchange->query.base, *end = at + exchange->query.len;
    size_t key_len = strlen(key);

    while (exchange->query.len > 0 && at < end) {
        const char *amp = memchr(at, '&', (size_t)(end - at));
        const char *pair_end = amp != NULL ? amp : end;
        if ((size_t)(pair_end - at) > key_len && memcmp(at, key, key_len) == 0 &&
            at[key_len] == '=') {
            return decode(exchange, at + key_len + 1, (size_t)(pair_end - at) - key_len - 1);
        }
        at = pair_end + 1;
    }
    return h2o_iovec_init(NULL, 0);
}

/* WHATWG URL section 5.1 (application/x-www-form-urlencoded): `+` is a blank, a lone `%` stays. */
static h2o_iovec_t decode(const struct gw_exchange *exchange, const char *text, size_t len)
{
    h2o_iovec_t out = h2o_strdup(&exchange->req->pool, text, len);
    size_t to = 0;

    for (size_t from = 0; from < len; from++) {
        int high = from + 2 < len && text[from] == '%' ? hex_value(text[from + 1]) : -1;
        int low = high >= 0 ? hex_value(text[from + 2]) : -1;
        if (low >= 0) {
            out.base[to++] = (char)(high << 4 | low);
            from += 2;
        } else {
            out.base[to++] = text[from] == '+' ? ' ' : text[from];
        }
    }
    out.len = to;
    return out;
}

static int hex_value(char c)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    const char *at = c != '\0' ? strchr(digits, c) : NULL;

    return at == NULL ? -1 : (int)((at - digits) % 16);
}

bool gw_exchange_is_json(const struct gw_exchange *exchange)
{
    static const char wanted[] = "application/json";
    const size_t len = sizeof(wanted) - 1;
    h2o_iovec_t type = gw_exchange_header(exchange, "content-type");

    return type.len >= len && strncasecmp(type.base, wanted, len) == 0 &&
           (type.len == len || strchr("; \t", type.base[len]) != NULL);
}

int gw_exchange_fd(const struct gw_exchange *exchange)
{
    h2o_conn_t *conn = exchange->req->conn;
    h2o_socket_t *socket = conn->callbacks->get_socket(conn);

    return socket != NULL ? h2o_socket_get_fd(socket) : -1;
}

uint64_t gw_exchange_taken_bytes(const struct gw_exchange *exchange)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);

    (void)getsockopt(gw_exchange_fd(exchange), IPPROTO_TCP, TCP_INFO, &info, &len);
    return info.tcpi_bytes_acked;
}
