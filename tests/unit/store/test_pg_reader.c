/*
 * Reads on a real server: rows as they were written, pages, the overlay's part, and index use.
 * What can go wrong with them is in test_pg_reader_faults.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pg_statements.h"
#include "reader_fixture.h"
#include "record.h"

/* ---- rows ---- */

static void a_profile_comes_back_as_it_was_written(void **state)
{
    struct waited_read waited;
    const char *json =
        "{\"name\": \"Zoë \xf0\x9f\x8c\x8d\",  \"a\":1,\"a\":2, \"nul\":\"\\u0000\"}";
    char sql[256];

    (void)state;
    (void)snprintf(sql, sizeof(sql), "insert into user_profiles values ('ann', '%s')", json);
    pg_fixture_run(&server, sql);
    open_ready(5000, 8);
    start(&waited, STORE_READ_PROFILE, "ann", 0, 0);
    assert_int_equal(go(&waited), 0);
    assert_true(waited.read.found);
    assert_int_equal(waited.read.source, STORE_SOURCE_DATABASE);
    assert_int_equal(waited.read.text.len, strlen(json));
    assert_memory_equal(waited.read.text.base, json, strlen(json));
    store_read_dispose(&waited.read);
    start(&waited, STORE_READ_PROFILE, "ANN", 0, 0);
    assert_int_equal(go(&waited), 0);
    assert_false(waited.read.found);
    store_read_dispose(&waited.read);
    assert_int_equal(sl_counter_get(&stats.database_reads), 2);
}

static void every_column_of_a_message_comes_back(void **state)
{
    struct waited_read waited;

    (void)state;
    insert_messages(1, 1);
    pg_fixture_run(
        &server, "insert into chat_messages values ('ann',"
                 " '00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000002',"
                 " '00000000-0000-7000-8000-000000000003', 'assistant', 'interrupted', '', 'm',"
                 " 'length', 2147483647, 0, 12.5, '1969-12-31 23:59:59.999999Z')");
    open_ready(5000, 8);
    start(&waited, STORE_READ_HISTORY, "ann", 1, 10);
    assert_int_equal(go(&waited), 0);
    assert_int_equal(waited.read.count, 2);
    const struct store_message *old = &waited.read.messages[0], *young = &waited.read.messages[1];
    assert_int_equal(sample_number(&old->id), 2);
    assert_int_equal(sample_number(&old->turn_id), 3);
    assert_int_equal(old->role, STORE_ROLE_ASSISTANT);
    assert_int_equal(old->status, STORE_STATUS_INTERRUPTED);
    assert_non_null(old->content.base);
    assert_int_equal(old->content.len, 0);
    assert_string_equal(old->model.base, "m");
    assert_string_equal(old->finish_reason.base, "length");
    assert_int_equal(old->prompt_tokens, 2147483647);
    assert_int_equal(old->completion_tokens, 0);
    assert_true(old->ttft_ms > 12.4 && old->ttft_ms < 12.6);
    assert_int_equal(old->created_at_us, -1);
    assert_int_equal(young->role, STORE_ROLE_USER);
    assert_int_equal(young->created_at_us, (INT64_C(1704067200) + 1) * 1000000);
    assert_null(young->model.base);
    assert_null(young->finish_reason.base);
    assert_int_equal(young->prompt_tokens, -1);
    assert_int_equal(young->completion_tokens, -1);
    assert_true(young->ttft_ms < 0);
    store_read_dispose(&waited.read);
}

static void history_is_the_newest_oldest_first(void **state)
{
    struct waited_read waited;

    (void)state;
    insert_messages(1, 30);
    open_ready(5000, 8);
    start(&waited, STORE_READ_HISTORY, "ann", 1, 4);
    assert_int_equal(go(&waited), 0);
    assert_int_equal(waited.read.count, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(sample_number(&waited.read.messages[i].id), 27 + i);
    }
    store_read_dispose(&waited.read);
    start(&waited, STORE_READ_HISTORY, "ann", 1, 25); /* history_messages is 10 */
    assert_int_equal(go(&waited), 0);
    assert_int_equal(waited.read.count, 11); /* and one more, which may be the asking turn's own */
    store_read_dispose(&waited.read);
    start(&waited, STORE_READ_HISTORY, "bob", 1, 10); /* another user's session is an empty one */
    assert_int_equal(go(&waited), 0);
    assert_int_equal(waited.read.count, 0);
    store_read_dispose(&waited.read);
}

static void pages_of_messages_have_no_hole_and_no_double(void **state)
{
    struct waited_read waited;
    unsigned expected = 25;
    bool more = true;

    (void)state;
    insert_messages(1, 25);
    open_ready(5000, 8);
    start(&waited, STORE_READ_MESSAGES, "ann", 1, 10);
    while (more) {
        assert_int_equal(go(&waited), 0);
        for (size_t i = 0; i < waited.read.count; i++) {
            assert_int_equal(sample_number(&waited.read.messages[i].id), expected--);
        }
        more = waited.read.more;
        assert_int_equal(more, expected > 0);
        int64_t cursor_us = waited.read.messages[waited.read.count - 1].created_at_us;
        struct sl_uuid cursor_id = waited.read.messages[waited.read.count - 1].id;
        store_read_dispose(&waited.read);
        start(&waited, STORE_READ_MESSAGES, "ann", 1, 10);
        waited.read.has_cursor = true;
        waited.read.cursor_us = cursor_us;
        waited.read.cursor_id = cursor_id;
    }
    assert_int_equal(expected, 0);
    /* a forged cursor: before all rows, or outside of Postgres' time, which fails that read only */
    waited.read.cursor_us = INT64_MIN;
    assert_int_equal(go(&waited), 0);
    assert_int_equal(waited.read.count, 0);
    store_read_dispose(&waited.read);
    waited.read.cursor_us = INT64_MIN / 2;
    assert_int_equal(go(&waited), SL_E_DATABASE_REFUSED);
    start(&waited, STORE_READ_MESSAGES, "ann", 1, 10);
    assert_int_equal(go(&waited), 0);
    store_read_dispose(&waited.read);
}

static void sessions_come_newest_first_in_pages(void **state)
{
    struct waited_read waited;

    (void)state;
    pg_fixture_run(&server, "insert into chat_sessions select 'ann',"
                            " ('00000000-0000-7000-8000-0000' || lpad(to_hex(i), 8, '0'))::uuid,"
                            " case when i = 5 then 'title é' when i = 4 then '' end, '2024-01-01Z',"
                            " timestamptz '2024-01-02Z' + (i / 2) * interval '1 s'"
                            " from generate_series(1, 5) i");
    open_ready(5000, 8);
    start(&waited, STORE_READ_SESSIONS, "ann", 0, 3);
    assert_int_equal(go(&waited), 0);
    assert_int_equal(waited.read.count, 3);
    assert_true(waited.read.more);
    assert_int_equal(sample_number(&waited.read.sessions[0].id), 5); /* ties: greater id first */
    assert_int_equal(waited.read.sessions[0].title.len, strlen("title é"));
    assert_memory_equal(waited.read.sessions[0].title.base, "title é", strlen("title é"));
    assert_int_equal(sample_number(&waited.read.sessions[1].id), 4);
    assert_non_null(waited.read.sessions[1].title.base);
    assert_int_equal(waited.read.sessions[1].title.len, 0);
    assert_null(waited.read.sessions[2].title.base);
    assert_int_equal(waited.read.sessions[0].created_at_us, INT64_C(1704067200) * 1000000);
    struct store_session last = waited.read.sessions[2];
    store_read_dispose(&waited.read);
    start(&waited, STORE_READ_SESSIONS, "ann", 0, 3);
    waited.read.has_cursor = true;
    waited.read.cursor_us = last.updated_at_us;
    waited.read.cursor_id = last.id;
    assert_int_equal(go(&waited), 0);
    assert_int_equal(waited.read.count, 2);
    assert_false(waited.read.more);
    assert_int_equal(sample_number(&waited.read.sessions[0].id), 2);
    assert_int_equal(sample_number(&waited.read.sessions[1].id), 1);
    store_read_dispose(&waited.read);
}

static void a_megabyte_comes_back_whole(void **state)
{
    struct waited_read waited;

    (void)state;
    insert_messages(1, 1);
    pg_fixture_run(&server, "update chat_messages set content = repeat('0123456789abcdeé', 65536)");
    open_ready(5000, 8);
    start(&waited, STORE_READ_HISTORY, "ann", 1, 10);
    assert_int_equal(go(&waited), 0);
    assert_int_equal(waited.read.messages[0].content.len, 17 * 65536);
    assert_memory_equal(waited.read.messages[0].content.base + 17 * 65535, "0123456789abcdeé", 17);
    store_read_dispose(&waited.read);
}

/* ---- turns ---- */

static bool is_turn_of(const char *user, const char *turn)
{
    struct waited_read waited;

    start(&waited, STORE_READ_TURN, user, 0, 0);
    assert_int_equal(sl_uuid_parse(turn, strlen(turn), &waited.read.turn), 0);
    assert_int_equal(go(&waited), 0);
    assert_int_equal(waited.read.source, STORE_SOURCE_DATABASE);
    bool found = waited.read.found;
    if (found) {
        assert_int_equal(sample_number(&waited.read.session), 1);
    }
    store_read_dispose(&waited.read);
    return found;
}

static void a_turn_is_found_by_its_id(void **state)
{
    struct waited_read waited;

    (void)state;
    insert_messages(10, 12); /* of turn 9 */
    open_ready(5000, 8);
    start_turn(&waited, "ann", 9);
    assert_int_equal(go(&waited), 0);
    assert_true(waited.read.found);
    assert_int_equal(sample_number(&waited.read.session), 1);
    assert_int_equal(waited.read.source, STORE_SOURCE_DATABASE);
    store_read_dispose(&waited.read);
    start_turn(&waited, "ann", 8); /* another turn of the same second */
    assert_int_equal(go(&waited), 0);
    assert_false(waited.read.found);
    start_turn(&waited, "ann", 10); /* a message's id is no turn's */
    assert_int_equal(go(&waited), 0);
    assert_false(waited.read.found);
    start_turn(&waited, "bob", 9); /* another user's turn is none */
    assert_int_equal(go(&waited), 0);
    assert_false(waited.read.found);
    assert_int_equal(sl_counter_get(&stats.database_reads), 4);
    assert_int_equal(sl_counter_get(&stats.database_errors), 0);
}

static void a_turn_reaches_one_second_far(void **state)
{
    static const struct {
        const char *turn, *message;
        bool found;
    } samples[] = {
        /* the same millisecond, the next count; the turn's last byte is the greater one */
        {"018cc251-f400-7abc-8000-0000000000ff", "018cc251-f400-7abd-8000-000000000000", true},
        /* the count ran over into the next millisecond, the time into the next byte */
        {"018cc251-f4ff-7fff-8000-000000000000", "018cc251-f500-7000-8000-000000000000", true},
        /* the last id of the range, and the first behind it */
        {"018cc251-f400-7000-8000-000000000001", "018cc251-f7e7-7fff-bfff-ffffffffffff", true},
        {"018cc251-f400-7000-8000-000000000002", "018cc251-f7e8-7000-8000-000000000000", false},
        /* a carry through all bytes */
        {"00ffffff-ffff-7000-8000-000000000003", "01000000-0000-7000-8000-000000000000", true},
        /* of no process of ours: the greatest id, and the least */
        {"ffffffff-ffff-ffff-ffff-ffffffffffff", "018cc251-f600-7000-8000-000000000000", false},
        {"00000000-0000-0000-0000-000000000000", "018cc251-f600-7000-8000-000000000001", false},
    };
    char sql[512];

    (void)state;
    insert_messages(10, 10);
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        (void)snprintf(sql, sizeof(sql),
                       "insert into chat_messages (user_id, session_id, id, turn_id, role, status,"
                       " content, created_at) select user_id, session_id, '%s', '%s', role, status,"
                       " content, created_at from chat_messages where turn_id ="
                       " '00000000-0000-7000-8000-000000000009'",
                       samples[i].message, samples[i].turn);
        pg_fixture_run(&server, sql);
    }
    open_ready(5000, 8);
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        assert_int_equal(is_turn_of("ann", samples[i].turn), samples[i].found);
        assert_false(is_turn_of("bob", samples[i].turn));
    }
}

/* ---- the overlay ---- */

static void uncommitted_messages_are_merged(void **state)
{
    struct waited_read waited;
    static const unsigned newest_first[] = {9, 8, 6, 5, 4};

    (void)state;
    insert_messages(1, 6);
    open_ready(5000, 8);
    struct store_record *records[] = {add_uncommitted(6, "text 6"), /* committed already */
                                      add_uncommitted(9, "nine"), add_uncommitted(8, "eight")};
    start(&waited, STORE_READ_MESSAGES, "ann", 1, 5);
    assert_int_equal(go(&waited), 0);
    assert_int_equal(waited.read.count, 5);
    assert_true(waited.read.more);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(sample_number(&waited.read.messages[i].id), newest_first[i]);
    }
    assert_string_equal(waited.read.messages[0].content.base, "nine");
    store_read_dispose(&waited.read);

    start(&waited, STORE_READ_HISTORY, "ann", 1, 3);
    assert_int_equal(go(&waited), 0);
    assert_int_equal(waited.read.count, 3);
    assert_int_equal(sample_number(&waited.read.messages[0].id), 6);
    assert_int_equal(sample_number(&waited.read.messages[2].id), 9);
    store_read_dispose(&waited.read);

    start(&waited, STORE_READ_MESSAGES, "ann", 1, 5); /* the cursor holds for the overlay too */
    waited.read.has_cursor = true;
    waited.read.cursor_us = records[2]->message.created_at_us;
    waited.read.cursor_id = records[2]->message.id;
    assert_int_equal(go(&waited), 0);
    assert_int_equal(sample_number(&waited.read.messages[0].id), 6);
    assert_true(waited.read.more);
    store_read_dispose(&waited.read);
    for (size_t i = 0; i < 3; i++) {
        drop_uncommitted(records[i]);
    }
}

static void a_commit_under_way_hides_nothing(void **state)
{
    struct waited_read waited;

    (void)state;
    insert_messages(1, 1);
    open_ready(5000, 8);
    /* the query's snapshot lacks message 2; it leaves the overlay before the rows arrive */
    struct store_record *record = add_uncommitted(2, "two");
    start(&waited, STORE_READ_HISTORY, "ann", 1, 10);
    assert_int_equal(store_pg_reader_start(reader, &waited.read), 0);
    drop_uncommitted(record);
    SAMPLE_RUN_UNTIL(loop, waited.ends > 0);
    assert_int_equal(waited.read.count, 2);
    assert_string_equal(waited.read.messages[1].content.base, "two");
    store_read_dispose(&waited.read);
}

static void an_uncommitted_turn_is_found(void **state)
{
    struct waited_read waited;

    (void)state;
    open_ready(5000, 8);
    struct store_record *record = add_uncommitted(9, "question");
    start_turn(&waited, "ann", 9);
    assert_int_equal(go(&waited), 0);
    assert_true(waited.read.found);
    assert_int_equal(sample_number(&waited.read.session), 1);
    store_read_dispose(&waited.read);
    start_turn(&waited, "bob", 9);
    assert_int_equal(go(&waited), 0);
    assert_false(waited.read.found);
    /* committed, or not: it is in one of the two */
    insert_messages(10, 10);
    drop_uncommitted(record);
    start_turn(&waited, "ann", 9);
    assert_int_equal(go(&waited), 0);
    assert_true(waited.read.found);
    store_read_dispose(&waited.read);
    /* a read that is cancelled after the overlay has answered ends once */
    record = add_uncommitted(20, "question");
    start_turn(&waited, "ann", 20);
    assert_int_equal(store_pg_reader_start(reader, &waited.read), 0);
    store_pg_reader_cancel(reader, &waited.read);
    SAMPLE_RUN_UNTIL(loop, waited.ends > 0);
    assert_int_equal(waited.status, 0);
    store_read_dispose(&waited.read);
    drop_uncommitted(record);
}

/* ---- indexes ---- */

static void assert_plan(enum store_pg_statement statement, const char *types, const char *arguments,
                        const char *index)
{
    char sql[2048], plan[8192] = "";

    (void)snprintf(sql, sizeof(sql), "prepare planned(%s) as %s", types,
                   store_pg_statement_text(statement));
    pg_fixture_run(&server, sql);
    for (int generic = 0; generic < 2; generic++) {
        plan[0] = '\0';
        pg_fixture_run(&server, generic ? "set plan_cache_mode = force_generic_plan"
                                        : "set plan_cache_mode = force_custom_plan");
        (void)snprintf(sql, sizeof(sql), "explain execute planned(%s)", arguments);
        PGresult *result = PQexec(server.admin, sql);
        for (int i = 0; i < PQntuples(result); i++) {
            (void)strncat(plan, PQgetvalue(result, i, 0), sizeof(plan) - strlen(plan) - 1);
            (void)strncat(plan, "\n", sizeof(plan) - strlen(plan) - 1);
        }
        PQclear(result);
        if (strstr(plan, index) == NULL || strstr(plan, "Sort") != NULL ||
            strstr(plan, "Seq Scan") != NULL) {
            print_error("%s", plan);
            fail();
        }
    }
    pg_fixture_run(&server, "reset plan_cache_mode; deallocate planned");
}

static void statements_use_their_indexes(void **state)
{
    char arguments[256];

    (void)state;
    pg_fixture_run(&server,
                   "insert into chat_sessions select 'user' || (i % 50), gen_random_uuid(), null,"
                   " now(), now() - i * interval '1 s' from generate_series(1, 5000) i");
    pg_fixture_run(&server,
                   "insert into chat_messages (user_id, session_id, id, turn_id, role, status,"
                   " content, created_at) select s.user_id, s.id, gen_random_uuid(),"
                   " gen_random_uuid(), 'user', 'complete', repeat('x', 100),"
                   " now() - i * interval '1 s' from chat_sessions s, generate_series(1, 6) i");
    /* one long session of a busy user: neither reading it whole nor sorting it would do */
    pg_fixture_run(&server,
                   "insert into chat_messages (user_id, session_id, id, turn_id, role, status,"
                   " content, created_at) select s.user_id, s.id, gen_random_uuid(),"
                   " gen_random_uuid(), 'user', 'complete', repeat('x', 100),"
                   " now() - i * interval '1 s' from (select * from chat_sessions limit 1) s,"
                   " generate_series(1, 20000) i");
    pg_fixture_run(&server, "analyze chat_sessions; analyze chat_messages");
    (void)snprintf(arguments, sizeof(arguments),
                   "'user1', '%s', 'infinity', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 11",
                   pg_fixture_value(&server,
                                    "select session_id from chat_messages where"
                                    " user_id = 'user1' group by 1 order by count(*) desc"));
    assert_plan(STORE_PG_READ_MESSAGES, "text, uuid, timestamptz, uuid, bigint", arguments,
                "chat_messages_by_time");
    assert_plan(STORE_PG_READ_SESSIONS, "text, timestamptz, uuid, bigint",
                "'user1', now() - interval '100 s', gen_random_uuid(), 21",
                "chat_sessions_by_activity");
    assert_plan(STORE_PG_READ_TURN, "text, uuid, uuid",
                "'user1', '80000000-0000-7000-8000-000000000000',"
                " '80000000-03e8-0000-0000-000000000000'",
                "chat_messages_pkey");
    assert_plan(STORE_PG_READ_PROFILE, "text", "'user1'", "user_profiles");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        READER_TEST(a_profile_comes_back_as_it_was_written),
        READER_TEST(every_column_of_a_message_comes_back),
        READER_TEST(history_is_the_newest_oldest_first),
        READER_TEST(pages_of_messages_have_no_hole_and_no_double),
        READER_TEST(sessions_come_newest_first_in_pages),
        READER_TEST(a_megabyte_comes_back_whole),
        READER_TEST(a_turn_is_found_by_its_id),
        READER_TEST(a_turn_reaches_one_second_far),
        READER_TEST(uncommitted_messages_are_merged),
        READER_TEST(a_commit_under_way_hides_nothing),
        READER_TEST(an_uncommitted_turn_is_found),
        cmocka_unit_test_setup(statements_use_their_indexes, empty_tables),
    };
    RUN_READER_TESTS(tests);
}
