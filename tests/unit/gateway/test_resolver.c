/* The resolver: answers, failures, refreshes, and a DNS that hangs, on one loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <netdb.h>
#include <unistd.h>

#include "resolver_fixture.h"

/* ---- names ---- */

static void literals_need_no_resolver(void **state)
{
    (void)state;
    assert_false(gw_resolver_is_needed("192.0.2.1"));
    assert_false(gw_resolver_is_needed("2001:db8::1"));
    assert_false(gw_resolver_is_needed("[2001:db8::1]"));
    assert_true(gw_resolver_is_needed("model.test"));
    assert_true(gw_resolver_is_needed("localhost"));
    assert_true(gw_resolver_is_needed("1.2.3.4.example"));
}

static void getaddrinfo_is_asked_for_what_the_system_has(void **state)
{
    struct ask ask = {0};

    (void)state;
    assert_int_equal(gw_resolver_create("localhost", 80, 30, &resolver), 0);
    start(&ask);
    await_calls(&ask);
    assert_int_equal(ask.status, 0);
    assert_true(strstr(ask.resolve.addresses, "127.0.0.1") != NULL ||
                strstr(ask.resolve.addresses, "[::1]") != NULL);
}

static void a_name_that_does_not_exist_is_unreachable(void **state)
{
    struct ask ask = {0};

    (void)state;
    /* longer than a label may be (RFC 1035 2.3.4): no name server is asked */
    assert_int_equal(
        gw_resolver_create("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                           "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.invalid",
                           80, 30, &resolver),
        0);
    start(&ask);
    await_calls(&ask);
    assert_int_equal(ask.status, SL_E_UPSTREAM_UNREACHABLE);
}

static void the_question_is_complete(void **state)
{
    (void)state;
    create(HOUR_MS, HOUR_MS);
    assert_true(count_reaches(&dns.ended, 1, WAIT_MS)); /* at once, though nobody has asked */
    assert_string_equal(dns.host, "model.test");
    assert_string_equal(dns.service, "8443");
    assert_int_equal(dns.flags, AI_ADDRCONFIG | AI_NUMERICSERV);
    assert_int_equal(dns.socktype, SOCK_STREAM);
}

static void addresses_are_written_for_libcurl(void **state)
{
    static const struct {
        const char *answer, *expected;
    } rows[] = {
        {"192.0.2.1", "192.0.2.1"},
        {"2001:db8::1,192.0.2.1", "[2001:db8::1],192.0.2.1"},
        {"192.0.2.2,192.0.2.1,192.0.2.2,192.0.2.1", "192.0.2.2,192.0.2.1"},
        {"fe80::1,192.0.2.1", "192.0.2.1"},
        {"a socket,2001:db8::1", "[2001:db8::1]"},
        {"10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5,10.0.0.6,10.0.0.7,10.0.0.8,10.0.0.9",
         "10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5,10.0.0.6,10.0.0.7,10.0.0.8"},
        {"1111:1111:1111:1111:1111:1111:1111:1111,2222:2222:2222:2222:2222:2222:2222:2222,"
         "3333:3333:3333:3333:3333:3333:3333:3333,4444:4444:4444:4444:4444:4444:4444:4444,"
         "5555:5555:5555:5555:5555:5555:5555:5555,6666:6666:6666:6666:6666:6666:6666:6666,"
         "7777:7777:7777:7777:7777:7777:7777:7777,::ffff:255.255.255.255",
         "[1111:1111:1111:1111:1111:1111:1111:1111],[2222:2222:2222:2222:2222:2222:2222:2222],"
         "[3333:3333:3333:3333:3333:3333:3333:3333],[4444:4444:4444:4444:4444:4444:4444:4444],"
         "[5555:5555:5555:5555:5555:5555:5555:5555],[6666:6666:6666:6666:6666:6666:6666:6666],"
         "[7777:7777:7777:7777:7777:7777:7777:7777],[::ffff:255.255.255.255]"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        set_answer(rows[i].answer);
        create(HOUR_MS, HOUR_MS);
        assert_answer(rows[i].expected);
        destroy();
    }
}

/* ---- answers ---- */

static void who_waits_gets_the_first_answer(void **state)
{
    struct ask asks[5] = {0};
    char addresses[GW_RESOLVE_TEXT] = "untouched";
    uint64_t generation = 77;

    (void)state;
    set_hangs(true);
    create(HOUR_MS, HOUR_MS);
    assert_true(count_reaches(&dns.begun, 1, WAIT_MS));
    for (size_t i = 0; i < 5; i++) {
        start(&asks[i]);
    }
    assert_false(gw_resolver_peek(resolver, addresses, &generation));
    assert_string_equal(addresses, "untouched");
    assert_int_equal(generation, 77);
    set_hangs(false);
    for (size_t i = 0; i < 5; i++) {
        await_calls(&asks[i]);
        assert_int_equal(asks[i].status, 0);
        assert_string_equal(asks[i].resolve.addresses, "192.0.2.1");
    }
    assert_true(gw_resolver_peek(resolver, addresses, &generation));
    assert_string_equal(addresses, "192.0.2.1");
    assert_int_equal(generation, 1);
    assert_int_equal(read_count(&dns.begun), 1);
}

static void known_addresses_come_in_the_next_turn(void **state)
{
    struct ask ask = {0};

    (void)state;
    create(HOUR_MS, HOUR_MS);
    (void)await_addresses("192.0.2.1");
    for (unsigned i = 0; i < 3; i++) {
        start(&ask);
        sl_loop_run_once(loop, 0);
        assert_int_equal(ask.calls, 1);
        assert_string_equal(ask.resolve.addresses, "192.0.2.1");
        gw_resolve_cancel(&ask.resolve); /* finished: nothing happens */
        sl_loop_run_once(loop, 0);
        assert_int_equal(ask.calls, 1);
    }
    /* a result that is on its way stays one */
    start(&ask);
    gw_resolve_cancel(&ask.resolve);
    await_calls(&ask);
    assert_int_equal(ask.status, 0);
}

static unsigned restarts_left;

static void start_again(struct sl_op *op, int status)
{
    struct ask *ask = SL_CONTAINER_OF(op, struct ask, resolve.op);

    assert_int_equal(status, 0);
    if (restarts_left > 0) {
        restarts_left--;
        assert_int_equal(gw_resolve_start(resolver, loop, &ask->resolve), 0);
    } else {
        ask->calls++;
    }
}

static void an_operation_can_be_used_again_from_its_callback(void **state)
{
    struct ask ask = {.resolve.op.done = start_again};

    (void)state;
    create(HOUR_MS, HOUR_MS);
    restarts_left = 10;
    assert_int_equal(gw_resolve_start(resolver, loop, &ask.resolve), 0);
    await_calls(&ask);
    assert_int_equal(restarts_left, 0);
}

/* ---- DNS that fails ---- */

static void without_addresses_a_failure_is_the_answer(void **state)
{
    struct ask first = {0}, second = {0};
    char addresses[GW_RESOLVE_TEXT];
    uint64_t generation;

    (void)state;
    set_hangs(true);
    set_answer(NULL);
    create(HOUR_MS, NEVER_MS);
    start(&first);
    set_hangs(false);
    await_calls(&first);
    assert_int_equal(first.status, SL_E_UPSTREAM_UNREACHABLE);
    assert_string_equal(first.resolve.addresses, "");
    assert_false(gw_resolver_peek(resolver, addresses, &generation));
    set_hangs(true);
    assert_true(count_reaches(&dns.begun, read_count(&dns.ended) + 1, WAIT_MS));
    start(&second);
    set_answer("192.0.2.7");
    set_hangs(false);
    await_calls(&second);
    assert_int_equal(second.status, 0);
    assert_string_equal(second.resolve.addresses, "192.0.2.7");
}

static void a_failure_is_tried_again_though_nobody_asks(void **state)
{
    (void)state;
    set_answer(NULL);
    create(HOUR_MS, 1);
    assert_true(count_reaches(&dns.ended, 5, WAIT_MS));
    set_answer("192.0.2.1");
    (void)await_addresses("192.0.2.1");
}

static void a_failure_is_not_tried_again_at_once(void **state)
{
    (void)state;
    set_answer(NULL);
    create(1, HOUR_MS);
    assert_true(count_reaches(&dns.ended, 1, WAIT_MS));
    assert_false(count_reaches(&dns.begun, 2, NEVER_MS));
}

static void an_empty_answer_is_a_failure(void **state)
{
    static const char *const answers[] = {"", "fe80::1", "a socket"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct ask ask = {0};
        set_answer(answers[i]);
        create(HOUR_MS, NEVER_MS);
        start(&ask);
        await_calls(&ask);
        assert_int_equal(ask.status, SL_E_UPSTREAM_UNREACHABLE);
        destroy();
    }
}

static void stale_addresses_beat_none(void **state)
{
    char addresses[GW_RESOLVE_TEXT];
    uint64_t generation = 0;

    (void)state;
    create(1, 1);
    assert_int_equal(await_addresses("192.0.2.1"), 1);
    set_answer(NULL);
    assert_true(gw_resolver_peek(resolver, addresses, &generation));
    assert_true(count_reaches(&dns.ended, read_count(&dns.ended) + 3, WAIT_MS));
    assert_answer("192.0.2.1");
    set_answer("");
    assert_true(count_reaches(&dns.ended, read_count(&dns.ended) + 3, WAIT_MS));
    assert_answer("192.0.2.1");
    assert_true(gw_resolver_peek(resolver, addresses, &generation));
    assert_int_equal(generation, 1);
    set_answer("192.0.2.2");
    assert_int_equal(await_addresses("192.0.2.2"), 2);
}

/* ---- refreshes ---- */

static void changed_addresses_have_a_new_generation(void **state)
{
    (void)state;
    create(1, HOUR_MS);
    assert_int_equal(await_addresses("192.0.2.1"), 1);
    set_answer("192.0.2.2,2001:db8::2");
    assert_int_equal(await_addresses("192.0.2.2,[2001:db8::2]"), 2);
    set_answer("192.0.2.2");
    assert_int_equal(await_addresses("192.0.2.2"), 3);
    assert_answer("192.0.2.2");
}

static void without_traffic_there_are_no_lookups(void **state)
{
    char addresses[GW_RESOLVE_TEXT];
    uint64_t generation;
    struct ask ask = {0};

    (void)state;
    create(1, 1);
    assert_true(count_reaches(&dns.ended, 1, WAIT_MS));
    assert_false(count_reaches(&dns.begun, 2, NEVER_MS));
    (void)gw_resolver_peek(resolver, addresses, &generation);
    assert_true(count_reaches(&dns.ended, 2, WAIT_MS));
    assert_false(count_reaches(&dns.begun, 3, NEVER_MS));
    start(&ask);
    assert_true(count_reaches(&dns.ended, 3, WAIT_MS));
    await_calls(&ask);
    assert_false(count_reaches(&dns.begun, 4, NEVER_MS));
}

static void fresh_addresses_are_not_looked_up(void **state)
{
    (void)state;
    create(HOUR_MS, HOUR_MS);
    (void)await_addresses("192.0.2.1");
    for (unsigned i = 0; i < 100; i++) {
        (void)await_addresses("192.0.2.1");
    }
    assert_false(count_reaches(&dns.begun, 2, NEVER_MS));
}

/* ---- DNS that hangs ---- */

static void a_lookup_that_hangs_stalls_nobody(void **state)
{
    enum { N = 1000 };
    static struct ask asks[N];
    char addresses[GW_RESOLVE_TEXT];
    uint64_t generation;

    (void)state;
    set_hangs(true);
    create(HOUR_MS, HOUR_MS);
    assert_true(count_reaches(&dns.begun, 1, WAIT_MS));
    for (unsigned round = 0; round < 3; round++) {
        memset(asks, 0, sizeof(asks));
        for (size_t i = 0; i < N; i++) {
            start(&asks[i]);
            assert_false(gw_resolver_peek(resolver, addresses, &generation));
        }
        sl_loop_run_once(loop, 0);
        for (size_t k = 0; k < N; k++) {
            size_t i = k * 7 % N; /* from the middle of the list too */
            assert_int_equal(asks[i].calls, 0);
            gw_resolve_cancel(&asks[i].resolve);
            gw_resolve_cancel(&asks[i].resolve);
            assert_int_equal(asks[i].calls, 0);
        }
        for (size_t i = 0; i < N; i++) {
            await_calls(&asks[i]);
            assert_int_equal(asks[i].status, SL_E_CANCELLED);
        }
    }
    assert_int_equal(count_threads(), threads_before + 1);
    assert_int_equal(read_count(&dns.begun), 1);
    set_hangs(false);
    assert_answer("192.0.2.1");
}

static void some_cancel_and_the_others_get_the_answer(void **state)
{
    struct ask asks[9] = {0};

    (void)state;
    set_hangs(true);
    create(HOUR_MS, HOUR_MS);
    for (size_t i = 0; i < 9; i++) {
        start(&asks[i]);
    }
    for (size_t i = 0; i < 9; i += 2) { /* the first and the last too */
        gw_resolve_cancel(&asks[i].resolve);
    }
    set_hangs(false);
    for (size_t i = 0; i < 9; i++) {
        await_calls(&asks[i]);
        assert_int_equal(asks[i].status, i % 2 == 0 ? SL_E_CANCELLED : 0);
    }
}

static void a_refresh_that_hangs_leaves_the_addresses(void **state)
{
    (void)state;
    create(1, 1);
    (void)await_addresses("192.0.2.1");
    set_hangs(true);
    (void)await_addresses("192.0.2.1");
    assert_true(count_reaches(&dns.begun, read_count(&dns.ended) + 1, WAIT_MS));
    for (unsigned i = 0; i < 50; i++) {
        assert_answer("192.0.2.1");
    }
    set_answer("192.0.2.9");
    set_hangs(false);
    (void)await_addresses("192.0.2.9");
}

static void destroying_does_not_wait_for_a_lookup(void **state)
{
    struct ask ask = {0};

    (void)state;
    set_hangs(true);
    create(HOUR_MS, HOUR_MS);
    start(&ask);
    assert_true(count_reaches(&dns.begun, 1, WAIT_MS));
    gw_resolve_cancel(&ask.resolve);
    await_calls(&ask);
    destroy(); /* would not return if it waited */
    assert_int_equal(read_count(&dns.ended), 0);
    assert_int_equal(count_threads(), threads_before + 1);
    set_hangs(false);
    await_threads(threads_before); /* the sanitizer sees what is not freed */
    assert_int_equal(read_count(&dns.ended), 1);
    assert_int_equal(read_count(&dns.begun), 1); /* an abandoned resolver looks up no more */
}

static void destroying_at_any_moment(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 300; i++) {
        create(i % 3, i % 2);
        if (i % 4 == 1) {
            (void)await_addresses("192.0.2.1");
        } else if (i % 4 == 2) {
            (void)usleep(i);
        }
        destroy();
    }
    gw_resolver_destroy(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literals_need_no_resolver),
        TEST(getaddrinfo_is_asked_for_what_the_system_has),
        TEST(a_name_that_does_not_exist_is_unreachable),
        TEST(the_question_is_complete),
        TEST(addresses_are_written_for_libcurl),
        TEST(who_waits_gets_the_first_answer),
        TEST(known_addresses_come_in_the_next_turn),
        TEST(an_operation_can_be_used_again_from_its_callback),
        TEST(without_addresses_a_failure_is_the_answer),
        TEST(a_failure_is_tried_again_though_nobody_asks),
        TEST(a_failure_is_not_tried_again_at_once),
        TEST(an_empty_answer_is_a_failure),
        TEST(stale_addresses_beat_none),
        TEST(changed_addresses_have_a_new_generation),
        TEST(without_traffic_there_are_no_lookups),
        TEST(fresh_addresses_are_not_looked_up),
        TEST(a_lookup_that_hangs_stalls_nobody),
        TEST(some_cancel_and_the_others_get_the_answer),
        TEST(a_refresh_that_hangs_leaves_the_addresses),
        TEST(destroying_does_not_wait_for_a_lookup),
        TEST(destroying_at_any_moment),
    };

    return cmocka_run_group_tests(tests, start_first_thread, NULL);
}
