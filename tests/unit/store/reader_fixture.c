/* What the tests of the Postgres reader share. See reader_fixture.h. Thread: main. */
#include "reader_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "connector.h"
#include "record.h"

struct pg_fixture server;
struct sl_loop *loop;
struct store_connector *connector;
struct store_overlay *overlay;
struct store_client_stats stats;
struct store_pg_reader *reader;

static void note_end(struct sl_op *op, int status)
{
    struct waited_read *waited = SL_CONTAINER_OF(op, struct waited_read, read.op);
    waited->ends++;
    waited->status = status;
}

void open_reader(const char *url, unsigned timeout_ms, unsigned reads_max)
{
    struct store_config config = {.database_url = url,
                                  .database_timeout_ms = timeout_ms,
                                  .database_reads_max = reads_max,
                                  .history_messages = 10};
    memset(&stats, 0, sizeof(stats));
    assert_int_equal(sl_loop_create(&loop), 0);
    assert_int_equal(store_connector_create(&connector), 0);
    assert_int_equal(store_overlay_create(&overlay), 0);
    assert_int_equal(store_pg_reader_create(loop, connector, overlay, &config, &stats, &reader), 0);
}

void open_ready(unsigned timeout_ms, unsigned reads_max)
{
    open_reader(server.url, timeout_ms, reads_max);
    SAMPLE_RUN_UNTIL(loop, store_pg_reader_link(reader) == STORE_LINK_UP);
}

int close_reader(void **state)
{
    (void)state;
    store_pg_reader_destroy(reader);
    store_connector_destroy(connector);
    store_overlay_destroy(overlay);
    sl_loop_destroy(loop);
    return 0;
}

int empty_tables(void **state)
{
    (void)state;
    pg_fixture_empty(&server);
    return 0;
}

void start(struct waited_read *waited, enum store_read_kind kind, const char *user,
           unsigned session, unsigned limit)
{
    memset(waited, 0, sizeof(*waited));
    waited->read.op.done = note_end;
    waited->read.kind = kind;
    waited->read.user = user;
    waited->read.user_len = strlen(user);
    waited->read.session = sample_id(session);
    waited->read.limit = limit;
}

void start_turn(struct waited_read *waited, const char *user, unsigned turn)
{
    start(waited, STORE_READ_TURN, user, 0, 0);
    waited->read.turn = sample_id(turn);
}

int go(struct waited_read *waited)
{
    waited->ends = 0;
    assert_int_equal(store_pg_reader_start(reader, &waited->read), 0);
    assert_int_equal(waited->ends, 0); /* never before start has returned */
    SAMPLE_RUN_UNTIL(loop, waited->ends > 0);
    assert_int_equal(waited->ends, 1);
    return waited->status;
}

void insert_messages(unsigned from, unsigned to)
{
    char sql[1024];

    pg_fixture_run(
        &server, "insert into chat_sessions values ('ann', '00000000-0000-7000-8000-000000000001',"
                 " null, '2024-01-01Z', '2024-01-01Z') on conflict do nothing");
    (void)snprintf(sql, sizeof(sql),
                   "insert into chat_messages (user_id, session_id, id, turn_id, role, status,"
                   " content, created_at) select 'ann', '00000000-0000-7000-8000-000000000001',"
                   " ('00000000-0000-7000-8000-0000' || lpad(to_hex(i), 8, '0'))::uuid,"
                   " '00000000-0000-7000-8000-000000000009', 'user', 'complete', 'text ' || i,"
                   " timestamptz '2024-01-01Z' + i * interval '1 s'"
                   " from generate_series(%u, %u) i",
                   from, to);
    pg_fixture_run(&server, sql);
}

struct store_record *add_uncommitted(unsigned number, const char *content)
{
    struct sl_uuid session = sample_id(1);
    struct store_message message = sample_message(number, content);
    struct store_record *record = NULL;

    assert_int_equal(store_record_create_message("ann", 3, &session, &message, &record), 0);
    store_overlay_add(overlay, record);
    return record;
}

void drop_uncommitted(struct store_record *record)
{
    store_overlay_remove(overlay, record);
    store_record_destroy(record);
}
