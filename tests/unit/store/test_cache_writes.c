/*
 * Writing into the cache, and what is served when that went wrong: Redis gone, late, or back.
 *
 * A frozen server (SIGSTOP) is a Redis that is late, a killed one a Redis that is gone. A connection
 * of the test's own looks into it. The Postgres reader is a fake (cache_fixture.h).
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <hiredis/hiredis.h>

#include "cache_fixture.h"
#include "cache_script.h"

static void a_turn_is_appended_to_the_list(void **state)
{
    (void)state;
    NEEDS_REDIS();
    ask_history(0, 4);
    RUN_UNTIL(loop, waiting == 1);
    answer_history(0, 1);
    append_numbers(2, 3, 0, 1); /* the window is not needed: the list is there */
    ask_history(0, 4);          /* at once */
    RUN_UNTIL(loop, asked[0].times == 1);
    expect_history(0, STORE_SOURCE_CACHE, 0, 3);
    assert_in_range(redis_server_integer(&server, "PTTL " HISTORY_KEY), 3500000, 3600000);
    append_numbers(4, 5, -1, 0); /* trimmed to four */
    ask_history(0, 4);
    RUN_UNTIL(loop, asked[0].times == 1);
    expect_history(0, STORE_SOURCE_CACHE, 2, 5);
    assert_int_equal(redis_server_integer(&server, "LLEN " HISTORY_KEY), 4);
}

static void turns_at_once_stay_in_the_order_of_time(void **state)
{
    (void)state;
    NEEDS_REDIS();
    append_numbers(0, 1, 0, -1);
    append_turn(3, 4); /* began later, ended earlier */
    append_turn(2, 5); /* trimmed after it has been sorted */
    ask_history(0, 4);
    RUN_UNTIL(loop, asked[0].times == 1);
    expect_history(0, STORE_SOURCE_CACHE, 2, 5);
    append_turn(6, 7); /* and further turns at the end */
    ask_history(0, 4);
    RUN_UNTIL(loop, asked[0].times == 1);
    expect_history(0, STORE_SOURCE_CACHE, 4, 7);
}

static void what_a_fill_has_brought_takes_one_place(void **state)
{
    (void)state;
    NEEDS_REDIS();
    for (unsigned i = 0; i <= 2; i++) {
        push_number(i); /* the question of the turn is in Postgres while it runs */
    }
    append_turn(2, 3);
    ask_history(0, 4);
    RUN_UNTIL(loop, asked[0].times == 1);
    expect_history(0, STORE_SOURCE_CACHE, 0, 3);
    assert_int_equal(redis_server_integer(&server, "LLEN " HISTORY_KEY), 4);
}

static void a_turn_without_a_list_writes_the_window(void **state)
{
    (void)state;
    NEEDS_REDIS();
    append_numbers(2, 3, -1, 0); /* no list, no window: nothing */
    settle();
    assert_int_equal(exists(HISTORY_KEY), 0);
    append_numbers(3, 5, 0, 2); /* the window and the new ones, trimmed */
    ask_history(0, 4);
    RUN_UNTIL(loop, asked[0].times == 1);
    expect_history(0, STORE_SOURCE_CACHE, 2, 5);
    store_cache_drop_history(cache, ANN, strlen(ANN), &session);
    settle();
    append_numbers(0, 1, 0, -1); /* an empty window: the first turn of a session */
    ask_history(0, 4);
    RUN_UNTIL(loop, asked[0].times == 1);
    expect_history(0, STORE_SOURCE_CACHE, 0, 1);
    assert_in_range(redis_server_integer(&server, "PTTL " HISTORY_KEY), 3500000, 3600000);
    assert_int_equal(started, 0);
}

static void a_fill_does_not_undo_an_append(void **state)
{
    (void)state;
    NEEDS_REDIS();
    ask_history(0, 4);
    RUN_UNTIL(loop, waiting == 1); /* reads the rows before the turn */
    for (unsigned i = 0; i < 4; i++) {
        push_number(i); /* another instance appends its window meanwhile */
    }
    answer_history(0, 1);
    expect_history(0, STORE_SOURCE_DATABASE, 0, 1);
    ask_history(0, 4);
    RUN_UNTIL(loop, asked[0].times == 1);
    expect_history(0, STORE_SOURCE_CACHE, 0, 3);

    store_cache_drop_history(cache, ANN, strlen(ANN), &session);
    settle();
    ask_history(0, 4);
    RUN_UNTIL(loop, waiting == 1);
    append_numbers(2, 3, -1, 0); /* this loop appends, without a window: nothing is written */
    answer_history(0, 1);        /* and these rows lack that turn */
    settle();
    assert_int_equal(exists(HISTORY_KEY), 0);
}

static void committed_only_shortens(void **state)
{
    (void)state;
    NEEDS_REDIS();
    store_cache_committed(cache, ANN, strlen(ANN), &session);
    settle();
    assert_int_equal(exists(HISTORY_KEY), 0);
    append_numbers(0, 1, 0, -1);
    store_cache_committed(cache, ANN, strlen(ANN), &session);
    settle();
    assert_in_range(redis_server_integer(&server, "PTTL " HISTORY_KEY), 50000, 60000);
    freeReplyObject(redis_server_ask(&server, "PEXPIRE " HISTORY_KEY " 7000"));
    store_cache_committed(cache, ANN, strlen(ANN), &session);
    settle();
    assert_in_range(redis_server_integer(&server, "PTTL " HISTORY_KEY), 1, 7000);
    freeReplyObject(redis_server_ask(&server, "PERSIST " HISTORY_KEY));
    store_cache_committed(cache, ANN, strlen(ANN), &session);
    settle();
    assert_in_range(redis_server_integer(&server, "PTTL " HISTORY_KEY), 50000, 60000);
}

static void scripts_are_loaded_and_found_again(void **state)
{
    const struct store_cache_script *scripts[] = {
        &store_cache_script_fill, &store_cache_script_append, &store_cache_script_shorten};

    (void)state;
    NEEDS_REDIS();
    settle();
    for (size_t i = 0; i < 3; i++) { /* the constants are right, and loaded as the link came up */
        redisReply *reply = redis_server_ask(&server, "SCRIPT EXISTS %s", scripts[i]->sha1);
        assert_int_equal(reply->element[0]->integer, 1);
        freeReplyObject(reply);
        reply = redis_server_ask(&server, "SCRIPT LOAD %s", scripts[i]->text);
        assert_string_equal(reply->str, scripts[i]->sha1);
        freeReplyObject(reply);
    }
    freeReplyObject(redis_server_ask(&server, "SCRIPT FLUSH"));
    append_numbers(0, 1, 0, -1);
    settle();
    settle(); /* NOSCRIPT, then EVAL */
    assert_int_equal(redis_server_integer(&server, "LLEN " HISTORY_KEY), 2);
    assert_int_equal(sl_counter_get(&stats.redis_errors), 0);
}

/* ------------------------------------------------------------------ Redis gone, late, back */

static void without_redis_profiles_come_from_this_process(void **state)
{
    (void)state;
    NEEDS_REDIS();
    ask_profile(0);
    RUN_UNTIL(loop, waiting == 1);
    answer_profile("{\"a\":1}");
    settle();
    redis_server_kill(&server);
    ask_profile(0); /* sent into a closed connection, or not at all */
    RUN_UNTIL(loop, asked[0].times == 1);
    expect_profile(0, STORE_SOURCE_LOCAL, "{\"a\":1}");
    RUN_UNTIL(loop, !is_up());
    ask_profile(1);
    run_turns(1);
    expect_profile(1, STORE_SOURCE_LOCAL, "{\"a\":1}");
    store_cache_drop_profile(cache, ANN, strlen(ANN));
    ask_profile(2);
    assert_int_equal(waiting, 1);
    answer_profile("{\"b\":2}");
    expect_profile(2, STORE_SOURCE_DATABASE, "{\"b\":2}");
    assert_int_equal(started, 2);
    assert_int_equal(sl_counter_get(&stats.profile.fallbacks), 3);
    ask_history(3, 4);
    assert_int_equal(waiting, 1);
    answer_history(0, 3);
    expect_history(3, STORE_SOURCE_DATABASE, 0, 3);
    assert_int_equal(sl_counter_get(&stats.history.fallbacks), 1);
    redis_server_restart(&server);
    RUN_UNTIL(loop, is_up());
    settle();
    ask_profile(0);
    RUN_UNTIL(loop, waiting == 1);
    answer_profile("{\"b\":2}");
    settle();
    assert_int_equal(exists(PROFILE_KEY), 1);
}

static void a_late_redis_is_a_fallback(void **state)
{
    (void)state;
    NEEDS_REDIS();
    end_cache();
    assert_int_equal(make_cache(server.url, LATE_MS), 0);
    RUN_UNTIL(loop, is_up());
    settle();
    redis_server_freeze(&server);
    ask_history(0, 4);
    RUN_UNTIL(loop, waiting == 1);
    answer_history(0, 1);
    expect_history(0, STORE_SOURCE_DATABASE, 0, 1);
    assert_int_equal(sl_counter_get(&stats.history.fallbacks), 1);
    assert_true(sl_counter_get(&stats.redis_timeouts) >= 1);
    redis_server_thaw(&server);
}

/* The list in Redis lacks a turn: it must not be served, and goes as soon as Redis answers. */
static void a_lost_append_makes_the_list_stale(void **state)
{
    (void)state;
    NEEDS_REDIS();
    end_cache();
    assert_int_equal(make_cache(server.url, LATE_MS), 0);
    RUN_UNTIL(loop, is_up());
    ask_history(0, 4);
    RUN_UNTIL(loop, waiting == 1);
    answer_history(0, 1);
    settle();
    redis_server_freeze(&server);
    for (unsigned i = 0; i < 3; i++) { /* late three times: the link goes down */
        ask_profile(3 + i);
    }
    RUN_UNTIL(loop, !is_up());
    append_numbers(2, 3, 0, 1); /* never sent */
    ask_history(0, 4);
    assert_int_equal(sl_counter_get(&stats.history.fallbacks), 1);
    redis_server_thaw(&server);
    RUN_UNTIL(loop, is_up());
    ask_history(1, 4); /* up, and still not believed */
    assert_int_equal(sl_counter_get(&stats.history.misses), 2);
    RUN_UNTIL(loop, exists(HISTORY_KEY) == 0);
    while (waiting > 0 && sources[0]->kind == STORE_READ_PROFILE) {
        answer_profile("{}");
    }
    answer_history(0, 3);
    expect_history(0, STORE_SOURCE_DATABASE, 0, 3);
    expect_history(1, STORE_SOURCE_DATABASE, 0, 3);
    settle();
    ask_history(0, 4);
    RUN_UNTIL(loop, waiting > 0 || asked[0].times == 1);
    if (waiting > 0) { /* the rows came before the DEL was confirmed: nothing was filled */
        answer_history(0, 3);
        settle();
        ask_history(0, 4);
        RUN_UNTIL(loop, asked[0].times == 1);
    }
    expect_history(0, STORE_SOURCE_CACHE, 0, 3);
}

/* Late, not lost: it runs after all, and the DEL behind it clears up. */
static void a_late_append_is_cleared_up(void **state)
{
    (void)state;
    NEEDS_REDIS();
    end_cache();
    assert_int_equal(make_cache(server.url, LATE_MS), 0);
    RUN_UNTIL(loop, is_up());
    append_numbers(0, 1, 0, -1);
    settle();
    redis_server_freeze(&server);
    append_numbers(2, 3, 0, 1);
    RUN_UNTIL(loop, sl_counter_get(&stats.redis_timeouts) >= 1);
    ask_history(0, 4);
    RUN_UNTIL(loop, waiting == 1);
    redis_server_thaw(&server);
    RUN_UNTIL(loop, exists(HISTORY_KEY) == 0);
    answer_history(0, 3);
    expect_history(0, STORE_SOURCE_DATABASE, 0, 3);
    RUN_UNTIL(loop, is_up());
    append_numbers(4, 5, 0, 3); /* the next turn writes a good list, whatever is still under way */
    RUN_UNTIL(loop, exists(HISTORY_KEY) == 1 || sl_counter_get(&stats.redis_timeouts) > 3);
    ask_history(0, 4);
    RUN_UNTIL(loop, waiting > 0 || asked[0].times == 1);
    if (waiting > 0) {
        answer_history(2, 5);
    }
    expect_history(0, asked[0].read.source, 2, 5);
}

static void a_failed_drop_does_not_serve_the_old_profile(void **state)
{
    (void)state;
    NEEDS_REDIS();
    end_cache();
    assert_int_equal(make_cache(server.url, LATE_MS), 0);
    RUN_UNTIL(loop, is_up());
    ask_profile(0);
    RUN_UNTIL(loop, waiting == 1);
    answer_profile("{\"old\":1}");
    settle();
    redis_server_freeze(&server);
    store_cache_drop_profile(cache, ANN, strlen(ANN));
    RUN_UNTIL(loop, !is_up()); /* the DEL and its repetitions are late */
    redis_server_thaw(&server);
    RUN_UNTIL(loop, is_up());
    ask_profile(0); /* maybe before the DEL, which the link coming up sends first */
    RUN_UNTIL(loop, waiting == 1);
    answer_profile("{\"new\":1}");
    expect_profile(0, STORE_SOURCE_DATABASE, "{\"new\":1}");
    RUN_UNTIL(loop, exists(PROFILE_KEY) == 0 || sl_counter_get(&stats.profile.hits) > 0);
    assert_int_equal(sl_counter_get(&stats.profile.hits), 0);
}

/* Every drop while Redis is away is remembered, and made good in turns when it is back. */
static void many_lost_drops_are_made_good(void **state)
{
    char user[32];

    (void)state;
    NEEDS_REDIS();
    for (unsigned i = 0; i < 300; i++) {
        freeReplyObject(redis_server_ask(&server, "SET sl:{u%u}:p x", i));
    }
    redis_server_freeze(&server);
    end_cache();
    assert_int_equal(make_cache(server.url, 1000), 0); /* not up: the server does not greet */
    for (unsigned i = 0; i < 300; i++) {
        (void)snprintf(user, sizeof(user), "u%u", i);
        store_cache_drop_profile(cache, user, strlen(user));
    }
    redis_server_thaw(&server);
    RUN_UNTIL(loop, redis_server_integer(&server, "DBSIZE") == 0);
}

static void the_end_is_quiet(void **state)
{
    (void)state;
    NEEDS_REDIS();
    ask_profile(0);
    RUN_UNTIL(loop, waiting == 1);
    store_cache_cancel(cache, &asked[0].read);
    ask_history(1, 4);
    store_cache_cancel(cache, &asked[1].read);
    run_turns(1);
    append_numbers(0, 1, 0, -1);
    store_cache_drop_profile(cache, ANN, strlen(ANN));
    store_cache_committed(cache, ANN, strlen(ANN), &session);
    end_cache(); /* with a flight, a lookup and writes under way */
    assert_int_equal(asked[0].times, 1);
    assert_int_equal(asked[1].times, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_REDIS(a_turn_is_appended_to_the_list),
        WITH_REDIS(turns_at_once_stay_in_the_order_of_time),
        WITH_REDIS(what_a_fill_has_brought_takes_one_place),
        WITH_REDIS(a_turn_without_a_list_writes_the_window),
        WITH_REDIS(a_fill_does_not_undo_an_append),
        WITH_REDIS(committed_only_shortens),
        WITH_REDIS(scripts_are_loaded_and_found_again),
        WITH_REDIS(without_redis_profiles_come_from_this_process),
        WITH_REDIS(a_late_redis_is_a_fallback),
        WITH_REDIS(a_lost_append_makes_the_list_stale),
        WITH_REDIS(a_late_append_is_cleared_up),
        WITH_REDIS(a_failed_drop_does_not_serve_the_old_profile),
        WITH_REDIS(many_lost_drops_are_made_good),
        WITH_REDIS(the_end_is_quiet),
    };

    (void)signal(SIGPIPE, SIG_IGN); /* as every process with a link must */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
