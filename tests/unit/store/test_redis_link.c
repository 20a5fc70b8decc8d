/*
 * The link to Redis as it should be: greeting, commands, order, deadlines, the end.
 *
 * A real redis-server where its behaviour matters, a scripted one (fake_redis.h) otherwise. Deadlines
 * are tested with the loop's test clock: nothing sleeps.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "link_fixture.h"
#include "redis_server.h"

/* ------------------------------------------------------------------ with a real server */

static void speaks_with_redis(void **state)
{
    struct redis_server server;
    static const char bytes[] = "%s\0%b %n\r\n$3\r\n\xff";

    (void)state;
    if (!redis_server_start(&server, NULL)) {
        skip();
    }
    make_link(server.url, 1000);
    assert_int_not_equal(store_redis_link_status(test_link), STORE_LINK_UP);
    assert_int_equal(send_line(0, "GET k"), SL_E_REDIS_UNAVAILABLE); /* not yet up: at once */
    RUN_UNTIL(loop, is_up());
    assert_int_equal(ups, 1);

    struct store_text set[] = {{"SET", 3}, {bytes, sizeof(bytes)}, {bytes, sizeof(bytes)}};
    struct store_text get[] = {{"GET", 3}, {bytes, sizeof(bytes)}};
    assert_int_equal(send_args(0, set, 3), 0);
    assert_int_equal(send_args(1, get, 2), 0);
    assert_int_equal(send_line(2, "GET nothing"), 0);
    assert_int_equal(send_line(3, "RPUSH list a b c"), 0);
    assert_int_equal(send_line(4, "LRANGE list 0 -1"), 0);
    assert_int_equal(send_line(5, "INCR list"), 0);
    struct store_text empty[] = {{"SET", 3}, {"e", 1}, {NULL, 0}};
    assert_int_equal(send_args(6, empty, 3), 0);
    assert_int_equal(finished, 0); /* never before start has returned */
    RUN_UNTIL(loop, finished == 7);

    assert_int_equal(answers[0].status, 0);
    assert_int_equal(answers[1].type, STORE_REDIS_TEXT);
    assert_int_equal(answers[1].text_len, sizeof(bytes));
    assert_memory_equal(answers[1].text, bytes, sizeof(bytes));
    assert_int_equal(answers[2].type, STORE_REDIS_NIL);
    assert_int_equal(answers[3].integer, 3);
    assert_string_equal(answers[4].text, "a,b,c");
    assert_int_equal(answers[5].status, SL_E_REDIS_UNAVAILABLE);
    assert_int_equal(answers[5].type, STORE_REDIS_ERROR);
    assert_int_equal(answers[6].status, 0);
    assert_int_equal(sl_counter_get(&stats.redis_commands), 8); /* and the greeting, PING */
    redis_server_stop(&server);
}

static void logs_in_and_selects(void **state)
{
    struct redis_server server;
    char url[256];

    (void)state;
    if (!redis_server_start(&server, "p@s/w:d%")) {
        skip();
    }
    (void)snprintf(url, sizeof(url), "unix://:p%%40s%%2Fw:d%%25@%s?db=3", server.socket);
    make_link(url, 1000);
    RUN_UNTIL(loop, is_up());
    assert_int_equal(send_line(0, "SET k v"), 0);
    RUN_UNTIL(loop, finished == 1);
    assert_int_equal(redis_server_integer(&server, "EXISTS k"), 0); /* that is database 0 */
    assert_int_equal(redis_server_integer(&server, "MOVE k 3"), 0); /* nothing to move */
    assert_int_equal(send_line(1, "MOVE k 0"), 0);
    RUN_UNTIL(loop, finished == 2);
    assert_int_equal(answers[1].integer, 1);
    assert_int_equal(redis_server_integer(&server, "EXISTS k"), 1);
    store_redis_link_destroy(test_link);

    (void)snprintf(url, sizeof(url), "unix://default:wrong@%s", server.socket);
    make_link(url, 1000);
    stop_the_clock();
    for (int i = 0; i < 60; i++) {
        test_clock_us += 100 * 1000;
        run_turns(3);
        assert_false(is_up());
    }
    redis_server_stop(&server);
}

static void carries_large_values(void **state)
{
    struct redis_server server;
    size_t len = 8 << 20;
    char *value = malloc(len);

    (void)state;
    if (!redis_server_start(&server, NULL)) {
        free(value);
        skip();
    }
    assert_non_null(value);
    memset(value, 'x', len);
    make_link(server.url, 10000);
    RUN_UNTIL(loop, is_up());
    struct store_text set[] = {{"SET", 3}, {"k", 1}, {value, len}};
    assert_int_equal(send_args(0, set, 3), 0); /* more than one write */
    assert_int_equal(send_line(1, "GET k"), 0);
    RUN_UNTIL(loop, finished == 2);
    assert_int_equal(answers[1].status, 0);
    assert_int_equal(answers[1].text_len, len);
    struct store_text huge[] = {{"SET", 3}, {"k", 1}, {value, (size_t)65 << 20}};
    assert_int_equal(send_args(2, huge, 3), SL_E_LIMIT); /* not read: the length is enough */
    free(value);
    redis_server_stop(&server);
}

static void survives_a_killed_server(void **state)
{
    struct redis_server server;

    (void)state;
    if (!redis_server_start(&server, NULL)) {
        skip();
    }
    make_link(server.url, 5000);
    RUN_UNTIL(loop, is_up());
    redis_server_freeze(&server);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(send_line(i, "GET k"), 0);
    }
    run_turns(5);
    assert_int_equal(finished, 0);
    redis_server_kill(&server);
    RUN_UNTIL(loop, finished == 5);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(answers[i].times, 1);
        assert_int_equal(answers[i].status, SL_E_REDIS_UNAVAILABLE);
        assert_int_equal(answers[i].type, STORE_REDIS_NIL);
    }
    assert_int_equal(sl_counter_get(&stats.redis_errors), 5);
    assert_false(is_up());
    assert_int_equal(send_line(0, "GET k"), SL_E_REDIS_UNAVAILABLE);
    redis_server_restart(&server);
    RUN_UNTIL(loop, is_up());
    assert_int_equal(ups, 2);
    assert_int_equal(send_line(0, "PING"), 0);
    RUN_UNTIL(loop, finished == 6);
    assert_string_equal(answers[0].text, "PONG");
    redis_server_stop(&server);
}

/* ------------------------------------------------------------------ time and order */

static void one_turn_is_one_write(void **state)
{
    (void)state;
    start_fake(1000);
    unsigned reads = fake.reads;
    script = ":1\r\n";
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(send_line(i, "GET some:key"), 0);
    }
    RUN_UNTIL(loop, finished == 10);
    assert_int_equal(fake.commands, 10);
    assert_int_equal(fake.reads - reads, 1);
    fake_redis_stop(&fake);
}

static void a_late_command_leaves_a_tombstone(void **state)
{
    (void)state;
    start_fake(50);
    stop_the_clock();
    assert_int_equal(send_line(0, "GET slow"), 0);
    run_turns(5);
    test_clock_us += 49 * 1000;
    run_turns(5);
    assert_int_equal(finished, 0);
    test_clock_us += 1 * 1000;
    run_turns(5);
    assert_int_equal(finished, 1);
    assert_int_equal(answers[0].status, SL_E_REDIS_TIMEOUT);
    assert_int_equal(sl_counter_get(&stats.redis_timeouts), 1);
    memset(&answers[0], 0xee, sizeof(answers[0])); /* the memory is the caller's again */

    assert_int_equal(send_line(1, "GET quick"), 0);
    run_turns(5);
    fake_redis_say(&fake, "$3\r\nold\r\n$3\r\nnew\r\n");
    run_turns(5);
    assert_int_equal(answers[1].times, 1);
    assert_int_equal(answers[1].status, 0);
    assert_string_equal(answers[1].text, "new");
    assert_true(is_up());
    assert_int_equal(fake.accepted, 1);
    fake_redis_stop(&fake);
}

static void three_late_commands_end_the_connection(void **state)
{
    (void)state;
    start_fake(50);
    stop_the_clock();
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(send_line(i, "GET a"), 0);
    }
    run_turns(3);
    test_clock_us += 50 * 1000;
    run_turns(3);
    assert_int_equal(finished, 2);
    assert_true(is_up());
    assert_int_equal(send_line(2, "GET b"), 0);
    assert_int_equal(send_line(3, "GET c"), 0); /* still in time when the connection ends */
    run_turns(1);
    test_clock_us += 50 * 1000 - 1;
    run_turns(3);
    assert_int_equal(finished, 2);
    test_clock_us += 1;
    run_turns(3);
    assert_int_equal(finished, 4);
    assert_int_equal(answers[2].status, SL_E_REDIS_TIMEOUT);
    assert_int_equal(answers[3].times, 1);
    assert_false(is_up());
    assert_int_equal(send_line(4, "GET d"), SL_E_REDIS_UNAVAILABLE);
    run_until_up();
    assert_int_equal(fake.accepted, 2);
    script = "+OK\r\n";
    assert_int_equal(send_line(4, "GET d"), 0);
    run_turns(5);
    assert_int_equal(answers[4].status, 0);
    fake_redis_stop(&fake);
}

static void answers_in_time_reset_the_count(void **state)
{
    (void)state;
    start_fake(50);
    stop_the_clock();
    for (unsigned round = 0; round < 4; round++) {
        assert_int_equal(send_line(0, "GET a"), 0);
        assert_int_equal(send_line(1, "GET b"), 0);
        run_turns(3);
        test_clock_us += 50 * 1000;
        run_turns(3);
        fake_redis_say(&fake, "+late\r\n+late\r\n");
        run_turns(3);
        script = "+OK\r\n";
        assert_int_equal(send_line(2, "GET c"), 0);
        run_turns(5);
        assert_int_equal(answers[2].status, 0);
        script = NULL;
    }
    assert_int_equal(sl_counter_get(&stats.redis_timeouts), 8);
    assert_int_equal(fake.accepted, 1);
    fake_redis_stop(&fake);
}

static void a_silent_second_ends_the_connection(void **state)
{
    (void)state;
    start_fake(50);
    stop_the_clock();
    assert_int_equal(send_line(0, "GET a"), 0);
    run_turns(3);
    test_clock_us += 50 * 1000;
    run_turns(3);
    assert_int_equal(answers[0].status, SL_E_REDIS_TIMEOUT);
    test_clock_us += 949 * 1000;
    run_turns(3);
    assert_true(is_up());
    test_clock_us += 1000;
    run_turns(3);
    assert_false(is_up());
    run_until_up();
    assert_int_equal(fake.accepted, 2);
    test_clock_us += 3600ULL * 1000000; /* nothing is owed: silence is fine */
    run_turns(3);
    assert_true(is_up());
    assert_int_equal(fake.accepted, 2);
    fake_redis_stop(&fake);
}

/* ------------------------------------------------------------------ the end */

static void destroying_finishes_what_is_under_way(void **state)
{
    (void)state;
    start_fake(1000);
    assert_int_equal(send_line(0, "GET a"), 0);
    run_turns(3);
    assert_int_equal(send_line(1, "GET b"), 0); /* not even written */
    store_redis_link_destroy(test_link);
    test_link = NULL;
    assert_int_equal(answers[0].times, 1);
    assert_int_equal(answers[0].status, SL_E_REDIS_UNAVAILABLE);
    assert_int_equal(answers[1].times, 1);
    run_turns(3);
    store_redis_link_destroy(NULL);
    fake_redis_stop(&fake);
}

static unsigned many_done;

static void count_done(struct sl_op *op, int status)
{
    (void)op;
    (void)status;
    many_done++;
}

static void refuses_too_much_at_once(void **state)
{
    static struct store_redis_command many[10000];
    struct store_text get[] = {{"GET", 3}, {"k", 1}};
    unsigned sent = 0;

    (void)state;
    start_fake(1000);
    many_done = 0;
    while (sent < 10000) {
        many[sent].op.done = count_done;
        if (store_redis_link_send(test_link, &many[sent], get, 2) != 0) {
            break;
        }
        sent++;
    }
    assert_int_equal(sent, 8192);
    store_redis_link_destroy(test_link);
    test_link = NULL;
    assert_int_equal(many_done, sent);
    fake_redis_stop(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(speaks_with_redis, set_up, tear_down),
        cmocka_unit_test_setup_teardown(logs_in_and_selects, set_up, tear_down),
        cmocka_unit_test_setup_teardown(carries_large_values, set_up, tear_down),
        cmocka_unit_test_setup_teardown(survives_a_killed_server, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_turn_is_one_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_late_command_leaves_a_tombstone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(three_late_commands_end_the_connection, set_up, tear_down),
        cmocka_unit_test_setup_teardown(answers_in_time_reset_the_count, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_silent_second_ends_the_connection, set_up, tear_down),
        cmocka_unit_test_setup_teardown(destroying_finishes_what_is_under_way, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refuses_too_much_at_once, set_up, tear_down),
    };

    (void)signal(SIGPIPE, SIG_IGN); /* as every process with a link must */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
