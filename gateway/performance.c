/*
 * The ring of samples, and how two readings become one.
 *
 * Happy path: main makes the text of a sample without the lock, then puts it in the place of the oldest
 * one; a worker copies the texts that its client does not have yet. Whatever is counted is given as the
 * count within the sample, which says how long it was (`seconds`), so counts over samples add up to what
 * /metrics shows. Thread: see the header.
 */
#include "performance.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

struct gw_performance {
    int64_t started_unix_ms;
    pthread_mutex_t lock;                           /* guards what follows */
    uint64_t newest;                                /* sequence number; 0: none yet */
    struct sl_buffer texts[GW_PERFORMANCE_SAMPLES]; /* sample n is in texts[n % SAMPLES] */
};

struct stage {
    const char *name;
    const struct sl_histogram *before, *now;
};

static int write_sample(uint64_t sequence, const struct gw_performance_reading *before,
                        const struct gw_performance_reading *now, struct sl_buffer *json);
static int write_times(const struct gw_stats *before, const struct gw_stats *now,
                       struct sl_buffer *json);
static int write_time(const char *name, const struct stage *stage, double q, bool first,
                      struct sl_buffer *json);
static int write_turns(const struct gw_stats *before, const struct gw_stats *now,
                       struct sl_buffer *json);
static int write_cache(const struct store_client_stats *before,
                       const struct store_client_stats *now, struct sl_buffer *json);
static int write_saving(const struct gw_performance_reading *before,
                        const struct gw_performance_reading *now, struct sl_buffer *json);
static int write_upstreams(const struct gw_performance_reading *before,
                           const struct gw_performance_reading *now, struct sl_buffer *json);
static uint64_t more(const sl_counter *before, const sl_counter *now);

int gw_performance_create(int64_t started_unix_ms, struct gw_performance **ret_performance)
{
    struct gw_performance *performance = calloc(1, sizeof(*performance));

    if (performance == NULL) {
        return SL_E_NO_MEMORY;
    }
    performance->started_unix_ms = started_unix_ms;
    if (pthread_mutex_init(&performance->lock, NULL) != 0) {
        free(performance);
        return SL_E_NO_MEMORY;
    }
    *ret_performance = performance;
    return 0;
}

/* ------------------------------------------------------------------ adding */

int gw_performance_add(struct gw_performance *performance,
                       const struct gw_performance_reading *before,
                       const struct gw_performance_reading *now)
{
    uint64_t sequence = performance->newest + 1; /* main alone changes it */
    struct sl_buffer *place = &performance->texts[sequence % GW_PERFORMANCE_SAMPLES], json, oldest;

    sl_buffer_init(&json, GW_PERFORMANCE_SAMPLE_MAX_BYTES);
    int err = write_sample(sequence, before, now, &json);
    if (err != 0) {
        sl_buffer_dispose(&json);
        return err;
    }
    sl_buffer_trim(&json);
    (void)pthread_mutex_lock(&performance->lock);
    oldest = *place;
    *place = json;
    performance->newest = sequence;
    (void)pthread_mutex_unlock(&performance->lock);
    sl_buffer_dispose(&oldest);
    return 0;
}

static int write_sample(uint64_t sequence, const struct gw_performance_reading *before,
                        const struct gw_performance_reading *now, struct sl_buffer *json)
{
    const struct gw_stats *b = &before->totals.gateway, *n = &now->totals.gateway;

    int err = sl_buffer_appendf(
        json, "{\"sequence\":%" PRIu64 ",\"time_ms\":%" PRId64 ",\"seconds\":%.6f", sequence,
        now->unix_ms, (double)(now->at_us - before->at_us) / 1e6);
    if (err == 0) {
        err = write_times(b, n, json);
    }
    if (err == 0) {
        err = write_turns(b, n, json);
    }
    if (err == 0) {
        err = write_cache(&before->totals.store, &now->totals.store, json);
    }
    if (err == 0) {
        err = write_saving(before, now, json);
    }
    if (err == 0) {
        err = sl_buffer_appendf(json,
                                ",\"threads\":%u,\"redis_links_up\":%u,\"database_links_up\":%u,"
                                "\"draining\":%s,\"log_bytes\":%" PRIu64
                                ",\"upstream_retries\":%" PRIu64 ",\"upstream_failovers\":%" PRIu64,
                                now->threads, now->totals.redis_up, now->totals.database_up,
                                now->draining ? "true" : "false", sl_counter_get(&n->log_bytes),
                                more(&b->upstream_retries, &n->upstream_retries),
                                more(&b->upstream_failovers, &n->upstream_failovers));
    }
    return err != 0 ? err : write_upstreams(before, now, json);
}

static int write_times(const struct gw_stats *before, const struct gw_stats *now,
                       struct sl_buffer *json)
{
    const struct stage ttft = {"ttft", &before->ttft, &now->ttft};
    const struct stage stages[] = {
        {"profile", &before->profile, &now->profile},
        {"history", &before->history, &now->history},
        {"context", &before->context, &now->context},
        {"connect", &before->connect, &now->connect},
        {"upstream_first_byte", &before->upstream_first_byte, &now->upstream_first_byte},
        {"upstream_first_token", &before->upstream_first_token, &now->upstream_first_token},
        {"added", &before->added, &now->added},
        {"save", &before->save, &now->save},
        {"total", &before->total, &now->total},
    };

    int err = sl_buffer_append_str(json, ",\"ttft_ms\":{");
    if (err == 0) {
        err = write_time("p50", &ttft, 0.5, true, json);
    }
    if (err == 0) {
        err = write_time("p95", &ttft, 0.95, false, json);
    }
    if (err == 0) {
        err = write_time("p99", &ttft, 0.99, false, json);
    }
    if (err == 0) {
        err = sl_buffer_append_str(json, "},\"stages_p95_ms\":{");
    }
    for (size_t i = 0; err == 0 && i < sizeof(stages) / sizeof(stages[0]); i++) {
        err = write_time(stages[i].name, &stages[i], 0.95, i == 0, json);
    }
    return err != 0 ? err : sl_buffer_append_str(json, "}");
}

static int write_time(const char *name, const struct stage *stage, double q, bool first,
                      struct sl_buffer *json)
{
    const char *comma = first ? "" : ",";
    double ms;

    if (!gw_performance_quantile(stage->before, stage->now, q, &ms)) {
        return sl_buffer_appendf(json, "%s\"%s\":null", comma, name);
    }
    return sl_buffer_appendf(json, "%s\"%s\":%.5g", comma, name, ms);
}

bool gw_performance_quantile(const struct sl_histogram *before, const struct sl_histogram *now,
                             double q, double *ret_ms)
{
    uint64_t counts[SL_HISTOGRAM_BOUNDS + 1], total = 0, passed = 0;
    size_t bucket = 0;

    for (size_t i = 0; i <= SL_HISTOGRAM_BOUNDS; i++) {
        counts[i] = more(&before->buckets[i], &now->buckets[i]);
        total += counts[i];
    }
    if (total == 0) {
        return false;
    }
    double rank = q * (double)total;
    while (counts[bucket] == 0 ||
           (bucket < SL_HISTOGRAM_BOUNDS && (double)(passed + counts[bucket]) < rank)) {
        passed += counts[bucket];
        bucket++;
    }
    if (bucket == SL_HISTOGRAM_BOUNDS) {
        *ret_ms = (double)sl_histogram_bounds_us[SL_HISTOGRAM_BOUNDS - 1] / 1e3;
        return true;
    }
    double low = bucket > 0 ? (double)sl_histogram_bounds_us[bucket - 1] : 0;
    double share = (rank - (double)passed) / (double)counts[bucket];
    *ret_ms = (low + ((double)sl_histogram_bounds_us[bucket] - low) * share) / 1e3;
    return true;
}

static int write_turns(const struct gw_stats *before, const struct gw_stats *now,
                       struct sl_buffer *json)
{
    uint64_t started = sl_counter_get(&now->turns_started),
             ended = sl_counter_get(&now->turns_ended);

    int err = sl_buffer_append_str(json, ",\"turns\":{");
    for (int status = STORE_STATUS_COMPLETE; err == 0 && status <= STORE_STATUS_FAILED; status++) {
        static const char *const names[] = {"",          "complete",    "stopped",
                                            "cancelled", "interrupted", "failed"};
        err = sl_buffer_appendf(json, "\"%s\":%" PRIu64 ",", names[status],
                                more(&before->turns[status], &now->turns[status]));
    }
    if (err != 0) {
        return err;
    }
    return sl_buffer_appendf(json,
                             "\"refused\":%" PRIu64 ",\"active\":%" PRIu64 "},\"tokens\":%" PRIu64,
                             more(&before->turns_refused, &now->turns_refused),
                             started > ended ? started - ended : 0, /* one may end meanwhile */
                             more(&before->tokens_completion, &now->tokens_completion));
}

/* Of all reads of profiles and histories, how many Redis answered. */
static int write_cache(const struct store_client_stats *before,
                       const struct store_client_stats *now, struct sl_buffer *json)
{
    uint64_t hits = more(&before->profile.hits, &now->profile.hits) +
                    more(&before->history.hits, &now->history.hits);
    uint64_t others = more(&before->profile.misses, &now->profile.misses) +
                      more(&before->profile.stale, &now->profile.stale) +
                      more(&before->profile.fallbacks, &now->profile.fallbacks) +
                      more(&before->history.misses, &now->history.misses) +
                      more(&before->history.stale, &now->history.stale) +
                      more(&before->history.fallbacks, &now->history.fallbacks);

    if (hits + others == 0) {
        return sl_buffer_append_str(json, ",\"cache_hit_rate\":null");
    }
    return sl_buffer_appendf(json, ",\"cache_hit_rate\":%.4g",
                             (double)hits / (double)(hits + others));
}

static int write_saving(const struct gw_performance_reading *before,
                        const struct gw_performance_reading *now, struct sl_buffer *json)
{
    static const char *const states[] = {"open", "nearly_full", "failed"};

    return sl_buffer_appendf(
        json,
        ",\"journal\":{\"state\":\"%s\",\"uncommitted_records\":%" PRIu64
        ",\"oldest_uncommitted_s\":%.3f,\"write_errors\":%" PRIu64
        "},\"writer\":{\"connected\":%s,\"records_waiting\":%" PRIu64 ",\"rows\":%" PRIu64
        ",\"failures\":%" PRIu64 ",\"dead_letters\":%" PRIu64 "}",
        states[now->journal.health], now->journal.uncommitted_records,
        now->journal.oldest_uncommitted_s, now->journal.write_errors - before->journal.write_errors,
        now->writer.connected ? "true" : "false", now->writer.records_waiting,
        now->writer.rows - before->writer.rows, now->writer.failures - before->writer.failures,
        now->writer.dead_letters - before->writer.dead_letters);
}

static int write_upstreams(const struct gw_performance_reading *before,
                           const struct gw_performance_reading *now, struct sl_buffer *json)
{
    bool same = before->upstreams_list == now->upstreams_list; /* else they count from 0 */
    int err = sl_buffer_append_str(json, ",\"upstreams\":[");

    for (size_t i = 0; err == 0 && i < now->upstreams_count; i++) {
        err = sl_buffer_appendf(
            json,
            "%s{\"name\":\"%s\",\"breaker\":\"%s\",\"requests\":%" PRIu64 ",\"failures\":%" PRIu64
            "}",
            i > 0 ? "," : "", now->upstreams[i].name,
            gw_breaker_state_name(now->upstreams[i].breaker),
            now->upstreams[i].requests - (same ? before->upstreams[i].requests : 0),
            now->upstreams[i].failures - (same ? before->upstreams[i].failures : 0));
    }
    return err != 0 ? err : sl_buffer_append_str(json, "]}");
}

static uint64_t more(const sl_counter *before, const sl_counter *now)
{
    return sl_counter_get(now) - sl_counter_get(before);
}

/* ------------------------------------------------------------------ writing out */

int gw_performance_write(struct gw_performance *performance, uint64_t since, struct sl_buffer *page)
{
    (void)pthread_mutex_lock(&performance->lock);
    uint64_t newest = performance->newest;
    uint64_t kept = newest < GW_PERFORMANCE_SAMPLES ? newest : GW_PERFORMANCE_SAMPLES;
    uint64_t first = since < newest - kept || since > newest ? newest - kept : since;
    int err =
        sl_buffer_appendf(page, "{\"started_ms\":%" PRId64 ",\"newest\":%" PRIu64 ",\"samples\":[",
                          performance->started_unix_ms, newest);
    for (uint64_t n = first + 1; err == 0 && n <= newest; n++) {
        const struct sl_buffer *text = &performance->texts[n % GW_PERFORMANCE_SAMPLES];
        err = n == first + 1 ? 0 : sl_buffer_append_str(page, ",");
        if (err == 0) {
            err = sl_buffer_append(page, text->base, text->len);
        }
    }
    (void)pthread_mutex_unlock(&performance->lock);
    return err != 0 ? err : sl_buffer_append_str(page, "]}");
}

void gw_performance_destroy(struct gw_performance *performance)
{
    if (performance == NULL) {
        return;
    }
    for (size_t i = 0; i < GW_PERFORMANCE_SAMPLES; i++) {
        sl_buffer_dispose(&performance->texts[i]);
    }
    (void)pthread_mutex_destroy(&performance->lock);
    free(performance);
}
