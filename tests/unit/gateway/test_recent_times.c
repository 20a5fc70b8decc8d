/* Recent times: how far a quantile may be off, which minutes it covers, and when there is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "recent_times.h"

enum { SECOND = 1000 * 1000, MINUTE = 60 * SECOND };

static const uint64_t start_us =
    1000 * (uint64_t)MINUTE + 17; /* a machine that is up for a while */

static void record(struct gw_recent_times *times, uint64_t now_us, unsigned count,
                   uint64_t value_us)
{
    for (unsigned i = 0; i < count; i++) {
        gw_recent_times_record(times, now_us, value_us);
    }
}

static uint64_t quantile(struct gw_recent_times *times, uint64_t now_us, double q)
{
    uint64_t value_us = 0;

    assert_true(gw_recent_times_quantile(times, now_us, q, &value_us));
    return value_us;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Never too short, and at most a sixteenth too long. */
static void assert_close(uint64_t value_us, uint64_t true_us)
{
    assert_true(value_us >= true_us);
    assert_true(value_us - true_us <= true_us / 16);
}

static void test_every_value_is_close(void **state)
{
    uint64_t last = 0;

    (void)state;
    for (uint64_t value = 0; value <= GW_RECENT_TIMES_VALUE_MAX_US;
         value += 1 + (value < 5000 ? 0 : value / 1000)) {
        struct gw_recent_times times = {0};
        record(&times, start_us, 20, value);
        uint64_t seen = quantile(&times, start_us, 0.5);
        assert_close(seen, value);
        assert_true(seen >= last);
        last = seen;
    }
    static const uint64_t longest[] = {GW_RECENT_TIMES_VALUE_MAX_US,
                                       GW_RECENT_TIMES_VALUE_MAX_US + UINT64_C(1), UINT64_MAX};
    for (unsigned i = 0; i < 3; i++) {
        struct gw_recent_times times = {0};
        record(&times, start_us, 20, longest[i]);
        assert_int_equal(quantile(&times, start_us, 1), GW_RECENT_TIMES_VALUE_MAX_US);
    }
}

static void test_quantiles_of_many_values(void **state)
{
    enum { COUNT = 5000 };
    static uint64_t values[COUNT];
    static const double quantiles[] = {0.001, 0.25, 0.5, 0.9, 0.95, 0.99, 1};
    struct gw_recent_times times = {0};
    uint64_t seed = 1;

    (void)state;
    for (unsigned i = 0; i < COUNT; i++) { /* from microseconds to minutes, over two minutes */
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        values[i] = (seed >> 34) >> (seed % 27);
        values[i] %= GW_RECENT_TIMES_VALUE_MAX_US;
        gw_recent_times_record(&times, start_us + (uint64_t)i * 2 * (MINUTE - SECOND) / COUNT,
                               values[i]);
    }
    qsort(values, COUNT, sizeof(values[0]), compare);
    for (unsigned i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
        size_t rank = (size_t)(quantiles[i] * COUNT + 0.5);
        assert_close(quantile(&times, start_us + 2 * (MINUTE - SECOND), quantiles[i]),
                     values[rank - 1]);
    }
}

static void test_p95_of_twenty_is_the_nineteenth(void **state)
{
    struct gw_recent_times times = {0};

    (void)state;
    record(&times, start_us, 18, 1);
    record(&times, start_us, 1, 2);
    record(&times, start_us, 1, 3);
    assert_int_equal(quantile(&times, start_us, 0.9), 1);
    assert_int_equal(quantile(&times, start_us, 0.95), 2);
    assert_int_equal(quantile(&times, start_us, 0.951), 3);
    assert_int_equal(quantile(&times, start_us, 1), 3);
    assert_int_equal(quantile(&times, start_us, 0.0001), 1);
}

static void test_nothing_below_twenty(void **state)
{
    struct gw_recent_times times = {0};
    uint64_t value_us = 77;

    (void)state;
    assert_false(gw_recent_times_quantile(&times, 0, 0.5, &value_us));
    assert_false(gw_recent_times_quantile(&times, start_us, 0.5, &value_us));
    record(&times, start_us, 10, 5);
    record(&times, start_us + MINUTE, 9, 5);
    assert_false(gw_recent_times_quantile(&times, start_us + MINUTE, 0.5, &value_us));
    assert_int_equal(value_us, 77);
    record(&times, start_us + MINUTE, 1, 5);
    assert_int_equal(quantile(&times, start_us + MINUTE, 0.5), 5);
}

static void test_the_last_one_to_two_minutes(void **state)
{
    struct gw_recent_times times = {0};
    uint64_t minute = 1000 * (uint64_t)MINUTE, value_us = 77;

    (void)state;
    record(&times, minute, 100, 10);
    assert_int_equal(quantile(&times, minute + MINUTE - 1, 0.5), 10);
    assert_int_equal(quantile(&times, minute + 2 * (uint64_t)MINUTE - 1, 0.5), 10);
    struct gw_recent_times unused = times;
    assert_false(gw_recent_times_quantile(&unused, minute + 2 * (uint64_t)MINUTE, 0.5, &value_us));

    record(&times, minute + 2 * (uint64_t)MINUTE - 1, 30, 20); /* the next minute */
    assert_int_equal(quantile(&times, minute + 2 * (uint64_t)MINUTE - 1, 0.5), 10);
    assert_int_equal(quantile(&times, minute + 2 * (uint64_t)MINUTE - 1, 0.9), 20);
    assert_int_equal(quantile(&times, minute + 2 * (uint64_t)MINUTE, 0.01), 20);
    record(&times, minute + 3 * (uint64_t)MINUTE - 1, 20, 30);
    assert_int_equal(quantile(&times, minute + 3 * (uint64_t)MINUTE, 0.01), 30);

    /* silence for a few minutes, odd or even in number */
    for (unsigned silence = 2; silence < 6; silence++) {
        struct gw_recent_times quiet = times;
        assert_false(gw_recent_times_quantile(&quiet, minute + (2 + silence) * (uint64_t)MINUTE,
                                              0.5, &value_us));
        quiet = times;
        record(&quiet, minute + (2 + silence) * (uint64_t)MINUTE, 20, 7);
        assert_int_equal(quantile(&quiet, minute + (2 + silence) * (uint64_t)MINUTE, 1), 7);
    }
    assert_int_equal(value_us, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_value_is_close),
        cmocka_unit_test(test_quantiles_of_many_values),
        cmocka_unit_test(test_p95_of_twenty_is_the_nineteenth),
        cmocka_unit_test(test_nothing_below_twenty),
        cmocka_unit_test(test_the_last_one_to_two_minutes),
    };

    return cmocka_run_group_tests_name("recent_times", tests, NULL, NULL);
}
