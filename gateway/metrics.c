/*
 * Prometheus text.
 *
 * The per-loop figures are added up into one plain copy first; tables then name each counter and
 * histogram with its help, type and labels. Thread: any worker's.
 */
#include "metrics.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "log.h"
#include "metrics_page.h"
#include "trace_export.h"
#include "upstreams.h"
#include "worker.h"

/* One line of the page. `labels` is the inside of the braces, or "". */
struct counter_row {
    const char *name, *help, *type, *labels;
    const sl_counter *value;
};

static int write_counters(const struct gw_server *server, const struct gw_totals *totals,
                          struct sl_buffer *page);
static int write_histograms(const struct gw_server *server, const struct gw_totals *totals,
                            struct sl_buffer *page);
static int write_journal(const struct gw_server *server, struct sl_buffer *page);
static int write_upstreams(const struct gw_server *server, struct sl_buffer *page);
static int write_gauges(const struct gw_server *server, const struct gw_totals *totals,
                        struct sl_buffer *page);
static int write_counter(const struct counter_row *row, bool first, struct sl_buffer *page);
static int write_histogram(const struct gw_metrics_histogram *row, bool first,
                           struct sl_buffer *page);

int gw_metrics_write(const struct gw_server *server, struct sl_buffer *page)
{
    struct gw_totals *totals = calloc(1, sizeof(*totals));

    if (totals == NULL) {
        return SL_E_NO_MEMORY;
    }
    gw_totals_add_up(server, totals);
    int err = write_gauges(server, totals, page);
    if (err == 0) {
        err = write_counters(server, totals, page);
    }
    if (err == 0) {
        err = write_journal(server, page);
    }
    if (err == 0) {
        err = gw_metrics_write_turns(totals, page);
    }
    if (err == 0) {
        err = write_upstreams(server, page);
    }
    if (err == 0) {
        err = write_histograms(server, totals, page);
    }
    if (err == 0) {
        err = gw_metrics_write_genai(totals, page);
    }
    if (err == 0) {
        err = gw_metrics_write_process(server, page);
    }
    free(totals);
    return err;
}

static int write_gauges(const struct gw_server *server, const struct gw_totals *totals,
                        struct sl_buffer *page)
{
    const struct gw_stats *stats = &totals->gateway;

    return sl_buffer_appendf(
        page,
        "# HELP sluice_turns_active Turns that are running.\n# TYPE sluice_turns_active gauge\n"
        "sluice_turns_active %" PRIu64 "\n"
        "# HELP sluice_connections_active Client connections that are open.\n"
        "# TYPE sluice_connections_active gauge\nsluice_connections_active %" PRIu64 "\n"
        "# HELP sluice_threads Loop threads.\n# TYPE sluice_threads gauge\nsluice_threads %u\n"
        "# HELP sluice_redis_links_up Loop threads whose Redis connection is up.\n"
        "# TYPE sluice_redis_links_up gauge\nsluice_redis_links_up %u\n"
        "# HELP sluice_database_links_up Loop threads whose Postgres read connection is up.\n"
        "# TYPE sluice_database_links_up gauge\nsluice_database_links_up %u\n"
        "# HELP sluice_draining 1 while the process is shutting down.\n"
        "# TYPE sluice_draining gauge\nsluice_draining %d\n"
        "# HELP sluice_log_lines_dropped_total Log lines dropped because nobody read the log.\n"
        "# TYPE sluice_log_lines_dropped_total counter\nsluice_log_lines_dropped_total %" PRIu64
        "\n",
        sl_counter_get(&stats->turns_started) - sl_counter_get(&stats->turns_ended),
        sl_counter_get(&stats->connections_accepted) - sl_counter_get(&stats->connections_closed),
        server->workers_count, totals->redis_up, totals->database_up,
        atomic_load(&server->draining),
        atomic_load_explicit(&server->log->dropped, memory_order_relaxed));
}

static int write_counters(const struct gw_server *server, const struct gw_totals *totals,
                          struct sl_buffer *page)
{
    const struct gw_stats *g = &totals->gateway;
    const struct store_client_stats *s = &totals->store;
    const struct store_writer_stats *w = store_writer_stats(server->store);
    const struct gw_trace_counts *t = gw_trace_export_counts(server->traces);
    const char *counter = "counter", *gauge = "gauge";
    const struct counter_row rows[] = {
        {"sluice_turns_total", "Turns that ended, by result.", counter, "result=\"complete\"",
         &g->turns[STORE_STATUS_COMPLETE]},
        {"sluice_turns_total", "", counter, "result=\"stopped\"", &g->turns[STORE_STATUS_STOPPED]},
        {"sluice_turns_total", "", counter, "result=\"cancelled\"",
         &g->turns[STORE_STATUS_CANCELLED]},
        {"sluice_turns_total", "", counter, "result=\"interrupted\"",
         &g->turns[STORE_STATUS_INTERRUPTED]},
        {"sluice_turns_total", "", counter, "result=\"failed\"", &g->turns[STORE_STATUS_FAILED]},
        {"sluice_turns_refused_total", "Turns refused before they began.", counter, "",
         &g->turns_refused},
        {"sluice_requests_total", "Answered requests, by status class.", counter, "class=\"2xx\"",
         &g->requests[2]},
        {"sluice_requests_total", "", counter, "class=\"4xx\"", &g->requests[4]},
        {"sluice_requests_total", "", counter, "class=\"5xx\"", &g->requests[5]},
        {"sluice_connections_accepted_total", "Client connections accepted.", counter, "",
         &g->connections_accepted},
        {"sluice_connections_refused_total",
         "Client connections refused: over the cap, or out of descriptors.", counter, "",
         &g->connections_refused},
        {"sluice_clients_gone_total", "Clients that left before their answer ended.", counter, "",
         &g->clients_gone},
        {"sluice_heartbeats_total", "Heartbeats sent into silence.", counter, "", &g->heartbeats},
        {"sluice_streams_resumed_total", "Streams that went on where another one was cut.", counter,
         "", &g->resumed},
        {"sluice_turns_stopped_total", "Requests to stop a turn that was there.", counter, "",
         &g->stopped},
        {"sluice_turns_repeated_total", "Requests answered by the turn that their key names.",
         counter, "", &g->repeated},
        {"sluice_turn_log_bytes", "Memory of turn logs, of running turns and of kept ones.", gauge,
         "", &g->log_bytes},
        {"sluice_upstream_retries_total", "Second requests to the same upstream.", counter, "",
         &g->upstream_retries},
        {"sluice_upstream_failovers_total", "Requests to another upstream after a failure.",
         counter, "", &g->upstream_failovers},
        {"sluice_upstream_hedges_total", "Second requests beside a late first one.", counter, "",
         &g->upstream_hedges},
        {"sluice_upstream_hedges_won_total", "Hedges that answered first.", counter, "",
         &g->upstream_hedges_won},
        {"sluice_auth_checks_total", "Token checks, by whether they cost crypto.", counter,
         "source=\"verified\"", &g->auth_verified},
        {"sluice_auth_checks_total", "", counter, "source=\"cache\"", &g->auth_cached},
        {"sluice_auth_refused_total", "Requests with no or a bad token.", counter, "",
         &g->auth_refused},
        {"sluice_tokens_total", "Model tokens, as reported or estimated.", counter,
         "type=\"prompt\"", &g->tokens_prompt},
        {"sluice_tokens_total", "", counter, "type=\"completion\"", &g->tokens_completion},
        {"sluice_deltas_total", "Deltas relayed.", counter, "", &g->deltas},
        {"sluice_context_missing_total", "Turns that went on without a part of their context.",
         counter, "part=\"profile\"", &g->warnings_profile},
        {"sluice_context_missing_total", "", counter, "part=\"history\"", &g->warnings_history},
        {"sluice_context_missing_total", "", counter, "part=\"rag\"", &g->warnings_rag},
        {"sluice_cache_requests_total",
         "Cache reads. stale: a value that did not parse or match; fallback: Redis did not answer.",
         counter, "kind=\"profile\",result=\"hit\"", &s->profile.hits},
        {"sluice_cache_requests_total", "", counter, "kind=\"profile\",result=\"miss\"",
         &s->profile.misses},
        {"sluice_cache_requests_total", "", counter, "kind=\"profile\",result=\"stale\"",
         &s->profile.stale},
        {"sluice_cache_requests_total", "", counter, "kind=\"profile\",result=\"fallback\"",
         &s->profile.fallbacks},
        {"sluice_cache_requests_total", "", counter, "kind=\"history\",result=\"hit\"",
         &s->history.hits},
        {"sluice_cache_requests_total", "", counter, "kind=\"history\",result=\"miss\"",
         &s->history.misses},
        {"sluice_cache_requests_total", "", counter, "kind=\"history\",result=\"stale\"",
         &s->history.stale},
        {"sluice_cache_requests_total", "", counter, "kind=\"history\",result=\"fallback\"",
         &s->history.fallbacks},
        {"sluice_redis_commands_total", "Redis commands sent.", counter, "", &s->redis_commands},
        {"sluice_redis_errors_total", "Redis commands that failed.", counter, "type=\"error\"",
         &s->redis_errors},
        {"sluice_redis_errors_total", "", counter, "type=\"timeout\"", &s->redis_timeouts},
        {"sluice_database_reads_total", "Postgres reads sent.", counter, "", &s->database_reads},
        {"sluice_database_read_errors_total", "Postgres reads that failed.", counter,
         "type=\"error\"", &s->database_errors},
        {"sluice_database_read_errors_total", "", counter, "type=\"timeout\"",
         &s->database_timeouts},
        {"sluice_trace_spans_exported_total", "Spans that the collector took.", counter, "",
         &t->exported},
        {"sluice_trace_spans_dropped_total", "Spans lost: the queue full, the collector away.",
         counter, "", &t->dropped},
        {"sluice_writer_records_waiting", "Records that are not in Postgres yet.", gauge, "",
         &w->records_waiting},
        {"sluice_writer_bytes_waiting", "Bytes of those records.", gauge, "", &w->bytes_waiting},
        {"sluice_writer_connected", "1 while the writer is connected to Postgres.", gauge, "",
         &w->connected},
        {"sluice_writer_batches_total", "Batches committed.", counter, "", &w->batches},
        {"sluice_writer_rows_total", "Records committed.", counter, "", &w->rows},
        {"sluice_writer_retries_total", "Batches that had to be sent again.", counter, "",
         &w->retries},
        {"sluice_writer_failures_total", "Batches and connections that failed.", counter, "",
         &w->failures},
        {"sluice_writer_dead_letters_total", "Records that Postgres refused for good.", counter, "",
         &w->refused},
        {"sluice_writer_last_success_timestamp_seconds", "Unix time of the last committed batch.",
         gauge, "", &w->last_success_unix_s},
    };
    const char *previous = "";
    int err = 0;

    for (size_t i = 0; err == 0 && i < sizeof(rows) / sizeof(rows[0]); i++) {
        err = write_counter(&rows[i], strcmp(previous, rows[i].name) != 0, page);
        previous = rows[i].name;
    }
    return err;
}

static int write_journal(const struct gw_server *server, struct sl_buffer *page)
{
    struct store_journal_summary journal;
    store_journal_summary(server->store, &journal);
    struct {
        const char *name, *help, *type;
        double value;
    } const rows[] = {
        {"sluice_journal_state", "0 open, 1 nearly full, 2 failed.", "gauge", journal.health},
        {"sluice_journal_records_total", "Records appended.", "counter", (double)journal.appends},
        {"sluice_journal_bytes_total", "Bytes appended.", "counter", (double)journal.bytes},
        {"sluice_journal_syncs_total", "Group commits.", "counter", (double)journal.syncs},
        {"sluice_journal_write_errors_total", "Writes and syncs that failed.", "counter",
         (double)journal.write_errors},
        {"sluice_journal_quarantined_records_total", "Damaged places found and set aside.",
         "counter", (double)journal.quarantined_records},
        {"sluice_journal_torn_tails_total", "Torn tails cut at the start.", "counter",
         (double)journal.torn_tails},
        {"sluice_journal_replayed_records_total", "Records taken up from an earlier process.",
         "counter", (double)journal.replayed_records},
        {"sluice_journal_waiting_records", "Records that are not on disk yet.", "gauge",
         (double)journal.waiting_records},
        {"sluice_journal_backlog_records", "Records on disk only, to be read back.", "gauge",
         (double)journal.backlog_records},
        {"sluice_journal_uncommitted_records", "Records on disk that are not in Postgres.", "gauge",
         (double)journal.uncommitted_records},
        {"sluice_journal_oldest_uncommitted_seconds", "Age of the oldest of them.", "gauge",
         journal.oldest_uncommitted_s},
        {"sluice_journal_disk_bytes", "Size of all segments.", "gauge", (double)journal.disk_bytes},
        {"sluice_journal_disk_free_bytes", "What its file system has left for us.", "gauge",
         (double)store_journal_disk_free_bytes(server->store)},
        {"sluice_journal_segments", "Segments.", "gauge", (double)journal.segments},
    };
    int err = 0;

    for (size_t i = 0; err == 0 && i < sizeof(rows) / sizeof(rows[0]); i++) {
        err = gw_metrics_write_head(page, rows[i].name, rows[i].help, rows[i].type);
        if (err == 0) {
            err = sl_buffer_appendf(page, "%s %.15g\n", rows[i].name, rows[i].value);
        }
    }
    return err;
}

/* One row per configured upstream. Names are letters, digits, '-' and '_'. */
static int write_upstreams(const struct gw_server *server, struct sl_buffer *page)
{
    const struct gw_upstreams_shared *shared = atomic_load(&server->upstreams);
    const struct gw_config *config = shared->config;
    uint64_t now_us = sl_loop_now_us(server->main_loop);
    int err = 0;
    const struct {
        const char *name, *help, *type;
    } families[] = {
        {"sluice_upstream_requests_total", "Requests sent to an upstream.", "counter"},
        {"sluice_upstream_failures_total", "Requests that failed there.", "counter"},
        {"sluice_upstream_breaker_opened_total", "How often its breaker has opened.", "counter"},
        {"sluice_upstream_breaker_state", "0 closed, 1 open, 2 half-open.", "gauge"},
    };

    for (size_t family = 0; err == 0 && family < sizeof(families) / sizeof(families[0]); family++) {
        err = gw_metrics_write_head(page, families[family].name, families[family].help,
                                    families[family].type);
        for (size_t i = 0; err == 0 && i < config->upstreams_count; i++) {
            const uint64_t values[] = {
                atomic_load_explicit(&shared->of[i].requests, memory_order_relaxed),
                atomic_load_explicit(&shared->of[i].failures, memory_order_relaxed),
                gw_breaker_opened(&shared->of[i].breaker),
                gw_breaker_state(&shared->of[i].breaker, now_us),
            };
            err =
                sl_buffer_appendf(page, "%s{upstream=\"%s\"} %" PRIu64 "\n", families[family].name,
                                  config->upstreams[i].name, values[family]);
        }
    }
    return err;
}

static int write_histograms(const struct gw_server *server, const struct gw_totals *totals,
                            struct sl_buffer *page)
{
    static const char stage[] = "Time of each stage of a turn.";
    const struct gw_stats *g = &totals->gateway;
    struct store_journal_summary journal;
    store_journal_summary(server->store, &journal);
    const struct gw_metrics_histogram rows[] = {
        {"sluice_ttft_seconds", "Request received to first token written.", "", &g->ttft},
        {"sluice_added_latency_seconds", "First token parsed to first token written.", "",
         &g->added},
        {"sluice_token_gap_seconds", "Between two deltas of an answer, as they were parsed.", "",
         &g->token_gap},
        {"sluice_session_event_seconds", "Request received to response head written.", "",
         &g->session_event},
        {"sluice_stage_seconds", stage, "stage=\"profile\"", &g->profile},
        {"sluice_stage_seconds", stage, "stage=\"history\"", &g->history},
        {"sluice_stage_seconds", stage, "stage=\"context\"", &g->context},
        {"sluice_stage_seconds", stage, "stage=\"connect\"", &g->connect},
        {"sluice_stage_seconds", stage, "stage=\"upstream_first_byte\"", &g->upstream_first_byte},
        {"sluice_stage_seconds", stage, "stage=\"upstream_first_token\"", &g->upstream_first_token},
        {"sluice_stage_seconds", stage, "stage=\"save\"", &g->save},
        {"sluice_stage_seconds", stage, "stage=\"total\"", &g->total},
        {"sluice_redis_seconds", "Redis commands.", "", &totals->store.redis_us},
        {"sluice_database_read_seconds", "Postgres reads.", "", &totals->store.database_us},
        {"sluice_journal_sync_seconds", "fdatasync of the journal.", "", journal.sync_us},
        {"sluice_journal_ack_seconds", "Record handed over to record on disk.", "", journal.ack_us},
        {"sluice_writer_batch_seconds", "Batches, from the first statement to the commit.", "",
         &store_writer_stats(server->store)->batch_us},
    };
    return gw_metrics_write_histograms(page, rows, sizeof(rows) / sizeof(rows[0]));
}

int gw_metrics_write_histograms(struct sl_buffer *page, const struct gw_metrics_histogram *rows,
                                size_t count)
{
    const char *previous = "";
    int err = 0;

    for (size_t i = 0; err == 0 && i < count; i++) {
        err = write_histogram(&rows[i], strcmp(previous, rows[i].name) != 0, page);
        previous = rows[i].name;
    }
    return err;
}

int gw_metrics_write_head(struct sl_buffer *page, const char *name, const char *help,
                          const char *type)
{
    return sl_buffer_appendf(page, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static int write_counter(const struct counter_row *row, bool first, struct sl_buffer *page)
{
    int err = first ? gw_metrics_write_head(page, row->name, row->help, row->type) : 0;

    if (err != 0) {
        return err;
    }
    return sl_buffer_appendf(page,
                             row->labels[0] != '\0' ? "%s{%s} %" PRIu64 "\n" : "%s%s %" PRIu64 "\n",
                             row->name, row->labels, sl_counter_get(row->value));
}

static int write_histogram(const struct gw_metrics_histogram *row, bool first,
                           struct sl_buffer *page)
{
    const char *comma = row->labels[0] != '\0' ? "," : "";
    uint64_t count = 0;
    int err = first ? gw_metrics_write_head(page, row->name, row->help, "histogram") : 0;

    for (size_t i = 0; err == 0 && i <= SL_HISTOGRAM_BOUNDS; i++) {
        count += sl_counter_get(&row->histogram->buckets[i]);
        if (i < SL_HISTOGRAM_BOUNDS) {
            err = sl_buffer_appendf(page, "%s_bucket{%s%sle=\"%g\"} %" PRIu64 "\n", row->name,
                                    row->labels, comma, (double)sl_histogram_bounds_us[i] / 1e6,
                                    count);
        } else {
            err = sl_buffer_appendf(page, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", row->name,
                                    row->labels, comma, count);
        }
    }
    if (err != 0) {
        return err;
    }
    const char *open = row->labels[0] != '\0' ? "{" : "",
               *close = row->labels[0] != '\0' ? "}" : "";
    return sl_buffer_appendf(page, "%s_sum%s%s%s %.6f\n%s_count%s%s%s %" PRIu64 "\n", row->name,
                             open, row->labels, close,
                             (double)sl_counter_get(&row->histogram->sum_us) / 1e6, row->name, open,
                             row->labels, close, count);
}
