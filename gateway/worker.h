/**
 * One loop thread: h2o's evloop and context with our loop nested in it, its listener, and everything
 * that belongs to this loop (store client, upstream, turns, token cache, figures).
 *
 * Thread: made and started by main; its members belong to its own thread afterwards, except the
 * figures, which any thread may read. The process-wide part is `struct gw_server`: read-only but for
 * its atomics. Ownership: the worker owns its members; the server owns the workers.
 */
#pragma once

#include <h2o.h>
#include <pthread.h>
#include <stdatomic.h>

#include "auth.h"
#include "sluice/loop.h"
#include "sluice/store.h"
#include "stats.h"
#include "turn.h"

struct gw_config;
struct gw_listener;
struct gw_log;
struct gw_performance;
struct gw_trace_export;
struct gw_upstreams;
struct gw_upstreams_shared;
struct gw_user_turns;
struct gw_worker;

struct gw_server {
    /* the configuration that the process started with; workers may have newer ones */
    const struct gw_config *config;
    const struct gw_auth_keys *keys;
    /* the newest; older ones live until the end */
    _Atomic(struct gw_upstreams_shared *) upstreams;
    struct gw_user_turns *user_turns;
    struct store *store;
    struct gw_log *log;
    struct gw_trace_export *traces; /* NULL: off */
    struct sl_loop *main_loop;
    struct gw_worker *workers;
    unsigned workers_count;
    /* the last 15 minutes; it has a lock of its own */
    struct gw_performance *performance;
    struct gw_turns **turns_of_loops; /* by index: how loops find each other */
    uint64_t started_unix_s;
    atomic_bool draining;
    atomic_uint connections;   /* all threads together, against http.connections_max */
    atomic_uint turns;         /* all threads together, against chat.turns_max */
    struct sl_message drained; /* posted to the main loop by the last worker to have drained */
    atomic_uint workers_to_drain;
    int ops_port; /* 0: operators' routes are on the main address */
};

struct gw_worker {
    h2o_context_t h2o; /* first: a request's context is its worker */
    h2o_globalconf_t h2o_config;
    h2o_accept_ctx_t accept;
    h2o_timeout_t drain_timeout;
    h2o_timeout_entry_t drain_entry;
    h2o_socket_t *poller;
    struct gw_server *server;
    unsigned index;
    pthread_t thread;
    struct sl_loop *loop;
    const struct gw_config *config;
    struct store_client *store;
    struct gw_upstreams *upstreams;
    struct gw_auth *auth;
    struct gw_listener *listener, *ops_listener;
    struct gw_turns turns;
    struct gw_stats stats;
    unsigned streams; /* responses under way that show a turn */
    bool draining, reported_drained, stop;
    struct sl_timer shutdown_timer;
    struct sl_message drain_message, hurry_message, stop_message;
};

/** Makes everything of a worker but its thread. `index` counts from 0. 0 or an error; `worker` is zeroed memory. */
SL_MUST_CHECK int gw_worker_init(struct gw_worker *worker, struct gw_server *server, unsigned index,
                                 int listen_fd, int ops_fd);

/** Starts the thread. 0 or SL_E_NO_MEMORY. */
SL_MUST_CHECK int gw_worker_run(struct gw_worker *worker);

/** From main, once: no new turns; running ones may finish until shutdown.timeout_s, then they are ended. */
void gw_worker_drain(struct gw_worker *worker);

/** From main, once: running turns are ended now. */
void gw_worker_hurry(struct gw_worker *worker);

/** On its own thread: a turn or a stream has ended; tells main when the drain is complete. */
void gw_worker_check_drained(struct gw_worker *worker);

/**
 * From any thread: use another configuration for what starts from now on. All of it stays valid until
 * the process ends. 0 or SL_E_NO_MEMORY.
 */
SL_MUST_CHECK int gw_worker_reload(struct gw_worker *worker, const struct gw_config *config,
                                   const struct gw_auth_keys *keys,
                                   struct gw_upstreams_shared *upstreams);

/** From any thread: leave the loop. gw_worker_join waits for it and frees what the worker owns. */
void gw_worker_stop(struct gw_worker *worker);
void gw_worker_join(struct gw_worker *worker);

/** The worker that serves a request. */
static inline struct gw_worker *gw_worker_of(const h2o_req_t *req)
{
    return (struct gw_worker *)req->conn->ctx;
}
