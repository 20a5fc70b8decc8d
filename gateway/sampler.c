/*
 * The clock of the performance page: one reading of all counters per second.
 *
 * The first sample counts from zero, so nothing that came before it is lost. A sample that comes
 * late is longer than a second, and says so. Thread: main.
 */
#include "sampler.h"

#include <string.h>
#include <time.h>

#include "upstreams.h"
#include "worker.h"

enum { SECOND_US = 1000 * 1000 };

static void on_second(struct sl_timer *timer);
static void read_all(const struct gw_server *server, struct gw_performance_reading *reading);
static void read_upstreams(const struct gw_server *server, struct gw_performance_reading *reading);

void gw_sampler_start(struct gw_sampler *sampler, const struct gw_server *server)
{
    sampler->server = server;
    sampler->timer.expired = on_second;
    sampler->readings[sampler->last].at_us = sl_loop_now_us(server->main_loop);
    sampler->due_us = sampler->readings[sampler->last].at_us + SECOND_US;
    sl_loop_arm(server->main_loop, &sampler->timer, SECOND_US);
}

void gw_sampler_stop(struct gw_sampler *sampler)
{
    sl_loop_disarm(sampler->server->main_loop, &sampler->timer);
}

static void on_second(struct sl_timer *timer)
{
    struct gw_sampler *sampler = SL_CONTAINER_OF(timer, struct gw_sampler, timer);
    const struct gw_server *server = sampler->server;
    struct gw_performance_reading *before = &sampler->readings[sampler->last];
    struct gw_performance_reading *now = &sampler->readings[1 - sampler->last];

    read_all(server, now);
    if (gw_performance_add(server->performance, before, now) == 0) {
        sampler->last = 1 - sampler->last;
    }
    sampler->due_us += SECOND_US;
    if (sampler->due_us <= now->at_us) {
        sampler->due_us = now->at_us + SECOND_US; /* what was missed is in this one */
    }
    sl_loop_arm(server->main_loop, timer, sampler->due_us - now->at_us);
}

static void read_all(const struct gw_server *server, struct gw_performance_reading *reading)
{
    const struct store_writer_stats *writer = store_writer_stats(server->store);
    struct timespec now;

    memset(reading, 0, sizeof(*reading));
    reading->at_us = sl_loop_now_us(server->main_loop);
    (void)clock_gettime(CLOCK_REALTIME, &now);
    reading->unix_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    gw_totals_add_up(server, &reading->totals);
    store_journal_summary(server->store, &reading->journal);
    reading->writer.records_waiting = sl_counter_get(&writer->records_waiting);
    reading->writer.rows = sl_counter_get(&writer->rows);
    reading->writer.failures = sl_counter_get(&writer->failures);
    reading->writer.dead_letters = sl_counter_get(&writer->refused);
    reading->writer.connected = sl_counter_get(&writer->connected) != 0;
    reading->threads = server->workers_count;
    reading->draining = atomic_load(&server->draining);
    read_upstreams(server, reading);
}

static void read_upstreams(const struct gw_server *server, struct gw_performance_reading *reading)
{
    const struct gw_upstreams_shared *shared = atomic_load(&server->upstreams);

    reading->upstreams_list = shared;
    reading->upstreams_count = shared->config->upstreams_count;
    for (size_t i = 0; i < reading->upstreams_count; i++) {
        reading->upstreams[i].name = shared->config->upstreams[i].name;
        reading->upstreams[i].requests =
            atomic_load_explicit(&shared->of[i].requests, memory_order_relaxed);
        reading->upstreams[i].failures =
            atomic_load_explicit(&shared->of[i].failures, memory_order_relaxed);
        reading->upstreams[i].breaker = gw_breaker_state(&shared->of[i].breaker, reading->at_us);
    }
}
