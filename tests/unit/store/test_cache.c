/*
 * Reading through the cache: hits, misses, stale values, single flight, cancelling, and the wire.
 *
 * Against a real redis-server; the Postgres reader is a fake whose reads the test answers by hand
 * (cache_fixture.h).
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <hiredis/hiredis.h>

#include "cache_fixture.h"
#include "fake_redis.h"

/* ------------------------------------------------------------------ profiles */

static void a_profile_is_read_once_from_the_database(void **state)
{
    static const char json[] = "{ \"name\":\"\xc3\x84nn \\u0041\",\n \"n\": 1.50 }";

    (void)state;
    NEEDS_REDIS();
    ask_profile(0);
    RUN_UNTIL(loop, waiting == 1);
    answer_profile(json);
    expect_profile(0, STORE_SOURCE_DATABASE, json);
    ask_profile(1);
    RUN_UNTIL(loop, asked[1].times == 1);
    expect_profile(1, STORE_SOURCE_CACHE, json);
    assert_int_equal(started, 1);
    long long ttl_ms = redis_server_integer(&server, "PTTL " PROFILE_KEY);
    assert_in_range(ttl_ms, 269000, 330000); /* 300 s and 10 % to each side */
    assert_int_equal(sl_counter_get(&stats.profile.misses), 1);
    assert_int_equal(sl_counter_get(&stats.profile.hits), 1);
}

static void the_absence_of_a_profile_is_cached_briefly(void **state)
{
    (void)state;
    NEEDS_REDIS();
    ask_profile(0);
    RUN_UNTIL(loop, waiting == 1);
    answer_profile(NULL);
    expect_profile(0, STORE_SOURCE_DATABASE, NULL);
    ask_profile(1);
    RUN_UNTIL(loop, asked[1].times == 1);
    expect_profile(1, STORE_SOURCE_CACHE, NULL);
    assert_in_range(redis_server_integer(&server, "PTTL " PROFILE_KEY), 4000, 5500);
}

static void expiries_are_spread(void **state)
{
    long long least = 1000000, most = 0;

    (void)state;
    NEEDS_REDIS();
    for (unsigned i = 0; i < 40; i++) {
        store_cache_drop_profile(cache, ANN, strlen(ANN));
        settle();
        ask_profile(0);
        RUN_UNTIL(loop, waiting == 1);
        answer_profile("{}");
        settle();
        long long ttl_ms = redis_server_integer(&server, "PTTL " PROFILE_KEY);
        least = ttl_ms < least ? ttl_ms : least;
        most = ttl_ms > most ? ttl_ms : most;
    }
    assert_true(most - least > 20000); /* of 60,000: misses once in about 10^14 runs */
}

static void values_that_do_not_match_are_dropped(void **state)
{
    static const char *const values[] = {"", "{}", "not json",
                                         "{\"v\":1,\"u\":\"eve\",\"p\":\"{}\"}",
                                         "{\"v\":2,\"u\":\"ann\",\"p\":\"{}\"}"};

    (void)state;
    NEEDS_REDIS();
    for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        freeReplyObject(redis_server_ask(&server, "SET " PROFILE_KEY " %s", values[i]));
        ask_profile(0);
        RUN_UNTIL(loop, waiting == 1);
        settle();
        assert_int_equal(exists(PROFILE_KEY), 0);
        answer_profile("{\"ok\":1}");
        expect_profile(0, STORE_SOURCE_DATABASE, "{\"ok\":1}");
        settle();
        assert_int_equal(exists(PROFILE_KEY), 1); /* and filled again */
        assert_int_equal(sl_counter_get(&stats.profile.stale), i + 1);
    }
    freeReplyObject(redis_server_ask(&server, "DEL " PROFILE_KEY));
    freeReplyObject(redis_server_ask(&server, "RPUSH " PROFILE_KEY " x")); /* of another type */
    ask_profile(0);
    RUN_UNTIL(loop, waiting == 1);
    settle();
    assert_int_equal(exists(PROFILE_KEY), 0);
    answer_profile("{}");
    assert_int_equal(sl_counter_get(&stats.profile.fallbacks), 0);
}

static void a_dropped_profile_is_read_again(void **state)
{
    (void)state;
    NEEDS_REDIS();
    ask_profile(0);
    RUN_UNTIL(loop, waiting == 1);
    answer_profile("{\"old\":1}");
    settle();
    store_cache_drop_profile(cache, ANN, strlen(ANN));
    ask_profile(0); /* at once: before the DEL is answered */
    RUN_UNTIL(loop, waiting == 1);
    settle();
    assert_int_equal(exists(PROFILE_KEY), 0);
    answer_profile("{\"new\":1}");
    settle();
    ask_profile(0);
    RUN_UNTIL(loop, asked[0].times == 1);
    expect_profile(0, STORE_SOURCE_CACHE, "{\"new\":1}");
}

static void a_drop_outdates_the_flight_under_way(void **state)
{
    (void)state;
    NEEDS_REDIS();
    ask_profile(0);
    RUN_UNTIL(loop, waiting == 1);
    store_cache_drop_profile(cache, ANN, strlen(ANN)); /* its read may be from before the change */
    settle();
    ask_profile(1);
    RUN_UNTIL(loop, waiting == 2); /* so this one does not join it */
    answer_profile("{\"old\":1}");
    expect_profile(0, STORE_SOURCE_DATABASE, "{\"old\":1}");
    settle();
    assert_int_equal(exists(PROFILE_KEY), 0); /* and it fills nothing */
    answer_profile("{\"new\":1}");
    expect_profile(1, STORE_SOURCE_DATABASE, "{\"new\":1}");
    settle();
    redis_server_kill(&server);
    RUN_UNTIL(loop, !is_up());
    ask_profile(2);
    RUN_UNTIL(loop, asked[2].times == 1);
    expect_profile(2, STORE_SOURCE_LOCAL, "{\"new\":1}");
}

/* ------------------------------------------------------------------ single flight */

static void many_misses_are_one_read(void **state)
{
    (void)state;
    NEEDS_REDIS();
    for (unsigned i = 0; i < 4; i++) {
        ask_profile(i);
    }
    settle();
    assert_int_equal(started, 1);
    ask_profile(4); /* later, while the flight is under way */
    settle();
    assert_int_equal(started, 1);
    store_cache_cancel(cache, &asked[0].read); /* the one that started it */
    store_cache_cancel(cache, &asked[2].read);
    store_cache_cancel(cache, &asked[2].read);
    assert_int_equal(asked[0].times, 0); /* cancel only asks */
    run_turns(2);
    assert_int_equal(asked[0].times, 1);
    assert_int_equal(asked[0].status, SL_E_CANCELLED);
    assert_int_equal(asked[2].times, 1);
    memset(&asked[0].read, 0, sizeof(asked[0].read)); /* their memory is the caller's */
    memset(&asked[2].read, 0, sizeof(asked[2].read));
    answer_profile("{\"a\":1}");
    expect_profile(1, STORE_SOURCE_DATABASE, "{\"a\":1}");
    expect_profile(3, STORE_SOURCE_DATABASE, "{\"a\":1}");
    expect_profile(4, STORE_SOURCE_DATABASE, "{\"a\":1}");
    assert_ptr_not_equal(asked[1].read.text.base, asked[3].read.text.base);
    store_cache_cancel(cache, &asked[1].read); /* finished: does nothing */
    run_turns(2);
    assert_int_equal(asked[1].times, 1);
}

static void a_flight_without_waiters_still_fills(void **state)
{
    (void)state;
    NEEDS_REDIS();
    ask_profile(0);
    RUN_UNTIL(loop, waiting == 1);
    store_cache_cancel(cache, &asked[0].read);
    run_turns(2);
    assert_int_equal(asked[0].status, SL_E_CANCELLED);
    answer_profile("{}");
    settle();
    assert_int_equal(exists(PROFILE_KEY), 1);
}

static void a_read_may_be_cancelled_while_redis_is_asked(void **state)
{
    (void)state;
    NEEDS_REDIS();
    ask_profile(0);
    store_cache_cancel(cache, &asked[0].read);
    run_turns(1);
    assert_int_equal(asked[0].times, 1);
    assert_int_equal(asked[0].status, SL_E_CANCELLED);
    memset(&asked[0].read, 0xee, sizeof(asked[0].read)); /* the answer must not find it */
    settle();
    assert_int_equal(started, 0);
    memset(&asked[0].read, 0, sizeof(asked[0].read));
}

static void cancel_next_and_ask_again(struct asked *one)
{
    one->then = NULL;
    store_cache_cancel(cache, &asked[1].read);
    ask_profile(3);
}

static void waiters_may_cancel_and_start_others(void **state)
{
    (void)state;
    NEEDS_REDIS();
    for (unsigned i = 0; i < 3; i++) {
        ask_profile(i);
    }
    RUN_UNTIL(loop, waiting == 1);
    settle();
    asked[0].then = cancel_next_and_ask_again;
    answer_profile("{}");
    expect_profile(0, STORE_SOURCE_DATABASE, "{}");
    expect_profile(2, STORE_SOURCE_DATABASE, "{}");
    RUN_UNTIL(loop, asked[1].times == 1 && asked[3].times == 1);
    assert_int_equal(asked[1].status, SL_E_CANCELLED);
    expect_profile(3, STORE_SOURCE_CACHE, "{}");
    assert_int_equal(started, 1);
}

static void database_errors_reach_every_waiter(void **state)
{
    (void)state;
    NEEDS_REDIS();
    ask_profile(0);
    ask_profile(1);
    settle();
    assert_int_equal(waiting, 1);
    answer_error(SL_E_DATABASE_TIMEOUT);
    assert_int_equal(asked[0].status, SL_E_DATABASE_TIMEOUT);
    assert_int_equal(asked[1].status, SL_E_DATABASE_TIMEOUT);
    settle();
    assert_int_equal(exists(PROFILE_KEY), 0);
    start_error = SL_E_INVALID_VALUE;
    ask_profile(0);
    RUN_UNTIL(loop, asked[0].times == 1);
    assert_int_equal(asked[0].status, SL_E_INVALID_VALUE);
}

static void bad_reads_are_refused(void **state)
{
    char user[STORE_USER_ID_MAX + 1];
    struct store_read read = {.op.done = on_read, .kind = STORE_READ_PROFILE};

    (void)state;
    NEEDS_REDIS();
    memset(user, 'x', sizeof(user));
    assert_int_equal(store_cache_read(cache, &read), SL_E_INVALID_VALUE);
    read.user = user;
    assert_int_equal(store_cache_read(cache, &read), SL_E_INVALID_VALUE);
    read.user_len = sizeof(user);
    assert_int_equal(store_cache_read(cache, &read), SL_E_INVALID_VALUE);
    read.user_len = 1;
    read.kind = STORE_READ_SESSIONS;
    assert_int_equal(store_cache_read(cache, &read), SL_E_INVALID_VALUE);
    assert_false(read.op.running);
    store_cache_cancel(cache, &read);
    struct store_config config = {.redis_url = "http://nothing"};
    struct store_cache *none = NULL;
    assert_int_equal(store_cache_create(loop, NULL, &config, local, NULL, &stats, &none),
                     SL_E_INVALID_VALUE);
    assert_null(none);
    store_cache_destroy(NULL);
}

/* ------------------------------------------------------------------ histories */

static void a_history_is_filled_and_served(void **state)
{
    (void)state;
    NEEDS_REDIS();
    ask_history(0, HISTORY_MESSAGES);
    ask_history(1, 2);
    settle();
    assert_int_equal(started, 1);
    answer_history(0, 3);
    expect_history(0, STORE_SOURCE_DATABASE, 0, 3);
    expect_history(1, STORE_SOURCE_DATABASE, 2, 3); /* the newest two */
    ask_history(0, 100);
    ask_history(1, 3);
    ask_history(2, 0);
    RUN_UNTIL(loop, asked[0].times == 1 && asked[1].times == 1 && asked[2].times == 1);
    expect_history(0, STORE_SOURCE_CACHE, 0, 3);
    expect_history(1, STORE_SOURCE_CACHE, 1, 3);
    expect_history(2, STORE_SOURCE_CACHE, 0, 3);
    assert_null(asked[0].read.messages[1].model.base);
    assert_non_null(asked[0].read.messages[3].content.base); /* empty, not null */
    assert_in_range(redis_server_integer(&server, "PTTL " HISTORY_KEY), 50000, 60000);
    assert_int_equal(sl_counter_get(&stats.history.hits), 3);
    assert_int_equal(sl_counter_get(&stats.history.misses), 2);
}

static void an_empty_history_is_a_result(void **state)
{
    (void)state;
    NEEDS_REDIS();
    ask_history(0, 4);
    RUN_UNTIL(loop, waiting == 1);
    answer_history(0, -1);
    expect_history(0, STORE_SOURCE_DATABASE, 0, -1);
    settle();
    assert_int_equal(exists(HISTORY_KEY), 0);
}

static void one_bad_element_spoils_the_list(void **state)
{
    (void)state;
    NEEDS_REDIS();
    for (unsigned bad = 0; bad < 3; bad++) {
        for (unsigned i = 0; i < 3; i++) {
            if (i == bad) {
                freeReplyObject(redis_server_ask(&server, "RPUSH " HISTORY_KEY " {}"));
            } else {
                push_number(i);
            }
        }
        ask_history(0, 4);
        RUN_UNTIL(loop, waiting == 1);
        settle();
        assert_int_equal(exists(HISTORY_KEY), 0);
        answer_history(0, 2);
        expect_history(0, STORE_SOURCE_DATABASE, 0, 2);
        assert_int_equal(sl_counter_get(&stats.history.stale), bad + 1);
        store_cache_drop_history(cache, ANN, strlen(ANN), &session);
        settle();
        assert_int_equal(exists(HISTORY_KEY), 0);
    }
}

static void a_message_that_is_there_twice_is_read_once(void **state)
{
    (void)state;
    NEEDS_REDIS();
    push_number(0);
    push_number(1);
    push_number(0);
    push_number(2);
    ask_history(0, 4);
    RUN_UNTIL(loop, asked[0].times == 1);
    expect_history(0, STORE_SOURCE_CACHE, 0, 2);
}

/* ------------------------------------------------------------------ on the wire */

static struct fake_redis fake;

static void say_nothing_cached(struct fake_redis *peer, const struct fake_redis_command *command)
{
    fake_redis_say(peer, fake_redis_is(command, "GET") ? "$-1\r\n" : "*0\r\n");
}

static void reads_of_one_turn_are_one_round_trip(void **state)
{
    (void)state;
    fake_redis_start(&fake, loop, false);
    fake.answer = say_nothing_cached;
    assert_int_equal(make_cache(fake.url, 1000), 0);
    RUN_UNTIL(loop, is_up());
    run_turns(5);
    unsigned reads = fake.reads;
    ask_profile(0);
    ask_history(1, 4);
    RUN_UNTIL(loop, waiting == 2);
    assert_int_equal(fake.reads - reads, 1);
    assert_int_equal(fake.commands, 2);
    answer_error(SL_E_DATABASE_UNAVAILABLE);
    answer_error(SL_E_DATABASE_UNAVAILABLE);
    fake_redis_stop(&fake);
}

static const char *wrong_reply;

static void say_wrong(struct fake_redis *peer, const struct fake_redis_command *command)
{
    fake_redis_say(peer, fake_redis_is(command, "DEL") ? ":0\r\n" : wrong_reply);
}

static void replies_of_the_wrong_kind_are_stale(void **state)
{
    static const char *const replies[] = {"+OK\r\n",       ":1\r\n",       "*1\r\n:1\r\n",
                                          "*1\r\n$-1\r\n", "*1\r\n*0\r\n", "$0\r\n\r\n"};

    (void)state;
    fake_redis_start(&fake, loop, false);
    fake.answer = say_wrong;
    assert_int_equal(make_cache(fake.url, 1000), 0);
    RUN_UNTIL(loop, is_up());
    for (unsigned i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
        wrong_reply = replies[i];
        ask_history(0, 4);
        RUN_UNTIL(loop, waiting == 1);
        answer_error(SL_E_DATABASE_UNAVAILABLE);
        ask_profile(1);
        RUN_UNTIL(loop, waiting == 1);
        answer_error(SL_E_DATABASE_UNAVAILABLE);
        run_turns(5); /* the DEL is confirmed */
        assert_int_equal(sl_counter_get(&stats.history.stale), i + 1);
        assert_int_equal(sl_counter_get(&stats.profile.stale), i + 1);
    }
    assert_int_equal(fake.accepted, 1);
    fake_redis_stop(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_REDIS(a_profile_is_read_once_from_the_database),
        WITH_REDIS(the_absence_of_a_profile_is_cached_briefly),
        WITH_REDIS(expiries_are_spread),
        WITH_REDIS(values_that_do_not_match_are_dropped),
        WITH_REDIS(a_dropped_profile_is_read_again),
        WITH_REDIS(a_drop_outdates_the_flight_under_way),
        WITH_REDIS(many_misses_are_one_read),
        WITH_REDIS(a_flight_without_waiters_still_fills),
        WITH_REDIS(a_read_may_be_cancelled_while_redis_is_asked),
        WITH_REDIS(waiters_may_cancel_and_start_others),
        WITH_REDIS(database_errors_reach_every_waiter),
        WITH_REDIS(bad_reads_are_refused),
        WITH_REDIS(a_history_is_filled_and_served),
        WITH_REDIS(an_empty_history_is_a_result),
        WITH_REDIS(one_bad_element_spoils_the_list),
        WITH_REDIS(a_message_that_is_there_twice_is_read_once),
        cmocka_unit_test_setup_teardown(reads_of_one_turn_are_one_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(replies_of_the_wrong_kind_are_stale, set_up, tear_down),
    };

    (void)signal(SIGPIPE, SIG_IGN); /* as every process with a link must */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
