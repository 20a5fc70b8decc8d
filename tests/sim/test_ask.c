/*
 * Asking the models, in the simulated world: {every place where asking waits} x {ok, error, timeout, client
 * gone, shutdown, stop}, then who is asked next after which failure, when, and how often.
 * After every case world_close checks that no call, no timer and no turn is left.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "world.h"

enum { SAMPLES = GW_RECENT_TIMES_SAMPLES_MIN, USUAL_US = 100000 };

/* Up to three upstreams, with limits like the defaults but for the pause, which is made exact. */
static void open_world(unsigned upstreams)
{
    static const char *const more[] = {"second", "third"};

    world_open();
    world.config.upstream.retry_backoff_ms = 0;
    world.config.upstream.retry_budget_percent = 10;
    world.config.upstream.breaker_failures = 5;
    for (unsigned i = 1; i < upstreams; i++) {
        world_add_upstream(more[i - 1], i);
    }
}

/* The first upstream's first tokens usually take a tenth of a second; a later one gets a hedge. */
static uint64_t know_usual_time(unsigned upstream, uint64_t usual_us)
{
    struct gw_recent_times *times = &world.upstreams.of[upstream].first_tokens;
    uint64_t late_us = 0;

    world.config.upstream.hedge_percent = 2;
    for (unsigned i = 0; i < SAMPLES; i++) {
        gw_recent_times_record(times, world.now_us, usual_us);
    }
    assert_true(gw_recent_times_quantile(times, world.now_us, 0.95, &late_us));
    return late_us;
}

/* A turn that has just asked. */
static void start_asking(void)
{
    world_start_turn("hi", false, GW_DISCONNECT_CANCEL);
    world_run();
    world_finish_profile(0, NULL);
}

static void advance_us(uint64_t us)
{
    world.now_us += us;
    world_advance_ms(0);
}

/* The answer comes, and the turn ends well. */
static void expect_answer_from(unsigned which, unsigned upstream)
{
    assert_non_null(world.calls[which]);
    assert_int_equal(world.called[which], upstream);
    world_send_delta_from(which, "Hello");
    world_finish_call(which, 0, "stop");
    world_complete();
    assert_int_equal(world_count(SL_EVENT_DONE), 1);
    assert_string_equal(world.answer_text, "Hello");
}

static void expect_error(int error)
{
    for (unsigned i = 0; i < WORLD_CALLS; i++) {
        assert_null(world.calls[i]);
    }
    world_complete();
    assert_int_equal(world_count(SL_EVENT_ERROR), 1);
    assert_true(world_saw(SL_EVENT_ERROR, sl_error_info(error)->code));
}

static void refuse(unsigned which, int http_status, uint64_t retry_after_s)
{
    world.calls[which]->connected = true;
    world.calls[which]->http_status = http_status;
    world.calls[which]->retry_after_us = retry_after_s * 1000000;
    world_finish_call(which,
                      http_status == 429   ? SL_E_UPSTREAM_RATE_LIMITED
                      : http_status >= 500 ? SL_E_UPSTREAM_FAILED
                                           : SL_E_UPSTREAM_REJECTED,
                      NULL);
}

/* ---------------------------------------------------------------- the matrix */

/* Where asking waits. */
enum place {
    AT_CONNECT,
    AT_FIRST_TOKEN,
    AT_SECOND_UPSTREAM, /* the first one has failed */
    AT_PAUSE,           /* before a retry */
    AT_RETRY,
    AT_BOTH,          /* a call and its hedge */
    AT_HEDGE_ALONE,   /* the first call has failed meanwhile */
    AT_FIRST_ALONE,   /* the hedge has failed meanwhile */
    AT_HEDGE_ANSWERS, /* the hedge has sent the first delta */
    PLACES
};

enum strike { OK, ERROR, TIMEOUT, GONE, SHUTDOWN, STOP, STRIKES };

static const char *const place_names[] = {"connect",     "first token", "second upstream",
                                          "pause",       "retry",       "both",
                                          "hedge alone", "first alone", "hedge answers"};
static const char *const strike_names[] = {"ok", "error", "timeout", "gone", "shutdown", "stop"};

static void walk_to(enum place place)
{
    bool is_single = place == AT_PAUSE || place == AT_RETRY;

    open_world(is_single ? 1 : 2);
    world.config.chat.disconnect_grace_s = 0;
    uint64_t late_us = place >= AT_BOTH ? know_usual_time(0, USUAL_US) : 0;
    start_asking();
    if (place == AT_CONNECT) {
        return;
    }
    world_connect_call(0);
    if (place == AT_SECOND_UPSTREAM) {
        refuse(0, 503, 0);
        world_connect_call(0);
    } else if (is_single) {
        refuse(0, 503, 3);
        if (place == AT_RETRY) {
            world_advance_ms(3000);
            world_connect_call(0);
        }
    } else if (place >= AT_BOTH) {
        advance_us(late_us);
        world_connect_call(1);
    }
    if (place == AT_HEDGE_ALONE) {
        refuse(0, 503, 0);
    } else if (place == AT_FIRST_ALONE) {
        refuse(1, 503, 0);
    } else if (place == AT_HEDGE_ANSWERS) {
        world_send_delta_from(1, "Hello");
    }
}

/* Everybody who is asked, and will be, says no. */
static void refuse_everything(void)
{
    for (int i = 0; i < 8; i++) {
        for (unsigned which = 0; which < WORLD_CALLS; which++) {
            if (world.calls[which] != NULL) {
                refuse(which, 503, 0);
            }
        }
        world_advance_ms(world.config.upstreams_count == 1 ? 3000 : 0);
    }
}

/* Nobody says anything; whoever is not meant to be unreachable takes the connection. */
static void stay_silent(bool is_reachable)
{
    for (int i = 0; i < 40; i++) {
        for (unsigned which = 0; is_reachable && which < WORLD_CALLS; which++) {
            if (world.calls[which] != NULL) {
                world_connect_call(which);
            }
        }
        world_advance_ms(1000);
    }
}

static int expected_error(enum place place, enum strike strike)
{
    switch (strike) {
    case ERROR:
        return SL_E_UPSTREAM_FAILED;
    case TIMEOUT:
        return place == AT_CONNECT         ? SL_E_UPSTREAM_CONNECT_TIMEOUT
               : place == AT_HEDGE_ANSWERS ? SL_E_UPSTREAM_IDLE_TIMEOUT
                                           : SL_E_UPSTREAM_FIRST_TOKEN_TIMEOUT;
    case SHUTDOWN:
        return SL_E_SHUTTING_DOWN;
    default:
        return 0;
    }
}

static enum store_status expected_status(enum strike strike)
{
    static const enum store_status statuses[STRIKES] = {
        [OK] = STORE_STATUS_COMPLETE,          [ERROR] = STORE_STATUS_FAILED,
        [TIMEOUT] = STORE_STATUS_FAILED,       [GONE] = STORE_STATUS_CANCELLED,
        [SHUTDOWN] = STORE_STATUS_INTERRUPTED, [STOP] = STORE_STATUS_STOPPED,
    };

    return statuses[strike];
}

static void run_case(enum place place, enum strike strike)
{
    int error = expected_error(place, strike);

    walk_to(place);
    assert_int_equal(world.turns.running, 1);
    switch (strike) {
    case OK:
        world_advance_ms(place == AT_PAUSE ? 3000 : 0);
        break;
    case ERROR:
        refuse_everything();
        break;
    case TIMEOUT:
        stay_silent(place != AT_CONNECT);
        break;
    case GONE:
        gw_feed_leave(&world.follower, SL_E_CLIENT_GONE);
        world_advance_ms(0);
        break;
    case SHUTDOWN:
        gw_turns_end_all(&world.turns, SL_E_SHUTTING_DOWN);
        world_run();
        break;
    case STOP:
        gw_turn_stop(world.turn);
        world_run();
        break;
    case STRIKES:
        break;
    }
    if (strike != OK) {
        assert_null(world.calls[0]);
        assert_null(world.calls[1]);
    }
    world_complete();
    assert_int_equal(world.ends, 1);
    assert_int_equal(world.log_lines, 1);
    assert_int_equal(world.answer_status, expected_status(strike));
    if (error != 0) {
        assert_true(world_saw(SL_EVENT_ERROR, sl_error_info(error)->code));
    } else if (strike != GONE) {
        assert_int_equal(world_count(SL_EVENT_DONE), 1);
    }
    world_close();
}

static void test_matrix(void **state)
{
    (void)state;
    for (enum place place = 0; place < PLACES; place++) {
        for (enum strike strike = 0; strike < STRIKES; strike++) {
            print_message("%s x %s\n", place_names[place], strike_names[strike]);
            run_case(place, strike);
        }
    }
}

/* ---------------------------------------------------------------- asking the same one again */

static void test_a_quick_failure_is_tried_once_more(void **state)
{
    (void)state;
    open_world(1);
    start_asking();
    world_finish_call(0, SL_E_UPSTREAM_UNREACHABLE, NULL);
    assert_null(world.calls[0]); /* the pause is 0 long, but it is one */
    world_advance_ms(0);
    world_connect_call(0);
    expect_answer_from(0, 0);
    assert_int_equal(world.calls_started, 2);
    assert_non_null(strstr(world.last_log_line, "\"retries\":1,\"failovers\":0"));
    assert_int_equal(sl_counter_get(&world.stats.upstream_retries), 1);
    world_close();
}

static void test_one_retry_per_upstream(void **state)
{
    (void)state;
    open_world(2);
    start_asking();
    refuse(0, 500, 0);
    refuse(0, 502, 0); /* the second one has been asked at once */
    world_advance_ms(0);
    refuse(0, 503, 0); /* the first one again */
    world_advance_ms(0);
    assert_int_equal(world.called[0], 1);
    refuse(0, 504, 0);
    world_advance_ms(60000);
    assert_int_equal(world.calls_started, 4);
    expect_error(SL_E_UPSTREAM_FAILED);
    assert_non_null(strstr(world.last_log_line, "\"upstream_status\":504"));
    assert_non_null(strstr(world.last_log_line, "\"retries\":2,\"failovers\":1"));
    world_close();
}

static void test_the_pause_is_anything_up_to_the_backoff(void **state)
{
    int shortest = 1000, longest = 0;

    (void)state;
    for (int i = 0; i < 300; i++) {
        open_world(1);
        world.config.upstream.retry_backoff_ms = 100;
        start_asking();
        refuse(0, 503, 0);
        int pause_ms = sl_loop_wait_ms(world.loop, 1000);
        shortest = pause_ms < shortest ? pause_ms : shortest;
        longest = pause_ms > longest ? pause_ms : longest;
        if (pause_ms > 0) {
            world_advance_ms((uint64_t)pause_ms - 1);
            assert_null(world.calls[0]);
        }
        world_advance_ms(1);
        expect_answer_from(0, 0);
        world_close();
    }
    assert_in_range(shortest, 0, 20);
    assert_in_range(longest, 80, 100);
}

static void test_no_retry_beyond_the_budget(void **state)
{
    (void)state;
    open_world(1);
    world.config.upstream.retry_budget_percent = 1;
    world.config.upstream.breaker_failures = 255;
    for (unsigned i = 0; i <= GW_RETRY_RESERVE; i++) {
        start_asking();
        refuse(0, 503, 0);
        world_advance_ms(0);
        if (i < GW_RETRY_RESERVE) {
            expect_answer_from(0, 0);
        }
    }
    expect_error(SL_E_UPSTREAM_FAILED);
    assert_int_equal(world.calls_started, 2 * GW_RETRY_RESERVE + 1);
    world_close();
}

static void test_no_retry_without_a_budget(void **state)
{
    (void)state;
    open_world(1);
    world.config.upstream.retry_budget_percent = 0;
    start_asking();
    refuse(0, 503, 0);
    expect_error(SL_E_UPSTREAM_FAILED);
    assert_int_equal(world.calls_started, 1);
    world_close();
}

static void test_nothing_is_tried_again_after_the_first_delta(void **state)
{
    (void)state;
    open_world(2);
    start_asking();
    world_connect_call(0);
    world_send_delta("Hel");
    world_finish_call(0, SL_E_UPSTREAM_TRUNCATED, NULL);
    world_advance_ms(0);
    expect_error(SL_E_UPSTREAM_TRUNCATED);
    assert_int_equal(world.calls_started, 1);
    assert_string_equal(world.answer_text, "Hel");
    world_close();
}

static void test_an_empty_delta_is_no_answer_yet(void **state)
{
    (void)state;
    open_world(2);
    start_asking();
    world_connect_call(0);
    world_send_delta("");
    world_finish_call(0, SL_E_UPSTREAM_TRUNCATED, NULL);
    world_connect_call(0);
    expect_answer_from(0, 1);
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
        open_world(1);
        start_asking();
        world.calls[0]->http_status = cases[i].http_status;
        world.calls[0]->is_spent = cases[i].is_spent;
        world_finish_call(0, cases[i].status, NULL);
        world_advance_ms(0);
        expect_error(cases[i].status);
        assert_int_equal(world.calls_started, 1);
        world_close();
    }
}

static void test_retry_after_is_obeyed(void **state)
{
    (void)state;
    open_world(1);
    start_asking();
    refuse(0, 429, 7);
    world_advance_ms(6999);
    assert_null(world.calls[0]);
    world_advance_ms(1);
    expect_answer_from(0, 0);
    world_close();
}

static void test_retry_after_the_deadline_is_not_waited_for(void **state)
{
    (void)state;
    open_world(1);
    start_asking();
    world_connect_call(0);
    world_advance_ms(10000);
    refuse(0, 429, 20); /* just as the first token would be due */
    expect_error(SL_E_UPSTREAM_RATE_LIMITED);
    world_close();
}

/* ---------------------------------------------------------------- asking another one */

static void test_failover_goes_by_priority(void **state)
{
    (void)state;
    open_world(1);
    world_add_upstream("last", 9);
    world_add_upstream("middle", 4);
    start_asking();
    assert_int_equal(world.called[0], 0);
    refuse(0, 503, 0);
    assert_int_equal(world.called[0], 2);
    refuse(0, 503, 0);
    assert_int_equal(world.called[0], 1);
    expect_answer_from(0, 1);
    assert_non_null(
        strstr(world.last_log_line, "\"upstream\":\"last\",\"retries\":0,\"failovers\":2"));
    assert_int_equal(sl_counter_get(&world.stats.upstream_failovers), 2);
    world_close();
}

static void test_failover_costs_no_budget(void **state)
{
    (void)state;
    open_world(2);
    world.config.upstream.retry_budget_percent = 0;
    start_asking();
    refuse(0, 503, 0);
    expect_answer_from(0, 1);
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
        open_world(2);
        start_asking();
        refuse(0, cases[i].http_status, 0);
        if (cases[i].fails_over) {
            expect_answer_from(0, 1);
        } else {
            expect_error(SL_E_UPSTREAM_REJECTED);
            assert_int_equal(world.calls_started, 1);
        }
        world_close();
    }
}

static void test_a_spent_quota_is_left_for_another(void **state)
{
    (void)state;
    open_world(2);
    start_asking();
    world.calls[0]->is_spent = true;
    refuse(0, 429, 0);
    expect_answer_from(0, 1);
    world_close();
}

static void test_one_that_rests_is_asked_last(void **state)
{
    (void)state;
    open_world(2);
    start_asking();
    refuse(0, 429, 60);
    expect_answer_from(0, 1);
    start_asking(); /* the next turn goes around it */
    assert_int_equal(world.called[0], 1);
    refuse(0, 503, 0);
    expect_answer_from(0, 0); /* but better it than nobody */
    world_advance_ms(60000);
    start_asking();
    expect_answer_from(0, 0);
    world_close();
}

static void test_no_upstream_at_all(void **state)
{
    (void)state;
    open_world(1);
    world.config.upstream.breaker_failures = 1;
    world.config.upstream.retry_budget_percent = 0;
    start_asking();
    refuse(0, 503, 0);
    expect_error(SL_E_UPSTREAM_FAILED);
    start_asking();
    expect_error(SL_E_UPSTREAM_UNAVAILABLE);
    assert_int_equal(world.calls_started, 1);
    assert_non_null(strstr(world.last_log_line, "\"upstream\":\"\""));
    world_close();
}

static void test_a_call_that_cannot_be_made_ends_with_an_error(void **state)
{
    (void)state;
    open_world(1);
    world.upstream_start_status = SL_E_NO_MEMORY;
    start_asking();
    expect_error(SL_E_NO_MEMORY);
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
        start_asking();
        assert_int_equal(world.called[0], 0);
        refuse(0, 503, 0);
        expect_answer_from(0, 1);
    }
    assert_int_equal(breaker_state(0), GW_BREAKER_OPEN);
}

static void test_an_open_breaker_is_passed_over(void **state)
{
    (void)state;
    open_world(2);
    open_breaker();
    unsigned before = world.calls_started;
    start_asking();
    expect_answer_from(0, 1);
    assert_int_equal(world.calls_started, before + 1);
    world_close();
}

static void test_one_probe_closes_the_breaker_at_its_first_token(void **state)
{
    (void)state;
    open_world(2);
    open_breaker();
    world_advance_ms(10000);
    assert_int_equal(breaker_state(0), GW_BREAKER_HALF_OPEN);
    start_asking();
    assert_int_equal(world.called[0], 0); /* the probe */
    world_finish_save(0, 0);
    gw_feed_leave(&world.follower, SL_E_SLOW_READER); /* to have a look at another turn */
    start_asking();
    assert_int_equal(world.called[1], 1); /* while it is out, the others stay away */
    world_connect_call(0);
    world_connect_call(1);
    assert_int_equal(breaker_state(0), GW_BREAKER_HALF_OPEN);
    world_send_delta_from(0, "Hello");
    assert_int_equal(breaker_state(0), GW_BREAKER_CLOSED);
    world_finish_call(0, 0, "stop");
    world_finish_save(1, 0);
    expect_answer_from(1, 1);
    world_close();
}

static void test_a_failed_probe_opens_it_again(void **state)
{
    (void)state;
    open_world(2);
    open_breaker();
    world_advance_ms(10000);
    start_asking();
    refuse(0, 503, 0);
    assert_int_equal(breaker_state(0), GW_BREAKER_OPEN);
    expect_answer_from(0, 1); /* the turn that probed does not suffer */
    world_close();
}

static void test_a_cancelled_probe_says_nothing(void **state)
{
    (void)state;
    open_world(2);
    open_breaker();
    world_advance_ms(10000);
    start_asking();
    gw_turn_stop(world.turn);
    world_complete();
    assert_int_equal(breaker_state(0), GW_BREAKER_HALF_OPEN);
    start_asking();
    assert_int_equal(world.called[0], 0);
    expect_answer_from(0, 0);
    assert_int_equal(breaker_state(0), GW_BREAKER_CLOSED);
    world_close();
}

static void test_breakers_can_be_off(void **state)
{
    (void)state;
    open_world(2);
    world.config.upstream.breaker_failures = 0;
    for (int i = 0; i < 30; i++) {
        start_asking();
        assert_int_equal(world.called[0], 0);
        refuse(0, 503, 0);
        expect_answer_from(0, 1);
    }
    assert_int_equal(breaker_state(0), GW_BREAKER_CLOSED);
    world_close();
}

/* A late first token is the upstream's fault; that a user stops, or that we do, is not. */
static void test_whose_fault_it_was(void **state)
{
    (void)state;
    open_world(1);
    world.config.upstream.breaker_failures = 1;
    for (int i = 0; i < 3; i++) {
        start_asking();
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

/* ---------------------------------------------------------------- deadlines */

static void test_each_attempt_has_its_own_time_to_connect(void **state)
{
    (void)state;
    open_world(2);
    start_asking();
    world_advance_ms(1999);
    assert_int_equal(world.called[0], 0);
    world_advance_ms(1);
    assert_int_equal(world.calls_started, 2);
    assert_int_equal(world.called[0], 1);
    world_advance_ms(1999);
    assert_non_null(world.calls[0]);
    world_advance_ms(1);
    expect_error(SL_E_UPSTREAM_CONNECT_TIMEOUT);
    assert_int_equal(world.calls_started, 2); /* what cost a whole timeout is not tried again */
    assert_int_equal(sl_counter_get(&world.shared.of[0].failures), 1);
    world_close();
}

static void test_one_deadline_for_the_first_token_of_all_attempts(void **state)
{
    (void)state;
    open_world(3);
    start_asking();
    world_advance_ms(2000); /* no connection */
    assert_int_equal(world.called[0], 1);
    world_connect_call(0);
    world_advance_ms(20000);
    refuse(0, 500, 0);
    assert_int_equal(world.called[0], 2);
    world_connect_call(0);
    world_advance_ms(7999);
    assert_non_null(world.calls[0]);
    world_advance_ms(1);
    expect_error(SL_E_UPSTREAM_FIRST_TOKEN_TIMEOUT);
    world_close();
}

/* ---------------------------------------------------------------- hedges */

static void test_a_late_first_token_gets_a_hedge(void **state)
{
    (void)state;
    open_world(2);
    uint64_t late_us = know_usual_time(0, USUAL_US);
    start_asking();
    world_connect_call(0);
    advance_us(late_us - 1);
    assert_int_equal(world.calls_started, 1);
    advance_us(1);
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
    open_world(2);
    advance_us(know_usual_time(0, USUAL_US));
    uint64_t late_us = know_usual_time(0, USUAL_US);
    start_asking();
    advance_us(late_us);
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
        open_world(2);
        uint64_t late_us = know_usual_time(0, USUAL_US);
        start_asking();
        advance_us(late_us);
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
            open_world(upstreams);
            world.config.upstream.retry_budget_percent = 0;
            uint64_t late_us = know_usual_time(0, USUAL_US);
            start_asking();
            advance_us(late_us);
            refuse(first, 503, 0);
            assert_int_equal(world.calls_started, 2); /* the other one may still answer */
            refuse(1 - first, 500, 0);
            if (upstreams == 3) {
                expect_answer_from(0, 2);
            } else {
                expect_error(SL_E_UPSTREAM_FAILED);
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
        open_world(2);
        uint64_t late_us = know_usual_time(0, USUAL_US);
        start_asking();
        world_connect_call(0);
        world.upstream_start_status = i == 0 ? SL_E_NO_MEMORY : 0;
        advance_us(late_us);
        world.upstream_start_status = 0;
        if (i > 0) {
            refuse(1, i == 1 ? 400 : 503, 0);
        }
        expect_answer_from(0, 0);
        assert_non_null(strstr(world.last_log_line, "\"upstream\":\"first\""));
        world_close();
    }
}

/* Each attempt is measured by the usual time of its own upstream, from its own start. */
static void test_a_failover_is_not_late_yet(void **state)
{
    (void)state;
    open_world(3);
    uint64_t late_us = know_usual_time(0, USUAL_US);
    uint64_t second_late_us = know_usual_time(1, 10 * USUAL_US);
    start_asking();
    world_connect_call(0);
    advance_us(late_us - 1);
    refuse(0, 503, 0);
    world_connect_call(0);
    advance_us(second_late_us - 1);
    assert_int_equal(world.calls_started, 2);
    advance_us(1);
    assert_int_equal(world.calls_started, 3);
    assert_int_equal(world.called[1], 2);
    expect_answer_from(1, 2);
    world_close();
}

static void test_a_hedge_leaves_resting_upstreams_alone(void **state)
{
    (void)state;
    open_world(2);
    uint64_t late_us = know_usual_time(0, USUAL_US);
    world.shared.of[1].resting_until_us = world.now_us + 60000000;
    start_asking();
    advance_us(late_us);
    assert_int_equal(world.calls_started, 2);
    expect_answer_from(1, 0); /* the first one, asked twice */
    world_close();
}

static void test_a_probe_gets_no_company(void **state)
{
    (void)state;
    open_world(1);
    world.config.upstream.breaker_failures = 1;
    world.config.upstream.retry_budget_percent = 0;
    start_asking();
    refuse(0, 503, 0);
    world_complete();
    world_advance_ms(10000);
    uint64_t late_us = know_usual_time(0, USUAL_US);
    start_asking(); /* the probe */
    advance_us(late_us);
    assert_int_equal(world.calls_started, 2);
    assert_int_equal(sl_counter_get(&world.stats.upstream_hedges), 0);
    expect_answer_from(0, 0);
    assert_non_null(strstr(world.last_log_line, "\"hedged\":false"));
    world_close();
}

static void test_when_there_is_no_hedge(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        open_world(2);
        uint64_t late_us = know_usual_time(0, USUAL_US);
        if (i == 0) {
            world.config.upstream.hedge_percent = 0;
        } else if (i == 1) {
            gw_retry_budget_init(&world.upstreams.hedges, 0); /* two turns have not earned one */
        } else {
            world.upstreams.of[0].first_tokens = (struct gw_recent_times){0};
        }
        start_asking();
        world_connect_call(0);
        advance_us(10 * late_us);
        assert_int_equal(world.calls_started, 1);
        expect_answer_from(0, 0);
        world_close();
    }
}

static void test_no_hedge_beside_an_answer(void **state)
{
    (void)state;
    open_world(2);
    uint64_t late_us = know_usual_time(0, USUAL_US);
    start_asking();
    world_connect_call(0);
    world_send_delta("Hello");
    advance_us(late_us);
    assert_int_equal(world.calls_started, 1);
    world_finish_call(0, 0, "stop");
    world_complete();
    world_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matrix),
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
        cmocka_unit_test(test_each_attempt_has_its_own_time_to_connect),
        cmocka_unit_test(test_one_deadline_for_the_first_token_of_all_attempts),
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
