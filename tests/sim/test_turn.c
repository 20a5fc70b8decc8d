/*
 * The turn machine in a simulated world: {every waiting state} x {ok, error, timeout, client gone,
 * shutdown, stop}, plus the rules that cross states. Asking the models: test_ask.c; readers: test_readers.c. After every case world_close checks that each operation
 * was finished exactly once, that the turn freed itself and that no timer was left.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "world.h"

/* Where a turn waits. */
enum place {
    AT_PROFILE,
    AT_HISTORY,
    AT_CONNECT,
    AT_FIRST_TOKEN,
    AT_STREAM,
    AT_SAVE_BOTH,
    AT_SAVE_QUESTION,
    AT_SAVE_ANSWER,
    PLACES
};

/* What strikes it there. */
enum strike { OK, ERROR, TIMEOUT, GONE, GONE_CONTINUE, SHUTDOWN, STOP, STRIKES };

static const char *const place_names[] = {"profile", "history", "connect",       "first token",
                                          "stream",  "save",    "save question", "save answer"};
static const char *const strike_names[] = {"ok",       "error", "timeout", "gone", "gone continue",
                                           "shutdown", "stop"};

/* Walks a turn to a place by the shortest way. */
static void walk_to(enum place place)
{
    if (place == AT_PROFILE) {
        world_finish_history(0);
        return;
    }
    world_finish_profile(0, "{\"name\":\"Ada\"}");
    if (place == AT_HISTORY) {
        return;
    }
    world_finish_history(0);
    if (place == AT_CONNECT) {
        return;
    }
    world_connect_upstream();
    if (place == AT_FIRST_TOKEN) {
        return;
    }
    world_send_delta("Hello");
    world_send_delta(" world");
    if (place == AT_STREAM) {
        return;
    }
    if (place == AT_SAVE_ANSWER) {
        world_finish_save(0, 0);
    }
    world_finish_upstream(0, "stop");
    if (place == AT_SAVE_QUESTION) {
        world_finish_save(1, 0);
    }
}

static void strike_error(enum place place)
{
    switch (place) {
    case AT_PROFILE:
        world_finish_profile(SL_E_DATABASE_TIMEOUT, NULL);
        break;
    case AT_HISTORY:
        world_finish_history(SL_E_DATABASE_UNAVAILABLE);
        break;
    case AT_CONNECT:
        world_finish_upstream(SL_E_UPSTREAM_UNREACHABLE, NULL);
        break;
    case AT_FIRST_TOKEN:
        world_finish_upstream(SL_E_UPSTREAM_RATE_LIMITED, NULL);
        break;
    case AT_STREAM:
        world_finish_upstream(SL_E_UPSTREAM_TRUNCATED, NULL);
        break;
    case AT_SAVE_BOTH:
    case AT_SAVE_QUESTION:
        world_finish_save(0, SL_E_DATABASE_REFUSED);
        break;
    case AT_SAVE_ANSWER:
        world_finish_save(1, SL_E_DATABASE_REFUSED);
        break;
    case PLACES:
        break;
    }
}

/* What the turn must end with. */
static int expected_error(enum place place, enum strike strike)
{
    static const int errors[PLACES] = {
        0,
        0,
        SL_E_UPSTREAM_UNREACHABLE,
        SL_E_UPSTREAM_RATE_LIMITED,
        SL_E_UPSTREAM_TRUNCATED,
        SL_E_STORAGE_UNAVAILABLE,
        SL_E_STORAGE_UNAVAILABLE,
        SL_E_STORAGE_UNAVAILABLE,
    };
    static const int timeouts[PLACES] = {
        0, /* reads bring their own deadlines */
        0,
        SL_E_UPSTREAM_CONNECT_TIMEOUT,
        SL_E_UPSTREAM_FIRST_TOKEN_TIMEOUT,
        SL_E_UPSTREAM_IDLE_TIMEOUT,
        SL_E_STORAGE_UNAVAILABLE,
        SL_E_STORAGE_UNAVAILABLE,
        SL_E_STORAGE_UNAVAILABLE,
    };
    bool before_save = place < AT_SAVE_BOTH;

    switch (strike) {
    case ERROR:
        return errors[place];
    case TIMEOUT:
        return timeouts[place];
    case GONE:
        return before_save ? SL_E_CLIENT_GONE : 0;
    case SHUTDOWN:
        return before_save ? SL_E_SHUTTING_DOWN : 0;
    default:
        return 0;
    }
}

static void run_case(enum place place, enum strike strike)
{
    static const uint64_t timeout_ms[PLACES] = {400, 400, 2001, 30001, 20001, 5001, 5001, 5001};
    bool follower_stays = strike != GONE && strike != GONE_CONTINUE;

    world_open();
    world_start_turn("hi", true,
                     strike == GONE_CONTINUE ? GW_DISCONNECT_CONTINUE : GW_DISCONNECT_CANCEL);
    world_run();
    walk_to(place);
    switch (strike) {
    case OK:
        break;
    case ERROR:
        strike_error(place);
        break;
    case TIMEOUT:
        world_advance_ms(timeout_ms[place]);
        break;
    case GONE:
    case GONE_CONTINUE:
        gw_feed_leave(&world.follower, SL_E_CLIENT_GONE);
        if (place < AT_SAVE_BOTH) {
            world_advance_ms(place == AT_CONNECT ? 1900
                                                 : 4999); /* within the grace: nothing happens */
            assert_int_equal(world.turns.running, 1);
            if (strike == GONE && place != AT_CONNECT) {
                world_advance_ms(2);
            }
        }
        break;
    case SHUTDOWN:
        gw_turns_end_all(&world.turns, SL_E_SHUTTING_DOWN);
        world_run();
        break;
    case STOP:
        gw_turn_stop(world.turn);
        gw_turn_stop(world.turn);
        world_run();
        break;
    case STRIKES:
        break;
    }
    if (place == AT_CONNECT && strike == GONE) {
        world_connect_upstream();
        world_advance_ms(3200);
    }
    int error = expected_error(place, strike);
    world_complete();
    assert_int_equal(world.ends, 1);
    assert_int_equal(world.log_lines, 1);
    if (follower_stays) {
        assert_int_equal(world_count(SL_EVENT_DONE) + world_count(SL_EVENT_ERROR), 1);
        assert_int_equal(world_count(SL_EVENT_DONE), error == 0);
        assert_int_equal(world.events[world.events_count - 1].type,
                         error == 0 ? SL_EVENT_DONE : SL_EVENT_ERROR);
        if (error != 0) {
            assert_true(world_saw(SL_EVENT_ERROR, sl_error_info(error)->code));
            bool lost = error == SL_E_STORAGE_UNAVAILABLE;
            assert_true(world_saw(SL_EVENT_ERROR, lost ? "\"saved\":false" : "\"saved\":true"));
        }
    }
    if (error == SL_E_CLIENT_GONE) {
        assert_int_equal(world.answer_status, STORE_STATUS_CANCELLED);
    } else if (error == SL_E_SHUTTING_DOWN) {
        assert_int_equal(world.answer_status, STORE_STATUS_INTERRUPTED);
    } else if (error != 0 && error != SL_E_STORAGE_UNAVAILABLE) {
        assert_int_equal(world.answer_status, STORE_STATUS_FAILED);
    } else if (strike == STOP && place < AT_SAVE_BOTH) {
        assert_int_equal(world.answer_status, STORE_STATUS_STOPPED);
        assert_true(world_saw(SL_EVENT_DONE, "\"finish_reason\":\"stopped\""));
    } else {
        assert_int_equal(world.answer_status, STORE_STATUS_COMPLETE);
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

static void test_events_come_in_order(void **state)
{
    (void)state;
    world_open();
    world_start_turn("hi", true, GW_DISCONNECT_CANCEL);
    world_run();
    world_finish_save(0, 0);
    assert_true(world_saw(SL_EVENT_ACCEPTED, "message_id"));
    walk_to(AT_STREAM);
    assert_int_equal(world_count(SL_EVENT_TOKEN), 2);
    world_complete();
    assert_true(world_saw(SL_EVENT_DONE, "\"finish_reason\":\"stop\""));
    assert_string_equal(world.answer_text, "Hello world!");
    assert_int_equal(world.appends, 1);
    world_close();
}

static void test_accepted_comes_before_done_even_when_late(void **state)
{
    (void)state;
    world_open();
    world_start_turn("hi", true, GW_DISCONNECT_CANCEL);
    world_run();
    walk_to(AT_SAVE_BOTH);
    world_finish_save(1, 0);
    assert_int_equal(world_count(SL_EVENT_ACCEPTED), 0);
    assert_int_equal(world_count(SL_EVENT_DONE), 0);
    world_finish_save(0, 0);
    assert_int_equal(world.events[world.events_count - 2].type, SL_EVENT_ACCEPTED);
    assert_int_equal(world.events[world.events_count - 1].type, SL_EVENT_DONE);
    world_close();
}

static void test_missing_context_is_named(void **state)
{
    (void)state;
    world_open();
    world_start_turn("hi", true, GW_DISCONNECT_CANCEL);
    world_run();
    world_finish_history(SL_E_DATABASE_TIMEOUT);
    world_finish_profile(SL_E_DATABASE_UNAVAILABLE, NULL);
    assert_true(world_saw(SL_EVENT_WARNING, "history_unavailable"));
    assert_true(world_saw(SL_EVENT_WARNING, "profile_unavailable"));
    world_complete();
    assert_false(world.window_known); /* the cached history must not be replaced by a part of it */
    world_close();
}

static void test_new_session_asks_for_no_history(void **state)
{
    (void)state;
    world_open();
    world_start_turn("hi", false, GW_DISCONNECT_CANCEL);
    world_run();
    assert_null(world.history);
    world_complete();
    assert_true(world.window_known);
    assert_int_equal(world.window_count, 0);
    world_close();
}

static void test_tokens_hold_off_the_silence_deadline(void **state)
{
    (void)state;
    world_open();
    world_start_turn("hi", true, GW_DISCONNECT_CANCEL);
    world_run();
    walk_to(AT_STREAM);
    for (int i = 0; i < 10; i++) {
        world_advance_ms(19000);
        world_send_delta(".");
    }
    assert_int_equal(world_count(SL_EVENT_ERROR), 0);
    world_advance_ms(20001);
    world_complete();
    assert_true(world_saw(SL_EVENT_ERROR, "upstream_idle_timeout"));
    assert_string_equal(world.answer_text, "Hello world..........");
    world_close();
}

static void test_empty_deltas_reset_no_deadline(void **state)
{
    (void)state;
    world_open();
    world_start_turn("hi", true, GW_DISCONNECT_CANCEL);
    world_run();
    walk_to(AT_FIRST_TOKEN);
    for (int i = 0; i < 29; i++) {
        world_advance_ms(1000);
        world_send_delta("");
    }
    world_advance_ms(1001);
    world_complete();
    assert_true(world_saw(SL_EVENT_ERROR, "upstream_first_token_timeout"));
    world_close();
}

static void test_total_deadline(void **state)
{
    (void)state;
    world_open();
    world_start_turn("hi", true, GW_DISCONNECT_CANCEL);
    world_run();
    walk_to(AT_STREAM);
    for (int i = 0; i < 40 && world_count(SL_EVENT_ERROR) == 0 && world.calls[0] != NULL; i++) {
        world_advance_ms(16000);
        if (world.calls[0] != NULL) {
            world_send_delta(".");
        }
    }
    world_complete();
    assert_true(world_saw(SL_EVENT_ERROR, "upstream_total_timeout"));
    world_close();
}

static void test_answer_over_the_cap(void **state)
{
    char block[1025];

    (void)state;
    memset(block, 'x', sizeof(block) - 1);
    block[sizeof(block) - 1] = '\0';
    world_open();
    world_start_turn("hi", true, GW_DISCONNECT_CANCEL);
    world_run();
    walk_to(AT_FIRST_TOKEN);
    for (int i = 0; i < 5 && world.calls[0] != NULL; i++) {
        world_send_delta(block);
    }
    world_complete();
    assert_true(world_saw(SL_EVENT_ERROR, "answer_too_long"));
    assert_int_equal(world_count(SL_EVENT_TOKEN), 4); /* what fits is kept */
    world_close();
}

static void test_first_error_wins(void **state)
{
    (void)state;
    world_open();
    world_start_turn("hi", true, GW_DISCONNECT_CANCEL);
    world_run();
    walk_to(AT_STREAM);
    gw_turns_end_all(&world.turns, SL_E_SHUTTING_DOWN);
    world_finish_upstream(SL_E_UPSTREAM_TRUNCATED, NULL);
    world_complete();
    assert_true(world_saw(SL_EVENT_ERROR, "shutting_down"));
    assert_int_equal(world.answer_status, STORE_STATUS_INTERRUPTED);
    assert_non_null(strstr(world.last_log_line, "\"term\":\"LS\""));
    world_close();
}

static void test_refused_save_asks_no_model(void **state)
{
    (void)state;
    world_open();
    world.save_start_status = SL_E_OVERLOADED;
    world_start_turn("hi", true, GW_DISCONNECT_CANCEL);
    world_run();
    assert_null(world.calls[0]);
    world_complete();
    assert_true(world_saw(SL_EVENT_ERROR, "overloaded"));
    assert_true(world_saw(SL_EVENT_ERROR, "\"saved\":false"));
    world_close();
}

static void test_nothing_is_touched_before_the_first_event(void **state)
{
    (void)state;
    world_open();
    world_start_turn("hi", true, GW_DISCONNECT_CANCEL);
    assert_int_equal(world.events[0].type, SL_EVENT_SESSION_ID);
    assert_null(world.profile);
    assert_null(world.history);
    assert_null(world.saves[0]);
    world_run();
    assert_non_null(world.profile); /* then all three at once */
    assert_non_null(world.history);
    assert_non_null(world.saves[0]);
    world_complete();
    world_close();
}

static void test_a_second_follower_keeps_the_turn(void **state)
{
    struct gw_follower other = {.wake = world.follower.wake};

    (void)state;
    world_open();
    world_start_turn("hi", true, GW_DISCONNECT_CANCEL);
    world_run();
    walk_to(AT_STREAM);
    gw_feed_follow(world.feed, &other);
    other.wake = world.follower.wake;
    gw_feed_leave(&other, SL_E_CLIENT_GONE); /* one of two: the grace does not start */
    world_advance_ms(10000);
    world_send_delta("!");
    world_complete();
    assert_int_equal(world_count(SL_EVENT_DONE), 1);
    world_close();
}

static void test_a_long_turn_does_not_write_an_old_window(void **state)
{
    for (int has_session = 0; has_session <= 1; has_session++) {
        (void)state;
        world_open();
        world_start_turn("hi", has_session != 0, GW_DISCONNECT_CANCEL);
        world_run();
        walk_to(has_session ? AT_STREAM : AT_HISTORY);
        if (!has_session) {
            world_connect_upstream();
        }
        for (int i = 0; i < 4; i++) { /* another turn's list may have come and gone meanwhile */
            world_advance_ms(15000);
            world_send_delta(".");
        }
        world_complete();
        assert_int_equal(world.appends, 1);
        assert_false(world.window_known);
        world_close();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matrix),
        cmocka_unit_test(test_events_come_in_order),
        cmocka_unit_test(test_accepted_comes_before_done_even_when_late),
        cmocka_unit_test(test_missing_context_is_named),
        cmocka_unit_test(test_new_session_asks_for_no_history),
        cmocka_unit_test(test_tokens_hold_off_the_silence_deadline),
        cmocka_unit_test(test_empty_deltas_reset_no_deadline),
        cmocka_unit_test(test_total_deadline),
        cmocka_unit_test(test_answer_over_the_cap),
        cmocka_unit_test(test_first_error_wins),
        cmocka_unit_test(test_refused_save_asks_no_model),
        cmocka_unit_test(test_nothing_is_touched_before_the_first_event),
        cmocka_unit_test(test_a_second_follower_keeps_the_turn),
        cmocka_unit_test(test_a_long_turn_does_not_write_an_old_window),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
