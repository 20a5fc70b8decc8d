/*
 * Whatever happens to the server, every record ends exactly once and every row is there exactly once.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "writer_fixture.h"

static void a_server_that_stops_and_starts_loses_nothing(void **state)
{
    unsigned next = 0;

    (void)state;
    for (int i = 0; i < 3; i++) {
        submit_range(next, 400);
        next += 400;
        pg_fixture_stop(&server, i == 1 ? SIGINT : SIGQUIT);
        submit_range(next, 200);
        next += 200;
        SAMPLE_RUN_UNTIL(loop, sl_counter_get(&figures->connected) == 0);
        pg_fixture_start(&server);
    }
    assert_all_stored(next);
    assert_true(sl_counter_get(&figures->failures) > 0);
}

static void terminated_backends_lose_nothing(void **state)
{
    unsigned next = 0;

    (void)state;
    reopen_writer(7, 30 * 1000); /* small batches: more places to be hit */
    for (int i = 0; i < 12; i++) {
        submit_range(next, 150);
        next += 150;
        (void)pg_fixture_number(&server, "select count(pg_terminate_backend(pid)) from"
                                         " pg_stat_activity where application_name = 'sluice'");
    }
    assert_all_stored(next);
}

static void a_locked_table_is_waited_for(void **state)
{
    (void)state;
    submit_text(1, 0, "before");
    wait_for_all();
    pg_fixture_run(&server, "begin; lock table chat_messages");
    submit_range(1, 100);
    SAMPLE_RUN_UNTIL(loop, pg_fixture_number(&server, "select count(*) from pg_stat_activity where"
                                                      " wait_event_type = 'Lock'") == 1);
    assert_int_equal(seen.ended, 1);
    pg_fixture_run(&server, "rollback");
    assert_all_stored(101);
}

static void without_privileges_nothing_is_given_up(void **state)
{
    (void)state;
    submit_text(1, 0, "before");
    wait_for_all();
    pg_fixture_run(&server, "revoke insert on chat_messages from sluice");
    submit_range(1, 150);
    submit_text(1, 500, "\xff"); /* poison behind it is not even looked at */
    SAMPLE_RUN_UNTIL(loop, sl_counter_get(&figures->failures) >= 2);
    assert_int_equal(seen.ended, 1);
    assert_int_equal(sl_counter_get(&figures->refused), 0);
    assert_int_equal(sl_counter_get(&figures->records_waiting), 151);
    pg_fixture_run(&server, "grant insert on chat_messages to sluice");
    wait_for_all();
    assert_int_equal(rows("chat_messages"), 151);
    assert_int_equal(sl_counter_get(&figures->refused), 1);
}

static void without_a_schema_everything_waits_for_it(void **state)
{
    (void)state;
    pg_fixture_run(&server, "alter table chat_messages rename to hidden");
    reopen_writer(100, 30 * 1000);
    submit_range(0, 20);
    SAMPLE_RUN_UNTIL(loop, sl_counter_get(&figures->failures) >= 1);
    assert_int_equal(sl_counter_get(&figures->connected), 0);
    pg_fixture_run(&server, "alter table hidden rename to chat_messages");
    assert_all_stored(20);
}

static pid_t backend(void)
{
    return (pid_t)pg_fixture_number(&server, "select pid from pg_stat_activity where"
                                             " application_name = 'sluice' limit 1");
}

/* Whether the kernel holds a SIGTERM for a process that is stopped. */
static bool is_about_to_be_terminated(pid_t pid)
{
    char path[64], line[256];
    unsigned long long pending = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *status = fopen(path, "r");
    assert_non_null(status);
    while (fgets(line, sizeof(line), status) != NULL) {
        if (strncmp(line, "ShdPnd:", 7) == 0) {
            pending = strtoull(line + 7, NULL, 16);
        }
    }
    (void)fclose(status);
    return (pending >> (SIGTERM - 1) & 1) == 1;
}

static void a_frozen_backend_cannot_undo_what_came_later(void **state)
{
    (void)state;
    reopen_writer(100, 300);
    submit_text(1, 1, "one");
    wait_for_all();
    pid_t frozen = backend();
    assert_int_equal(kill(frozen, SIGSTOP), 0);
    /* the frozen process has this delete in its socket when the writer gives it up */
    submit_other(STORE_RECORD_DELETE, 1, NULL);
    SAMPLE_RUN_UNTIL(loop, sl_counter_get(&figures->failures) >= 1);
    submit_text(1, 2, "two");
    /* the new connection stands at the fence: nothing is written past the frozen process */
    SAMPLE_RUN_UNTIL(loop,
                     pg_fixture_number(&server, "select count(*) from pg_locks where"
                                                " locktype = 'advisory' and not granted") == 1);
    assert_true(is_about_to_be_terminated(frozen)); /* it may never notice by itself */
    assert_int_equal(seen.ended, 1);
    assert_int_equal(kill(frozen, SIGCONT), 0);
    wait_for_all();
    SAMPLE_RUN_UNTIL(loop, kill(frozen, 0) != 0);
    assert_string_equal(
        pg_fixture_value(&server, "select string_agg(content, '|') from chat_messages"), "two");
    assert_int_equal(seen.status[1], 0); /* deleted, whichever attempt did it */
}

/* ---- bounds and the end ---- */

static void a_full_queue_refuses_and_a_stopped_one_too(void **state)
{
    struct store_message message;
    char *content = calloc(1, 1024 * 1024);
    int err = 0;

    (void)state;
    memset(content, 'x', 1024 * 1024 - 1);
    message = sample_message(1, content);
    pg_fixture_run(&server, "begin; lock table chat_sessions");
    for (unsigned i = 0; i < 100 && err == 0; i++) {
        message.id = sample_id(i);
        err = submit_message("ann", 1, &message);
    }
    assert_int_equal(err, SL_E_OVERLOADED);
    assert_int_equal(seen.submitted, 31); /* 32 MiB, each a little more than 1 MiB */
    pg_fixture_run(&server, "rollback");
    wait_for_all();
    assert_int_equal(submit_message("ann", 1, &message), 0);
    assert_int_equal(store_writer_stop(writer, 20 * 1000), 0);
    assert_int_equal(submit_message("ann", 1, &message), SL_E_SHUTTING_DOWN);
    SAMPLE_RUN_UNTIL(loop, seen.ended == seen.submitted);
    free(content);
}

static void stopping_writes_what_is_left(void **state)
{
    (void)state;
    submit_range(0, 1000);
    assert_int_equal(store_writer_stop(writer, 20 * 1000), 0);
    assert_all_stored(1000);
    assert_int_equal(store_writer_stop(writer, 20 * 1000), 0); /* again: nothing */
}

static void stopping_hands_back_what_cannot_be_written(void **state)
{
    (void)state;
    submit_text(1, 1, "one");
    wait_for_all();
    pg_fixture_stop(&server, SIGQUIT);
    submit_range(2, 25);
    int64_t started_ms = sample_now_ms();
    assert_int_equal(store_writer_stop(writer, 300), 25);
    assert_in_range(sample_now_ms() - started_ms, 300, 10 * 1000);
    wait_for_all();
    for (unsigned i = 1; i < seen.submitted; i++) {
        assert_int_equal(seen.status[i], SL_E_SHUTTING_DOWN);
    }
    pg_fixture_start(&server);
    assert_int_equal(rows("chat_messages"), 1);
}

static void stopping_does_not_wait_for_a_lock(void **state)
{
    (void)state;
    submit_text(1, 0, "before");
    wait_for_all();
    pg_fixture_run(&server, "begin; lock table chat_messages");
    submit_range(1, 10);
    assert_int_equal(store_writer_stop(writer, 100), 10);
    pg_fixture_run(&server, "rollback");
    wait_for_all();
    assert_int_equal(seen.status[5], SL_E_SHUTTING_DOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WRITER_TEST(a_server_that_stops_and_starts_loses_nothing),
        WRITER_TEST(terminated_backends_lose_nothing),
        WRITER_TEST(a_locked_table_is_waited_for),
        WRITER_TEST(without_privileges_nothing_is_given_up),
        WRITER_TEST(without_a_schema_everything_waits_for_it),
        WRITER_TEST(a_frozen_backend_cannot_undo_what_came_later),
        WRITER_TEST(a_full_queue_refuses_and_a_stopped_one_too),
        WRITER_TEST(stopping_writes_what_is_left),
        WRITER_TEST(stopping_hands_back_what_cannot_be_written),
        WRITER_TEST(stopping_does_not_wait_for_a_lock),
    };
    RUN_WRITER_TESTS(tests);
}
