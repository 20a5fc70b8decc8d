/*
 * How connections are made: the connection string that libpq gets, names that resolve and names that
 * do not, and jobs that are forgotten at every stage of their life.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "connector.h"
#include "connector_forget.h"
#include "pg_connect.h"
#include "samples.h"

static struct sl_loop *loop;
static struct store_connector *connector;
static unsigned ended;
static int last_status;

static int set_up(void **state)
{
    (void)state;
    ended = 0;
    assert_int_equal(sl_loop_create(&loop), 0);
    return store_connector_create(&connector);
}

static int tear_down(void **state)
{
    (void)state;
    store_connector_destroy(connector);
    sl_loop_destroy(loop);
    return 0;
}

static void note_end(struct sl_op *op, int status)
{
    (void)op;
    ended++;
    last_status = status;
}

/* ---- the connection string ---- */

static void assert_settings(const char *url, const struct store_pg_limits *limits,
                            const char *const *present, const char *const *absent)
{
    char *conninfo = NULL;

    assert_int_equal(store_pg_conninfo(url, limits, &conninfo), 0);
    for (; *present != NULL; present++) {
        if (strstr(conninfo, *present) == NULL) {
            print_error("%s is not in %s\n", *present, conninfo);
            fail();
        }
    }
    for (; *absent != NULL; absent++) {
        if (strstr(conninfo, *absent) != NULL) {
            print_error("%s is in %s\n", *absent, conninfo);
            fail();
        }
    }
    /* what we write, libpq reads */
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    assert_non_null(options);
    PQconninfoFree(options);
    free(conninfo);
}

static void what_is_missing_is_filled_in(void **state)
{
    static const struct store_pg_limits limits = {.statement_timeout_ms = 300};
    static const char *const present[] = {"application_name='sluice'",
                                          "connect_timeout='3'",
                                          "tcp_user_timeout='5000'",
                                          "keepalives_idle='5'",
                                          "target_session_attrs='read-write'",
                                          "client_encoding='UTF8'",
                                          "host='a,b'",
                                          "port='1,2'",
                                          "dbname='db'",
                                          "user='me'",
                                          "password='p\\'w\\\\'",
                                          "options='-c statement_timeout=300 '",
                                          NULL};
    static const char *const absent[] = {"lock_timeout", NULL};

    (void)state;
    assert_settings("postgresql://me:p%27w%5C@a:1,b:2/db", &limits, present, absent);
}

static void what_is_given_stays(void **state)
{
    static const struct store_pg_limits limits = {.lock_timeout_ms = 7,
                                                  .idle_in_transaction_ms = 8};
    static const char *const present[] = {
        "application_name='other'",
        "connect_timeout='9'",
        "target_session_attrs='any'",
        "client_encoding='UTF8'",
        "options='-c lock_timeout=7 -c idle_in_transaction_session_timeout=8 -c lock_timeout=1'",
        NULL};
    static const char *const absent[] = {"statement_timeout", "LATIN1", NULL};

    (void)state;
    assert_settings("application_name=other connect_timeout=9 target_session_attrs=any"
                    " client_encoding=LATIN1 options='-c lock_timeout=1'",
                    &limits, present, absent);
}

static void whoever_writes_needs_the_primary(void **state)
{
    static const struct store_pg_limits limits = {.writes = true};
    static const char *const present[] = {"target_session_attrs='read-write'", NULL};
    static const char *const absent[] = {"'any'", NULL};

    (void)state;
    assert_settings("host=x target_session_attrs=any", &limits, present, absent);
}

static void nonsense_is_refused(void **state)
{
    static const char *const nonsense[] = {"=", "host", "nokey=1", "postgresql://[x", "host='x"};
    struct store_pg_limits limits = {.writes = true};
    char *conninfo = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++) {
        assert_int_equal(store_pg_conninfo(nonsense[i], &limits, &conninfo), SL_E_INVALID_VALUE);
    }
    assert_null(conninfo);
}

/* ---- jobs ---- */

static void names_become_numbers(void **state)
{
    struct store_resolve resolve = {.op.done = note_end, .host = "localhost"};

    (void)state;
    assert_int_equal(store_connector_resolve(connector, loop, &resolve), 0);
    assert_int_equal(ended, 0);
    SAMPLE_RUN_UNTIL(loop, ended == 1);
    assert_int_equal(last_status, 0);
    assert_true(strcmp(resolve.address, "127.0.0.1") == 0 || strcmp(resolve.address, "::1") == 0);
    resolve.host = "::1";
    assert_int_equal(store_connector_resolve(connector, loop, &resolve), 0);
    SAMPLE_RUN_UNTIL(loop, ended == 2);
    assert_string_equal(resolve.address, "::1");
    resolve.host = "not a name";
    assert_int_equal(store_connector_resolve(connector, loop, &resolve), 0);
    SAMPLE_RUN_UNTIL(loop, ended == 3);
    assert_int_equal(last_status, SL_E_REDIS_UNAVAILABLE);
}

static void a_server_that_is_not_there_is_an_error(void **state)
{
    struct store_dial dial = {.op.done = note_end, .conninfo = "host=/nowhere"};

    (void)state;
    assert_int_equal(store_connector_dial(connector, loop, &dial), 0);
    SAMPLE_RUN_UNTIL(loop, ended == 1);
    assert_int_equal(last_status, SL_E_DATABASE_UNAVAILABLE);
    assert_null(dial.connection);
}

static void forgotten_jobs_touch_nobody(void **state)
{
    struct sl_loop *other;
    struct store_resolve kept = {.op.done = note_end, .host = "127.0.0.1"};

    (void)state;
    assert_int_equal(sl_loop_create(&other), 0);
    for (int round = 0; round < 200; round++) { /* queued, under way or posted: whatever it is */
        struct store_resolve *forgotten = calloc(8, sizeof(forgotten[0]));
        char *host = strdup("127.0.0.1");
        for (size_t i = 0; i < 8; i++) {
            forgotten[i] = (struct store_resolve){.op.done = note_end, .host = host};
            assert_int_equal(store_connector_resolve(connector, other, &forgotten[i]), 0);
        }
        if (round % 2 == 0) { /* a job of another loop behind them has to come through */
            unsigned before = ended;
            assert_int_equal(store_connector_resolve(connector, loop, &kept), 0);
            SAMPLE_RUN_UNTIL(loop, ended == before + 1);
        }
        store_connector_forget(connector, other);
        free(host);
        free(forgotten);
        if (round % 3 == 0) {
            sl_loop_run_once(other, 0);
        }
    }
    assert_int_equal(ended, 100);
    sl_loop_destroy(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_missing_is_filled_in),
        cmocka_unit_test(what_is_given_stays),
        cmocka_unit_test(whoever_writes_needs_the_primary),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test_setup_teardown(names_become_numbers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_server_that_is_not_there_is_an_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(forgotten_jobs_touch_nobody, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
