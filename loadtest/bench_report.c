/*
 * The report: percentiles per metric, throughput, stalls, failures by kind.
 *
 * Failure: only the JSON file can fail. Thread: main. Ownership: see bench_report.h.
 */
#include "bench_report.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "buffer.h"

enum { STALL_FACTOR = 10, STALL_FLOOR_US = 1000 };

static const double percents[] = {50, 90, 99, 99.9};
static const char *const percent_names[] = {"p50", "p90", "p99", "p99_9"};
enum { PERCENTS = sizeof(percents) / sizeof(percents[0]) };

static const char *const metric_names[BENCH_METRICS] = {
    [BENCH_HEAD] = "head",         [BENCH_SESSION_ID] = "session_id",
    [BENCH_ACCEPTED] = "accepted", [BENCH_FIRST_TOKEN] = "first_token",
    [BENCH_GAP] = "token_gap",     [BENCH_TOTAL] = "total",
    [BENCH_LATE] = "start_delay",
};

uint64_t bench_report_failures(const struct bench_results *results)
{
    return results->turns - results->failures[BENCH_OK];
}

/** From which gap on a stream counts as stalled: over ten medians, and never below a millisecond,
 *  since tokens that came in one read are 0 apart. */
static uint64_t stall_limit_us(const struct bench_results *results)
{
    uint64_t limit_us = STALL_FACTOR * lt_histogram_percentile(&results->metrics[BENCH_GAP], 50);
    return limit_us > STALL_FLOOR_US ? limit_us : STALL_FLOOR_US;
}

static uint64_t stalls(const struct bench_results *results)
{
    return lt_histogram_count_above(&results->metrics[BENCH_GAP], stall_limit_us(results));
}

static double per_second(uint64_t count, const struct bench_results *results)
{
    return results->seconds > 0 ? (double)count / results->seconds : 0;
}

static void print_row(FILE *file, const char *name, const struct lt_histogram *histogram)
{
    fprintf(file, "%-12s %10" PRIu64, name, histogram->count);
    for (size_t i = 0; i < PERCENTS; i++) {
        fprintf(file, " %10.3f", (double)lt_histogram_percentile(histogram, percents[i]) / 1000.0);
    }
    fprintf(file, " %10.3f\n", (double)histogram->max_us / 1000.0);
}

void bench_report_print(FILE *file, const struct bench_options *options,
                        const struct bench_results *results, double client_cpu_s)
{
    uint64_t failures = bench_report_failures(results);
    fprintf(file, "%s%s  %u users, ", options->url, options->path, options->concurrency);
    if (options->rate > 0) {
        fprintf(file, "open loop at %.1f turns/s\n", options->rate);
    } else {
        fputs("closed loop\n", file);
    }
    fprintf(file,
            "%" PRIu64 " turns in %.2f s = %.1f turns/s, %" PRIu64 " tokens = %.0f tokens/s, "
            "client CPU %.2f s, %" PRIu64 " connections, %" PRIu64 " reconnects\n\n",
            results->turns, results->seconds, per_second(results->turns, results), results->tokens,
            per_second(results->tokens, results), client_cpu_s, results->connections,
            results->reconnects);
    fprintf(file, "%-12s %10s %10s %10s %10s %10s %10s\n", "ms", "count", "p50", "p90", "p99",
            "p99.9", "max");
    for (size_t i = 0; i < BENCH_METRICS; i++) {
        if (results->metrics[i].count != 0) {
            print_row(file, metric_names[i], &results->metrics[i]);
        }
    }
    fprintf(file, "\nstalls (gap over %.3f ms): %" PRIu64 "\n",
            (double)stall_limit_us(results) / 1000.0, stalls(results));
    if (options->abort_count != 0) {
        fprintf(file, "aborted: %" PRIu64 "\n", results->aborted);
    }
    fprintf(file, "failures: %" PRIu64 "\n", failures);
    for (int i = BENCH_OK + 1; i < BENCH_FAILURES; i++) {
        if (results->failures[i] != 0) {
            fprintf(file, "  %-12s %10" PRIu64 "\n", bench_failure_name((enum bench_failure)i),
                    results->failures[i]);
        }
    }
    for (int i = 0; i < 600; i++) {
        if (results->statuses[i] != 0) {
            fprintf(file, "  HTTP %-7d %10" PRIu64 "\n", i, results->statuses[i]);
        }
    }
    if (results->warmup_failures != 0) {
        fprintf(file, "  in the warm-up %7" PRIu64 "\n", results->warmup_failures);
    }
}

static void append_options(struct lt_buffer *json, const struct bench_options *options)
{
    lt_buffer_append_str(json, "{\"url\":\"");
    lt_buffer_append_json(json, options->url, strlen(options->url));
    lt_buffer_append_str(json, "\",\"path\":\"");
    lt_buffer_append_json(json, options->path, strlen(options->path));
    lt_buffer_appendf(json,
                      "\",\"protocol\":\"%s\",\"concurrency\":%u,\"rate\":%.3f,\"turns\":%" PRIu64
                      ",\"seconds\":%.3f,\"session\":\"%s\",\"warmup\":%u,\"seed\":%" PRIu64
                      ",\"message_bytes\":%zu}",
                      options->protocol == BENCH_NATIVE ? "native" : "direct", options->concurrency,
                      options->rate, options->turns, options->seconds,
                      options->fixed_sessions ? "fixed" : "new", options->warmup, options->seed,
                      strlen(options->message));
}

static void append_metric(struct lt_buffer *json, const struct lt_histogram *histogram)
{
    double mean_us =
        histogram->count != 0 ? (double)histogram->sum_us / (double)histogram->count : 0;
    lt_buffer_appendf(json, "{\"count\":%" PRIu64 ",\"mean\":%.1f", histogram->count, mean_us);
    for (size_t i = 0; i < PERCENTS; i++) {
        lt_buffer_appendf(json, ",\"%s\":%" PRIu64, percent_names[i],
                          lt_histogram_percentile(histogram, percents[i]));
    }
    lt_buffer_appendf(json, ",\"max\":%" PRIu64 "}", histogram->max_us);
}

static void append_results(struct lt_buffer *json, const struct bench_results *results,
                           double client_cpu_s)
{
    lt_buffer_appendf(
        json,
        "\"turns\":%" PRIu64 ",\"seconds\":%.6f,\"turns_per_s\":%.1f,\"tokens\":%" PRIu64
        ",\"tokens_per_s\":%.1f,\"client_cpu_s\":%.3f,\"connections\":%" PRIu64
        ",\"reconnects\":%" PRIu64 ",\"stalls\":%" PRIu64 ",\"stall_limit_us\":%" PRIu64
        ",\"aborted\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"warmup_failed\":%" PRIu64
        ",\"failures\":{",
        results->turns, results->seconds, per_second(results->turns, results), results->tokens,
        per_second(results->tokens, results), client_cpu_s, results->connections,
        results->reconnects, stalls(results), stall_limit_us(results), results->aborted,
        bench_report_failures(results), results->warmup_failures);
    for (int i = BENCH_OK + 1; i < BENCH_FAILURES; i++) {
        lt_buffer_appendf(json, "%s\"%s\":%" PRIu64, i == BENCH_OK + 1 ? "" : ",",
                          bench_failure_name((enum bench_failure)i), results->failures[i]);
    }
    lt_buffer_append_str(json, "},\"latency_us\":{");
    for (size_t i = 0; i < BENCH_METRICS; i++) {
        lt_buffer_appendf(json, "%s\"%s\":", i == 0 ? "" : ",", metric_names[i]);
        append_metric(json, &results->metrics[i]);
    }
    lt_buffer_append_str(json, "}");
}

int bench_report_write_json(const char *path, const struct bench_options *options,
                            const struct bench_results *results, double client_cpu_s)
{
    char draft[4096];
    struct lt_buffer json = {0};
    lt_buffer_append_str(&json, "{\"options\":");
    append_options(&json, options);
    lt_buffer_append_str(&json, ",");
    append_results(&json, results, client_cpu_s);
    lt_buffer_append_str(&json, "}\n");
    int n = snprintf(draft, sizeof(draft), "%s.%ld", path, (long)getpid());
    FILE *file = n > 0 && (size_t)n < sizeof(draft) ? fopen(draft, "we") : NULL;
    bool ok = file != NULL && fwrite(json.base, 1, json.len, file) == json.len;
    ok = file != NULL && fclose(file) == 0 && ok;
    ok = ok && rename(draft, path) == 0;
    if (!ok) {
        perror(path);
        if (file != NULL) {
            unlink(draft);
        }
    }
    lt_buffer_free(&json);
    return ok ? 0 : -1;
}
