/*
 * For operators: /healthz, /readyz, /metrics (wire.md section 5).
 *
 * Ready means that new turns can be accepted safely: not while draining, not while the journal's disk is
 * full or refuses.
 * Postgres or Redis being down does not make it unready; the body names each part's state.
 * Thread: the request's worker.
 */
#include <inttypes.h>

#include "config.h"
#include "metrics.h"
#include "reply.h"
#include "routes.h"
#include "upstreams.h"

enum { METRICS_MAX_BYTES = 1 << 20, READY_MAX_BYTES = 4096 };

static const char *link_name(enum store_link link);
static int append_upstreams(const struct gw_worker *worker, struct sl_buffer *body);

void gw_healthz_route(struct gw_exchange *exchange)
{
    static const char body[] = "{\"status\":\"alive\"}";

    gw_reply_json(exchange, 200, body, sizeof(body) - 1);
}

void gw_readyz_route(struct gw_exchange *exchange)
{
    static const char *const health_names[] = {"open", "nearly_full", "failed"};
    struct gw_worker *worker = exchange->worker;
    const struct store_writer_stats *writer = store_writer_stats(worker->server->store);
    struct store_journal_summary journal;
    struct sl_buffer body;

    store_journal_summary(worker->server->store, &journal);
    bool ready = !worker->draining && journal.health == STORE_JOURNAL_IS_OPEN;
    sl_buffer_init(&body, READY_MAX_BYTES);
    int err = sl_buffer_appendf(
        &body,
        "{\"status\":\"%s\",\"draining\":%s,\"redis\":\"%s\",\"database\":\"%s\","
        "\"journal\":{\"state\":\"%s\",\"uncommitted_records\":%" PRIu64
        ",\"oldest_uncommitted_s\":%.3f},"
        "\"writer\":{\"connected\":%s,\"records_waiting\":%" PRIu64 ",\"bytes_waiting\":%" PRIu64
        "},\"upstreams\":[",
        ready ? "ready" : "unready", worker->draining ? "true" : "false",
        link_name(store_client_redis(worker->store)),
        link_name(store_client_database(worker->store)), health_names[journal.health],
        journal.uncommitted_records, journal.oldest_uncommitted_s,
        sl_counter_get(&writer->connected) != 0 ? "true" : "false",
        sl_counter_get(&writer->records_waiting), sl_counter_get(&writer->bytes_waiting));
    if (err == 0) {
        err = append_upstreams(worker, &body);
    }
    if (err == 0) {
        gw_reply_json(exchange, ready ? 200 : 503, body.base, body.len);
    } else {
        gw_reply_problem(exchange, err, NULL, NULL);
    }
    sl_buffer_dispose(&body);
}

void gw_metrics_route(struct gw_exchange *exchange)
{
    struct sl_buffer page;

    sl_buffer_init(&page, METRICS_MAX_BYTES);
    int err = gw_metrics_write(exchange->worker->server, &page);
    if (err == 0) {
        gw_reply_text(exchange, "text/plain; version=0.0.4; charset=utf-8", page.base, page.len);
    } else {
        gw_reply_problem(exchange, err, NULL, NULL);
    }
    sl_buffer_dispose(&page);
}

/* A model that is away does not make the server unready: it says so itself, honestly, turn by turn. */
static int append_upstreams(const struct gw_worker *worker, struct sl_buffer *body)
{
    const struct gw_upstreams_shared *shared = worker->upstreams->shared;
    uint64_t now_us = sl_loop_now_us(worker->loop);
    int err = 0;

    for (size_t i = 0; err == 0 && i < shared->config->upstreams_count; i++) {
        enum gw_breaker_state state = gw_breaker_state(&shared->of[i].breaker, now_us);
        err = sl_buffer_appendf(body, "%s{\"name\":\"%s\",\"breaker\":\"%s\"}", i > 0 ? "," : "",
                                shared->config->upstreams[i].name, gw_breaker_state_name(state));
    }
    return err != 0 ? err : sl_buffer_append_str(body, "]}");
}

static const char *link_name(enum store_link link)
{
    static const char *const names[] = {"down", "connecting", "up"};

    return names[link];
}
