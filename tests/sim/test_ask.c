/*
 * Asking the models: {every place where asking waits} x {ok, error, timeout, client gone, shutdown, stop},
 * and its deadlines. After every case world_close checks that no call, no timer and no turn is left.
 * Who is asked next: test_failover.c; asking two at a time: test_hedge.c.
 */
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "asking.h"

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

    asking_open(is_single ? 1 : 2);
    world.config.chat.disconnect_grace_s = 0;
    uint64_t late_us = place >= AT_BOTH ? asking_know_usual_time(0, USUAL_US) : 0;
    asking_start();
    if (place == AT_CONNECT) {
        return;
    }
    world_connect_call(0);
    if (place == AT_SECOND_UPSTREAM) {
        asking_refuse(0, 503, 0);
        world_connect_call(0);
    } else if (is_single) {
        asking_refuse(0, 503, 3);
        if (place == AT_RETRY) {
            world_advance_ms(3000);
            world_connect_call(0);
        }
    } else if (place >= AT_BOTH) {
        asking_advance_us(late_us);
        world_connect_call(1);
    }
    if (place == AT_HEDGE_ALONE) {
        asking_refuse(0, 503, 0);
    } else if (place == AT_FIRST_ALONE) {
        asking_refuse(1, 503, 0);
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
                asking_refuse(which, 503, 0);
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

/* ---------------------------------------------------------------- deadlines */

static void test_each_attempt_has_its_own_time_to_connect(void **state)
{
    (void)state;
    asking_open(2);
    asking_start();
    world_advance_ms(1999);
    assert_int_equal(world.called[0], 0);
    world_advance_ms(1);
    assert_int_equal(world.calls_started, 2);
    assert_int_equal(world.called[0], 1);
    world_advance_ms(1999);
    assert_non_null(world.calls[0]);
    world_advance_ms(1);
    asking_expect_error(SL_E_UPSTREAM_CONNECT_TIMEOUT);
    assert_int_equal(world.calls_started, 2); /* what cost a whole timeout is not tried again */
    assert_int_equal(sl_counter_get(&world.shared.of[0].failures), 1);
    world_close();
}

static void test_one_deadline_for_the_first_token_of_all_attempts(void **state)
{
    (void)state;
    asking_open(3);
    asking_start();
    world_advance_ms(2000); /* no connection */
    assert_int_equal(world.called[0], 1);
    world_connect_call(0);
    world_advance_ms(20000);
    asking_refuse(0, 500, 0);
    assert_int_equal(world.called[0], 2);
    world_connect_call(0);
    world_advance_ms(7999);
    assert_non_null(world.calls[0]);
    world_advance_ms(1);
    asking_expect_error(SL_E_UPSTREAM_FIRST_TOKEN_TIMEOUT);
    world_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matrix),
        cmocka_unit_test(test_each_attempt_has_its_own_time_to_connect),
        cmocka_unit_test(test_one_deadline_for_the_first_token_of_all_attempts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
