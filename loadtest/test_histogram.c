/* The histogram against exact percentiles. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "histogram.h"
#include "random.h"

static struct lt_histogram histogram;

static int clear(void **state)
{
    (void)state;
    memset(&histogram, 0, sizeof(histogram));
    return 0;
}

static void empty_is_zero(void **state)
{
    (void)state;
    assert_int_equal(lt_histogram_percentile(&histogram, 50), 0);
    assert_int_equal(lt_histogram_count_above(&histogram, 0), 0);
}

static void small_values_are_exact(void **state)
{
    (void)state;
    for (uint64_t value = 1; value <= 200; value++) {
        lt_histogram_record(&histogram, value);
    }
    assert_int_equal(lt_histogram_percentile(&histogram, 0), 1);
    assert_int_equal(lt_histogram_percentile(&histogram, 50), 100);
    assert_int_equal(lt_histogram_percentile(&histogram, 90), 180);
    assert_int_equal(lt_histogram_percentile(&histogram, 99.5), 199);
    assert_int_equal(lt_histogram_percentile(&histogram, 100), 200);
    assert_int_equal(lt_histogram_count_above(&histogram, 150), 50);
    assert_int_equal(histogram.sum_us, 200 * 201 / 2);
}

static void one_of_a_thousand_is_seen_by_p99_9_only_beyond_it(void **state)
{
    (void)state;
    for (int i = 0; i < 999; i++) {
        lt_histogram_record(&histogram, 10);
    }
    lt_histogram_record(&histogram, 5000000);
    assert_int_equal(lt_histogram_percentile(&histogram, 99.9), 10);
    lt_histogram_record(&histogram, 5000000);
    assert_int_equal(lt_histogram_percentile(&histogram, 99.9), 5000000);
    assert_int_equal(lt_histogram_count_above(&histogram, 10), 2);
}

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static void percentiles_are_at_most_a_step_too_high(void **state)
{
    (void)state;
    static uint64_t values[10000];
    static const double percents[] = {1, 25, 50, 75, 90, 99, 99.9, 100};
    struct lt_random random = {42};
    size_t count = sizeof(values) / sizeof(values[0]);
    for (size_t i = 0; i < count; i++) {
        values[i] = lt_random_next(&random) >> (24 + lt_random_below(&random, 40));
        lt_histogram_record(&histogram, values[i]);
    }
    qsort(values, count, sizeof(values[0]), compare);
    for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
        uint64_t exact = values[(size_t)(percents[i] / 100 * (double)count + 0.5) - 1];
        uint64_t got = lt_histogram_percentile(&histogram, percents[i]);
        assert_true(got >= exact);
        assert_true((double)got <= (double)exact * 1.008);
    }
}

static void beyond_the_range_keeps_the_maximum(void **state)
{
    (void)state;
    lt_histogram_record(&histogram, UINT64_MAX / 2);
    assert_int_equal(histogram.max_us, UINT64_MAX / 2);
    assert_int_equal(lt_histogram_percentile(&histogram, 50), (UINT64_C(1) << 40) - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(empty_is_zero, clear),
        cmocka_unit_test_setup(small_values_are_exact, clear),
        cmocka_unit_test_setup(one_of_a_thousand_is_seen_by_p99_9_only_beyond_it, clear),
        cmocka_unit_test_setup(percentiles_are_at_most_a_step_too_high, clear),
        cmocka_unit_test_setup(beyond_the_range_keeps_the_maximum, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
