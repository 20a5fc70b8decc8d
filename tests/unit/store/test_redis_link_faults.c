/*
 * The link to Redis when something is wrong: broken replies, replies that nobody asked for, refused
 * greetings, servers that cannot be found or reached.
 *
 * The server is a scripted one (fake_redis.h), the connector a fake that the test finishes by hand
 * (link_fixture.h), and time the loop's test clock: nothing sleeps.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "link_fixture.h"

/* ------------------------------------------------------------------ replies */

/* Replies that end the connection and the command with it. */
static void broken_replies_end_the_connection(void **state)
{
    static const struct {
        const char *says;
        bool then_hangs_up;
    } rows[] = {
        {"$5\r\nhel", true},
        {"", true},
        {"*2\r\n$1\r\na\r\n", true},
        {"what is this\r\n", false},
        {"HTTP/1.1 400 Bad Request\r\n\r\n", false},
        {"$-7\r\n", false},
        {"$x\r\n", false},
        {":12z\r\n", false},
        {"*2147483648\r\n", false},
        {"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", false},
        {"-LOADING Redis is loading the dataset in memory\r\n", false},
        {"-NOAUTH Authentication required.\r\n", false},
        {"-MASTERDOWN Link with MASTER is down\r\n", false},
    };

    (void)state;
    start_fake(1000);
    stop_the_clock();
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        unsigned before = fake.accepted;
        script = rows[i].says;
        hang_up_after = rows[i].then_hangs_up;
        assert_int_equal(send_line(0, "GET a"), 0);
        for (int turn = 0; turn < 20 && is_up(); turn++) {
            run_turns(1);
        }
        run_turns(2);
        if (is_up() || answers[0].times != 1 || answers[0].status != SL_E_REDIS_UNAVAILABLE) {
            fail_msg("row %u: %u, %d", i, answers[0].times, answers[0].status);
        }
        script = NULL;
        hang_up_after = false;
        run_until_up();
        assert_true(fake.accepted > before);
    }
    fake_redis_stop(&fake);
}

static void other_errors_only_end_the_command(void **state)
{
    (void)state;
    start_fake(1000);
    script = "-WRONGTYPE Operation against a key\r\n";
    assert_int_equal(send_line(0, "GET a"), 0);
    RUN_UNTIL(loop, finished == 1);
    assert_int_equal(answers[0].status, SL_E_REDIS_UNAVAILABLE);
    assert_int_equal(answers[0].type, STORE_REDIS_ERROR);
    assert_true(is_up());
    assert_int_equal(sl_counter_get(&stats.redis_errors), 1);
    script = "-NOSCRIPT No matching script.\r\n";
    assert_int_equal(send_line(0, "EVALSHA x 0"), 0);
    RUN_UNTIL(loop, finished == 2);
    assert_int_equal(sl_counter_get(&stats.redis_errors), 1);
    fake_redis_stop(&fake);
}

static void replies_may_be_cut_anywhere(void **state)
{
    static const char whole[] = "$5\r\nhello\r\n*3\r\n$1\r\na\r\n$-1\r\n:42\r\n-ERR no\r\n:-7\r\n";

    (void)state;
    start_fake(1000);
    for (size_t cut = 0; cut <= sizeof(whole) - 1; cut++) {
        finished = 0;
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(send_line(i, "X"), 0);
        }
        run_turns(4);
        fake_redis_say_bytes(&fake, whole, cut);
        run_turns(3);
        fake_redis_say_bytes(&fake, whole + cut, sizeof(whole) - 1 - cut);
        RUN_UNTIL(loop, finished == 4);
        assert_string_equal(answers[0].text, "hello");
        assert_int_equal(answers[1].count, 3);
        assert_string_equal(answers[1].text, "a,,");
        assert_int_equal(answers[2].type, STORE_REDIS_ERROR);
        assert_int_equal(answers[3].integer, -7);
    }
    for (size_t i = 0; i < sizeof(whole) - 1; i++) { /* and at every byte at once */
        if (i == 0) {
            finished = 0;
            for (unsigned k = 0; k < 4; k++) {
                assert_int_equal(send_line(k, "X"), 0);
            }
            run_turns(4);
        }
        fake_redis_say_bytes(&fake, whole + i, 1);
        run_turns(1);
    }
    RUN_UNTIL(loop, finished == 4);
    assert_int_equal(answers[3].integer, -7);
    assert_int_equal(fake.accepted, 1);
    fake_redis_stop(&fake);
}

/* hiredis 0.14.1 asserts on a reply that no command is waiting for (async.c:478). */
static void unasked_replies_do_not_reach_hiredis(void **state)
{
    static const char *const idle[] = {"+OK\r\n", "$-1\r\n", "*0\r\n", "+", "-ERR max clients\r\n"};
    static const char *const behind[] = {"+1\r\n+OK\r\n", "+1\r\n+", "+1\r\n$3\r\nabc\r\n:1\r\n",
                                         "+1\r\n*1\r\n:1\r\n"};

    (void)state;
    start_fake(1000);
    stop_the_clock();
    for (size_t i = 0; i < sizeof(idle) / sizeof(idle[0]); i++) {
        unsigned before = fake.accepted;
        fake_redis_say(&fake, idle[i]);
        run_turns(4);
        assert_false(is_up());
        run_until_up();
        assert_true(fake.accepted > before);
    }
    for (size_t i = 0; i < sizeof(behind) / sizeof(behind[0]); i++) {
        script = behind[i];
        assert_int_equal(send_line(0, "GET a"), 0);
        run_turns(6);
        assert_int_equal(answers[0].times, 1);
        assert_int_equal(answers[0].status, 0); /* its own reply is good */
        assert_string_equal(answers[0].text, "1");
        assert_false(is_up());
        script = NULL;
        run_until_up();
    }
    /* behind the reply of a tombstone, with another command's reply before it */
    assert_int_equal(send_line(0, "GET a"), 0);
    run_turns(3);
    test_clock_us += 1000 * 1000 - 1;
    run_turns(2);
    assert_int_equal(send_line(1, "GET b"), 0);
    run_turns(3);
    fake_redis_say(&fake, "+a\r\n+b\r\n+c\r\n");
    run_turns(4);
    assert_string_equal(answers[1].text, "b");
    assert_false(is_up());
    fake_redis_stop(&fake);
}

/* Random bytes in the shape of replies: every command ends exactly once, and nothing worse happens. */
static void random_replies_do_no_harm(void **state)
{
    static const char *const pieces[] = {
        "+OK\r\n", "$3\r\nabc\r\n", "*2\r\n",  "$", "*",  "\r\n",
        ":1\r\n",  "-ERR x\r\n",    "$-1\r\n", "3", "\n", "\0",
        "*-1\r\n", "*0\r\n",        "*3\r\n+", "x", "-",  "$7\r\n"};
    uint32_t seed = 20240229;

    (void)state;
    start_fake(1000);
    stop_the_clock();
    for (unsigned round = 0; round < 2000; round++) {
        unsigned count = 1 + round % 4;
        char says[256];
        size_t len = 0;
        for (unsigned i = 0; i < count; i++) {
            assert_int_equal(send_line(i, "GET a"), 0);
        }
        run_turns(3);
        while (len < 60) {
            seed = seed * 1664525 + 1013904223;
            const char *piece = pieces[(seed >> 16) % (sizeof(pieces) / sizeof(pieces[0]))];
            size_t piece_len = piece[0] == '\0' ? 1 : strlen(piece);
            memcpy(says + len, piece, piece_len);
            len += piece_len;
        }
        for (size_t at = 0; at < len && fake.connection >= 0; at += 20) {
            fake_redis_say_bytes(&fake, says + at, len - at < 20 ? len - at : 20);
            run_turns(2);
        }
        test_clock_us += 1000 * 1000;
        run_turns(4);
        for (unsigned i = 0; i < count; i++) {
            assert_int_equal(answers[i].times, 1);
        }
        run_until_up();
    }
    fake_redis_stop(&fake);
}

static void refused_greetings_are_tried_again(void **state)
{
    (void)state;
    fake_redis_start(&fake, loop, false);
    fake.greets = false;
    answer_by_script();
    script = "-LOADING Redis is loading the dataset in memory\r\n";
    hang_up_after = false;
    make_link(fake.url, 1000);
    stop_the_clock();
    for (int i = 0; i < 500 && fake.accepted < 4; i++) {
        test_clock_us += 100 * 1000;
        run_turns(3);
        assert_false(is_up());
    }
    assert_int_equal(fake.accepted, 4);
    assert_int_equal(ups, 0);
    script = NULL; /* no answer at all: the deadline of the greeting */
    unsigned before = fake.accepted;
    for (int i = 0; i < 500 && fake.accepted < before + 2; i++) {
        test_clock_us += 100 * 1000;
        run_turns(3);
        assert_false(is_up());
    }
    assert_int_equal(fake.accepted, before + 2);
    fake.greets = true;
    run_until_up();
    assert_int_equal(ups, 1);
    fake_redis_stop(&fake);
}

static void waits_longer_and_longer(void **state)
{
    (void)state;
    fake_redis_start(&fake, loop, false);
    fake.greets = false;
    answer_by_script();
    script = "-ERR go away\r\n";
    make_link(fake.url, 1000);
    stop_the_clock();
    for (int i = 0; i < 12000; i++) { /* a minute in steps of 5 ms */
        test_clock_us += 5 * 1000;
        run_turns(2);
    }
    /* Waiting 0 to 2 s each, about 60 in the long run; a fixed 50 ms would be some 1,000. */
    assert_in_range(fake.accepted, 25, 150);
    fake_redis_stop(&fake);
}

/* ------------------------------------------------------------------ addresses */

static void resolves_names(void **state)
{
    char url[64];

    (void)state;
    fake_redis_start(&fake, loop, true);
    (void)snprintf(url, sizeof(url), "redis://cache.example:%s", strrchr(fake.url, ':') + 1);
    resolve_error = SL_E_NO_MEMORY;
    make_link(url, 1000);
    stop_the_clock();
    assert_int_equal(resolves, 1);
    resolve_error = 0;
    test_clock_us += 2000 * 1000;
    run_turns(2);
    assert_int_equal(resolves, 2);
    assert_int_equal(store_redis_link_status(test_link), STORE_LINK_CONNECTING);
    assert_string_equal(resolving->host, "cache.example");
    finish_resolving("", SL_E_REDIS_UNAVAILABLE);
    assert_int_equal(store_redis_link_status(test_link), STORE_LINK_DOWN);
    test_clock_us += 2000 * 1000;
    run_turns(2);
    assert_int_equal(resolves, 3);
    finish_resolving("127.0.0.1", 0);
    for (int i = 0; i < 100 && !is_up(); i++) {
        run_turns(1);
    }
    assert_true(is_up());
    fake_redis_hang_up(&fake);
    run_turns(3);
    test_clock_us += 2000 * 1000;
    run_turns(2);
    assert_int_equal(resolves, 4); /* a failover may have moved the name */
    store_redis_link_destroy(test_link);
    test_link = NULL;
    assert_int_equal(forgets, 1);
    fake_redis_stop(&fake);
}

static void refused_connections_are_tried_again(void **state)
{
    char url[128];

    (void)state;
    fake_redis_start(&fake, loop, true);
    (void)snprintf(url, sizeof(url), "%s", fake.url);
    fake_redis_stop(&fake); /* the port is free now, and refuses */
    make_link(url, 1000);
    stop_the_clock();
    for (int i = 0; i < 30; i++) {
        test_clock_us += 100 * 1000;
        run_turns(3);
        assert_false(is_up());
    }
    store_redis_link_destroy(test_link);
    make_link("unix:///nowhere/at/all", 1000);
    assert_int_equal(store_redis_link_status(test_link), STORE_LINK_DOWN);
    for (int i = 0; i < 30; i++) {
        test_clock_us += 100 * 1000;
        run_turns(3);
    }
    assert_int_equal(resolves, 0);
}

/* A host that drops packets: on loopback, a listener whose queue is full. */
static void a_connection_that_never_comes_is_given_up(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0), fillers[4];
    char url[64];

    (void)state;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(listener, (const struct sockaddr *)(const void *)&address, len), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)(void *)&address, &len), 0);
    assert_int_equal(listen(listener, 0), 0);
    for (size_t i = 0; i < 4; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(fillers[i], (const struct sockaddr *)(const void *)&address, len);
    }
    (void)snprintf(url, sizeof(url), "redis://127.0.0.1:%u", (unsigned)ntohs(address.sin_port));
    stop_the_clock();
    make_link(url, 50);
    run_turns(5);
    test_clock_us += 999 * 1000;
    run_turns(5);
    assert_int_equal(store_redis_link_status(test_link), STORE_LINK_CONNECTING);
    test_clock_us += 1000;
    sl_loop_run_once(loop, 0);
    assert_int_equal(store_redis_link_status(test_link), STORE_LINK_DOWN);
    for (size_t i = 0; i < 4; i++) {
        (void)close(fillers[i]);
    }
    (void)close(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(broken_replies_end_the_connection, set_up, tear_down),
        cmocka_unit_test_setup_teardown(other_errors_only_end_the_command, set_up, tear_down),
        cmocka_unit_test_setup_teardown(replies_may_be_cut_anywhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unasked_replies_do_not_reach_hiredis, set_up, tear_down),
        cmocka_unit_test_setup_teardown(random_replies_do_no_harm, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refused_greetings_are_tried_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(waits_longer_and_longer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(resolves_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refused_connections_are_tried_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_connection_that_never_comes_is_given_up, set_up,
                                        tear_down),
    };

    (void)signal(SIGPIPE, SIG_IGN); /* as every process with a link must */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
