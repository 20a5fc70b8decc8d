/**
 * One HTTP request as our routes see it, and its lifetime.
 *
 * h2o frees a request whenever its connection ends. The exchange lives in the request's pool behind a
 * dispose hook (h2o issue #1894: `stop` is not called before the response has started, so the pool is
 * the only reliable place). Whoever waits for something with an exchange in hand sets `on_gone` and
 * forgets the exchange when it is called. Thread: its worker's.
 */
#pragma once

#include "worker.h"

struct gw_route;

enum { GW_REQUEST_ID_MAX = 63 };

struct gw_exchange {
    h2o_req_t *req;
    struct gw_worker *worker;
    const struct gw_route *route;
    uint64_t received_us; /* the loop's clock */
    char request_id[GW_REQUEST_ID_MAX + 1];
    struct gw_user user; /* when the route wants a token */
    h2o_iovec_t id;      /* the `:id` segment of the path, if the route has one */
    h2o_iovec_t query;   /* behind the '?', possibly empty */
    void (*on_gone)(struct gw_exchange *exchange); /* set by whoever waits; NULL: nobody does */
    void *waiter;
};

/** Makes the exchange of a request. Never fails (the pool aborts, as everywhere in h2o). */
struct gw_exchange *gw_exchange_create(h2o_req_t *req);

/** The value of a request header (lower-case name), or {NULL, 0}. */
h2o_iovec_t gw_exchange_header(const struct gw_exchange *exchange, const char *name);

/** True when the body is declared as application/json, with or without parameters (RFC 9110 section 8.3.1). */
bool gw_exchange_is_json(const struct gw_exchange *exchange);

/** The value of a query key, percent-decoded into the request's pool, or {NULL, 0}. */
h2o_iovec_t gw_exchange_query(const struct gw_exchange *exchange, const char *key);

/** The connection's descriptor, or -1. It stays h2o's. */
int gw_exchange_fd(const struct gw_exchange *exchange);

/** How many bytes the client's side of the connection has confirmed so far (RFC 4898: tcpEStatsAppHCThruOctetsAcked). */
uint64_t gw_exchange_taken_bytes(const struct gw_exchange *exchange);
