/* The last 15 minutes: quantiles of what happened in between, the text of a sample, the ring, its lock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <pthread.h>

#include "performance.h"

static const int lists[2]; /* their addresses are two lists of upstreams */

static void record(struct sl_histogram *histogram, unsigned count, uint64_t value_us)
{
    for (unsigned i = 0; i < count; i++) {
        sl_histogram_record(histogram, value_us);
    }
}

static double quantile(const struct sl_histogram *before, const struct sl_histogram *now, double q)
{
    double ms = -1;

    assert_true(gw_performance_quantile(before, now, q, &ms));
    return ms;
}

static void test_quantiles_between_two_readings(void **state)
{
    static struct sl_histogram before, now;
    double ms = 77;

    (void)state;
    record(&before, 1000, 40 * 1000000);
    record(&now, 1000, 40 * 1000000);
    assert_false(gw_performance_quantile(&before, &now, 0.5, &ms));
    assert_true(ms == 77);

    record(&now, 90, 150000); /* 0.1 to 0.2 s */
    record(&now, 10, 900000); /* 0.75 to 1 s */
    assert_float_equal(quantile(&before, &now, 0.45), 150, 1e-9);
    assert_float_equal(quantile(&before, &now, 0.9), 200, 1e-9);
    assert_float_equal(quantile(&before, &now, 0.95), 875, 1e-9);
    assert_float_equal(quantile(&before, &now, 0), 100, 1e-9);
    assert_float_equal(quantile(&before, &now, 1), 1000, 1e-9);
}

static void test_quantiles_at_both_ends(void **state)
{
    static struct sl_histogram none, shortest, longest;

    (void)state;
    record(&shortest, 4, 1);
    assert_float_equal(quantile(&none, &shortest, 0.5), 0.025, 1e-9);
    record(&longest, 4, 3600 * UINT64_C(1000000));
    assert_float_equal(quantile(&none, &longest, 0.5), 60000, 1e-9);
    assert_float_equal(quantile(&none, &longest, 1), 60000, 1e-9);
}

/* ------------------------------------------------------------------ samples */

static json_t *page_of(struct gw_performance *performance, uint64_t since)
{
    struct sl_buffer text;
    json_error_t error;

    sl_buffer_init(&text, GW_PERFORMANCE_PAGE_MAX_BYTES);
    assert_int_equal(gw_performance_write(performance, since, &text), 0);
    json_t *page = json_loadb(text.base, text.len, JSON_REJECT_DUPLICATES, &error);
    assert_non_null(page);
    sl_buffer_dispose(&text);
    return page;
}

static double number(const json_t *sample, const char *object, const char *key)
{
    const json_t *value =
        json_object_get(object != NULL ? json_object_get(sample, object) : sample, key);

    assert_true(json_is_number(value));
    return json_number_value(value);
}

static const char *string(const json_t *object, const char *key)
{
    assert_true(json_is_string(json_object_get(object, key)));
    return json_string_value(json_object_get(object, key));
}

static struct gw_performance *make(void)
{
    struct gw_performance *performance = NULL;

    assert_int_equal(gw_performance_create(1700000000123, &performance), 0);
    return performance;
}

static void fill(struct gw_performance_reading *before, struct gw_performance_reading *now)
{
    struct gw_stats *b = &before->totals.gateway, *n = &now->totals.gateway;

    before->at_us = 5000000;
    now->at_us = 6250000;
    now->unix_ms = 1700000006250;
    b->turns[STORE_STATUS_COMPLETE] = 10;
    n->turns[STORE_STATUS_COMPLETE] = 17;
    n->turns[STORE_STATUS_FAILED] = 2;
    n->turns_refused = 1;
    n->turns_started = 30;
    n->turns_ended = 19;
    b->tokens_completion = 100;
    n->tokens_completion = 350;
    n->log_bytes = 4096;
    n->upstream_retries = 3;
    n->upstream_failovers = 4;
    record(&n->ttft, 10, 150000);
    record(&n->save, 1, 900);
    now->totals.store.profile.hits = 2;
    now->totals.store.history.hits = 1;
    now->totals.store.history.fallbacks = 1;
    now->totals.redis_up = 2;
    now->totals.database_up = 1;
    now->threads = 2;
    now->draining = true;
    now->journal.health = STORE_JOURNAL_IS_NEARLY_FULL;
    now->journal.uncommitted_records = 6;
    now->journal.oldest_uncommitted_s = 1.5;
    before->writer.rows = 1000;
    now->writer.rows = 1040;
    now->writer.failures = 5;
    now->writer.dead_letters = 7;
    now->writer.records_waiting = 8;
    now->writer.connected = true;
    before->upstreams_list = now->upstreams_list = &lists[0];
    before->upstreams_count = now->upstreams_count = 2;
    now->upstreams[0].name = "first";
    now->upstreams[0].requests = 9;
    before->upstreams[1].failures = 40;
    now->upstreams[1].name = "second";
    now->upstreams[1].failures = 42;
    now->upstreams[1].breaker = GW_BREAKER_OPEN;
}

static void test_a_sample_says_what_happened(void **state)
{
    static struct gw_performance_reading before, now;
    struct gw_performance *performance = make();

    (void)state;
    fill(&before, &now);
    assert_int_equal(gw_performance_add(performance, &before, &now), 0);
    json_t *page = page_of(performance, 0);
    assert_true(number(page, NULL, "started_ms") == 1700000000123);
    assert_true(number(page, NULL, "newest") == 1);
    const json_t *sample = json_array_get(json_object_get(page, "samples"), 0);
    assert_true(number(sample, NULL, "sequence") == 1);
    assert_true(number(sample, NULL, "time_ms") == 1700000006250);
    assert_true(number(sample, NULL, "seconds") == 1.25);
    assert_true(number(sample, "turns", "complete") == 7);
    assert_true(number(sample, "turns", "failed") == 2);
    assert_true(number(sample, "turns", "stopped") == 0);
    assert_true(number(sample, "turns", "refused") == 1);
    assert_true(number(sample, "turns", "active") == 11);
    assert_true(number(sample, NULL, "tokens") == 250);
    assert_true(number(sample, NULL, "log_bytes") == 4096);
    assert_true(number(sample, NULL, "upstream_retries") == 3);
    assert_true(number(sample, NULL, "upstream_failovers") == 4);
    assert_float_equal(number(sample, "ttft_ms", "p50"), 150, 1e-9);
    assert_float_equal(number(sample, "ttft_ms", "p95"), 195, 1e-9);
    assert_float_equal(number(sample, "stages_p95_ms", "save"), 0.9875, 1e-4);
    assert_true(json_is_null(json_object_get(json_object_get(sample, "stages_p95_ms"), "connect")));
    assert_true(number(sample, NULL, "cache_hit_rate") == 0.75);
    assert_true(number(sample, NULL, "redis_links_up") == 2);
    assert_true(number(sample, NULL, "database_links_up") == 1);
    assert_true(json_is_true(json_object_get(sample, "draining")));
    assert_string_equal(string(json_object_get(sample, "journal"), "state"), "nearly_full");
    assert_true(number(sample, "journal", "uncommitted_records") == 6);
    assert_true(number(sample, "journal", "oldest_uncommitted_s") == 1.5);
    assert_true(number(sample, "writer", "rows") == 40);
    assert_true(number(sample, "writer", "failures") == 5);
    assert_true(number(sample, "writer", "dead_letters") == 7);
    assert_true(number(sample, "writer", "records_waiting") == 8);
    const json_t *second = json_array_get(json_object_get(sample, "upstreams"), 1);
    assert_string_equal(string(second, "name"), "second");
    assert_string_equal(string(second, "breaker"), "open");
    assert_true(number(second, NULL, "failures") == 2);
    json_decref(page);
    gw_performance_destroy(performance);
}

static void test_a_silent_second_has_no_times(void **state)
{
    static struct gw_performance_reading same;
    struct gw_performance *performance = make();

    (void)state;
    record(&same.totals.gateway.ttft, 5, 1000);
    same.totals.gateway.turns_ended = 1; /* read after a turn that was not yet seen to start */
    assert_int_equal(gw_performance_add(performance, &same, &same), 0);
    json_t *page = page_of(performance, 0);
    const json_t *sample = json_array_get(json_object_get(page, "samples"), 0);
    assert_true(json_is_null(json_object_get(json_object_get(sample, "ttft_ms"), "p99")));
    assert_true(json_is_null(json_object_get(sample, "cache_hit_rate")));
    assert_true(number(sample, "turns", "active") == 0);
    json_decref(page);
    gw_performance_destroy(performance);
}

static void test_a_reload_begins_other_counts(void **state)
{
    static struct gw_performance_reading before, now;
    struct gw_performance *performance = make();

    (void)state;
    fill(&before, &now);
    now.upstreams_list = &lists[1];
    now.upstreams[1].failures = 3; /* less than before */
    assert_int_equal(gw_performance_add(performance, &before, &now), 0);
    json_t *page = page_of(performance, 0);
    const json_t *sample = json_array_get(json_object_get(page, "samples"), 0);
    const json_t *second = json_array_get(json_object_get(sample, "upstreams"), 1);
    assert_true(number(second, NULL, "failures") == 3);
    json_decref(page);
    gw_performance_destroy(performance);
}

static void test_the_largest_sample_fits(void **state)
{
    static struct gw_performance_reading before, now;
    struct gw_performance *performance = make();
    struct gw_stats *stats = &now.totals.gateway;

    (void)state;
    memset(&now.totals, 0x7f, sizeof(now.totals));
    stats->turns_ended = 0;
    memset(&now.writer, 0x7f, sizeof(now.writer));
    now.writer.connected = false;
    now.at_us = UINT64_MAX;
    now.unix_ms = INT64_MAX;
    now.journal.uncommitted_records = now.journal.write_errors = INT64_MAX;
    now.journal.oldest_uncommitted_s = 1e18;
    now.journal.health = STORE_JOURNAL_IS_NEARLY_FULL;
    now.upstreams_count = GW_UPSTREAMS_MAX;
    for (size_t i = 0; i < GW_UPSTREAMS_MAX; i++) {
        now.upstreams[i].name = "a-name-with-thirty-two-letters-x";
        now.upstreams[i].requests = now.upstreams[i].failures = INT64_MAX;
        now.upstreams[i].breaker = GW_BREAKER_HALF_OPEN;
    }
    assert_int_equal(gw_performance_add(performance, &before, &now), 0);
    json_decref(page_of(performance, 0));
    gw_performance_destroy(performance);
}

/* ------------------------------------------------------------------ the ring */

static void add_seconds(struct gw_performance *performance, unsigned count)
{
    static struct gw_performance_reading before, now;

    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(gw_performance_add(performance, &before, &now), 0);
    }
}

/* The samples after `since` are those from `first` to `last`, in order; none: first > last. */
static void assert_samples(struct gw_performance *performance, uint64_t since, uint64_t first,
                           uint64_t last)
{
    json_t *page = page_of(performance, since);
    const json_t *samples = json_object_get(page, "samples");

    assert_int_equal(json_array_size(samples), last + 1 - first);
    for (size_t i = 0; i < json_array_size(samples); i++) {
        assert_true(number(json_array_get(samples, i), NULL, "sequence") == (double)(first + i));
    }
    json_decref(page);
}

static void test_only_newer_samples(void **state)
{
    struct gw_performance *performance = make();

    (void)state;
    assert_samples(performance, 0, 1, 0);
    assert_samples(performance, 5, 1, 0);
    add_seconds(performance, 10);
    assert_samples(performance, 0, 1, 10);
    assert_samples(performance, 7, 8, 10);
    assert_samples(performance, 10, 11, 10);
    assert_samples(performance, 11, 1, 10); /* an earlier process's number */
    assert_samples(performance, UINT64_MAX, 1, 10);
    gw_performance_destroy(performance);
}

static void test_fifteen_minutes_are_kept(void **state)
{
    struct gw_performance *performance = make();

    (void)state;
    add_seconds(performance, GW_PERFORMANCE_SAMPLES);
    assert_samples(performance, 0, 1, 900);
    add_seconds(performance, 1);
    assert_samples(performance, 0, 2, 901);
    assert_samples(performance, 1, 2, 901);
    add_seconds(performance, 2000);
    assert_samples(performance, 0, 2002, 2901);
    assert_samples(performance, 1500, 2002, 2901);
    assert_samples(performance, 2900, 2901, 2901);
    gw_performance_destroy(performance);
}

static void *add_many(void *performance)
{
    add_seconds(performance, 4000);
    return NULL;
}

static void test_reading_while_samples_come(void **state)
{
    struct gw_performance *performance = make();
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, add_many, performance), 0);
    for (uint64_t newest = 0; newest < 4000;) {
        json_t *page = page_of(performance, newest);
        const json_t *samples = json_object_get(page, "samples");
        uint64_t last = (uint64_t)number(page, NULL, "newest");
        size_t count = json_array_size(samples);
        assert_true(last >= newest);
        assert_int_equal(count, last - newest > 900 ? 900 : last - newest);
        for (size_t i = 0; i < count; i++) {
            assert_true(number(json_array_get(samples, i), NULL, "sequence") ==
                        (double)(last - count + 1 + i));
        }
        newest = last;
        json_decref(page);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    gw_performance_destroy(performance);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantiles_between_two_readings),
        cmocka_unit_test(test_quantiles_at_both_ends),
        cmocka_unit_test(test_a_sample_says_what_happened),
        cmocka_unit_test(test_a_silent_second_has_no_times),
        cmocka_unit_test(test_a_reload_begins_other_counts),
        cmocka_unit_test(test_the_largest_sample_fits),
        cmocka_unit_test(test_only_newer_samples),
        cmocka_unit_test(test_fifteen_minutes_are_kept),
        cmocka_unit_test(test_reading_while_samples_come),
    };

    return cmocka_run_group_tests_name("performance", tests, NULL, NULL);
}
