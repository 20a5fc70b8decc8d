/* Histograms: which bucket a value falls into, sums, and adding up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "sluice/histogram.h"

static size_t only_bucket(const struct sl_histogram *histogram)
{
    size_t found = SL_HISTOGRAM_BOUNDS + 1;

    for (size_t i = 0; i <= SL_HISTOGRAM_BOUNDS; i++) {
        if (sl_counter_get(&histogram->buckets[i]) > 0) {
            assert_int_equal(found, SL_HISTOGRAM_BOUNDS + 1);
            assert_int_equal(sl_counter_get(&histogram->buckets[i]), 1);
            found = i;
        }
    }
    return found;
}

static void test_bounds_grow(void **state)
{
    (void)state;
    for (size_t i = 1; i < SL_HISTOGRAM_BOUNDS; i++) {
        assert_true(sl_histogram_bounds_us[i] > sl_histogram_bounds_us[i - 1]);
    }
    assert_int_equal(sl_histogram_bounds_us[SL_HISTOGRAM_BOUNDS - 1], 60000000);
}

static void test_buckets(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_HISTOGRAM_BOUNDS; i++) {
        struct sl_histogram at = {0}, above = {0};
        sl_histogram_record(&at, sl_histogram_bounds_us[i]);
        assert_int_equal(only_bucket(&at), i); /* Prometheus: le, so the bound belongs to it */
        sl_histogram_record(&above, sl_histogram_bounds_us[i] + 1);
        assert_int_equal(only_bucket(&above), i + 1);
    }
    struct sl_histogram zero = {0}, huge = {0};
    sl_histogram_record(&zero, 0);
    assert_int_equal(only_bucket(&zero), 0);
    sl_histogram_record(&huge, UINT64_MAX);
    assert_int_equal(only_bucket(&huge), SL_HISTOGRAM_BOUNDS);
}

static void test_adding_up(void **state)
{
    struct sl_histogram a = {0}, b = {0};

    (void)state;
    sl_histogram_record(&a, 10);
    sl_histogram_record(&a, 70);
    sl_histogram_record(&b, 70);
    sl_histogram_record(&b, 99000000);
    sl_histogram_add(&a, &b);
    assert_int_equal(sl_counter_get(&a.sum_us), 99000150);
    assert_int_equal(sl_counter_get(&a.buckets[0]), 1);
    assert_int_equal(sl_counter_get(&a.buckets[1]), 2);
    assert_int_equal(sl_counter_get(&a.buckets[SL_HISTOGRAM_BOUNDS]), 1);
    assert_int_equal(sl_counter_get(&b.buckets[1]), 1);
}

static void test_counting_without_the_sum(void **state)
{
    struct sl_histogram histogram = {0};

    (void)state;
    sl_histogram_count(&histogram, 70);
    assert_int_equal(only_bucket(&histogram), 1);
    assert_int_equal(sl_counter_get(&histogram.sum_us), 0);
}

static void *count(void *context)
{
    for (int i = 0; i < 200000; i++) {
        sl_histogram_record(context, 100);
    }
    return NULL;
}

static void test_read_while_written(void **state)
{
    struct sl_histogram histogram = {0};
    pthread_t writer;
    uint64_t last = 0;

    (void)state;
    assert_int_equal(pthread_create(&writer, NULL, count, &histogram), 0);
    while (last < 200000) {
        uint64_t seen = sl_counter_get(&histogram.buckets[1]);
        assert_true(seen >= last);
        last = seen;
    }
    assert_int_equal(pthread_join(writer, NULL), 0);
    assert_int_equal(sl_counter_get(&histogram.sum_us), 20000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds_grow),        cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_adding_up),          cmocka_unit_test(test_counting_without_the_sum),
        cmocka_unit_test(test_read_while_written),
    };

    return cmocka_run_group_tests_name("histogram", tests, NULL, NULL);
}
