/*
 * The whole store: real Postgres, real Redis, the real cache between them.
 *
 * Only what no part shows alone: that a turn's messages are seen by the next one from wherever they
 * are at that moment, that a write is never hidden by an old cache entry, and that everything can be
 * taken down with a load under way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "journal_folder.h"
#include "pg_fixture.h"
#include "redis_server.h"
#include "samples.h"

static struct pg_fixture server;
static struct redis_server redis;
static struct sl_loop *loop;
static struct store *store;
static struct store_client *client;
static unsigned ended;
static int last_status;

static int set_up(void **state)
{
    struct store_config config = {.redis_url = redis.url,
                                  .journal_dir = journal_folder_make(),
                                  .journal_segment_bytes = 1024 * 1024,
                                  .journal_retain_bytes = 16 * 1024 * 1024,
                                  .journal_retain_s = 3600,
                                  .database_url = server.url,
                                  .redis_timeout_ms = 2000,
                                  .database_timeout_ms = 5000,
                                  .database_reads_max = 16,
                                  .profile_ttl_s = 300,
                                  .absent_profile_ttl_s = 5,
                                  .history_ttl_s = 60,
                                  .history_pending_ttl_s = 3600,
                                  .history_messages = 10,
                                  .local_profiles_max = 16,
                                  .writer_batch_rows = 100,
                                  .writer_batch_bytes = 1024 * 1024,
                                  .writer_queue_bytes = 4 * 1024 * 1024};

    (void)state;
    pg_fixture_empty(&server);
    ended = 0;
    assert_int_equal(sl_loop_create(&loop), 0);
    assert_int_equal(store_create(&config, &store), 0);
    assert_int_equal(store_client_create(store, loop, &client), 0);
    SAMPLE_RUN_UNTIL(loop, store_client_database(client) == STORE_LINK_UP &&
                               store_client_redis(client) == STORE_LINK_UP);
    (void)redis_server_integer(&redis, "EVAL %s 0", "redis.call('FLUSHALL') return 1");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    store_client_destroy(client);
    store_destroy(store);
    sl_loop_destroy(loop);
    return 0;
}

static void note_end(struct sl_op *op, int status)
{
    (void)op;
    ended++;
    last_status = status;
}

static void save_message(struct store_save *save, unsigned number, const char *content)
{
    struct sl_uuid session = sample_id(1);
    struct store_message message = sample_message(number, content);

    *save = (struct store_save){.op.done = note_end};
    assert_int_equal(store_save_message(client, save, "ann", 3, &session, &message), 0);
}

static struct store_read read_rows(enum store_read_kind kind)
{
    struct store_read read = {.op.done = note_end,
                              .kind = kind,
                              .user = "ann",
                              .user_len = 3,
                              .session = sample_id(1),
                              .limit = 10};
    unsigned before = ended;

    assert_int_equal(store_read_start(client, &read), 0);
    SAMPLE_RUN_UNTIL(loop, ended == before + 1);
    assert_int_equal(last_status, 0);
    return read;
}

static void assert_history(enum store_source source, unsigned count)
{
    struct store_read read = read_rows(STORE_READ_HISTORY);

    assert_int_equal(read.source, source);
    assert_int_equal(read.count, count);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(sample_number(&read.messages[i].id), i + 1);
    }
    store_read_dispose(&read);
}

static void the_next_turn_sees_the_last_one(void **state)
{
    struct sl_uuid session = sample_id(1);
    struct store_message messages[2] = {sample_message(1, "question"), sample_message(2, "answer")};
    struct store_save saves[2];

    (void)state;
    pg_fixture_run(&server, "begin; lock table chat_sessions in share mode");
    save_message(&saves[0], 1, "question");
    save_message(&saves[1], 2, "answer");
    SAMPLE_RUN_UNTIL(loop, ended == 2); /* they are in the journal, not in Postgres */
    store_history_append(client, "ann", 3, &session, messages, 2, messages, 2);
    assert_history(STORE_SOURCE_CACHE, 2);
    /* the cache is lost while Postgres has nothing yet */
    (void)redis_server_integer(&redis, "EVAL %s 0", "redis.call('FLUSHALL') return 1");
    assert_history(STORE_SOURCE_DATABASE, 2);
    pg_fixture_run(&server, "rollback");
    SAMPLE_RUN_UNTIL(loop, sl_counter_get(&store_writer_stats(store)->rows) == 2);
    assert_history(STORE_SOURCE_CACHE, 2);
    (void)redis_server_integer(&redis, "EVAL %s 0", "redis.call('FLUSHALL') return 1");
    assert_history(STORE_SOURCE_DATABASE, 2);
}

static void the_list_expires_once_postgres_has_it(void **state)
{
    static const char longest[] = "local t = -2 for _, k in ipairs(redis.call('KEYS', '*:h:*')) do"
                                  " t = redis.call('TTL', k) end return t";
    struct sl_uuid session = sample_id(1);
    struct store_message message = sample_message(1, "question");
    struct store_save save;

    (void)state;
    pg_fixture_run(&server, "begin; lock table chat_sessions in share mode");
    save_message(&save, 1, "question");
    store_history_append(client, "ann", 3, &session, &message, 1, &message, 1);
    SAMPLE_RUN_UNTIL(loop, redis_server_integer(&redis, "EVAL %s 0", longest) > 100);
    pg_fixture_run(&server, "rollback");
    SAMPLE_RUN_UNTIL(loop, redis_server_integer(&redis, "EVAL %s 0", longest) <= 70);
    assert_in_range(redis_server_integer(&redis, "EVAL %s 0", longest), 40, 70);
}

static void a_written_profile_is_what_is_read(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        char json[32];
        struct store_save save = {.op.done = note_end};
        struct store_read read =
            read_rows(STORE_READ_PROFILE); /* fills the cache with the old one */
        store_read_dispose(&read);
        (void)snprintf(json, sizeof(json), "{\"version\":%d}", i);
        unsigned before = ended;
        assert_int_equal(store_save_profile(client, &save, "ann", 3, sample_text(json)), 0);
        SAMPLE_RUN_UNTIL(loop, ended == before + 1);
        assert_int_equal(last_status, 0);
        read = read_rows(STORE_READ_PROFILE);
        assert_int_equal(read.text.len, strlen(json));
        assert_memory_equal(read.text.base, json, strlen(json));
        store_read_dispose(&read);
    }
}

static void a_deleted_session_is_empty(void **state)
{
    struct sl_uuid session = sample_id(1);
    struct store_message message = sample_message(1, "question");
    struct store_save save;

    (void)state;
    save_message(&save, 1, "question");
    store_history_append(client, "ann", 3, &session, &message, 1, &message, 1);
    SAMPLE_RUN_UNTIL(loop, ended == 1);
    assert_history(STORE_SOURCE_CACHE, 1);
    save = (struct store_save){.op.done = note_end};
    unsigned before = ended;
    assert_int_equal(store_delete_session(client, &save, "ann", 3, &session), 0);
    SAMPLE_RUN_UNTIL(loop, ended == before + 1);
    assert_int_equal(last_status, 0);
    assert_history(STORE_SOURCE_DATABASE, 0);
}

static void it_can_be_taken_down_under_load(void **state)
{
    struct store_read reads[8];

    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        reads[i] = (struct store_read){.op.done = note_end,
                                       .kind = i % 2 ? STORE_READ_PROFILE : STORE_READ_HISTORY,
                                       .user = "ann",
                                       .user_len = 3,
                                       .session = sample_id(i),
                                       .limit = 10};
        assert_int_equal(store_read_start(client, &reads[i]), 0);
    }
    /* misses of Redis, so that flights to Postgres are under way which nobody waits for */
    SAMPLE_RUN_UNTIL(loop, sl_counter_get(&store_client_stats(client)->database_reads) > 0);
    for (unsigned i = 0; i < 8; i++) {
        store_read_cancel(&reads[i]);
    }
    SAMPLE_RUN_UNTIL(loop, ended == 8);
    for (unsigned i = 0; i < 8; i++) {
        store_read_dispose(&reads[i]);
    }
}

#define WHOLE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WHOLE_TEST(the_next_turn_sees_the_last_one),
        WHOLE_TEST(the_list_expires_once_postgres_has_it),
        WHOLE_TEST(a_written_profile_is_what_is_read),
        WHOLE_TEST(a_deleted_session_is_empty),
        WHOLE_TEST(it_can_be_taken_down_under_load),
    };
    if (!redis_server_start(&redis, NULL)) {
        return 0;
    }
    if (!pg_fixture_begin(&server)) {
        redis_server_stop(&redis);
        return 0;
    }
    pg_fixture_migrate(&server);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pg_fixture_end(&server);
    redis_server_stop(&redis);
    return failed;
}
