/*
 * One loop thread.
 *
 * h2o's evloop drives; our loop is nested in it as one descriptor that h2o polls but does not read.
 * A turn of the loop: h2o polls and runs its callbacks (requests, finished writes, and ours, which
 * dispatches libcurl, hiredis, libpq and messages); tasks that were queued on the way run in h2o's
 * zero-delay timeout, still in the same turn, so that what they send goes out before the next poll;
 * due timers run between turns.
 *
 * Failure modes: anything that cannot be made at the start fails the start. Thread and ownership: see
 * the header.
 */
#include "worker.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "error_filter.h"
#include "listener.h"
#include "log.h"
#include "routes.h"
#include "sluice/op.h"
#include "trace_export.h"
#include "upstreams.h"

enum { IDLE_WAIT_MS = 1000 };

static size_t kept_max_bytes(const struct gw_worker *worker);
static void init_h2o(struct gw_worker *worker);
static void add_filters(h2o_pathconf_t *path);
static void nest_loop(struct gw_worker *worker);
static void on_poller_ready(h2o_socket_t *socket, const char *err);
static void on_wake(void *context);
static void on_drain(h2o_timeout_entry_t *entry);
static void *run_on_thread(void *context);
static void log_turn(void *context, const char *line, size_t len);
static void take_trace(void *context, struct gw_trace_record *record);
static void on_turn_end(void *context);
static void on_quiet(void *context);
static void begin_drain(struct sl_message *message);
static void end_turns(struct sl_message *message);
static void on_shutdown_deadline(struct sl_timer *timer);
static void take_configuration(struct sl_message *message);
static bool upstreams_differ(const struct gw_config *a, const struct gw_config *b);
static void leave(struct sl_message *message);

int gw_worker_init(struct gw_worker *worker, struct gw_server *server, unsigned index,
                   int listen_fd, int ops_fd)
{
    worker->server = server;
    worker->index = index;
    worker->config = server->config;
    worker->drain_message.receive = begin_drain;
    worker->stop_message.receive = leave;
    worker->hurry_message.receive = end_turns;
    worker->shutdown_timer.expired = on_shutdown_deadline;
    int err = sl_loop_create(&worker->loop);
    if (err == 0) {
        err = store_client_create(server->store, worker->loop, &worker->store);
    }
    if (err == 0) {
        err = gw_upstreams_create(worker->loop, worker->config, server->upstreams, &worker->stats,
                                  NULL, &worker->upstreams);
    }
    if (err == 0) {
        err = gw_auth_create(server->keys, &worker->auth);
    }
    if (err != 0) {
        return err;
    }
    worker->turns = (struct gw_turns){
        .loop = worker->loop,
        .config = worker->config,
        .store = worker->store,
        .upstreams = worker->upstreams,
        .user_turns = server->user_turns,
        .stats = &worker->stats,
        .peers = server->turns_of_loops,
        .peers_count = server->workers_count,
        .index = index,
        .kept_max_bytes = kept_max_bytes(worker),
        .log_line = log_turn,
        .take_trace = server->traces != NULL ? take_trace : NULL,
        .on_end = on_turn_end,
        .on_quiet = on_quiet,
        .context = worker,
    };
    gw_turns_init(&worker->turns);
    server->turns_of_loops[index] = &worker->turns;
    init_h2o(worker);
    nest_loop(worker);
    err = gw_listener_start(worker, listen_fd, &worker->listener);
    if (err == 0 && ops_fd >= 0) {
        err = gw_listener_start(worker, ops_fd, &worker->ops_listener);
    }
    return err;
}

/* This loop's share of what finished turns may take. */
static size_t kept_max_bytes(const struct gw_worker *worker)
{
    return worker->config->chat.resume_bytes_max / worker->server->workers_count;
}

static void init_h2o(struct gw_worker *worker)
{
    h2o_globalconf_t *config = &worker->h2o_config;

    h2o_config_init(config);
    config->server_name = h2o_iovec_init(H2O_STRLIT("sluice"));
    config->http1.upgrade_to_http2 =
        0; /* Debian's h2o can be aborted over HTTP/2: never reachable */
    config->http1.req_timeout = worker->config->http.request_timeout_ms;
    config->max_request_entity_size = worker->config->http.body_max_bytes;
    h2o_hostconf_t *host =
        h2o_config_register_host(config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    h2o_pathconf_t *path = h2o_config_register_path(host, "/", 0);
    add_filters(path);
    add_filters(&host->fallback_path);
    h2o_handler_t *handler = h2o_create_handler(path, sizeof(*handler));
    handler->on_req = gw_routes_on_request;
    h2o_context_init(&worker->h2o, h2o_evloop_create(), config);
    worker->accept.ctx = &worker->h2o;
    worker->accept.hosts = config->hosts;
}

static void add_filters(h2o_pathconf_t *path)
{
    h2o_compress_args_t gzip = {
        .min_size = 1024, .gzip = {.quality = 1}, .brotli = {.quality = -1}};

    gw_error_filter_register(path);
    h2o_compress_register(path, &gzip);
}

static void nest_loop(struct gw_worker *worker)
{
    /* h2o closes what it wraps, and the epoll descriptor is our loop's: it gets a duplicate */
    int fd = dup(sl_loop_epoll_fd(worker->loop));

    worker->poller = h2o_evloop_socket_create(worker->h2o.loop, fd, H2O_SOCKET_FLAG_DONT_READ);
    worker->poller->data = worker;
    h2o_socket_read_start(worker->poller, on_poller_ready);
    h2o_timeout_init(worker->h2o.loop, &worker->drain_timeout, 0);
    worker->drain_entry.cb = on_drain;
    sl_loop_on_wake(worker->loop, on_wake, worker);
}

/* ---------------------------------------------------------------- the loop */

int gw_worker_run(struct gw_worker *worker)
{
    return pthread_create(&worker->thread, NULL, run_on_thread, worker) == 0 ? 0 : SL_E_NO_MEMORY;
}

static void *run_on_thread(void *context)
{
    struct gw_worker *worker = context;

    while (!worker->stop) {
        (void)h2o_evloop_run(worker->h2o.loop, sl_loop_wait_ms(worker->loop, IDLE_WAIT_MS));
        if (sl_loop_run_timers(worker->loop) > 0) {
            on_wake(worker); /* what timers have sent is completed without waiting */
        }
    }
    return NULL;
}

static void on_poller_ready(h2o_socket_t *socket, const char *err)
{
    struct gw_worker *worker = socket->data;

    (void)err;
    sl_loop_dispatch(worker->loop);
}

static void on_wake(void *context)
{
    struct gw_worker *worker = context;

    if (!h2o_timeout_is_linked(&worker->drain_entry)) {
        h2o_timeout_link(worker->h2o.loop, &worker->drain_timeout, &worker->drain_entry);
    }
}

static void on_drain(h2o_timeout_entry_t *entry)
{
    struct gw_worker *worker = H2O_STRUCT_FROM_MEMBER(struct gw_worker, drain_entry, entry);

    sl_loop_drain(worker->loop);
}

/* ---------------------------------------------------------------- turns */

static void log_turn(void *context, const char *line, size_t len)
{
    struct gw_worker *worker = context;

    gw_log_line(worker->server->log, line, len);
}

static void take_trace(void *context, struct gw_trace_record *record)
{
    struct gw_worker *worker = context;

    gw_trace_export_push(worker->server->traces, record);
}

static void on_turn_end(void *context)
{
    struct gw_worker *worker = context;

    atomic_fetch_sub_explicit(&worker->server->turns, 1, memory_order_relaxed);
    gw_worker_check_drained(worker);
}

static void on_quiet(void *context)
{
    gw_worker_check_drained(context);
}

/* ---------------------------------------------------------------- shutdown and reload */

void gw_worker_drain(struct gw_worker *worker)
{
    sl_loop_post(worker->loop, &worker->drain_message);
}

static void begin_drain(struct sl_message *message)
{
    struct gw_worker *worker = SL_CONTAINER_OF(message, struct gw_worker, drain_message);

    worker->draining = true;
    h2o_context_request_shutdown(
        &worker->h2o); /* keep-alive ends with each connection's next answer */
    sl_loop_arm(worker->loop, &worker->shutdown_timer,
                1000000UL * worker->config->shutdown.timeout_s);
    gw_worker_check_drained(worker);
}

void gw_worker_hurry(struct gw_worker *worker)
{
    sl_loop_post(worker->loop, &worker->hurry_message);
}

static void end_turns(struct sl_message *message)
{
    struct gw_worker *worker = SL_CONTAINER_OF(message, struct gw_worker, hurry_message);

    gw_turns_end_all(&worker->turns, SL_E_SHUTTING_DOWN);
}

static void on_shutdown_deadline(struct sl_timer *timer)
{
    struct gw_worker *worker = SL_CONTAINER_OF(timer, struct gw_worker, shutdown_timer);

    gw_turns_end_all(&worker->turns, SL_E_SHUTTING_DOWN);
}

void gw_worker_check_drained(struct gw_worker *worker)
{
    struct gw_server *server = worker->server;

    if (!worker->draining || worker->reported_drained || worker->turns.running > 0 ||
        worker->turns.away > 0 || worker->streams > 0) {
        return;
    }
    worker->reported_drained = true;
    if (atomic_fetch_sub(&server->workers_to_drain, 1) == 1) {
        sl_loop_post(server->main_loop, &server->drained);
    }
}

/* One message each, since a second reload may come before the first has been taken. */
struct reload {
    struct sl_message message;
    struct gw_worker *worker;
    const struct gw_config *config;
    const struct gw_auth_keys *keys;
    struct gw_upstreams_shared *upstreams;
};

int gw_worker_reload(struct gw_worker *worker, const struct gw_config *config,
                     const struct gw_auth_keys *keys, struct gw_upstreams_shared *upstreams)
{
    struct reload *reload = malloc(sizeof(*reload));

    if (reload == NULL) {
        return SL_E_NO_MEMORY;
    }
    *reload = (struct reload){
        .message.receive = take_configuration,
        .worker = worker,
        .config = config,
        .keys = keys,
        .upstreams = upstreams,
    };
    sl_loop_post(worker->loop, &reload->message);
    return 0;
}

static void take_configuration(struct sl_message *message)
{
    struct reload *reload = SL_CONTAINER_OF(message, struct reload, message);
    struct gw_worker *worker = reload->worker;
    struct gw_upstreams *upstreams;
    struct gw_auth *auth;

    if (upstreams_differ(worker->config, reload->config) &&
        gw_upstreams_create(worker->loop, reload->config, reload->upstreams, &worker->stats,
                            worker->upstreams, &upstreams) == 0) {
        worker->upstreams = upstreams;
        worker->turns.upstreams = upstreams;
    }
    worker->config = reload->config;
    worker->turns.config = reload->config;
    worker->turns.kept_max_bytes = kept_max_bytes(worker);
    if (gw_auth_create(reload->keys, &auth) == 0) {
        gw_auth_destroy(worker->auth);
        worker->auth = auth;
    }
    free(reload);
}

/* Whether new turns need other handles; those keep the configuration that they were made with. */
static bool upstreams_differ(const struct gw_config *a, const struct gw_config *b)
{
    return !gw_config_upstreams_equal(a, b) || !gw_config_section_equal(a, b, "upstream");
}

void gw_worker_stop(struct gw_worker *worker)
{
    sl_loop_post(worker->loop, &worker->stop_message);
}

static void leave(struct sl_message *message)
{
    struct gw_worker *worker = SL_CONTAINER_OF(message, struct gw_worker, stop_message);

    worker->stop = true;
}

/*
 * Connections that are still open are closed by the end of the process: h2o 2.2.5 has no call that
 * closes them all, and its dispose functions assert that there are none.
 */
void gw_worker_join(struct gw_worker *worker)
{
    (void)pthread_join(worker->thread, NULL);
    sl_loop_disarm(worker->loop, &worker->shutdown_timer);
    gw_listener_stop(worker->listener);
    gw_listener_stop(worker->ops_listener);
    gw_turns_finish(&worker->turns);
    gw_upstreams_destroy(worker->upstreams);
    store_client_destroy(worker->store);
    gw_auth_destroy(worker->auth);
}
