/*
 * The facade on a real Postgres: which way reads go, how saves end, what the caches are told, and in
 * which order things may be taken down.
 *
 * The cache is a fake of this file's that knows nothing, hands every read on to Postgres, and notes
 * what it was told; test_store_whole.c has the real one.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cache.h"
#include "journal_folder.h"
#include "pg_fixture.h"
#include "pg_reader.h"
#include "samples.h"

static struct pg_fixture server;
static struct sl_loop *loop;
static struct store *store;
static struct store_client *client;

/* ------------------------------------------------------------------ the fake cache */

struct store_cache {
    struct store_pg_reader *reader;
};

static struct {
    unsigned reads, cancels, appends, committed, profile_drops, history_drops,
        saves_ended_before_drop;
    char user[16];
    struct sl_uuid session;
} told;
static unsigned saves_ended;

int store_cache_create(struct sl_loop *of_loop, struct store_connector *connector,
                       const struct store_config *config, struct store_local_profiles *local,
                       struct store_pg_reader *reader, struct store_client_stats *stats,
                       struct store_cache **ret_cache)
{
    (void)of_loop;
    (void)connector;
    (void)config;
    (void)local;
    (void)stats;
    *ret_cache = calloc(1, sizeof(**ret_cache));
    (*ret_cache)->reader = reader;
    return 0;
}

void store_cache_destroy(struct store_cache *cache)
{
    free(cache);
}

int store_cache_read(struct store_cache *cache, struct store_read *read)
{
    told.reads++;
    return store_pg_reader_start(cache->reader, read);
}

void store_cache_cancel(struct store_cache *cache, struct store_read *read)
{
    told.cancels++;
    store_pg_reader_cancel(cache->reader, read);
}

void store_cache_append(struct store_cache *cache, const char *user, size_t user_len,
                        const struct sl_uuid *session, const struct store_message *added,
                        size_t added_count, const struct store_message *window, size_t window_count)
{
    (void)cache;
    (void)user;
    (void)user_len;
    (void)session;
    (void)added;
    (void)window;
    told.appends += (unsigned)(added_count + window_count);
}

static void note_key(const char *user, size_t user_len, const struct sl_uuid *session)
{
    (void)snprintf(told.user, sizeof(told.user), "%.*s", (int)user_len, user);
    if (session != NULL) {
        told.session = *session;
    }
    told.saves_ended_before_drop = saves_ended;
}

void store_cache_committed(struct store_cache *cache, const char *user, size_t user_len,
                           const struct sl_uuid *session)
{
    (void)cache;
    told.committed++;
    note_key(user, user_len, session);
}

void store_cache_drop_profile(struct store_cache *cache, const char *user, size_t user_len)
{
    (void)cache;
    told.profile_drops++;
    note_key(user, user_len, NULL);
}

void store_cache_drop_history(struct store_cache *cache, const char *user, size_t user_len,
                              const struct sl_uuid *session)
{
    (void)cache;
    told.history_drops++;
    note_key(user, user_len, session);
}

enum store_link store_cache_link(const struct store_cache *cache)
{
    (void)cache;
    return STORE_LINK_CONNECTING;
}

/* ------------------------------------------------------------------ the fixture */

static struct store_config config_for(const char *database_url)
{
    return (struct store_config){.redis_url = "unix:///nowhere",
                                 .journal_dir = journal_folder_make(),
                                 .journal_segment_bytes = 1024 * 1024,
                                 .journal_retain_bytes = 16 * 1024 * 1024,
                                 .journal_retain_s = 3600,
                                 .database_url = database_url,
                                 .redis_timeout_ms = 50,
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
}

static int set_up(void **state)
{
    struct store_config config = config_for(server.url);

    (void)state;
    memset(&told, 0, sizeof(told));
    saves_ended = 0;
    pg_fixture_empty(&server);
    assert_int_equal(sl_loop_create(&loop), 0);
    assert_int_equal(store_create(&config, &store), 0);
    memset(&config, 0xee, sizeof(config)); /* it was copied */
    assert_int_equal(store_client_create(store, loop, &client), 0);
    SAMPLE_RUN_UNTIL(loop, store_client_database(client) == STORE_LINK_UP &&
                               sl_counter_get(&store_writer_stats(store)->connected) == 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    store_client_destroy(client);
    client = NULL;
    store_destroy(store);
    store = NULL;
    sl_loop_destroy(loop);
    return 0;
}

struct waited_save {
    struct store_save save;
    unsigned ends;
    int status;
};

static void note_save(struct sl_op *op, int status)
{
    struct waited_save *waited = SL_CONTAINER_OF(op, struct waited_save, save.op);
    waited->ends++;
    waited->status = status;
    saves_ended++;
}

static void prepare_save(struct waited_save *waited)
{
    memset(waited, 0, sizeof(*waited));
    waited->save.op.done = note_save;
}

static void start_message(struct waited_save *waited, unsigned session, unsigned number,
                          const char *content)
{
    struct sl_uuid id = sample_id(session);
    struct store_message message = sample_message(number, content);

    prepare_save(waited);
    assert_int_equal(store_save_message(client, &waited->save, "ann", 3, &id, &message), 0);
    assert_int_equal(waited->ends, 0);
}

static int wait_for_save(struct waited_save *waited)
{
    SAMPLE_RUN_UNTIL(loop, waited->ends > 0);
    assert_int_equal(waited->ends, 1);
    return waited->status;
}

struct waited_read {
    struct store_read read;
    unsigned ends;
    int status;
};

static void note_read(struct sl_op *op, int status)
{
    struct waited_read *waited = SL_CONTAINER_OF(op, struct waited_read, read.op);
    waited->ends++;
    waited->status = status;
}

static int read_rows(struct waited_read *waited, enum store_read_kind kind, unsigned session)
{
    memset(waited, 0, sizeof(*waited));
    waited->read.op.done = note_read;
    waited->read.kind = kind;
    waited->read.user = "ann";
    waited->read.user_len = 3;
    waited->read.session = sample_id(session);
    waited->read.limit = 10;
    assert_int_equal(store_read_start(client, &waited->read), 0);
    SAMPLE_RUN_UNTIL(loop, waited->ends > 0);
    return waited->status;
}

/* ------------------------------------------------------------------ tests */

static void an_url_that_cannot_be_read_is_refused(void **state)
{
    struct store_config config = config_for("host=/x =");
    struct store *none = NULL;

    (void)state;
    assert_int_equal(store_create(&config, &none), SL_E_INVALID_VALUE);
    config = config_for("host=/x");
    config.redis_url = "http://x";
    assert_int_equal(store_create(&config, &none), SL_E_INVALID_VALUE);
    assert_null(none);
    store_destroy(NULL);
    store_client_destroy(NULL);
}

static void a_saved_message_can_be_read(void **state)
{
    struct waited_save save;
    struct waited_read read;

    (void)state;
    start_message(&save, 1, 7, "hello");
    assert_int_equal(wait_for_save(&save), 0);   /* it is in the journal */
    SAMPLE_RUN_UNTIL(loop, told.committed == 1); /* and then in Postgres */
    assert_string_equal(told.user, "ann");
    assert_int_equal(sample_number(&told.session), 1);
    static const enum store_read_kind kinds[] = {STORE_READ_HISTORY, STORE_READ_MESSAGES};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(read_rows(&read, kinds[i], 1), 0);
        assert_int_equal(read.read.count, 1);
        assert_string_equal(read.read.messages[0].content.base, "hello");
        store_read_dispose(&read.read);
    }
    assert_int_equal(read_rows(&read, STORE_READ_SESSIONS, 0), 0);
    assert_int_equal(read.read.count, 1);
    store_read_dispose(&read.read);
    store_read_dispose(&read.read);  /* idempotent */
    assert_int_equal(told.reads, 1); /* lists do not ask the cache */
    assert_int_equal(store_client_redis(client), STORE_LINK_CONNECTING);
}

static void an_uncommitted_message_is_read_too(void **state)
{
    struct waited_save first, second;
    struct waited_read read;

    (void)state;
    pg_fixture_run(&server, "begin; lock table chat_sessions in share mode");
    start_message(&first, 1, 1, "one");
    start_message(&second, 1, 2, "two");
    assert_int_equal(read_rows(&read, STORE_READ_HISTORY, 1), 0);
    assert_int_equal(read.read.count, 2);
    assert_string_equal(read.read.messages[1].content.base, "two");
    store_read_dispose(&read.read);
    assert_int_equal(wait_for_save(&first), 0); /* the journal does not wait for Postgres */
    assert_int_equal(wait_for_save(&second), 0);
    assert_int_equal(told.committed, 0);
    pg_fixture_run(&server, "rollback");
    SAMPLE_RUN_UNTIL(loop, told.committed >= 1);
    assert_int_equal(read_rows(&read, STORE_READ_HISTORY, 1), 0);
    assert_int_equal(read.read.count, 2);
    store_read_dispose(&read.read);
}

static void read_turn(struct waited_read *waited, const char *user, const struct sl_uuid *turn)
{
    memset(waited, 0, sizeof(*waited));
    waited->read.op.done = note_read;
    waited->read.kind = STORE_READ_TURN;
    waited->read.user = user;
    waited->read.user_len = strlen(user);
    waited->read.turn = *turn;
    assert_int_equal(store_read_start(client, &waited->read), 0);
    SAMPLE_RUN_UNTIL(loop, waited->ends > 0);
    assert_int_equal(waited->status, 0);
    store_read_cancel(&waited->read); /* finished: nothing */
}

static void a_turn_is_there_from_its_save_on(void **state)
{
    struct waited_save save;
    struct waited_read read;
    struct sl_uuid turn = sl_uuid_v7();
    struct store_message question = sample_message(1, "question");

    (void)state;
    question.id = sl_uuid_v7();
    turn.bytes[15] = 0xff; /* the last byte takes no part in the order */
    question.turn_id = turn;
    read_turn(&read, "ann", &turn);
    assert_false(read.read.found);
    pg_fixture_run(&server, "begin; lock table chat_sessions in share mode");
    struct sl_uuid session = sl_uuid_v7();
    prepare_save(&save);
    assert_int_equal(store_save_message(client, &save.save, "ann", 3, &session, &question), 0);
    for (unsigned committed = 0; committed < 2; committed++) {
        read_turn(&read, "ann", &turn);
        assert_true(read.read.found);
        assert_true(sl_uuid_equal(&read.read.session, &session));
        assert_int_equal(read.read.source,
                         committed != 0 ? STORE_SOURCE_DATABASE : STORE_SOURCE_NONE);
        store_read_dispose(&read.read);
        read_turn(&read, "bob", &turn);
        assert_false(read.read.found);
        store_read_dispose(&read.read);
        if (committed == 0) {
            assert_int_equal(wait_for_save(&save), 0);
            pg_fixture_run(&server, "rollback");
            SAMPLE_RUN_UNTIL(loop, told.committed == 1);
        }
    }
    assert_int_equal(told.reads, 0); /* nor does this ask the cache */
}

static void a_profile_and_a_delete_drop_the_caches_first(void **state)
{
    struct waited_save save;
    struct waited_read read;
    struct sl_uuid session = sample_id(1);

    (void)state;
    prepare_save(&save);
    assert_int_equal(store_save_profile(client, &save.save, "ann", 3, sample_text("{\"a\":1}")), 0);
    assert_int_equal(wait_for_save(&save), 0);
    assert_int_equal(told.profile_drops, 1);
    assert_int_equal(told.saves_ended_before_drop, 0);
    assert_int_equal(read_rows(&read, STORE_READ_PROFILE, 0), 0);
    assert_true(read.read.found);
    store_read_dispose(&read.read);

    prepare_save(&save);
    assert_int_equal(store_save_title(client, &save.save, "ann", 3, &session, sample_text("t")), 0);
    assert_int_equal(wait_for_save(&save), SL_E_NOT_FOUND);
    start_message(&save, 1, 1, "x");
    assert_int_equal(wait_for_save(&save), 0);
    prepare_save(&save);
    assert_int_equal(store_save_title(client, &save.save, "ann", 3, &session, sample_text("t")), 0);
    assert_int_equal(wait_for_save(&save), 0);
    assert_int_equal(told.history_drops, 0);
    prepare_save(&save);
    unsigned before = saves_ended;
    assert_int_equal(store_delete_session(client, &save.save, "ann", 3, &session), 0);
    assert_int_equal(wait_for_save(&save), 0);
    assert_int_equal(told.history_drops, 1);
    assert_int_equal(told.saves_ended_before_drop, before);
    prepare_save(&save);
    assert_int_equal(store_delete_session(client, &save.save, "ann", 3, &session), 0);
    assert_int_equal(wait_for_save(&save), SL_E_NOT_FOUND);
}

static void a_refused_message_says_so(void **state)
{
    struct waited_save save;
    struct waited_read read;

    (void)state;
    start_message(&save, 1, 1, "\xff");
    assert_int_equal(wait_for_save(&save), 0); /* the journal takes it; Postgres will not */
    SAMPLE_RUN_UNTIL(loop, sl_counter_get(&store_writer_stats(store)->refused) == 1);
    assert_int_equal(read_rows(&read, STORE_READ_HISTORY, 1), 0);
    assert_int_equal(read.read.count, 0); /* out of the overlay as well */
    store_read_dispose(&read.read);
}

static void bad_saves_do_not_start(void **state)
{
    struct waited_save save;
    struct sl_uuid session = sample_id(1);
    struct store_message message = sample_message(1, "x");
    char user[STORE_USER_ID_MAX + 1];
    char *big = malloc(70 * 1024 * 1024);

    (void)state;
    memset(user, 'u', sizeof(user));
    memset(big, 'x', 70 * 1024 * 1024);
    prepare_save(&save);
    assert_int_equal(store_save_message(client, &save.save, "", 0, &session, &message),
                     SL_E_INVALID_VALUE);
    assert_int_equal(store_save_message(client, &save.save, user, sizeof(user), &session, &message),
                     SL_E_INVALID_VALUE);
    message.role = (enum store_role)0;
    assert_int_equal(store_save_message(client, &save.save, "ann", 3, &session, &message),
                     SL_E_INVALID_VALUE);
    message = sample_message(1, "x");
    message.content =
        (struct store_text){big, 70 * 1024 * 1024}; /* more than may wait for the disk */
    assert_int_equal(store_save_message(client, &save.save, "ann", 3, &session, &message),
                     SL_E_OVERLOADED);
    sl_loop_run_once(loop, 0);
    assert_int_equal(save.ends, 0);
    /* the slot and the overlay are free again */
    start_message(&save, 1, 1, "x");
    assert_int_equal(wait_for_save(&save), 0);
    free(big);
}

static void a_cancelled_save_is_written_all_the_same(void **state)
{
    struct waited_save cancelled, next;

    (void)state;
    prepare_save(&cancelled);
    store_save_cancel(&cancelled.save); /* idle: nothing */
    pg_fixture_run(&server, "begin; lock table chat_sessions");
    start_message(&cancelled, 1, 1, "cancelled");
    store_save_cancel(&cancelled.save);
    store_save_cancel(&cancelled.save);
    assert_int_equal(cancelled.ends, 0);
    assert_int_equal(wait_for_save(&cancelled), SL_E_CANCELLED);
    memset(&cancelled, 0xee, sizeof(cancelled));
    start_message(&next, 1, 2, "next"); /* in the same slot */
    assert_int_equal(wait_for_save(&next), 0);
    pg_fixture_run(&server, "rollback");
    SAMPLE_RUN_UNTIL(loop, sl_counter_get(&store_writer_stats(store)->rows) == 2);
    assert_int_equal(pg_fixture_number(&server, "select count(*) from chat_messages"), 2);
    for (size_t i = 0; i < sizeof(cancelled); i++) {
        assert_int_equal(((unsigned char *)&cancelled)[i], 0xee);
    }
}

static void a_cancelled_save_leaves_its_successor_alone(void **state)
{
    struct waited_save cancelled, next;

    (void)state;
    pg_fixture_run(&server, "begin; lock table chat_sessions");
    start_message(&cancelled, 1, 1, "will be refused: \xff");
    store_save_cancel(&cancelled.save);
    start_message(&next, 1, 2, "same slot, another outcome");
    assert_int_equal(next.save.slot, cancelled.save.slot);
    pg_fixture_run(&server, "rollback");
    assert_int_equal(wait_for_save(&next), 0);
    assert_int_equal(cancelled.ends, 1);
    assert_int_equal(cancelled.status, SL_E_CANCELLED);
}

static void many_saves_at_once_each_end_once(void **state)
{
    enum { COUNT = 500 };
    struct waited_save *saves = calloc(COUNT, sizeof(saves[0]));

    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        saves_ended = 0;
        for (unsigned i = 0; i < COUNT; i++) {
            start_message(&saves[i], i % 7, round * COUNT + i, "text");
            if (i % 5 == round) {
                store_save_cancel(&saves[i].save);
            }
        }
        SAMPLE_RUN_UNTIL(loop, saves_ended == COUNT);
        for (unsigned i = 0; i < COUNT; i++) {
            assert_int_equal(saves[i].ends, 1);
            assert_int_equal(saves[i].status, i % 5 == round ? SL_E_CANCELLED : 0);
        }
    }
    assert_int_equal(store_stop(store, 20 * 1000), 0);
    assert_int_equal(pg_fixture_number(&server, "select count(*) from chat_messages"), 3 * COUNT);
    free(saves);
}

static void cancelling_reads_goes_the_same_way(void **state)
{
    struct waited_read read = {.read = {.op.done = note_read,
                                        .kind = STORE_READ_PROFILE,
                                        .user = "ann",
                                        .user_len = 3,
                                        .limit = 10}};

    (void)state;
    store_read_cancel(&read.read); /* idle */
    static const enum store_read_kind kinds[] = {STORE_READ_PROFILE, STORE_READ_SESSIONS};
    for (unsigned i = 0; i < 2; i++) {
        read.ends = 0;
        read.read.kind = kinds[i];
        assert_int_equal(store_read_start(client, &read.read), 0);
        store_read_cancel(&read.read);
        SAMPLE_RUN_UNTIL(loop, read.ends > 0);
        assert_int_equal(read.status, SL_E_CANCELLED);
    }
    assert_int_equal(told.cancels, 1);
}

static unsigned preloads_ended;
static int preload_status;

static void note_preload(struct sl_op *op, int status)
{
    (void)op;
    preloads_ended++;
    preload_status = status;
}

static void a_preload_reads_both(void **state)
{
    struct store_preload preload = {.op.done = note_preload};
    struct sl_uuid session = sample_id(1);

    (void)state;
    preloads_ended = 0;
    assert_int_equal(store_preload_start(client, &preload, "ann", 3, &session), 0);
    SAMPLE_RUN_UNTIL(loop, preloads_ended == 1);
    assert_int_equal(preload_status, 0);
    assert_int_equal(told.reads, 2);
    assert_int_equal(store_preload_start(client, &preload, "ann", 3, NULL), 0);
    SAMPLE_RUN_UNTIL(loop, preloads_ended == 2);
    assert_int_equal(told.reads, 3);
    assert_int_equal(store_preload_start(client, &preload, "", 0, &session), SL_E_INVALID_VALUE);
    pg_fixture_stop(&server, SIGQUIT);
    SAMPLE_RUN_UNTIL(loop, store_client_database(client) != STORE_LINK_UP);
    assert_int_equal(store_preload_start(client, &preload, "ann", 3, &session), 0);
    SAMPLE_RUN_UNTIL(loop, preloads_ended == 3);
    assert_int_equal(preload_status, SL_E_DATABASE_UNAVAILABLE);
    pg_fixture_start(&server);
}

static void what_cannot_be_written_is_left_to_the_journal(void **state)
{
    struct waited_save save, late;
    struct sl_uuid session = sample_id(1);
    struct store_message message = sample_message(2, "late");

    (void)state;
    pg_fixture_run(&server, "begin; lock table chat_sessions");
    start_message(&save, 1, 1, "x");
    assert_int_equal(store_stop(store, 50), 0); /* nothing is lost: the journal has it */
    assert_int_equal(wait_for_save(&save), 0);
    assert_int_equal(told.committed, 0);
    prepare_save(&late);
    assert_int_equal(store_save_message(client, &late.save, "ann", 3, &session, &message),
                     SL_E_SHUTTING_DOWN);
    pg_fixture_run(&server, "rollback");
}

static void a_client_may_go_before_its_records_come_back(void **state)
{
    struct waited_save save;

    (void)state;
    pg_fixture_run(&server, "begin; lock table chat_sessions");
    start_message(&save, 1, 1, "x");
    store_save_cancel(&save.save);
    assert_int_equal(wait_for_save(&save), SL_E_CANCELLED);
    store_client_destroy(client);
    client = NULL;
    pg_fixture_run(&server, "rollback");
    assert_int_equal(store_stop(store, 20 * 1000), 0);
    sl_loop_run_once(loop, 0);
    assert_int_equal(told.committed, 0);
    assert_int_equal(pg_fixture_number(&server, "select count(*) from chat_messages"), 1);
}

static void it_starts_without_a_database(void **state)
{
    struct store_config config = config_for("host=/nowhere dbname=x");
    struct waited_save save;
    struct waited_read read;

    (void)state;
    assert_int_equal(sl_loop_create(&loop), 0);
    assert_int_equal(store_create(&config, &store), 0);
    assert_int_equal(store_client_create(store, loop, &client), 0);
    start_message(&save, 1, 1, "kept");
    assert_int_equal(read_rows(&read, STORE_READ_PROFILE, 0), SL_E_DATABASE_UNAVAILABLE);
    assert_int_equal(wait_for_save(&save), 0); /* the journal needs no database */
    assert_int_equal(store_stop(store, 0), 0);
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_url_that_cannot_be_read_is_refused),
        STORE_TEST(a_saved_message_can_be_read),
        STORE_TEST(an_uncommitted_message_is_read_too),
        STORE_TEST(a_turn_is_there_from_its_save_on),
        STORE_TEST(a_profile_and_a_delete_drop_the_caches_first),
        STORE_TEST(a_refused_message_says_so),
        STORE_TEST(bad_saves_do_not_start),
        STORE_TEST(a_cancelled_save_is_written_all_the_same),
        STORE_TEST(a_cancelled_save_leaves_its_successor_alone),
        STORE_TEST(many_saves_at_once_each_end_once),
        STORE_TEST(cancelling_reads_goes_the_same_way),
        STORE_TEST(a_preload_reads_both),
        STORE_TEST(what_cannot_be_written_is_left_to_the_journal),
        STORE_TEST(a_client_may_go_before_its_records_come_back),
        cmocka_unit_test_teardown(it_starts_without_a_database, tear_down),
    };
    if (!pg_fixture_begin(&server)) {
        return 0;
    }
    pg_fixture_migrate(&server);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pg_fixture_end(&server);
    return failed;
}
