/* Who is asked: the rule spelled out for every set of three, shares by weight, canary shares. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "upstream_choice.h"

static const uint32_t dice[] = {0, 1U << 30, 1U << 31, 3U << 30, UINT32_MAX};

/* ------------------------------------------------------------------ choosing */

static bool may_be_asked(const struct gw_candidate *candidate)
{
    return !candidate->excluded && candidate->canary != GW_CANARY_PASSES;
}

/* The rules one by one, as the header says them: does `other` keep `one` from being asked? */
static bool goes_before(const struct gw_candidate *other, const struct gw_candidate *one)
{
    if (!may_be_asked(other)) {
        return false;
    }
    if (other->resting != one->resting) {
        return one->resting;
    }
    if (one->canary == GW_CANARY_TAKES || other->canary == GW_CANARY_TAKES) {
        if (one->canary != other->canary) {
            return other->canary == GW_CANARY_TAKES;
        }
    }
    return other->priority < one->priority;
}

static void check_choices(const struct gw_candidate *candidates, size_t count)
{
    bool eligible[3] = {false}, met[3] = {false}, any = false;

    for (size_t i = 0; i < count; i++) {
        eligible[i] = may_be_asked(&candidates[i]);
        for (size_t j = 0; j < count; j++) {
            eligible[i] = eligible[i] && !goes_before(&candidates[j], &candidates[i]);
        }
        any = any || eligible[i];
    }
    for (size_t d = 0; d < sizeof(dice) / sizeof(dice[0]); d++) {
        size_t chosen = gw_upstream_choose(candidates, count, dice[d]);
        assert_int_equal(chosen == SIZE_MAX, !any);
        if (any) {
            assert_true(chosen < count && eligible[chosen]);
            met[chosen] = true;
        }
    }
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(met[i], eligible[i]); /* five dice reach all of three alike */
    }
}

static void test_every_set_of_three(void **state)
{
    enum { KINDS = 2 * 3 * 2 * 2 };
    struct gw_candidate kinds[KINDS], candidates[3];

    (void)state;
    for (unsigned i = 0; i < KINDS; i++) {
        kinds[i] = (struct gw_candidate){
            .weight = 1,
            .priority = i % 2,
            .canary = (enum gw_canary)(i / 2 % 3),
            .excluded = i / 6 % 2 == 1,
            .resting = i / 12 == 1,
        };
    }
    for (unsigned i = 0; i < KINDS * KINDS * KINDS; i++) {
        candidates[0] = kinds[i % KINDS];
        candidates[1] = kinds[i / KINDS % KINDS];
        candidates[2] = kinds[i / KINDS / KINDS];
        for (size_t count = 0; count <= 3; count++) {
            check_choices(candidates, count);
        }
    }
}

static void test_shares_by_weight(void **state)
{
    const struct gw_candidate candidates[] = {
        {.weight = 50, .priority = 1, .excluded = true},
        {.weight = 1, .priority = 1},
        {.weight = 50, .priority = 2},
        {.weight = 6, .priority = 1},
        {.weight = 50, .priority = 1, .resting = true},
        {.weight = 50, .priority = 1, .canary = GW_CANARY_PASSES},
        {.weight = 3, .priority = 1},
    };
    enum { COUNT = sizeof(candidates) / sizeof(candidates[0]), THROWS = 100000 };
    unsigned chosen[COUNT] = {0};

    (void)state;
    for (uint64_t i = 0; i < THROWS; i++) { /* evenly over all values */
        size_t at = gw_upstream_choose(candidates, COUNT, (uint32_t)((i << 32) / THROWS));
        assert_true(at < COUNT);
        chosen[at]++;
    }
    assert_in_range(chosen[1], THROWS / 10 - 2, THROWS / 10 + 2);
    assert_in_range(chosen[3], THROWS * 6 / 10 - 2, THROWS * 6 / 10 + 2);
    assert_in_range(chosen[6], THROWS * 3 / 10 - 2, THROWS * 3 / 10 + 2);
    assert_int_equal(chosen[1] + chosen[3] + chosen[6], THROWS);
}

static void test_the_largest_weights(void **state)
{
    const struct gw_candidate candidates[] = {{.weight = 1U << 31}, {.weight = (1U << 31) - 1}};

    (void)state;
    assert_int_equal(gw_upstream_choose(candidates, 2, 0), 0);
    assert_int_equal(gw_upstream_choose(candidates, 2, 1U << 31), 0);
    assert_int_equal(gw_upstream_choose(candidates, 2, (1U << 31) + 2), 1);
    assert_int_equal(gw_upstream_choose(candidates, 2, UINT32_MAX), 1);
}

/* ------------------------------------------------------------------ canaries */

enum { USERS = 20000 };

static bool takes(const char *upstream, unsigned percent, unsigned user)
{
    char text[32];
    int len = snprintf(text, sizeof(text), "user-%u", user);

    return gw_upstream_canary_takes(upstream, percent, text, (size_t)len);
}

static void test_raising_the_share_only_adds_users(void **state)
{
    unsigned before = 0;

    (void)state;
    for (unsigned percent = 0; percent <= 100; percent++) {
        unsigned taken = 0;
        for (unsigned user = 0; user < USERS; user++) {
            bool is_taken = takes("canary", percent, user);
            taken += is_taken;
            assert_true(is_taken || percent == 0 || !takes("canary", percent - 1, user));
        }
        /* four standard deviations */
        assert_in_range(taken, percent * USERS / 100 < 300 ? 0 : percent * USERS / 100 - 300,
                        percent * USERS / 100 + 300);
        assert_true(taken >= before);
        before = taken;
    }
    for (unsigned user = 0; user < USERS; user++) {
        assert_false(takes("canary", 0, user));
        assert_true(takes("canary", 100, user));
    }
}

static void test_upstreams_have_independent_shares(void **state)
{
    static const char *const names[] = {"a", "b", "c", "canary-1", "canary-2", "canary-10", ""};
    enum { NAMES = sizeof(names) / sizeof(names[0]) };

    (void)state;
    for (size_t i = 0; i < NAMES; i++) {
        for (size_t j = 0; j < i; j++) {
            unsigned both = 0;
            for (unsigned user = 0; user < USERS; user++) {
                both += takes(names[i], 20, user) && takes(names[j], 50, user);
            }
            assert_in_range(both, USERS / 10 - 170, USERS / 10 + 170);
        }
    }
}

/* Other processes and later versions must come to the same result, or conversations would move. */
static void test_the_same_users_for_ever(void **state)
{
    uint32_t taken = 0;

    (void)state;
    for (unsigned user = 0; user < 32; user++) {
        taken |= (uint32_t)takes("canary", 50, user) << user;
    }
    assert_int_equal(taken, 0xf96fcda6); /* from a second, independent program */
    /* the length counts, not a NUL */
    assert_true(gw_upstream_canary_takes("canary", 100, "", 0));
    assert_int_equal(gw_upstream_canary_takes("canary", 50, "user-1x", 6), takes("canary", 50, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_set_of_three),
        cmocka_unit_test(test_shares_by_weight),
        cmocka_unit_test(test_the_largest_weights),
        cmocka_unit_test(test_raising_the_share_only_adds_users),
        cmocka_unit_test(test_upstreams_have_independent_shares),
        cmocka_unit_test(test_the_same_users_for_ever),
    };

    return cmocka_run_group_tests_name("upstream_choice", tests, NULL, NULL);
}
