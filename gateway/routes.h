/**
 * From a request to its handler: one table of methods and paths.
 *
 * Thread: the request's worker. h2o calls gw_routes_on_request; everything that is the same for every
 * route (framing, CORS, tokens, draining) happens here, in one place, before the handler runs.
 */
#pragma once

#include "exchange.h"

/** A handler answers the exchange, now or later. The body is exchange->req->entity. */
typedef void (*gw_route_fn)(struct gw_exchange *exchange);

enum {
    GW_ROUTE_AUTH = 1, /* needs a bearer token */
    GW_ROUTE_OPS = 2,  /* moves to ops.listen when that is configured */
};

struct gw_route {
    const char *method;
    const char *path; /* `:id` matches one segment */
    unsigned flags;
    gw_route_fn run;
};

int gw_routes_on_request(h2o_handler_t *handler, h2o_req_t *req);

/* chat_route.c */
void gw_chat_route(struct gw_exchange *exchange);

/* turn_routes.c */
void gw_turn_stream_route(struct gw_exchange *exchange);
void gw_turn_stop_route(struct gw_exchange *exchange);

/* session_routes.c */
void gw_session_list_route(struct gw_exchange *exchange);
void gw_session_messages_route(struct gw_exchange *exchange);
void gw_session_rename_route(struct gw_exchange *exchange);
void gw_session_delete_route(struct gw_exchange *exchange);
void gw_preload_route(struct gw_exchange *exchange);

/* profile_routes.c */
void gw_profile_get_route(struct gw_exchange *exchange);
void gw_profile_put_route(struct gw_exchange *exchange);

/* ops_routes.c */
void gw_healthz_route(struct gw_exchange *exchange);
void gw_readyz_route(struct gw_exchange *exchange);
void gw_metrics_route(struct gw_exchange *exchange);

/* performance_route.c */
void gw_performance_route(struct gw_exchange *exchange);

/* page_route.c */
void gw_page_route(struct gw_exchange *exchange);
void gw_performance_page_route(struct gw_exchange *exchange);
