/*
 * Migrations on a real server: applied once, by one of two at a time, rolled back as a whole when a
 * statement fails, and refused when the database is ahead.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "migrate.h"
#include "pg_fixture.h"
#include "sluice/store.h"

static struct pg_fixture server;
static _Thread_local char lines[4096]; /* what was reported on this thread */

static void note(const char *line)
{
    (void)strncat(lines, line, sizeof(lines) - strlen(lines) - 1);
    (void)strncat(lines, "\n", sizeof(lines) - strlen(lines) - 1);
}

static int forget_everything(void **state)
{
    (void)state;
    lines[0] = '\0';
    pg_fixture_run(&server,
                   "drop schema public cascade; create schema public authorization sluice");
    return 0;
}

static void an_empty_database_gets_the_schema(void **state)
{
    (void)state;
    assert_int_equal(store_migrate(server.url, note), 0);
    assert_non_null(strstr(lines, "applied 0001_"));
    assert_int_equal(pg_fixture_number(&server, "select count(*) from sluice_migrations"),
                     store_migrations_count);
    /* every key and every index begins with the user */
    assert_int_equal(pg_fixture_number(&server,
                                       "select count(*) from pg_indexes where schemaname = 'public'"
                                       " and tablename <> 'sluice_migrations'"
                                       " and indexdef not like '%USING btree (user_id%'"),
                     0);
    assert_true(pg_fixture_number(&server, "select count(*) from pg_indexes"
                                           " where schemaname = 'public'") >= 5);
}

static void the_second_time_changes_nothing(void **state)
{
    (void)state;
    assert_int_equal(store_migrate(server.url, note), 0);
    pg_fixture_run(&server, "insert into user_profiles values ('u', '{}')");
    lines[0] = '\0';
    assert_int_equal(store_migrate(server.url, note), 0);
    assert_null(strstr(lines, "applied"));
    assert_non_null(strstr(lines, "schema is at version 1"));
    assert_int_equal(pg_fixture_number(&server, "select count(*) from user_profiles"), 1);
}

struct run {
    pthread_t thread;
    int status;
    bool applied;
};

static void *migrate_on_a_thread(void *argument)
{
    struct run *run = argument;
    lines[0] = '\0';
    run->status = store_migrate(server.url, note);
    run->applied = strstr(lines, "applied 0001_") != NULL;
    return NULL;
}

static void of_many_at_once_one_applies(void **state)
{
    struct run runs[6];
    int applied = 0;

    (void)state;
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(pthread_create(&runs[i].thread, NULL, migrate_on_a_thread, &runs[i]), 0);
    }
    for (size_t i = 0; i < 6; i++) {
        (void)pthread_join(runs[i].thread, NULL);
        assert_int_equal(runs[i].status, 0);
        applied += runs[i].applied ? 1 : 0;
    }
    assert_int_equal(applied, 1);
}

static void a_newer_database_is_refused(void **state)
{
    (void)state;
    assert_int_equal(store_migrate(server.url, note), 0);
    pg_fixture_run(&server, "insert into sluice_migrations (version, name) values (9000, 'x')");
    lines[0] = '\0';
    assert_int_equal(store_migrate(server.url, note), SL_E_DATABASE_REFUSED);
    assert_non_null(strstr(lines, "newer than this binary"));
    assert_non_null(strstr(lines, "9000"));
}

static void a_failing_file_leaves_nothing_behind(void **state)
{
    static const char first[] = "create table one (a int);";
    static const char second[] =
        "create table two (a int); select 1/0; create table three (a int);";
    static const struct sl_asset good[] = {{"0001_one.sql", first, sizeof(first) - 1}};
    static const struct sl_asset bad[] = {{"0001_one.sql", first, sizeof(first) - 1},
                                          {"0002_two.sql", second, sizeof(second) - 1}};

    (void)state;
    assert_int_equal(store_migrate_from(server.url, good, 1, note), 0);
    assert_int_equal(store_migrate_from(server.url, bad, 2, note), SL_E_DATABASE_REFUSED);
    assert_non_null(strstr(lines, "failed: 0002_two.sql"));
    assert_non_null(strstr(lines, "division by zero"));
    assert_int_equal(pg_fixture_number(&server, "select max(version) from sluice_migrations"), 1);
    assert_string_equal(pg_fixture_value(&server, "select coalesce(to_regclass('two')::text, '')"),
                        "");
    assert_string_equal(pg_fixture_value(&server, "select to_regclass('one')::text"), "one");
    /* and the lock was given back */
    assert_int_equal(store_migrate_from(server.url, good, 1, note), 0);
}

static void a_server_that_is_not_there_is_said_so(void **state)
{
    (void)state;
    assert_int_equal(store_migrate("host=/nowhere dbname=x", note), SL_E_DATABASE_UNAVAILABLE);
    assert_non_null(strstr(lines, "failed: connect"));
    assert_int_equal(store_migrate("this is = not = a string", note), SL_E_DATABASE_UNAVAILABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_empty_database_gets_the_schema, forget_everything),
        cmocka_unit_test_setup(the_second_time_changes_nothing, forget_everything),
        cmocka_unit_test_setup(of_many_at_once_one_applies, forget_everything),
        cmocka_unit_test_setup(a_newer_database_is_refused, forget_everything),
        cmocka_unit_test_setup(a_failing_file_leaves_nothing_behind, forget_everything),
        cmocka_unit_test_setup(a_server_that_is_not_there_is_said_so, forget_everything),
    };
    if (!pg_fixture_begin(&server)) {
        return 0;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pg_fixture_end(&server);
    return failed;
}
