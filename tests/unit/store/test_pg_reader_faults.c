/*
 * All the ways in which a read can fail to come back: bad input, a server that is away, restarted,
 * locked or silent, too many reads, cancelling, and the end of the reader.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "reader_fixture.h"

static void what_cannot_be_read_is_refused_at_start(void **state)
{
    struct waited_read waited;
    char user[300];

    (void)state;
    open_ready(5000, 8);
    start(&waited, STORE_READ_PROFILE, "", 0, 0);
    assert_int_equal(store_pg_reader_start(reader, &waited.read), SL_E_INVALID_VALUE);
    memset(user, 'x', sizeof(user));
    waited.read.user = user;
    waited.read.user_len = 256;
    assert_int_equal(store_pg_reader_start(reader, &waited.read), SL_E_INVALID_VALUE);
    start(&waited, STORE_READ_MESSAGES, "ann", 1, 0);
    assert_int_equal(store_pg_reader_start(reader, &waited.read), SL_E_INVALID_VALUE);
    start(&waited, STORE_READ_MESSAGES, "ann", 1, 100000);
    assert_int_equal(store_pg_reader_start(reader, &waited.read), SL_E_INVALID_VALUE);
    sl_loop_run_once(loop, 0);
    assert_int_equal(waited.ends, 0);
    /* NUL and bad UTF-8 in a user id: an error of that read, never another user's row */
    pg_fixture_run(&server, "insert into user_profiles values ('ann', '{}')");
    start(&waited, STORE_READ_PROFILE, "ann", 0, 0);
    waited.read.user = "ann\0x";
    waited.read.user_len = 5;
    assert_int_equal(go(&waited), SL_E_DATABASE_REFUSED);
    start(&waited, STORE_READ_PROFILE, "\xff\xfe", 0, 0);
    assert_int_equal(go(&waited), SL_E_DATABASE_REFUSED);
    assert_int_equal(sl_counter_get(&stats.database_errors), 2);
}

static void a_turn_is_asked_for_like_any_other_row(void **state)
{
    struct waited_read waited;

    (void)state;
    open_ready(1000, 1);
    start_turn(&waited, "", 9);
    assert_int_equal(store_pg_reader_start(reader, &waited.read), SL_E_INVALID_VALUE);
    start_turn(&waited, "\xff", 9);
    assert_int_equal(go(&waited), SL_E_DATABASE_REFUSED);
    struct store_record *record = add_uncommitted(9, "question");
    pg_fixture_run(&server, "begin; lock table chat_messages");
    start_turn(&waited, "ann", 8);
    assert_int_equal(go(&waited), SL_E_DATABASE_TIMEOUT);
    assert_false(waited.read.found);
    assert_int_equal(sl_counter_get(&stats.database_timeouts), 1);
    start_turn(&waited, "ann", 9); /* behind the late one, yet it waits for nothing */
    assert_int_equal(go(&waited), 0);
    assert_true(waited.read.found);
    pg_fixture_run(&server, "rollback");
    drop_uncommitted(record);
}

static void a_server_that_is_away_hides_no_uncommitted_turn(void **state)
{
    struct waited_read waited;

    (void)state;
    open_ready(5000, 8);
    struct store_record *record = add_uncommitted(9, "question");
    pg_fixture_stop(&server, SIGQUIT);
    SAMPLE_RUN_UNTIL(loop, store_pg_reader_link(reader) != STORE_LINK_UP);
    start_turn(&waited, "ann", 9);
    assert_int_equal(go(&waited), 0);
    assert_true(waited.read.found);
    assert_int_equal(sample_number(&waited.read.session), 1);
    store_read_dispose(&waited.read);
    start_turn(&waited, "bob", 9);
    assert_int_equal(go(&waited), SL_E_DATABASE_UNAVAILABLE);
    assert_false(waited.read.found);
    start_turn(&waited, "ann", 8);
    assert_int_equal(go(&waited), SL_E_DATABASE_UNAVAILABLE);
    drop_uncommitted(record);
    pg_fixture_start(&server);
}

static void an_error_does_not_touch_its_neighbours(void **state)
{
    struct waited_read waited[3];

    (void)state;
    pg_fixture_run(&server, "insert into user_profiles values ('ann', '{}')");
    open_ready(5000, 8);
    start(&waited[0], STORE_READ_PROFILE, "ann", 0, 0);
    start(&waited[1], STORE_READ_PROFILE, "\xff", 0, 0);
    start(&waited[2], STORE_READ_PROFILE, "ann", 0, 0);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(store_pg_reader_start(reader, &waited[i].read), 0);
    }
    SAMPLE_RUN_UNTIL(loop, waited[0].ends + waited[1].ends + waited[2].ends == 3);
    assert_int_equal(waited[0].status, 0);
    assert_int_equal(waited[1].status, SL_E_DATABASE_REFUSED);
    assert_int_equal(waited[2].status, 0);
    assert_true(waited[2].read.found);
    store_read_dispose(&waited[0].read);
    store_read_dispose(&waited[2].read);
}

static void a_server_that_is_away_fails_at_once_and_comes_back(void **state)
{
    struct waited_read waited, on_the_way;

    (void)state;
    pg_fixture_run(&server, "insert into user_profiles values ('ann', '{}')");
    open_ready(5000, 8);
    pg_fixture_run(&server, "begin; lock table user_profiles");
    start(&on_the_way, STORE_READ_PROFILE, "ann", 0, 0);
    assert_int_equal(store_pg_reader_start(reader, &on_the_way.read), 0);
    sl_loop_run_once(loop, 0);
    pg_fixture_stop(&server, SIGQUIT);
    SAMPLE_RUN_UNTIL(loop, on_the_way.ends == 1);
    assert_int_equal(on_the_way.status, SL_E_DATABASE_UNAVAILABLE);
    assert_int_not_equal(store_pg_reader_link(reader), STORE_LINK_UP);
    start(&waited, STORE_READ_PROFILE, "ann", 0, 0);
    assert_int_equal(go(&waited), SL_E_DATABASE_UNAVAILABLE);
    pg_fixture_start(&server);
    SAMPLE_RUN_UNTIL(loop, store_pg_reader_link(reader) == STORE_LINK_UP);
    start(&waited, STORE_READ_PROFILE, "ann", 0, 0);
    assert_int_equal(go(&waited), 0);
    store_read_dispose(&waited.read);
}

static void a_terminated_backend_is_replaced(void **state)
{
    struct waited_read waited;

    (void)state;
    open_ready(5000, 8);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pg_fixture_number(&server,
                                           "select count(pg_terminate_backend(pid)) from"
                                           " pg_stat_activity where application_name = 'sluice'"),
                         1);
        SAMPLE_RUN_UNTIL(loop, store_pg_reader_link(reader) != STORE_LINK_UP);
        SAMPLE_RUN_UNTIL(loop, store_pg_reader_link(reader) == STORE_LINK_UP);
        start(&waited, STORE_READ_PROFILE, "ann", 0, 0);
        assert_int_equal(go(&waited), 0);
        store_read_dispose(&waited.read);
    }
}

static void a_locked_table_makes_reads_late(void **state)
{
    struct waited_read late, profile;
    char url[256];

    (void)state;
    insert_messages(1, 3);
    /* no statement_timeout: the rows do arrive, after the deadline */
    (void)snprintf(url, sizeof(url), "%s options='-c statement_timeout=0'", server.url);
    open_reader(url, 1000, 8);
    SAMPLE_RUN_UNTIL(loop, store_pg_reader_link(reader) == STORE_LINK_UP);
    pg_fixture_run(&server, "begin; lock table chat_messages");
    start(&late, STORE_READ_HISTORY, "ann", 1, 10);
    int64_t started_ms = sample_now_ms();
    assert_int_equal(go(&late), SL_E_DATABASE_TIMEOUT);
    assert_true(sample_now_ms() - started_ms >= 1000);
    assert_int_equal(late.read.count, 0);
    assert_int_equal(sl_counter_get(&stats.database_timeouts), 1);
    memset(&late, 0xee, sizeof(late)); /* the caller's memory again: nobody may touch it */
    start(&profile, STORE_READ_PROFILE, "ann", 0, 0);
    assert_int_equal(store_pg_reader_start(reader, &profile.read), 0);
    pg_fixture_run(&server, "rollback");
    SAMPLE_RUN_UNTIL(loop, profile.ends == 1);
    assert_int_equal(profile.status, 0); /* same connection, behind the late rows */
    for (size_t i = 0; i < sizeof(late); i++) {
        assert_int_equal(((unsigned char *)&late)[i], 0xee);
    }
    store_read_dispose(&profile.read);
}

static long backend(void)
{
    return pg_fixture_number(&server, "select pid from pg_stat_activity where application_name"
                                      " = 'sluice' order by backend_start desc limit 1");
}

static void the_server_gives_up_late_queries_itself(void **state)
{
    struct waited_read late;

    (void)state;
    open_ready(1000, 8);
    long before = backend();
    /* in a connection of its own: inside of a transaction pg_stat_activity stands still */
    PGconn *locker = PQconnectdb(server.admin_url);
    PQclear(PQexec(locker, "begin; lock table chat_messages"));
    start(&late, STORE_READ_HISTORY, "ann", 1, 10);
    assert_int_equal(go(&late), SL_E_DATABASE_TIMEOUT);
    SAMPLE_RUN_UNTIL(
        loop, pg_fixture_number(&server, "select count(*) from pg_stat_activity where"
                                         " application_name = 'sluice' and state = 'idle'") == 1);
    PQfinish(locker);
    start(&late, STORE_READ_HISTORY, "ann", 1, 10);
    assert_int_equal(go(&late), 0);
    store_read_dispose(&late.read);
    assert_int_equal(backend(), before); /* not because the connection was given up */
}

static void a_preparation_that_fails_takes_nobody_along(void **state)
{
    struct waited_read first, behind[3];

    (void)state;
    insert_messages(1, 1);
    open_ready(5000, 8);
    pg_fixture_run(&server, "alter table chat_messages rename to hidden");
    start(&first, STORE_READ_HISTORY, "ann", 1, 10);
    assert_int_equal(store_pg_reader_start(reader, &first.read), 0);
    /* until the server has refused; the loop does not run, so nobody here has seen the answer */
    int64_t give_up_ms = sample_now_ms() + SAMPLE_WAIT_MS;
    while (pg_fixture_number(&server, "select count(*) from pg_stat_activity where application_name"
                                      " = 'sluice' and state = 'idle' and query like"
                                      " '%chat_messages%'") != 1) {
        assert_true(sample_now_ms() < give_up_ms);
    }
    pg_fixture_run(&server, "alter table hidden rename to chat_messages");
    for (size_t i = 0; i < 3; i++) {
        start(&behind[i], STORE_READ_HISTORY, "ann", 1, 10);
        assert_int_equal(store_pg_reader_start(reader, &behind[i].read), 0);
    }
    SAMPLE_RUN_UNTIL(loop, first.ends + behind[0].ends + behind[1].ends + behind[2].ends == 4);
    assert_int_equal(first.status, SL_E_DATABASE_REFUSED);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(behind[i].status, 0);
        assert_int_equal(behind[i].read.count, 1);
        store_read_dispose(&behind[i].read);
    }
    for (size_t i = 0; i < 3; i++) { /* and the next ones find it prepared */
        start(&first, STORE_READ_HISTORY, "ann", 1, 10);
        assert_int_equal(go(&first), 0);
        store_read_dispose(&first.read);
    }
}

static void a_connection_that_lost_its_statements_is_replaced(void **state)
{
    struct waited_read waited;

    (void)state;
    /* as behind a proxy that hands out another server process */
    pg_fixture_run(
        &server,
        "alter table user_profiles rename to hidden;"
        "create function forget() returns boolean language plpgsql as $$ begin"
        " raise exception 'x' using errcode = '26000'; end $$;"
        "create view user_profiles as select * from hidden where forget();"
        "grant select on user_profiles to sluice; insert into hidden values ('ann', '{}')");
    open_ready(5000, 8);
    long before = backend();
    start(&waited, STORE_READ_PROFILE, "ann", 0, 0);
    assert_int_equal(go(&waited), SL_E_DATABASE_UNAVAILABLE);
    pg_fixture_run(&server, "drop view user_profiles; drop function forget();"
                            "alter table hidden rename to user_profiles");
    SAMPLE_RUN_UNTIL(loop, store_pg_reader_link(reader) == STORE_LINK_UP);
    assert_true(backend() != before);
    start(&waited, STORE_READ_PROFILE, "ann", 0, 0);
    assert_int_equal(go(&waited), 0);
    assert_true(waited.read.found);
    store_read_dispose(&waited.read);
}

static void a_silent_connection_is_given_up(void **state)
{
    struct waited_read first, second;
    char url[256];

    (void)state;
    (void)snprintf(url, sizeof(url), "%s options='-c statement_timeout=0'", server.url);
    open_reader(url, 500, 8);
    SAMPLE_RUN_UNTIL(loop, store_pg_reader_link(reader) == STORE_LINK_UP);
    pg_fixture_run(&server, "begin; lock table chat_messages");
    start(&first, STORE_READ_HISTORY, "ann", 1, 10);
    assert_int_equal(go(&first), SL_E_DATABASE_TIMEOUT);
    SAMPLE_RUN_UNTIL(loop, store_pg_reader_link(reader) != STORE_LINK_UP);
    SAMPLE_RUN_UNTIL(loop, store_pg_reader_link(reader) == STORE_LINK_UP);
    start(&second, STORE_READ_PROFILE, "ann", 0, 0); /* another table, another connection */
    assert_int_equal(go(&second), 0);
    store_read_dispose(&second.read);
    pg_fixture_run(&server, "rollback");
}

static void reads_under_way_are_capped(void **state)
{
    struct waited_read waited[4];

    (void)state;
    open_ready(5000, 2);
    pg_fixture_run(&server, "begin; lock table user_profiles");
    for (size_t i = 0; i < 4; i++) {
        start(&waited[i], STORE_READ_PROFILE, "ann", 0, 0);
        assert_int_equal(store_pg_reader_start(reader, &waited[i].read), 0);
    }
    SAMPLE_RUN_UNTIL(loop, waited[2].ends + waited[3].ends == 2);
    assert_int_equal(waited[2].status, SL_E_OVERLOADED);
    assert_int_equal(waited[3].status, SL_E_OVERLOADED);
    assert_int_equal(waited[0].ends + waited[1].ends, 0);
    /* a cancelled read still occupies the server */
    store_pg_reader_cancel(reader, &waited[0].read);
    start(&waited[2], STORE_READ_PROFILE, "ann", 0, 0);
    assert_int_equal(go(&waited[2]), SL_E_OVERLOADED);
    pg_fixture_run(&server, "rollback");
    SAMPLE_RUN_UNTIL(loop, waited[1].ends == 1);
    assert_int_equal(waited[1].status, 0);
    store_read_dispose(&waited[1].read);
    start(&waited[2], STORE_READ_PROFILE, "ann", 0, 0);
    assert_int_equal(go(&waited[2]), 0);
    store_read_dispose(&waited[2].read);
}

static void cancelling_ends_a_read_once(void **state)
{
    struct waited_read waited;

    (void)state;
    open_ready(5000, 8);
    start(&waited, STORE_READ_PROFILE, "ann", 0, 0);
    store_pg_reader_cancel(reader, &waited.read); /* idle: nothing */
    assert_int_equal(store_pg_reader_start(reader, &waited.read), 0);
    store_pg_reader_cancel(reader, &waited.read);
    store_pg_reader_cancel(reader, &waited.read);
    assert_int_equal(waited.ends, 0);
    SAMPLE_RUN_UNTIL(loop, waited.ends > 0);
    assert_int_equal(waited.status, SL_E_CANCELLED);
    store_pg_reader_cancel(reader, &waited.read); /* finished: nothing */
    /* the tombstone takes the rows; the next read gets its own */
    pg_fixture_run(&server, "insert into user_profiles values ('bob', '{\"b\":1}')");
    start(&waited, STORE_READ_PROFILE, "bob", 0, 0);
    assert_int_equal(go(&waited), 0);
    assert_int_equal(waited.ends, 1);
    assert_true(waited.read.found);
    store_read_dispose(&waited.read);
}

static void destroying_ends_what_is_under_way(void **state)
{
    struct waited_read waited, cancelled;

    (void)state;
    open_ready(5000, 8);
    start(&waited, STORE_READ_PROFILE, "ann", 0, 0);
    start(&cancelled, STORE_READ_PROFILE, "ann", 0, 0);
    assert_int_equal(store_pg_reader_start(reader, &waited.read), 0);
    assert_int_equal(store_pg_reader_start(reader, &cancelled.read), 0);
    store_pg_reader_cancel(reader, &cancelled.read);
    store_pg_reader_destroy(reader);
    reader = NULL;
    assert_int_equal(waited.ends, 1);
    assert_int_equal(waited.status, SL_E_CANCELLED);
    assert_int_equal(cancelled.ends, 1);
}

static void destroying_while_dialling_is_safe(void **state)
{
    (void)state;
    open_reader(server.url, 5000, 8); /* the dial is queued, under way, or already posted */
    store_pg_reader_destroy(reader);
    reader = NULL;
    sl_loop_run_once(loop, 0);
}

static void a_table_that_is_not_there_fails_its_reads_only(void **state)
{
    struct waited_read waited;

    (void)state;
    open_ready(5000, 8);
    pg_fixture_run(&server, "alter table chat_messages rename to hidden");
    start(&waited, STORE_READ_HISTORY, "ann", 1, 10);
    assert_int_equal(go(&waited), SL_E_DATABASE_REFUSED);
    start(&waited, STORE_READ_PROFILE, "ann", 0, 0);
    assert_int_equal(go(&waited), 0);
    store_read_dispose(&waited.read);
    pg_fixture_run(&server, "alter table hidden rename to chat_messages");
    start(&waited, STORE_READ_HISTORY, "ann", 1, 10);
    assert_int_equal(go(&waited), 0); /* the preparation is tried again */
    store_read_dispose(&waited.read);
}

static void privileges_may_go_and_come_back(void **state)
{
    struct waited_read waited;

    (void)state;
    open_ready(5000, 8);
    for (int i = 0; i < 2; i++) { /* with the statement unprepared, then prepared */
        pg_fixture_run(&server, "revoke select on user_profiles from sluice");
        start(&waited, STORE_READ_PROFILE, "ann", 0, 0);
        assert_int_equal(go(&waited), SL_E_DATABASE_REFUSED);
        pg_fixture_run(&server, "grant select on user_profiles to sluice");
        start(&waited, STORE_READ_PROFILE, "ann", 0, 0);
        assert_int_equal(go(&waited), 0);
        store_read_dispose(&waited.read);
    }
    assert_int_equal(store_pg_reader_link(reader), STORE_LINK_UP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        READER_TEST(what_cannot_be_read_is_refused_at_start),
        READER_TEST(a_turn_is_asked_for_like_any_other_row),
        READER_TEST(a_server_that_is_away_hides_no_uncommitted_turn),
        READER_TEST(an_error_does_not_touch_its_neighbours),
        READER_TEST(a_server_that_is_away_fails_at_once_and_comes_back),
        READER_TEST(a_terminated_backend_is_replaced),
        READER_TEST(a_locked_table_makes_reads_late),
        READER_TEST(the_server_gives_up_late_queries_itself),
        READER_TEST(a_preparation_that_fails_takes_nobody_along),
        READER_TEST(a_connection_that_lost_its_statements_is_replaced),
        READER_TEST(a_silent_connection_is_given_up),
        READER_TEST(reads_under_way_are_capped),
        READER_TEST(cancelling_ends_a_read_once),
        READER_TEST(destroying_ends_what_is_under_way),
        READER_TEST(destroying_while_dialling_is_safe),
        READER_TEST(a_table_that_is_not_there_fails_its_reads_only),
        READER_TEST(privileges_may_go_and_come_back),
    };
    RUN_READER_TESTS(tests);
}
