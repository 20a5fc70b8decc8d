/*
 * The server process: start and stop order, signals. The other commands are in commands.c.
 *
 * Start: configuration, keys, listening sockets, store, workers; the line `listening` says that requests
 * are served. Stop (SIGTERM, SIGINT): workers drain, the store writes what is left, workers leave, exit.
 * SIGHUP loads configuration and keys again. The main thread waits for signals, prints log lines and
 * samples the figures once a second.
 *
 * Failure modes: a bad configuration exits with 2 and one line that names the key; anything else that
 * prevents the start exits with 1. Thread: main. Ownership: `struct process` owns everything.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "commands.h"
#include "config.h"
#include "listener.h"
#include "log.h"
#include "sampler.h"
#include "sluice/op.h"
#include "sluice/text.h"
#include "trace_export.h"
#include "upstreams.h"
#include "user_turns.h"
#include "worker.h"

enum { GENERATIONS_MAX = 1024 };
enum { CHANGED_SIZE = 6144, FIXED_SIZE = 1024 }; /* for the names of all keys */

struct process {
    struct gw_server server;
    struct gw_log log;
    struct gw_sampler sampler;
    const char *config_file;
    struct sl_watch signals;
    int signal_fd;
    bool stopping, hurried, drained;
    /* configurations and keys that turns may still be using; freed at the end */
    struct gw_config *configs[GENERATIONS_MAX];
    struct gw_auth_keys *keys[GENERATIONS_MAX];
    struct gw_upstreams_shared
        *upstreams[GENERATIONS_MAX]; /* the one before, if the endpoints are the same */
    size_t generations;
};

static int serve(const char *config_file);
static int load(struct process *process, char error[GW_CONFIG_ERROR_SIZE]);
static int share_upstreams(struct process *process, const struct gw_config *config);
static int start(struct process *process);
static int make_store(struct process *process);
static int make_workers(struct process *process);
static void wait_for_the_end(struct process *process);
static void on_signal(struct sl_watch *watch, unsigned events);
static void begin_stop(struct process *process);
static void hurry(struct process *process);
static void on_drained(struct sl_message *message);
static int stop(struct process *process);
static void reload(struct process *process);
static void log_reload_failure(struct process *process, const char *error);

int main(int argc, char **argv)
{
    const char *config_file = NULL;
    int at = 1;

    if (argc > 2 && strcmp(argv[1], "--config") == 0) {
        config_file = argv[2];
        at = 3;
    }
    return at == argc ? serve(config_file) : gw_command_run(config_file, argc - at, argv + at);
}

/* ---------------------------------------------------------------- start */

static int serve(const char *config_file)
{
    static struct process process; /* static, so that what h2o never frees stays reachable */
    char error[GW_CONFIG_ERROR_SIZE];
    sigset_t blocked;

    (void)signal(SIGPIPE, SIG_IGN);
    (void)prctl(PR_SET_DUMPABLE, 0); /* no core file with tokens and messages in it */
    (void)sigemptyset(&blocked);
    (void)sigaddset(&blocked, SIGTERM);
    (void)sigaddset(&blocked, SIGINT);
    (void)sigaddset(&blocked, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, &blocked, NULL); /* inherited by every thread */
    process.config_file = config_file;
    process.signal_fd = signalfd(-1, &blocked, SFD_CLOEXEC | SFD_NONBLOCK);
    process.signals.ready = on_signal;
    if (process.signal_fd < 0 || gw_upstream_init_process() != 0) {
        (void)fprintf(stderr, "sluice: cannot start: %s\n", strerror(errno));
        return EXIT_RUNTIME;
    }
    if (load(&process, error) != 0) {
        (void)fprintf(stderr, "sluice: %s\n", error);
        return EXIT_USAGE;
    }
    int code = start(&process);
    if (code != EXIT_CLEAN) {
        return code;
    }
    wait_for_the_end(&process);
    return stop(&process);
}

/* Configuration and keys, as the newest generation. `error` gets one line that names what is wrong. */
static int load(struct process *process, char error[GW_CONFIG_ERROR_SIZE])
{
    struct gw_config *config;
    struct gw_auth_keys *keys;

    if (process->generations == GENERATIONS_MAX) {
        (void)snprintf(error, GW_CONFIG_ERROR_SIZE, "reloaded too often; restart to load it");
        return SL_E_LIMIT;
    }
    int err = gw_config_load(process->config_file, error, &config);
    if (err != 0) {
        return err;
    }
    err = gw_auth_keys_load(config, error, &keys); /* its lines are as long as gw_config_load's */
    if (err != 0) {
        gw_config_destroy(config);
        return err;
    }
    if (share_upstreams(process, config) != 0) {
        (void)snprintf(error, GW_CONFIG_ERROR_SIZE, "out of memory");
        gw_auth_keys_destroy(keys);
        gw_config_destroy(config);
        return SL_E_NO_MEMORY;
    }
    process->configs[process->generations] = config;
    process->keys[process->generations] = keys;
    process->generations++;
    return 0;
}

/* What is known of the upstreams (breakers, addresses) outlives a reload that leaves them where they are. */
static int share_upstreams(struct process *process, const struct gw_config *config)
{
    size_t next = process->generations;

    if (next > 0 && gw_config_upstreams_same(process->configs[next - 1], config)) {
        process->upstreams[next] = process->upstreams[next - 1];
        return 0;
    }
    return gw_upstreams_share(config, &process->upstreams[next]);
}

static int start(struct process *process)
{
    struct gw_server *server = &process->server;

    server->config = process->configs[0];
    server->keys = process->keys[0];
    server->upstreams = process->upstreams[0];
    server->log = &process->log;
    server->drained.receive = on_drained;
    if (sl_loop_create(&server->main_loop) != 0 ||
        sl_loop_watch(server->main_loop, &process->signals, process->signal_fd, SL_READABLE) != 0) {
        (void)fprintf(stderr, "sluice: cannot make the main loop\n");
        return EXIT_RUNTIME;
    }
    gw_log_init(&process->log, server->main_loop);
    server->started_unix_s = (uint64_t)time(NULL);
    if (server->config->tracing.url != NULL &&
        gw_trace_export_create(server->config, &server->traces) != 0) {
        (void)fprintf(stderr, "sluice: cannot make the thread for traces\n");
        return EXIT_RUNTIME;
    }
    int code = make_store(process);
    return code == EXIT_CLEAN ? make_workers(process) : code;
}

static int make_store(struct process *process)
{
    const struct gw_config *config = process->server.config;
    const struct store_config store_config = gw_command_store_config(config);
    int err = store_create(&store_config, &process->server.store);

    if (err == SL_E_INVALID_VALUE) {
        (void)fprintf(stderr, "sluice: redis.url or database.url cannot be read\n");
        return EXIT_USAGE;
    }
    if (err != 0) {
        (void)fprintf(stderr, "sluice: journal.dir: %s: %s\n", config->journal.dir,
                      err == SL_E_CONFLICT              ? "another process uses it"
                      : err == SL_E_STORAGE_UNAVAILABLE ? "cannot be used"
                                                        : "out of memory");
        return EXIT_RUNTIME;
    }
    return EXIT_CLEAN;
}

/* Opens one socket per worker on the same address: with port 0 the first one chooses for all. */
static int open_listener(const char *key, const char *wanted, char *bound, size_t size)
{
    int fd = gw_listener_open(bound[0] != '\0' ? bound : wanted, bound, size);

    if (fd < 0) {
        (void)fprintf(stderr, "sluice: %s: cannot listen on %s: %s\n", key, wanted, strerror(-fd));
    }
    return fd;
}

static int make_workers(struct process *process)
{
    struct gw_server *server = &process->server;
    const struct gw_config *config = server->config;
    char bound[80] = "", ops_bound[80] = "";
    struct timespec now;

    server->workers_count = config->threads;
    server->workers = calloc(config->threads, sizeof(struct gw_worker));
    server->turns_of_loops = calloc(config->threads, sizeof(struct gw_turns *));
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (server->workers == NULL || server->turns_of_loops == NULL ||
        gw_performance_create((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000,
                              &server->performance) != 0 ||
        gw_user_turns_create(config->chat.turns_max, &server->user_turns) != 0) {
        (void)fprintf(stderr, "sluice: cannot make the threads: out of memory\n");
        return EXIT_RUNTIME;
    }
    for (unsigned i = 0; i < config->threads; i++) {
        int ops_fd = -1, fd = open_listener("listen", config->listen, bound, sizeof(bound));
        if (fd < 0) {
            return EXIT_RUNTIME;
        }
        if (config->ops.listen != NULL && config->ops.listen[0] != '\0') {
            ops_fd = open_listener("ops.listen", config->ops.listen, ops_bound, sizeof(ops_bound));
            if (ops_fd < 0) {
                return EXIT_RUNTIME;
            }
            server->ops_port = (int)strtol(strrchr(ops_bound, ':') + 1, NULL, 10);
        }
        if (gw_worker_init(&server->workers[i], server, i, fd, ops_fd) != 0) {
            (void)fprintf(stderr, "sluice: cannot make thread %u\n", i);
            return EXIT_RUNTIME;
        }
    }
    atomic_init(&server->workers_to_drain, config->threads);
    for (unsigned i = 0; i < config->threads; i++) {
        if (gw_worker_run(&server->workers[i]) != 0) {
            (void)fprintf(stderr, "sluice: cannot start thread %u\n", i);
            return EXIT_RUNTIME;
        }
    }
    gw_log_event(
        &process->log, "info", "listening",
        "\"address\":\"%s\",\"ops_address\":\"%s\",\"threads\":%u,\"version\":\"%s\",\"pid\":%d",
        bound, ops_bound, config->threads, SLUICE_VERSION, (int)getpid());
    (void)sd_notify(0, "READY=1");
    return EXIT_CLEAN;
}

/* ---------------------------------------------------------------- signals */

static void wait_for_the_end(struct process *process)
{
    gw_sampler_start(&process->sampler, &process->server);
    while (!process->drained) {
        sl_loop_run_once(process->server.main_loop, 1000);
    }
    gw_sampler_stop(&process->sampler);
}

static void on_signal(struct sl_watch *watch, unsigned events)
{
    struct process *process = SL_CONTAINER_OF(watch, struct process, signals);
    struct signalfd_siginfo info;

    (void)events;
    while (read(process->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGHUP) {
            reload(process);
        } else {
            begin_stop(process);
        }
    }
}

/* The line names a key or a file, which may hold any character. */
static void log_reload_failure(struct process *process, const char *error)
{
    struct sl_buffer text;

    sl_buffer_init(&text, 4 * GW_CONFIG_ERROR_SIZE);
    if (sl_json_append_string(&text, error, strlen(error)) == 0) {
        gw_log_event(&process->log, "error", "reload_failed", "\"error\":%.*s", (int)text.len,
                     text.base);
    }
    sl_buffer_dispose(&text);
}

static void reload(struct process *process)
{
    struct gw_server *server = &process->server;
    char changed[CHANGED_SIZE], fixed[FIXED_SIZE], error[GW_CONFIG_ERROR_SIZE];

    if (process->stopping) {
        return;
    }
    if (load(process, error) != 0) {
        log_reload_failure(process, error);
        return;
    }
    size_t newest = process->generations - 1;
    const struct gw_config *now = process->configs[newest - 1], *next = process->configs[newest];
    server->upstreams = process->upstreams[newest];
    for (unsigned i = 0; i < server->workers_count; i++) {
        if (gw_worker_reload(&server->workers[i], next, process->keys[newest],
                             process->upstreams[newest]) != 0) {
            log_reload_failure(process, "out of memory");
        }
    }
    (void)gw_config_changes(now, next, changed, sizeof(changed));
    (void)gw_config_fixed_changes(now, next, fixed, sizeof(fixed));
    gw_log_event(&process->log, "info", "reloaded", "\"changed\":\"%s\",\"needs_restart\":\"%s\"",
                 changed, fixed);
}

/* ---------------------------------------------------------------- stop */

/* Asked a second time, running turns are not waited for any more. */
static void hurry(struct process *process)
{
    struct gw_server *server = &process->server;

    for (unsigned i = 0; !process->hurried && i < server->workers_count; i++) {
        gw_worker_hurry(&server->workers[i]);
    }
    process->hurried = true;
}

static void begin_stop(struct process *process)
{
    struct gw_server *server = &process->server;

    if (process->stopping) {
        hurry(process);
        return;
    }
    process->stopping = true;
    atomic_store(&server->draining, true);
    (void)sd_notify(0, "STOPPING=1");
    gw_log_event(&process->log, "info", "draining", "\"turns\":%u", atomic_load(&server->turns));
    for (unsigned i = 0; i < server->workers_count; i++) {
        gw_worker_drain(&server->workers[i]);
    }
}

static void on_drained(struct sl_message *message)
{
    struct gw_server *server = SL_CONTAINER_OF(message, struct gw_server, drained);

    SL_CONTAINER_OF(server, struct process, server)->drained = true;
}

/* The workers run on while the store drains: they take the acknowledgements. */
static int stop(struct process *process)
{
    struct gw_server *server = &process->server;
    size_t left = store_stop(server->store, 1000 * server->config->shutdown.drain_timeout_s);

    for (unsigned i = 0; i < server->workers_count; i++) {
        gw_worker_stop(&server->workers[i]);
    }
    for (unsigned i = 0; i < server->workers_count; i++) {
        gw_worker_join(&server->workers[i]);
    }
    gw_trace_export_destroy(server->traces);
    store_destroy(server->store);
    gw_user_turns_destroy(server->user_turns);
    gw_performance_destroy(server->performance);
    gw_log_event(&process->log, left == 0 ? "info" : "error", "stopped",
                 "\"records_not_written\":%zu", left);
    sl_loop_run_once(server->main_loop, 0); /* prints the last lines */
    for (size_t i = 0; i < process->generations; i++) {
        if (i == 0 || process->upstreams[i] != process->upstreams[i - 1]) {
            gw_upstreams_unshare(process->upstreams[i]);
        }
        gw_auth_keys_destroy(process->keys[i]);
        gw_config_destroy(process->configs[i]);
    }
    return left == 0 ? EXIT_CLEAN : EXIT_RUNTIME;
}
