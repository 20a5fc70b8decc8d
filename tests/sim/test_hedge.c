/* A hedge: the second call beside a first one that is late, who of them wins, and that it does no harm. */
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "asking.h"

static void test_a_late_first_token_gets_a_hedge(void **state)
{
    (void)state;
    asking_open(2);
    uint64_t late_us = asking_know_usual_time(0, USUAL_US);
    asking_start();
    world_connect_call(0);
    asking_advance_us(late_us - 1);
    assert_int_equal(world.calls_started, 1);
    asking_advance_us(1);
    assert_int_equal(world.calls_started, 2);
    assert_int_equal(world.called[1], 1);
    world_connect_call(1);
    world_send_delta_from(1, "Hello");
    assert_null(world.calls[0]); /* the loser is called off */
    world_finish_call(1, 0, "stop");
    world_complete();
    assert_string_equal(world.answer_text, "Hello");
    assert_int_equal(world_count(SL_EVENT_DONE), 1);
    assert_int_equal(sl_counter_get(&world.stats.upstream_hedges), 1);
    assert_int_equal(sl_counter_get(&world.stats.upstream_hedges_won), 1);
    assert_non_null(strstr(world.last_log_line, "\"upstream\":\"second\""));
    assert_non_null(strstr(world.last_log_line, "\"hedged\":true"));
    world_close();
}

static void test_the_first_call_may_still_win(void **state)
{
    (void)state;
    asking_open(2);
    asking_advance_us(asking_know_usual_time(0, USUAL_US));
    uint64_t late_us = asking_know_usual_time(0, USUAL_US);
    asking_start();
    asking_advance_us(late_us);
    world_connect_call(0);
    world_send_delta_from(0, "Hel");
    assert_null(world.calls[1]);
    world_send_delta_from(0, "lo");
    world_finish_call(0, 0, "stop");
    world_complete();
    assert_string_equal(world.answer_text, "Hello");
    assert_int_equal(sl_counter_get(&world.stats.upstream_hedges_won), 0);
    assert_non_null(strstr(world.last_log_line, "\"upstream\":\"first\""));
    world_close();
}

static void test_how_the_loser_ends_does_not_matter(void **state)
{
    static const int endings[] = {0, SL_E_UPSTREAM_FAILED, SL_E_UPSTREAM_REJECTED};
    const struct gw_delta delta = {.content = "Hello", .content_len = 5};

    (void)state;
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        asking_open(2);
        uint64_t late_us = asking_know_usual_time(0, USUAL_US);
        asking_start();
        asking_advance_us(late_us);
        /* both at once: what the loser says comes after the first delta, before it is called off */
        assert_int_equal(world.calls[1]->events->on_delta(world.calls[1], &delta), 0);
        assert_int_not_equal(world.calls[0]->events->on_delta(world.calls[0], &delta), 0);
        world_finish_call(0, endings[i], NULL);
        assert_int_equal(world.turns.running, 1);
        world_finish_call(1, 0, "stop");
        world_complete();
        assert_int_equal(world_count(SL_EVENT_DONE), 1);
        assert_string_equal(world.answer_text, "Hello");
        world_close();
    }
}

static void test_both_fail(void **state)
{
    (void)state;
    for (unsigned first = 0; first < 2; first++) {
        for (unsigned upstreams = 2; upstreams <= 3; upstreams++) {
            asking_open(upstreams);
            world.config.upstream.retry_budget_percent = 0;
            uint64_t late_us = asking_know_usual_time(0, USUAL_US);
            asking_start();
            asking_advance_us(late_us);
            asking_refuse(first, 503, 0);
            assert_int_equal(world.calls_started, 2); /* the other one may still answer */
            asking_refuse(1 - first, 500, 0);
            if (upstreams == 3) {
                asking_expect_answer(0, 2);
            } else {
                asking_expect_error(SL_E_UPSTREAM_FAILED);
                assert_non_null(strstr(world.last_log_line, "\"upstream_status\":500"));
            }
            world_close();
        }
    }
}

/* Whatever a hedge does, the call that it stands beside is not worse off. */
static void test_a_hedge_does_no_harm(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        asking_open(2);
        uint64_t late_us = asking_know_usual_time(0, USUAL_US);
        asking_start();
        world_connect_call(0);
        world.upstream_start_status = i == 0 ? SL_E_NO_MEMORY : 0;
        asking_advance_us(late_us);
        world.upstream_start_status = 0;
        if (i > 0) {
            asking_refuse(1, i == 1 ? 400 : 503, 0);
        }
        asking_expect_answer(0, 0);
        assert_non_null(strstr(world.last_log_line, "\"upstream\":\"first\""));
        world_close();
    }
}

/* Each attempt is measured by the usual time of its own upstream, from its own start. */
static void test_a_failover_is_not_late_yet(void **state)
{
    (void)state;
    asking_open(3);
    uint64_t late_us = asking_know_usual_time(0, USUAL_US);
    uint64_t second_late_us = asking_know_usual_time(1, 10 * USUAL_US);
    asking_start();
    world_connect_call(0);
    asking_advance_us(late_us - 1);
    asking_refuse(0, 503, 0);
    world_connect_call(0);
    asking_advance_us(second_late_us - 1);
    assert_int_equal(world.calls_started, 2);
    asking_advance_us(1);
    assert_int_equal(world.calls_started, 3);
    assert_int_equal(world.called[1], 2);
    asking_expect_answer(1, 2);
    world_close();
}

static void test_a_hedge_leaves_resting_upstreams_alone(void **state)
{
    (void)state;
    asking_open(2);
    uint64_t late_us = asking_know_usual_time(0, USUAL_US);
    world.shared.of[1].resting_until_us = world.now_us + 60000000;
    asking_start();
    asking_advance_us(late_us);
    assert_int_equal(world.calls_started, 2);
    asking_expect_answer(1, 0); /* the first one, asked twice */
    world_close();
}

static void test_a_probe_gets_no_company(void **state)
{
    (void)state;
    asking_open(1);
    world.config.upstream.breaker_failures = 1;
    world.config.upstream.retry_budget_percent = 0;
    asking_start();
    asking_refuse(0, 503, 0);
    world_complete();
    world_advance_ms(10000);
    uint64_t late_us = asking_know_usual_time(0, USUAL_US);
    asking_start(); /* the probe */
    asking_advance_us(late_us);
    assert_int_equal(world.calls_started, 2);
    assert_int_equal(sl_counter_get(&world.stats.upstream_hedges), 0);
    asking_expect_answer(0, 0);
    assert_non_null(strstr(world.last_log_line, "\"hedged\":false"));
    world_close();
}

static void test_when_there_is_no_hedge(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        asking_open(2);
        uint64_t late_us = asking_know_usual_time(0, USUAL_US);
        if (i == 0) {
            world.config.upstream.hedge_percent = 0;
        } else if (i == 1) {
            gw_retry_budget_init(&world.upstreams.hedges, 0); /* two turns have not earned one */
        } else {
            world.upstreams.of[0].first_tokens = (struct gw_recent_times){0};
        }
        asking_start();
        world_connect_call(0);
        asking_advance_us(10 * late_us);
        assert_int_equal(world.calls_started, 1);
        asking_expect_answer(0, 0);
        world_close();
    }
}

static void test_no_hedge_beside_an_answer(void **state)
{
    (void)state;
    asking_open(2);
    uint64_t late_us = asking_know_usual_time(0, USUAL_US);
    asking_start();
    world_connect_call(0);
    world_send_delta("Hello");
    asking_advance_us(late_us);
    assert_int_equal(world.calls_started, 1);
    world_finish_call(0, 0, "stop");
    world_complete();
    world_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_late_first_token_gets_a_hedge),
        cmocka_unit_test(test_the_first_call_may_still_win),
        cmocka_unit_test(test_how_the_loser_ends_does_not_matter),
        cmocka_unit_test(test_both_fail),
        cmocka_unit_test(test_a_hedge_does_no_harm),
        cmocka_unit_test(test_a_failover_is_not_late_yet),
        cmocka_unit_test(test_a_hedge_leaves_resting_upstreams_alone),
        cmocka_unit_test(test_a_probe_gets_no_company),
        cmocka_unit_test(test_when_there_is_no_hedge),
        cmocka_unit_test(test_no_hedge_beside_an_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
