/*
 * Who is asked after which failure, when, and how often: the same upstream once more, another one, none;
 * and what the breakers learn from it.
 */
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "asking.h"

/* ---------------------------------------------------------------- asking the same one again */

static void test_a_quick_failure_is_tried_once_more(void **state)
{
    (void)state;
    asking_open(1);
    asking_start();
    world_finish_call(0, SL_E_UPSTREAM_UNREACHABLE, NULL);
    assert_null(world.calls[0]); /* the pause is 0 long, but it is one */
    world_advance_ms(0);
    world_connect_call(0);
    asking_expect_answer(0, 0);
    assert_int_equal(world.calls_started, 2);
    assert_non_null(strstr(world.last_log_line, "\"retries\":1,\"failovers\":0"));
    assert_int_equal(sl_counter_get(&world.stats.upstream_retries), 1);
    world_close();
}

static void test_one_retry_per_upstream(void **state)
{
    (void)state;
    asking_open(2);
    asking_start();
    asking_refuse(0, 500, 0);
    asking_refuse(0, 502, 0); /* the second one has been asked at once */
    world_advance_ms(0);
    asking_refuse(0, 503, 0); /* the first one again */
    world_advance_ms(0);
    assert_int_equal(world.called[0], 1);
    asking_refuse(0, 504, 0);
    world_advance_ms(60000);
    assert_int_equal(world.calls_started, 4);
    asking_expect_error(SL_E_UPSTREAM_FAILED);
    assert_non_null(strstr(world.last_log_line, "\"upstream_status\":504"));
    assert_non_null(strstr(world.last_log_line, "\"retries\":2,\"failovers\":1"));
    world_close();
}

static void test_the_pause_is_anything_up_to_the_backoff(void **state)
{
    int shortest = 1000, longest = 0;

    (void)state;
    for (int i = 0; i < 300; i++) {
        asking_open(1);
        world.config.upstream.retry_backoff_ms = 100;
        asking_start();
        asking_refuse(0, 503, 0);
        int pause_ms = sl_loop_wait_ms(world.loop, 1000);
        shortest = pause_ms < shortest ? pause_ms : shortest;
        longest = pause_ms > longest ? pause_ms : longest;
        if (pause_ms > 0) {
            world_advance_ms((uint64_t)pause_ms - 1);
            assert_null(world.calls[0]);
        }
        world_advance_ms(1);
        asking_expect_answer(0, 0);
        world_close();
    }
    assert_in_range(shortest, 0, 20);
    assert_in_range(longest, 80, 100);
}

static void test_no_retry_beyond_the_budget(void **state)
{
    (void)state;
    asking_open(1);
    world.config.upstream.retry_budget_percent = 1;
    world.config.upstream.breaker_failures = 255;
    for (unsigned i = 0; i <= GW_RETRY_RESERVE; i++) {
        asking_start();
        asking_refuse(0, 503, 0);
        world_advance_ms(0);
        if (i < GW_RETRY_RESERVE) {
            asking_expect_answer(0, 0);
        }
    }
    asking_expect_error(SL_E_UPSTREAM_FAILED);
    assert_int_equal(world.calls_started, 2 * GW_RETRY_RESERVE + 1);
    world_close();
}

static void test_no_retry_without_a_budget(void **state)
{
    (void)state;
    asking_open(1);
    world.config.upstream.retry_budget_percent = 0;
    asking_start();
    asking_refuse(0, 503, 0);
    asking_expect_error(SL_E_UPSTREAM_FAILED);
    assert_int_equal(world.calls_started, 1);
    world_close();
}

static void test_nothing_is_tried_again_after_the_first_delta(void **state)
{
    (void)state;
    asking_open(2);
    asking_start();
    world_connect_call(0);
    world_send_delta("Hel");
    world_finish_call(0, SL_E_UPSTREAM_TRUNCATED, NULL);
    world_advance_ms(0);
    asking_expect_error(SL_E_UPSTREAM_TRUNCATED);
    assert_int_equal(world.calls_started, 1);
    assert_string_equal(world.answer_text, "Hel");
    world_close();
}

static void test_an_empty_delta_is_no_answer_yet(void **state)
{
    (void)state;
    asking_open(2);
    asking_start();
    world_connect_call(0);
    world_send_delta("");
    world_finish_call(0, SL_E_UPSTREAM_TRUNCATED, NULL);
    world_connect_call(0);
    asking_expect_answer(0, 1);
    world_close();
}

static void test_what_a_retry_cannot_help(void **state)
{
    static const struct {
        int status, http_status;
        bool is_spent;
    } cases[] = {
        {SL_E_UPSTREAM_RATE_LIMITED, 429, true},   {SL_E_UPSTREAM_REJECTED, 400, false},
        {SL_E_UPSTREAM_REJECTED, 401, false},      {SL_E_UPSTREAM_CONNECT_TIMEOUT, 0, false},
        {SL_E_UPSTREAM_ADDRESS_REFUSED, 0, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        asking_open(1);
        asking_start();
        world.calls[0]->http_status = cases[i].http_status;
        world.calls[0]->is_spent = cases[i].is_spent;
        world_finish_call(0, cases[i].status, NULL);
        world_advance_ms(0);
        asking_expect_error(cases[i].status);
        assert_int_equal(world.calls_started, 1);
        world_close();
    }
}

static void test_retry_after_is_obeyed(void **state)
{
    (void)state;
    asking_open(1);
    asking_start();
    asking_refuse(0, 429, 7);
    world_advance_ms(6999);
    assert_null(world.calls[0]);
    world_advance_ms(1);
    asking_expect_answer(0, 0);
    world_close();
}

static void test_retry_after_the_deadline_is_not_waited_for(void **state)
{
    (void)state;
    asking_open(1);
    asking_start();
    world_connect_call(0);
    world_advance_ms(10000);
    asking_refuse(0, 429, 20); /* just as the first token would be due */
    asking_expect_error(SL_E_UPSTREAM_RATE_LIMITED);
    world_close();
}

/* ---------------------------------------------------------------- asking another one */

static void test_failover_goes_by_priority(void **state)
{
    (void)state;
    asking_open(1);
    world_add_upstream("last", 9);
    world_add_upstream("middle", 4);
    asking_start();
    assert_int_equal(world.called[0], 0);
    asking_refuse(0, 503, 0);
    assert_int_equal(world.called[0], 2);
    asking_refuse(0, 503, 0);
    assert_int_equal(world.called[0], 1);
    asking_expect_answer(0, 1);
    assert_non_null(
        strstr(world.last_log_line, "\"upstream\":\"last\",\"retries\":0,\"failovers\":2"));
    assert_int_equal(sl_counter_get(&world.stats.upstream_failovers), 2);
    world_close();
}

static void test_failover_costs_no_budget(void **state)
{
    (void)state;
    asking_open(2);
    world.config.upstream.retry_budget_percent = 0;
    asking_start();
    asking_refuse(0, 503, 0);
    asking_expect_answer(0, 1);
    world_close();
}

static void test_which_refusals_go_to_another(void **state)
{
    static const struct {
        int http_status;
        bool fails_over;
    } cases[] = {{400, false}, {401, true},  {402, true}, {403, true}, {404, true},
                 {413, false}, {422, false}, {429, true}, {500, true}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        asking_open(2);
        asking_start();
        asking_refuse(0, cases[i].http_status, 0);
        if (cases[i].fails_over) {
            asking_expect_answer(0, 1);
        } else {
            asking_expect_error(SL_E_UPSTREAM_REJECTED);
            assert_int_equal(world.calls_started, 1);
        }
        world_close();
    }
}

static void test_a_spent_quota_is_left_for_another(void **state)
{
    (void)state;
    asking_open(2);
    asking_start();
    world.calls[0]->is_spent = true;
    asking_refuse(0, 429, 0);
    asking_expect_answer(0, 1);
    world_close();
}

static void test_one_that_rests_is_asked_last(void **state)
{
    (void)state;
    asking_open(2);
    asking_start();
    asking_refuse(0, 429, 60);
    asking_expect_answer(0, 1);
    asking_start(); /* the next turn goes around it */
    assert_int_equal(world.called[0], 1);
    asking_refuse(0, 503, 0);
    asking_expect_answer(0, 0); /* but better it than nobody */
    world_advance_ms(60000);
    asking_start();
    asking_expect_answer(0, 0);
    world_close();
}

static void test_no_upstream_at_all(void **state)
{
    (void)state;
    asking_open(1);
    world.config.upstream.breaker_failures = 1;
    world.config.upstream.retry_budget_percent = 0;
    asking_start();
    asking_refuse(0, 503, 0);
    asking_expect_error(SL_E_UPSTREAM_FAILED);
    asking_start();
    asking_expect_error(SL_E_UPSTREAM_UNAVAILABLE);
    assert_int_equal(world.calls_started, 1);
    assert_non_null(strstr(world.last_log_line, "\"upstream\":\"\""));
    world_close();
}

static void test_a_call_that_cannot_be_made_ends_with_an_error(void **state)
{
    (void)state;
    asking_open(1);
    world.upstream_start_status = SL_E_NO_MEMORY;
    asking_start();
    asking_expect_error(SL_E_NO_MEMORY);
    assert_int_equal(world.answer_status, STORE_STATUS_FAILED);
    world_close();
}

/* ---------------------------------------------------------------- breakers */

static enum gw_breaker_state breaker_state(unsigned upstream)
{
    return gw_breaker_state(&world.shared.of[upstream].breaker, world.now_us);
}

/* Three failures in a row; each of the turns is answered by the second upstream. */
static void open_breaker(void)
{
    world.config.upstream.breaker_failures = 3;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(breaker_state(0), GW_BREAKER_CLOSED);
        asking_start();
        assert_int_equal(world.called[0], 0);
        asking_refuse(0, 503, 0);
        asking_expect_answer(0, 1);
    }
    assert_int_equal(breaker_state(0), GW_BREAKER_OPEN);
}

static void test_an_open_breaker_is_passed_over(void **state)
{
    (void)state;
    asking_open(2);
    open_breaker();
    unsigned before = world.calls_started;
    asking_start();
    asking_expect_answer(0, 1);
    assert_int_equal(world.calls_started, before + 1);
    world_close();
}

static void test_one_probe_closes_the_breaker_at_its_first_token(void **state)
{
    (void)state;
    asking_open(2);
    open_breaker();
    world_advance_ms(10000);
    assert_int_equal(breaker_state(0), GW_BREAKER_HALF_OPEN);
    asking_start();
    assert_int_equal(world.called[0], 0); /* the probe */
    world_finish_save(0, 0);
    gw_feed_leave(&world.follower, SL_E_SLOW_READER); /* to have a look at another turn */
    asking_start();
    assert_int_equal(world.called[1], 1); /* while it is out, the others stay away */
    world_connect_call(0);
    world_connect_call(1);
    assert_int_equal(breaker_state(0), GW_BREAKER_HALF_OPEN);
    world_send_delta_from(0, "Hello");
    assert_int_equal(breaker_state(0), GW_BREAKER_CLOSED);
    world_finish_call(0, 0, "stop");
    world_finish_save(1, 0);
    asking_expect_answer(1, 1);
    world_close();
}

static void test_a_failed_probe_opens_it_again(void **state)
{
    (void)state;
    asking_open(2);
    open_breaker();
    world_advance_ms(10000);
    asking_start();
    asking_refuse(0, 503, 0);
    assert_int_equal(breaker_state(0), GW_BREAKER_OPEN);
    asking_expect_answer(0, 1); /* the turn that probed does not suffer */
    world_close();
}

static void test_a_cancelled_probe_says_nothing(void **state)
{
    (void)state;
    asking_open(2);
    open_breaker();
    world_advance_ms(10000);
    asking_start();
    gw_turn_stop(world.turn);
    world_complete();
    assert_int_equal(breaker_state(0), GW_BREAKER_HALF_OPEN);
    asking_start();
    assert_int_equal(world.called[0], 0);
    asking_expect_answer(0, 0);
    assert_int_equal(breaker_state(0), GW_BREAKER_CLOSED);
    world_close();
}

static void test_breakers_can_be_off(void **state)
{
    (void)state;
    asking_open(2);
    world.config.upstream.breaker_failures = 0;
    for (int i = 0; i < 30; i++) {
        asking_start();
        assert_int_equal(world.called[0], 0);
        asking_refuse(0, 503, 0);
        asking_expect_answer(0, 1);
    }
    assert_int_equal(breaker_state(0), GW_BREAKER_CLOSED);
    world_close();
}

/* A late first token is the upstream's fault; that a user stops, or that we do, is not. */
static void test_whose_fault_it_was(void **state)
{
    (void)state;
    asking_open(1);
    world.config.upstream.breaker_failures = 1;
    for (int i = 0; i < 3; i++) {
        asking_start();
        world_connect_call(0);
        if (i == 0) {
            gw_turn_stop(world.turn);
        } else if (i == 1) {
            gw_turns_end_all(&world.turns, SL_E_SHUTTING_DOWN);
        } else {
            world_advance_ms(30000);
        }
        world_complete();
        assert_int_equal(breaker_state(0), i < 2 ? GW_BREAKER_CLOSED : GW_BREAKER_OPEN);
    }
    world_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_quick_failure_is_tried_once_more),
        cmocka_unit_test(test_one_retry_per_upstream),
        cmocka_unit_test(test_the_pause_is_anything_up_to_the_backoff),
        cmocka_unit_test(test_no_retry_beyond_the_budget),
        cmocka_unit_test(test_no_retry_without_a_budget),
        cmocka_unit_test(test_nothing_is_tried_again_after_the_first_delta),
        cmocka_unit_test(test_an_empty_delta_is_no_answer_yet),
        cmocka_unit_test(test_what_a_retry_cannot_help),
        cmocka_unit_test(test_retry_after_is_obeyed),
        cmocka_unit_test(test_retry_after_the_deadline_is_not_waited_for),
        cmocka_unit_test(test_failover_goes_by_priority),
        cmocka_unit_test(test_failover_costs_no_budget),
        cmocka_unit_test(test_which_refusals_go_to_another),
        cmocka_unit_test(test_a_spent_quota_is_left_for_another),
        cmocka_unit_test(test_one_that_rests_is_asked_last),
        cmocka_unit_test(test_no_upstream_at_all),
        cmocka_unit_test(test_a_call_that_cannot_be_made_ends_with_an_error),
        cmocka_unit_test(test_an_open_breaker_is_passed_over),
        cmocka_unit_test(test_one_probe_closes_the_breaker_at_its_first_token),
        cmocka_unit_test(test_a_failed_probe_opens_it_again),
        cmocka_unit_test(test_a_cancelled_probe_says_nothing),
        cmocka_unit_test(test_breakers_can_be_off),
        cmocka_unit_test(test_whose_fault_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
