/*
 * For operators: /healthz, /readyz, /metrics (wire.md section 5).
 *
 * Ready means that new turns can be accepted safely: not while draining, not with a full write queue.
 * Postgres or Redis being down does not make it unready; the body names each part's state.
 * Thread: the request's worker.
 */
#include <inttypes.h>

#include "config.h"
#include "metrics.h"
#include "reply.h"
#include "routes.h"

enum { METRICS_MAX_BYTES = 1 << 20, READY_MAX_BYTES = 4096 };

static const char *link_name(enum store_link link);

void gw_healthz_route(struct gw_exchange *exchange)
{
    static const char body[] = "{\"status\":\"alive\"}";

    gw_reply_json(exchange, 200, body, sizeof(body) - 1);
}

void gw_readyz_route(struct gw_exchange *exchange)
{
    struct gw_worker *worker = exchange->worker;
    const struct store_writer_stats *writer = store_writer_stats(worker->server->store);
    uint64_t waiting_bytes = sl_counter_get(&writer->bytes_waiting);
    bool queue_full = waiting_bytes >= worker->config->writer.queue_max_bytes;
    bool ready = !worker->draining && !queue_full;
    struct sl_buffer body;

    sl_buffer_init(&body, READY_MAX_BYTES);
    int err = sl_buffer_appendf(
        &body,
        "{\"status\":\"%s\",\"draining\":%s,\"redis\":\"%s\",\"database\":\"%s\","
        "\"writer\":{\"state\":\"%s\",\"connected\":%s,\"records_waiting\":%" PRIu64
        ",\"bytes_waiting\":%" PRIu64 "}}",
        ready ? "ready" : "unready", worker->draining ? "true" : "false",
        link_name(store_client_redis(worker->store)),
        link_name(store_client_database(worker->store)), queue_full ? "full" : "ok",
        sl_counter_get(&writer->connected) != 0 ? "true" : "false",
        sl_counter_get(&writer->records_waiting), waiting_bytes);
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

static const char *link_name(enum store_link link)
{
    static const char *const names[] = {"down", "connecting", "up"};

    return names[link];
}
