/*
 * The writer on a real server: what it stores and what it refuses.
 * What happens when the server misbehaves is in test_writer_faults.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "writer_fixture.h"

/* ---- what is stored ---- */

static void every_column_is_stored(void **state)
{
    struct store_message message = sample_message(2, "käse \xf0\x9f\xa7\x80 '\\ $1 %s");

    (void)state;
    message.role = STORE_ROLE_ASSISTANT;
    message.status = STORE_STATUS_STOPPED;
    message.turn_id = sample_id(9);
    message.model = sample_text("model");
    message.finish_reason = sample_text("stopped");
    message.prompt_tokens = 0;
    message.completion_tokens = 77;
    message.ttft_ms = 12.5;
    message.created_at_us += 123456;
    assert_int_equal(submit_message("ann", 1, &message), 0);
    submit_text(1, 3, "");
    wait_for_all();
    assert_string_equal(
        pg_fixture_value(&server, "select (user_id, session_id, id, turn_id, role, status, model,"
                                  " finish_reason, prompt_tokens, completion_tokens, ttft_ms,"
                                  " extract(epoch from created_at), content)::text"
                                  " from chat_messages where role = 'assistant'"),
        "(ann,00000000-0000-7000-8000-000000000001,00000000-0000-7000-8000-000000000002,"
        "00000000-0000-7000-8000-000000000009,assistant,stopped,model,stopped,0,77,12.5,"
        "1704067202.123456,\"käse \xf0\x9f\xa7\x80 '\\\\ $1 %s\")");
    assert_string_equal(pg_fixture_value(&server,
                                         "select (content, model, finish_reason, prompt_tokens,"
                                         " completion_tokens, ttft_ms)::text from chat_messages"
                                         " where role = 'user'"),
                        "(\"\",,,,,)");
    assert_string_equal(
        pg_fixture_value(&server, "select (user_id, id, title, extract(epoch from created_at),"
                                  " extract(epoch from updated_at))::text from chat_sessions"),
        "(ann,00000000-0000-7000-8000-000000000001,,1704067202.123456,1704067203.000000)");
    assert_int_equal(sl_counter_get(&figures->rows), 2);
    assert_true(sl_counter_get(&figures->last_success_unix_s) > 1704067200);
    assert_int_equal(sl_counter_get(&figures->connected), 1);
}

static void a_megabyte_is_stored_whole(void **state)
{
    enum { SIZE = 1024 * 1024 };
    char *content = malloc(SIZE + 1);
    struct store_message message;

    (void)state;
    for (size_t i = 0; i < SIZE; i++) {
        content[i] = (char)('a' + i % 26);
    }
    content[SIZE] = '\0';
    for (unsigned i = 1; i <= 8; i++) {
        message = sample_message(i, content);
        assert_int_equal(submit_message("ann", 1, &message), 0);
    }
    wait_for_all();
    assert_int_equal(rows("chat_messages"), 8);
    assert_int_equal(pg_fixture_number(&server, "select count(*) from chat_messages where content ="
                                                " left(repeat('abcdefghijklmnopqrstuvwxyz', 40400),"
                                                " 1048576)"),
                     8);
    free(content);
}

static void the_same_id_is_one_row_per_user(void **state)
{
    struct store_message message = sample_message(1, "first");

    (void)state;
    assert_int_equal(submit_message("ann", 1, &message), 0);
    message.content = sample_text("second");
    assert_int_equal(submit_message("ann", 1, &message), 0);
    wait_for_all();
    assert_int_equal(submit_message("ann", 1, &message), 0);
    assert_int_equal(submit_message("bob", 1, &message), 0);
    wait_for_all();
    assert_int_equal(rows("chat_messages"), 2);
    assert_int_equal(rows("chat_sessions"), 2);
    assert_string_equal(
        pg_fixture_value(&server, "select content from chat_messages where user_id = 'ann'"),
        "first");
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(seen.status[i], 0);
    }
}

static void activity_never_goes_back(void **state)
{
    (void)state;
    submit_text(1, 50, "late");
    submit_text(1, 20, "early, but written later");
    wait_for_all();
    assert_string_equal(pg_fixture_value(&server, "select extract(epoch from updated_at)::bigint"
                                                  " from chat_sessions"),
                        "1704067250");
}

static void titles_profiles_and_deletes_keep_the_order(void **state)
{
    (void)state;
    submit_other(STORE_RECORD_TITLE, 1, "too early");      /* 0: no such session */
    submit_text(1, 1, "one");                              /* 1 */
    submit_other(STORE_RECORD_TITLE, 1, "Käse");           /* 2 */
    submit_text(2, 2, "to be deleted");                    /* 3 */
    submit_other(STORE_RECORD_DELETE, 2, NULL);            /* 4 */
    submit_other(STORE_RECORD_DELETE, 2, NULL);            /* 5: gone already */
    submit_text(2, 3, "after the delete");                 /* 6 */
    submit_other(STORE_RECORD_PROFILE, 0, "{\"v\": 1}");   /* 7 */
    submit_other(STORE_RECORD_PROFILE, 0, "{\"v\":  2 }"); /* 8 */
    wait_for_all();
    static const int expected[] = {SL_E_NOT_FOUND, 0, 0, 0, 0, SL_E_NOT_FOUND, 0, 0, 0};
    for (size_t i = 0; i < 9; i++) {
        assert_int_equal(seen.status[i], expected[i]);
    }
    assert_string_equal(pg_fixture_value(&server, "select string_agg(content, '|' order by id)"
                                                  " from chat_messages"),
                        "one|after the delete");
    assert_string_equal(
        pg_fixture_value(&server, "select title from chat_sessions where title is not null"),
        "Käse");
    assert_string_equal(pg_fixture_value(&server, "select profile from user_profiles"),
                        "{\"v\":  2 }");
}

static void a_delete_that_is_sent_again_is_no_miss(void **state)
{
    struct sl_uuid id = sample_id(1);

    (void)state;
    for (int again = 0; again < 2; again++) {
        struct store_record *record = NULL;
        assert_int_equal(store_record_create(STORE_RECORD_DELETE, "ann", 3, &id,
                                             (struct store_text){NULL, 0}, &record),
                         0);
        record->outcome_unknown = again; /* as after a connection that broke around the commit */
        assert_int_equal(submit(record), 0);
    }
    wait_for_all();
    assert_int_equal(seen.status[0], SL_E_NOT_FOUND);
    assert_int_equal(seen.status[1], 0);
}

/* ---- what is refused ---- */

static void poison_is_refused_alone(void **state)
{
    enum { COUNT = 60 };
    static const unsigned poisoned[] = {0, 29, 30, 45, 59};

    (void)state;
    /* all in one batch: they wait while the session is locked */
    submit_text(1, 1000, "first");
    wait_for_all();
    pg_fixture_run(&server, "begin; lock table chat_sessions");
    submit_text(1, 1001, "blocks");
    unsigned first = seen.submitted;
    for (unsigned i = 0; i < COUNT; i++) {
        bool bad = false;
        for (size_t k = 0; k < 5; k++) {
            bad = bad || poisoned[k] == i;
        }
        submit_text(1, i, bad ? "not UTF-8: \xff" : "fine");
    }
    pg_fixture_run(&server, "rollback");
    wait_for_all();
    for (unsigned i = 0; i < COUNT; i++) {
        bool bad = i == 0 || i == 29 || i == 30 || i == 45 || i == 59;
        assert_int_equal(seen.status[first + i], bad ? SL_E_DATABASE_REFUSED : 0);
    }
    assert_int_equal(rows("chat_messages"), COUNT - 5 + 2);
    assert_int_equal(sl_counter_get(&figures->refused), 5);
    assert_int_equal(atomic_load(&refusals.count), 5);
    assert_string_equal(refusals.sqlstate, "22021");
    assert_in_range(sl_counter_get(&figures->retries), 4, 20);
    assert_in_range(sl_counter_get(&figures->batches), 8, 40);
}

static void nul_is_refused_and_not_cut(void **state)
{
    struct store_message message = sample_message(1, "");

    (void)state;
    message.content = (struct store_text){"hello\0world", 11};
    assert_int_equal(submit_message("ann", 1, &message), 0);
    submit_other(STORE_RECORD_PROFILE, 0, "{not json");
    wait_for_all();
    assert_int_equal(seen.status[0], SL_E_DATABASE_REFUSED);
    assert_int_equal(seen.status[1], SL_E_DATABASE_REFUSED);
    assert_int_equal(rows("chat_messages"), 0);
    assert_int_equal(rows("chat_sessions"), 0); /* one transaction */
    assert_int_equal(rows("user_profiles"), 0);
}

static void a_refusal_that_cannot_be_noted_waits(void **state)
{
    (void)state;
    refusals.answer = SL_E_STORAGE_UNAVAILABLE;
    submit_text(1, 1, "\xff");
    submit_text(1, 2, "behind");
    wait_for_all();
    assert_int_equal(atomic_load(&refusals.count), 2);
    assert_int_equal(sl_counter_get(&figures->refused), 1);
    assert_int_equal(seen.status[0], SL_E_DATABASE_REFUSED);
    assert_int_equal(rows("chat_messages"), 1);
}

static void a_commit_that_fails_is_halved(void **state)
{
    (void)state;
    pg_fixture_run(&server,
                   "create function forbid() returns trigger language plpgsql as $$ begin"
                   " if new.content = 'poison' then raise exception 'no' using errcode = '23514';"
                   " end if; return null; end $$;"
                   "create constraint trigger at_commit after insert on chat_messages"
                   " deferrable initially deferred for each row execute function forbid()");
    pg_fixture_run(&server, "begin; lock table chat_sessions");
    for (unsigned i = 0; i < 40; i++) {
        submit_text(1, i, i == 13 ? "poison" : "fine");
    }
    pg_fixture_run(&server, "rollback");
    wait_for_all();
    pg_fixture_run(&server, "drop function forbid() cascade");
    assert_int_equal(rows("chat_messages"), 39);
    for (unsigned i = 0; i < 40; i++) {
        assert_int_equal(seen.status[i], i == 13 ? SL_E_DATABASE_REFUSED : 0);
    }
}

/* A trigger that fails `times` times with `sqlstate` and then lets everything pass. */
static void stumble(const char *sqlstate, unsigned times)
{
    char sql[512];

    (void)snprintf(sql, sizeof(sql),
                   "create sequence stumbles; grant all on sequence stumbles to sluice;"
                   "create function stumble() returns trigger language plpgsql as $$ begin"
                   " if nextval('stumbles') <= %u then raise exception 'x' using errcode = '%s';"
                   " end if; return new; end $$;"
                   "create trigger stumbles before insert on chat_messages for each row"
                   " execute function stumble()",
                   times, sqlstate);
    pg_fixture_run(&server, sql);
}

static void each_class_of_error_is_retried_in_its_way(void **state)
{
    static const struct {
        const char *sqlstate;
        unsigned times;
        unsigned refused;
    } cases[] = {{"40001", 4, 0}, {"40P01", 2, 0}, {"55P03", 2, 0},
                 {"53100", 2, 0}, {"57014", 3, 0}, {"57P01", 2, 0},
                 {"25006", 2, 0}, {"XX000", 2, 0}, {"08006", 2, 0}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t refused = sl_counter_get(&figures->refused);
        uint64_t retries = sl_counter_get(&figures->retries);
        stumble(cases[i].sqlstate, cases[i].times);
        for (unsigned k = 0; k < 20; k++) {
            submit_text(1, (unsigned)i * 100 + k, "text");
        }
        wait_for_all();
        pg_fixture_run(&server, "drop function stumble() cascade; drop sequence stumbles");
        assert_int_equal(sl_counter_get(&figures->refused) - refused, cases[i].refused);
        assert_true(sl_counter_get(&figures->retries) - retries >= cases[i].times);
        assert_int_equal(rows("chat_messages"), (i + 1) * 20);
    }
}

static void an_internal_error_that_stays_is_refused_in_the_end(void **state)
{
    (void)state;
    pg_fixture_run(&server,
                   "create function broken() returns trigger language plpgsql as $$ begin"
                   " if new.content = 'broken' then raise exception 'x' using errcode = 'XX000';"
                   " end if; return new; end $$;"
                   "create trigger broken before insert on chat_messages for each row"
                   " execute function broken()");
    submit_text(1, 1, "fine");
    submit_text(1, 2, "broken");
    submit_text(1, 3, "fine");
    wait_for_all();
    pg_fixture_run(&server, "drop function broken() cascade");
    assert_int_equal(seen.status[1], SL_E_DATABASE_REFUSED);
    assert_int_equal(rows("chat_messages"), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WRITER_TEST(every_column_is_stored),
        WRITER_TEST(a_megabyte_is_stored_whole),
        WRITER_TEST(the_same_id_is_one_row_per_user),
        WRITER_TEST(activity_never_goes_back),
        WRITER_TEST(titles_profiles_and_deletes_keep_the_order),
        WRITER_TEST(a_delete_that_is_sent_again_is_no_miss),
        WRITER_TEST(poison_is_refused_alone),
        WRITER_TEST(nul_is_refused_and_not_cut),
        WRITER_TEST(a_refusal_that_cannot_be_noted_waits),
        WRITER_TEST(a_commit_that_fails_is_halved),
        WRITER_TEST(each_class_of_error_is_retried_in_its_way),
        WRITER_TEST(an_internal_error_that_stays_is_refused_in_the_end),
    };
    RUN_WRITER_TESTS(tests);
}
