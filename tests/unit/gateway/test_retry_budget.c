/* The retry budget: what the reserve and the turns allow, and not one more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "retry_budget.h"

static unsigned take_all(struct gw_retry_budget *budget)
{
    unsigned taken = 0;

    while (gw_retry_budget_take(budget)) {
        taken++;
    }
    return taken;
}

static void turns(struct gw_retry_budget *budget, unsigned count, unsigned percent)
{
    for (unsigned i = 0; i < count; i++) {
        gw_retry_budget_turn(budget, percent);
    }
}

static void test_starts_with_its_reserve(void **state)
{
    struct gw_retry_budget budget;

    (void)state;
    gw_retry_budget_init(&budget, GW_RETRY_RESERVE);
    assert_false(gw_retry_budget_take(&budget)); /* no turn: nothing to try again */
    gw_retry_budget_turn(&budget, 10);
    assert_int_equal(take_all(&budget), 10);
    turns(&budget, 8, 10);
    assert_int_equal(take_all(&budget), 0);
    turns(&budget, 1, 10);
    assert_int_equal(take_all(&budget), 1);
}

static void test_saves_no_more_than_its_reserve(void **state)
{
    struct gw_retry_budget budget;

    (void)state;
    gw_retry_budget_init(&budget, GW_RETRY_RESERVE);
    turns(&budget, 100000, 100);
    assert_int_equal(take_all(&budget), 10);
    turns(&budget, 50, 10);
    assert_int_equal(take_all(&budget), 5);
}

static void test_nought_per_cent_is_never(void **state)
{
    struct gw_retry_budget budget;

    (void)state;
    gw_retry_budget_init(&budget, GW_RETRY_RESERVE);
    turns(&budget, 1000, 0);
    assert_int_equal(take_all(&budget), 0);
    gw_retry_budget_turn(&budget, 1); /* the configuration has changed */
    assert_int_equal(take_all(&budget), 10);
    turns(&budget, 100, 1);
    gw_retry_budget_turn(&budget, 0);
    assert_int_equal(take_all(&budget), 0);
}

/* Hedges: at no time more than the share of the turns so far. */
static void test_without_a_reserve_the_share_is_strict(void **state)
{
    (void)state;
    for (unsigned percent = 1; percent <= 100; percent++) {
        struct gw_retry_budget budget;
        unsigned taken = 0;
        gw_retry_budget_init(&budget, 0);
        for (unsigned turn = 1; turn <= 5000; turn++) {
            gw_retry_budget_turn(&budget, percent);
            taken += take_all(&budget);
            assert_int_equal(taken, turn * percent / 100);
        }
    }
}

static void test_a_quiet_stretch_saves_up_one(void **state)
{
    struct gw_retry_budget budget;

    (void)state;
    gw_retry_budget_init(&budget, 0);
    turns(&budget, 5000, 2);
    assert_int_equal(take_all(&budget), 1);
    turns(&budget, 1, 2); /* the fraction was kept */
    assert_int_equal(take_all(&budget), 1);
    turns(&budget, 49, 2);
    assert_int_equal(take_all(&budget), 0);
    turns(&budget, 1, 2);
    assert_int_equal(take_all(&budget), 1);
}

static void test_more_than_all_is_all(void **state)
{
    struct gw_retry_budget budget;

    (void)state;
    gw_retry_budget_init(&budget, 3);
    turns(&budget, 1, 100);
    assert_int_equal(take_all(&budget), 3);
    turns(&budget, 1, UINT32_MAX);
    assert_int_equal(take_all(&budget), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starts_with_its_reserve),
        cmocka_unit_test(test_saves_no_more_than_its_reserve),
        cmocka_unit_test(test_nought_per_cent_is_never),
        cmocka_unit_test(test_without_a_reserve_the_share_is_strict),
        cmocka_unit_test(test_a_quiet_stretch_saves_up_one),
        cmocka_unit_test(test_more_than_all_is_all),
    };

    return cmocka_run_group_tests_name("retry_budget", tests, NULL, NULL);
}
