/*
 * A batch in two statements leaves the same rows and tells the same as record by record.
 *
 * The batches are run directly, without the writer around them: fewer than STORE_WRITER_ROWS_MIN
 * records always go one by one. A trigger counts the statements, so no test can pass without having
 * used the form that it means.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pg_connect.h"
#include "pg_fixture.h"
#include "samples.h"
#include "writer_batch.h"
#include "writer_queue.h"
#include "writer_rows.h"

enum { RECORDS_MAX = 1000, SILENCE_MS = 30 * 1000, FENCE = 7 };

static struct pg_fixture server;
static PGconn *connection;
static struct store_writer_queue queue;
static struct store_writer_stats stats;
static struct store_record *records[RECORDS_MAX];
static size_t count;
static struct store_batch_result result;

static int set_up(void **state)
{
    (void)state;
    pg_fixture_empty(&server);
    pg_fixture_run(&server, "alter sequence statements restart");
    assert_int_equal(store_writer_queue_init(&queue, 1024, &stats), 0);
    connection = store_pg_connect(server.url);
    store_batch_set_up_on_writer_thread(connection, FENCE, &queue, SILENCE_MS, &result);
    assert_int_equal(result.outcome, STORE_BATCH_COMMITTED);
    count = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    PQfinish(connection);
    store_writer_queue_finish(&queue);
    while (count > 0) {
        store_record_destroy(records[--count]);
    }
    return 0;
}

/* ---- records ---- */

static void add(const char *user, unsigned session, const struct store_message *message)
{
    struct sl_uuid id = sample_id(session);

    assert_true(count < RECORDS_MAX);
    assert_int_equal(store_record_create_message(user, strlen(user), &id, message, &records[count]),
                     0);
    count++;
}

static void add_texts(unsigned session, unsigned first, unsigned how_many)
{
    for (unsigned i = first; i < first + how_many; i++) {
        struct store_message message = sample_message(i, "text");
        add("ann", session, &message);
    }
}

static void add_other(enum store_record_kind kind, unsigned session, const char *text)
{
    struct sl_uuid id = sample_id(session);

    assert_int_equal(store_record_create(kind, "ann", 3, &id, sample_text(text), &records[count]),
                     0);
    count++;
}

static void set_content(size_t index, const char *content)
{
    struct store_message message = records[index]->message;

    message.content = sample_text(content);
    struct store_record *record = NULL;
    assert_int_equal(store_record_create_message(records[index]->user, records[index]->user_len,
                                                 &records[index]->session, &message, &record),
                     0);
    store_record_destroy(records[index]);
    records[index] = record;
}

/* Every column in every state, in an order of times that jumps, and every tenth id for the second time. */
static void add_all_sorts(unsigned how_many)
{
    static const char *const texts[] = {"",
                                        "plain",
                                        "k\xc3\xa4se \xf0\x9f\xa7\x80",
                                        "'; drop table chat_messages; --",
                                        "{a,b}",
                                        "\"\\\"",
                                        "NULL",
                                        "$1 %s \t\r\n\x01",
                                        "{}",
                                        "\\000 x",
                                        "\xef\xbf\xbf\xf4\x8f\xbf\xbf"};
    static const char *const users[] = {"ann", "b\xc3\xb6"
                                               "b{,}\"'\\"};
    enum { TEXTS = sizeof(texts) / sizeof(texts[0]) };

    for (unsigned i = 0; i < how_many; i++) {
        unsigned number = i % 10 == 9 ? i / 2 : i;
        struct store_message message = sample_message(number, texts[i % TEXTS]);
        message.turn_id = sample_id(i + 5000);
        message.role = i % 2 == 0 ? STORE_ROLE_USER : STORE_ROLE_ASSISTANT;
        message.status = (enum store_status)(STORE_STATUS_COMPLETE + i % 5);
        message.created_at_us = (INT64_C(1704067200) + i * 7919 % 1000) * 1000000 + i;
        message.model = sample_text(i % 3 == 0 ? NULL : texts[i % 7]);
        message.finish_reason = sample_text(i % 5 == 0 ? NULL : texts[i % 4]);
        message.prompt_tokens = i % 4 == 0 ? -1 : (int32_t)i * 100003;
        message.completion_tokens = i % 6 == 0 ? -1 : (int32_t)(i % 6 - 1);
        message.ttft_ms = i % 7 == 0 ? -1 : (double)(i % 7 - 1) * 12.1;
        add(users[i / 3 % 2], 1 + i % 37, &message);
    }
}

/* ---- the server ---- */

static void run(size_t first, size_t how_many)
{
    store_batch_run_on_writer_thread(connection, records + first, how_many, &queue, SILENCE_MS,
                                     &result);
}

static void run_one_by_one(size_t first, size_t end)
{
    for (size_t at = first; at < end;) {
        size_t some = end - at < STORE_WRITER_ROWS_MIN ? end - at : STORE_WRITER_ROWS_MIN - 1;
        run(at, some);
        assert_int_equal(result.outcome, STORE_BATCH_COMMITTED);
        at += some;
    }
}

/* How many statements have added messages since the last call. */
static long statements(void)
{
    long number = pg_fixture_number(
        &server, "select case when is_called then last_value else 0 end from statements");

    pg_fixture_run(&server, "alter sequence statements restart");
    return number;
}

/* Both tables as text. */
static char *dump(void)
{
    PGresult *tables =
        PQexec(server.admin, "select (select string_agg(s::text, e'\\n' order by user_id, id)"
                             " from chat_sessions s) || (select string_agg(m::text, e'\\n' order by"
                             " user_id, id) from chat_messages m)");

    assert_int_equal(PQresultStatus(tables), PGRES_TUPLES_OK);
    char *text = strdup(PQgetvalue(tables, 0, 0));
    PQclear(tables);
    return text;
}

static long rows(const char *table)
{
    char sql[256];

    (void)snprintf(sql, sizeof(sql), "select count(*) from %s", table);
    return pg_fixture_number(&server, sql);
}

/* ---- what is stored ---- */

static void both_forms_leave_the_same_rows(void **state)
{
    (void)state;
    add_all_sorts(800);
    run_one_by_one(0, count);
    assert_int_equal(statements(), count);
    char *expected = dump();
    assert_true(strlen(expected) > 800 * 100);

    pg_fixture_empty(&server);
    (void)statements();
    run(0, count);
    assert_int_equal(result.outcome, STORE_BATCH_COMMITTED);
    assert_int_equal(statements(), 1);
    char *seen = dump();
    assert_string_equal(seen, expected);
    free(seen);

    run(0, count); /* as after a commit whose outcome was unknown */
    assert_int_equal(result.outcome, STORE_BATCH_COMMITTED);
    assert_int_equal(statements(), 1);
    seen = dump();
    assert_string_equal(seen, expected);
    free(seen);
    free(expected);
}

static void rows_that_are_there_already_are_met_in_the_same_way(void **state)
{
    char *dumps[2];

    (void)state;
    add_all_sorts(600);
    for (int many = 0; many < 2; many++) {
        pg_fixture_empty(&server);
        (void)statements();
        run_one_by_one(200, 230); /* sessions and messages of the middle */
        if (many) {
            run(0, 300);
            run(250, 350);
        } else {
            run_one_by_one(0, 300);
            run_one_by_one(250, 600);
        }
        assert_int_equal(result.outcome, STORE_BATCH_COMMITTED);
        assert_int_equal(statements(), many ? 30 + 2 : 30 + 300 + 350);
        dumps[many] = dump();
    }
    assert_string_equal(dumps[0], dumps[1]);
    free(dumps[0]);
    free(dumps[1]);
}

static void the_first_of_two_with_one_id_is_kept(void **state)
{
    (void)state;
    add_texts(1, 0, 40);
    for (unsigned i = 0; i < 40; i++) {
        struct store_message message = sample_message(i, "second");
        message.created_at_us += 1000000000;
        add("ann", 2, &message);
    }
    run(0, count);
    assert_int_equal(result.outcome, STORE_BATCH_COMMITTED);
    assert_int_equal(statements(), 1);
    assert_int_equal(rows("chat_messages where content = 'text'"), 40);
    assert_int_equal(rows("chat_messages"), 40);
    assert_int_equal(rows("chat_sessions"), 2);
}

static void other_records_keep_their_place(void **state)
{
    (void)state;
    add_texts(1, 0, 40);
    add_other(STORE_RECORD_DELETE, 1, NULL);      /* 40 */
    add_other(STORE_RECORD_TITLE, 1, "too late"); /* 41 */
    add_texts(1, 100, 32);
    add_other(STORE_RECORD_TITLE, 1, "title"); /* 74 */
    add_texts(2, 200, 5);                      /* too few: one by one */
    add_other(STORE_RECORD_DELETE, 3, NULL);   /* 80 */
    records[0]->status = SL_E_INTERNAL;
    run(0, count);
    assert_int_equal(result.outcome, STORE_BATCH_COMMITTED);
    assert_int_equal(statements(), 1 + 1 + 5);
    assert_int_equal(rows("chat_messages where session_id::text like '%1'"), 32);
    assert_int_equal(rows("chat_messages"), 32 + 5);
    assert_int_equal(rows("chat_sessions where title = 'title'"), 1);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(records[i]->status, i == 41 || i == 80 ? SL_E_NOT_FOUND : 0);
        assert_false(records[i]->outcome_unknown);
    }
}

static void a_large_batch_is_stored_whole(void **state)
{
    enum { SIZE = 8 * 1024 };
    char *content = malloc(SIZE + 1);

    (void)state;
    memset(content, 'x', SIZE);
    content[SIZE] = '\0';
    for (unsigned i = 0; i < RECORDS_MAX; i++) {
        struct store_message message = sample_message(i, content);
        (void)snprintf(content, SIZE, "%08u", i);
        content[8] = 'y';
        add("ann", i, &message);
    }
    run(0, count);
    assert_int_equal(result.outcome, STORE_BATCH_COMMITTED);
    assert_int_equal(statements(), 1);
    assert_int_equal(rows("chat_sessions"), RECORDS_MAX);
    assert_int_equal(rows("chat_messages where length(content) = 8192 and left(content, 9) ="
                          " lpad(('x' || right(id::text, 8))::bit(32)::int::text, 8, '0') || 'y'"),
                     RECORDS_MAX);
    free(content);
}

static void beyond_its_bytes_a_batch_is_several(void **state)
{
    enum { SIZE = 256 * 1024 };
    char *content = calloc(1, SIZE + 1);

    (void)state;
    memset(content, 'x', SIZE);
    for (unsigned i = 0; i < 100; i++) {
        struct store_message message = sample_message(i, content);
        add("ann", 1, &message);
    }
    run(0, count);
    assert_int_equal(result.outcome, STORE_BATCH_COMMITTED);
    assert_int_equal(statements(), 2); /* 63 of them are a little less than 16 MiB */
    assert_int_equal(rows("chat_messages where length(content) = 262144"), 100);
    free(content);
}

/* ---- what is refused ---- */

static void a_culprit_is_named(void **state)
{
    static const size_t places[] = {0, 1, 50, 99};

    (void)state;
    add_texts(1, 0, 100);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        set_content(places[i], "\xff");
        run(0, count);
        assert_int_equal(result.outcome, STORE_BATCH_FAILED);
        assert_string_equal(result.sqlstate, "22021");
        assert_int_equal(result.culprit, places[i]);
        assert_int_equal(rows("chat_messages"), 0);
        assert_int_equal(rows("chat_sessions"), 0);
        assert_false(records[0]->outcome_unknown);
        set_content(places[i], "text");
    }
    run(0, count); /* the connection is as good as before */
    assert_int_equal(result.outcome, STORE_BATCH_COMMITTED);
    assert_int_equal(rows("chat_messages"), 100);
}

static void a_trigger(const char *sqlstate)
{
    char sql[512];

    (void)snprintf(sql, sizeof(sql),
                   "create function forbid() returns trigger language plpgsql as $$ begin"
                   " if new.content = 'poison' then raise exception 'x' using errcode = '%s';"
                   " end if; return new; end $$;"
                   "create trigger forbid before insert on chat_messages for each row"
                   " execute function forbid()",
                   sqlstate);
    pg_fixture_run(&server, sql);
}

static void only_an_error_of_a_row_is_looked_into(void **state)
{
    static const struct {
        const char *sqlstate;
        size_t culprit;
        long statements;
    } cases[] = {{"23514", 70, 1 + 71}, {"22P02", 70, 1 + 71}, {"54000", 70, 1 + 71},
                 {"XX000", 70, 1 + 71}, {"40001", 100, 1},     {"53200", 100, 1},
                 {"57014", 100, 1},     {"42501", 100, 1}};

    (void)state;
    add_texts(1, 0, 100);
    set_content(70, "poison");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        a_trigger(cases[i].sqlstate);
        run(0, count);
        pg_fixture_run(&server, "drop function forbid() cascade");
        assert_int_equal(result.outcome, STORE_BATCH_FAILED);
        assert_string_equal(result.sqlstate, cases[i].sqlstate);
        assert_int_equal(result.culprit, cases[i].culprit);
        assert_int_equal(statements(), cases[i].statements);
        assert_int_equal(rows("chat_messages"), 0);
    }
}

static void beside_many_a_single_culprit_is_known_at_once(void **state)
{
    (void)state;
    add_texts(1, 0, 40);
    add_other(STORE_RECORD_PROFILE, 0, "{not json"); /* 40 */
    add_texts(1, 100, 40);
    run(0, count);
    assert_int_equal(result.outcome, STORE_BATCH_FAILED);
    assert_int_equal(result.culprit, 40);
    assert_int_equal(statements(), 1);
    assert_int_equal(rows("chat_messages"), 0);
}

static void nobody_is_to_blame_for_a_commit(void **state)
{
    (void)state;
    pg_fixture_run(&server,
                   "create function forbid() returns trigger language plpgsql as $$ begin"
                   " raise exception 'no' using errcode = '23514'; end $$;"
                   "create constraint trigger at_commit after insert on chat_messages"
                   " deferrable initially deferred for each row execute function forbid()");
    add_texts(1, 0, 100);
    run(0, count);
    pg_fixture_run(&server, "drop function forbid() cascade");
    assert_int_equal(result.outcome, STORE_BATCH_FAILED);
    assert_string_equal(result.sqlstate, "23514");
    assert_int_equal(result.culprit, 100);
    assert_int_equal(statements(), 1);
}

static void a_broken_connection_leaves_the_outcome_unknown(void **state)
{
    (void)state;
    add_texts(1, 0, 100);
    pg_fixture_run(&server, "select pg_terminate_backend(pid) from pg_stat_activity"
                            " where application_name = 'sluice' or usename = 'sluice'");
    run(0, count);
    assert_int_equal(result.outcome, STORE_BATCH_FAILED);
    assert_int_equal(store_pg_classify(result.sqlstate), STORE_PG_RECONNECT);
    assert_true(records[0]->outcome_unknown && records[99]->outcome_unknown);
    assert_int_equal(rows("chat_messages"), 0);
}

#define ROWS_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROWS_TEST(both_forms_leave_the_same_rows),
        ROWS_TEST(rows_that_are_there_already_are_met_in_the_same_way),
        ROWS_TEST(the_first_of_two_with_one_id_is_kept),
        ROWS_TEST(other_records_keep_their_place),
        ROWS_TEST(a_large_batch_is_stored_whole),
        ROWS_TEST(beyond_its_bytes_a_batch_is_several),
        ROWS_TEST(a_culprit_is_named),
        ROWS_TEST(only_an_error_of_a_row_is_looked_into),
        ROWS_TEST(beside_many_a_single_culprit_is_known_at_once),
        ROWS_TEST(nobody_is_to_blame_for_a_commit),
        ROWS_TEST(a_broken_connection_leaves_the_outcome_unknown),
    };

    if (!pg_fixture_begin(&server)) {
        return 0;
    }
    pg_fixture_migrate(&server);
    pg_fixture_run(&server,
                   "create sequence statements; grant all on sequence statements to sluice;"
                   "create function count_statement() returns trigger language plpgsql as $$ begin"
                   " perform nextval('statements'); return null; end $$;"
                   "create trigger count_statement before insert on chat_messages for each"
                   " statement execute function count_statement()");
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pg_fixture_end(&server);
    return failed;
}
