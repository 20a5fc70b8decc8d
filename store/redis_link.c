/*
 * One connection to Redis that is always on its way to being there.
 *
 *            .----------------------------- lost, refused, late -----------------.
 *            v                                                                   |
 *        RESTING --(backoff over)--> RESOLVING --(address)--> CONNECTING --> GREETING --> UP
 *            |                           ^                         ^
 *            '------ name -------------- ' ------ number, path --- '
 *
 * Happy path: resolve the name on the connector thread (not needed for a numeric address or a
 * socket), let hiredis connect, send AUTH, SELECT and PING in one write, and be up when all three are
 * answered well. PING is there because a server that is still loading, or wants a password, accepts
 * the connection and says so only to a command.
 *
 * Failure modes: everything ends in RESTING, which waits between 0 and 50 ms * 2^n, at most 2 s, and
 * begins again with the name, as a failover may have moved it. n starts over once a connection has
 * answered an ordinary command in time, so a server that greets and then hangs is not hammered.
 * Commands that were under way finish with SL_E_REDIS_UNAVAILABLE (the pipeline sees to it).
 *
 * hiredis' own callbacks only take notes and queue `tick`; nothing of hiredis is called from inside
 * its connect callback, which 0.14.1 does not survive (hiredis PR 931).
 *
 * Thread: its loop's; `status` is atomic. Ownership: the link owns the context through the adapter.
 */
#include "redis_link.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <hiredis/async.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connector.h"
#include "connector_forget.h"
#include "redis_adapter.h"
#include "redis_pipeline.h"
#include "sluice/random.h"

enum {
    BACKOFF_BASE_US = 50 * 1000,
    BACKOFF_CAP_US = 2000 * 1000,
    CONNECT_US = 1000 * 1000, /* connection and greeting together */
    SILENCE_US = 1000 * 1000,
    GREETING_COUNT = 3,
    DB_TEXT_SIZE = 12,
};

enum link_state { LINK_RESTING, LINK_RESOLVING, LINK_CONNECTING, LINK_GREETING, LINK_UP };

struct store_redis_link {
    struct sl_loop *loop;
    struct store_connector *connector;
    struct store_redis_link_config config;
    enum link_state state;
    bool closing;
    bool connected;          /* noted by hiredis' connect callback */
    unsigned attempt;        /* for the backoff */
    uint64_t answered_at_up; /* the pipeline's count when the greeting was over */
    struct sl_timer timer;   /* RESTING: backoff; CONNECTING and GREETING: the deadline */
    struct sl_task tick;
    struct store_resolve resolve;
    struct store_redis_adapter adapter;
    struct store_redis_pipeline pipeline;
    struct greeting {
        struct store_redis_command command;
        struct store_redis_link *link;
        bool is_last;
    } greeting[GREETING_COUNT]; /* AUTH, SELECT, PING */
    _Atomic int status;         /* enum store_link */
};

static void begin(struct store_redis_link *link);
static void resolve(struct store_redis_link *link);
static void on_resolved(struct sl_op *op, int status);
static void connect_to(struct store_redis_link *link, const char *address);
static void on_connected(const struct redisAsyncContext *context, int status);
static void on_gone(struct store_redis_adapter *adapter);
static void tick(struct sl_task *task);
static void greet(struct store_redis_link *link);
static int send_greeting(struct store_redis_link *link, size_t i, const struct store_text *args,
                         size_t count);
static void on_greeted(struct sl_op *op, int status);
static void come_up(struct store_redis_link *link);
static void on_distrust(struct store_redis_pipeline *pipeline);
static void on_timer(struct sl_timer *timer);
static void rest(struct store_redis_link *link);
static void move(struct store_redis_link *link, enum link_state state);
static struct store_text word(const char *text);

int store_redis_link_create(struct sl_loop *loop, struct store_connector *connector,
                            const struct store_redis_link_config *config,
                            struct store_client_stats *stats, struct store_redis_link **ret_link)
{
    struct store_redis_link *link = calloc(1, sizeof(*link));

    if (link == NULL) {
        return SL_E_NO_MEMORY;
    }
    uint64_t timeout_us = (uint64_t)config->timeout_ms * 1000;
    link->loop = loop;
    link->connector = connector;
    link->config = *config;
    link->timer.expired = on_timer;
    link->tick.run = tick;
    link->adapter.loop = loop;
    link->adapter.gone = on_gone;
    link->pipeline.loop = loop;
    link->pipeline.stats = stats;
    link->pipeline.distrust = on_distrust;
    link->pipeline.silence_us = timeout_us > SILENCE_US ? timeout_us : SILENCE_US;
    store_redis_pipeline_init(&link->pipeline);
    begin(link);
    *ret_link = link;
    return 0;
}

/* ---- reaching the server ---- */

static void begin(struct store_redis_link *link)
{
    unsigned char binary[sizeof(struct in6_addr)];
    const char *host = link->config.url.host;

    if (link->config.url.is_unix || inet_pton(AF_INET, host, binary) == 1 ||
        inet_pton(AF_INET6, host, binary) == 1) {
        connect_to(link, host);
    } else {
        resolve(link);
    }
}

static void resolve(struct store_redis_link *link)
{
    move(link, LINK_RESOLVING);
    link->resolve.host = link->config.url.host;
    link->resolve.op.done = on_resolved;
    if (store_connector_resolve(link->connector, link->loop, &link->resolve) != 0) {
        rest(link);
    }
}

static void on_resolved(struct sl_op *op, int status)
{
    struct store_redis_link *link = SL_CONTAINER_OF(op, struct store_redis_link, resolve.op);

    if (status == 0) {
        connect_to(link, link->resolve.address);
    } else {
        rest(link);
    }
}

static void connect_to(struct store_redis_link *link, const char *address)
{
    const struct store_redis_url *url = &link->config.url;
    redisAsyncContext *context =
        url->is_unix ? redisAsyncConnectUnix(url->path) : redisAsyncConnect(address, url->port);

    move(link, LINK_CONNECTING);
    link->connected = false;
    if (context == NULL || context->err != 0) {
        if (context != NULL) {
            redisAsyncFree(context); /* no hooks yet: it only closes and frees */
        }
        rest(link);
        return;
    }
    (void)fcntl(context->c.fd, F_SETFD, FD_CLOEXEC);
    context->data = link;
    store_redis_adapter_attach(&link->adapter, context);
    (void)redisAsyncSetConnectCallback(context, on_connected); /* fails only when called twice */
    sl_loop_arm(link->loop, &link->timer, CONNECT_US);
}

/* ---- inside hiredis: only take notes ---- */

static void on_connected(const struct redisAsyncContext *context, int status)
{
    struct store_redis_link *link = context->data;

    link->connected = status == REDIS_OK;
    sl_loop_defer(link->loop, &link->tick);
}

static void on_gone(struct store_redis_adapter *adapter)
{
    struct store_redis_link *link = SL_CONTAINER_OF(adapter, struct store_redis_link, adapter);

    sl_loop_defer(link->loop, &link->tick);
}

/* ---- from the drain ---- */

static void tick(struct sl_task *task)
{
    struct store_redis_link *link = SL_CONTAINER_OF(task, struct store_redis_link, tick);

    if (link->state >= LINK_CONNECTING && link->adapter.context == NULL) {
        rest(link);
    } else if (link->state == LINK_CONNECTING && link->connected) {
        greet(link);
    }
}

static void greet(struct store_redis_link *link)
{
    const struct store_redis_url *url = &link->config.url;
    struct store_text args[3];
    char db[DB_TEXT_SIZE];
    int err = 0;

    move(link, LINK_GREETING);
    if (url->password[0] != '\0') {
        size_t count = 0;
        args[count++] = word("AUTH");
        if (url->user[0] != '\0') {
            args[count++] = word(url->user);
        }
        args[count++] = word(url->password);
        err = send_greeting(link, 0, args, count);
    }
    if (err == 0 && url->db != 0) {
        (void)snprintf(db, sizeof(db), "%u", url->db);
        args[0] = word("SELECT");
        args[1] = word(db);
        err = send_greeting(link, 1, args, 2);
    }
    if (err == 0) {
        args[0] = word("PING");
        err = send_greeting(link, 2, args, 1);
    }
    if (err != 0) {
        rest(link);
    }
}

static int send_greeting(struct store_redis_link *link, size_t i, const struct store_text *args,
                         size_t count)
{
    struct greeting *greeting = &link->greeting[i];

    /* It is idle: what a lost connection left was finished before the next one was begun. */
    greeting->link = link;
    greeting->is_last = i + 1 == GREETING_COUNT;
    greeting->command.op.done = on_greeted;
    return store_redis_pipeline_send(&link->pipeline, link->adapter.context, &greeting->command,
                                     args, count, CONNECT_US);
}

static void on_greeted(struct sl_op *op, int status)
{
    struct greeting *greeting = SL_CONTAINER_OF(op, struct greeting, command.op);
    struct store_redis_link *link = greeting->link;

    if (link->state != LINK_GREETING) {
        return; /* lost meanwhile, or an earlier word of the greeting was refused */
    }
    if (status != 0) {
        rest(link);
    } else if (greeting->is_last) {
        come_up(link);
    }
}

static void come_up(struct store_redis_link *link)
{
    sl_loop_disarm(link->loop, &link->timer);
    link->answered_at_up = link->pipeline.answered_in_time;
    move(link, LINK_UP);
    if (link->config.up != NULL) {
        link->config.up(link->config.context);
    }
}

int store_redis_link_send(struct store_redis_link *link, struct store_redis_command *command,
                          const struct store_text *args, size_t count)
{
    if (link->state != LINK_UP || link->adapter.context == NULL) {
        return SL_E_REDIS_UNAVAILABLE;
    }
    return store_redis_pipeline_send(&link->pipeline, link->adapter.context, command, args, count,
                                     (uint64_t)link->config.timeout_ms * 1000);
}

/* ---- losing it ---- */

static void on_distrust(struct store_redis_pipeline *pipeline)
{
    struct store_redis_link *link = SL_CONTAINER_OF(pipeline, struct store_redis_link, pipeline);

    if (link->state >= LINK_CONNECTING) {
        rest(link);
    }
}

static void on_timer(struct sl_timer *timer)
{
    struct store_redis_link *link = SL_CONTAINER_OF(timer, struct store_redis_link, timer);

    if (link->state == LINK_RESTING) {
        begin(link);
    } else {
        rest(link); /* no connection, or no greeting, in time */
    }
}

/* The only way down. */
static void rest(struct store_redis_link *link)
{
    if (link->state == LINK_UP && link->pipeline.answered_in_time > link->answered_at_up) {
        link->attempt = 0;
    }
    move(link, LINK_RESTING);
    store_redis_adapter_drop(&link->adapter);
    if (!link->closing) {
        sl_loop_arm(link->loop, &link->timer,
                    sl_random_backoff_us(link->attempt, BACKOFF_BASE_US, BACKOFF_CAP_US));
        link->attempt++;
    }
}

void store_redis_link_destroy(struct store_redis_link *link)
{
    if (link == NULL) {
        return;
    }
    link->closing = true;
    rest(link);
    store_redis_pipeline_finish(&link->pipeline);
    sl_loop_disarm(link->loop, &link->timer);
    sl_loop_undefer(link->loop, &link->tick);
    if (link->resolve.op.running) {
        store_connector_forget(link->connector, link->loop);
    }
    free(link);
}

static void move(struct store_redis_link *link, enum link_state state)
{
    static const enum store_link status[] = {
        [LINK_RESTING] = STORE_LINK_DOWN,
        [LINK_RESOLVING] = STORE_LINK_CONNECTING,
        [LINK_CONNECTING] = STORE_LINK_CONNECTING,
        [LINK_GREETING] = STORE_LINK_CONNECTING,
        [LINK_UP] = STORE_LINK_UP,
    };

    link->state = state;
    atomic_store_explicit(&link->status, (int)status[state], memory_order_relaxed);
}

enum store_link store_redis_link_status(const struct store_redis_link *link)
{
    return (enum store_link)atomic_load_explicit(&link->status, memory_order_relaxed);
}

static struct store_text word(const char *text)
{
    return (struct store_text){text, strlen(text)};
}
