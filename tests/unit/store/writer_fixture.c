/* What the tests of the writer share. See writer_fixture.h. Thread: main; note_refusal on the writer's. */
#include "writer_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct pg_fixture server;
struct sl_loop *loop;
struct store_origin *origin;
struct store_overlay *overlay;
struct store_writer *writer;
const struct store_writer_stats *figures;
struct seen seen;
struct refusals refusals;

static void on_durable(void *context, const struct store_record *record)
{
    (void)context;
    (void)record;
}

static void on_committed(void *context, struct store_record *record)
{
    (void)context;
    seen.status[record->slot] = record->status;
    seen.ends[record->slot]++;
    seen.order[seen.ended++] = record->slot;
    store_record_destroy(record);
}

static const struct store_origin_callbacks callbacks = {on_durable, on_committed};

static int note_refusal(void *context, const struct store_record *record, const char *sqlstate)
{
    (void)context;
    (void)record;
    int answer = refusals.answer;
    refusals.answer = 0;
    memcpy(refusals.sqlstate, sqlstate, 6);
    atomic_fetch_add(&refusals.count, 1);
    return answer;
}

static int open_writer_with(unsigned rows, unsigned silence_ms)
{
    struct store_writer_options options = {.database_url = server.url,
                                           .batch_rows = rows,
                                           .batch_bytes = 1024 * 1024,
                                           .queue_bytes = 32 * 1024 * 1024,
                                           .silence_ms = silence_ms,
                                           .overlay = overlay,
                                           .refuse = note_refusal};
    assert_int_equal(store_writer_create(&options, &writer), 0);
    figures = store_writer_figures(writer);
    return 0;
}

int set_up(void **state)
{
    (void)state;
    memset(&seen, 0, sizeof(seen));
    memset(&refusals, 0, sizeof(refusals));
    pg_fixture_empty(&server);
    assert_int_equal(sl_loop_create(&loop), 0);
    assert_int_equal(store_origin_create(loop, &callbacks, NULL, &origin), 0);
    assert_int_equal(store_overlay_create(&overlay), 0);
    return open_writer_with(100, 30 * 1000);
}

int tear_down(void **state)
{
    (void)state;
    store_writer_destroy(writer);
    store_origin_destroy(origin);
    store_overlay_destroy(overlay);
    sl_loop_destroy(loop);
    return 0;
}

void reopen_writer(unsigned rows, unsigned silence_ms)
{
    store_writer_destroy(writer);
    (void)open_writer_with(rows, silence_ms);
}

/* ---- records ---- */

int submit(struct store_record *record)
{
    record->origin = origin;
    record->slot = seen.submitted;
    seen.status[record->slot] = NOT_ENDED;
    if (record->kind == STORE_RECORD_MESSAGE) {
        store_overlay_add(overlay, record);
    }
    int err = store_writer_submit(writer, record);
    if (err != 0) {
        store_overlay_remove(overlay, record);
        store_record_destroy(record);
        return err;
    }
    seen.submitted++;
    return 0;
}

int submit_message(const char *user, unsigned session, const struct store_message *message)
{
    struct sl_uuid id = sample_id(session);
    struct store_record *record = NULL;

    assert_int_equal(store_record_create_message(user, strlen(user), &id, message, &record), 0);
    return submit(record);
}

void submit_text(unsigned session, unsigned number, const char *content)
{
    struct store_message message = sample_message(number, content);
    assert_int_equal(submit_message("ann", session, &message), 0);
}

void submit_other(enum store_record_kind kind, unsigned session, const char *text)
{
    struct sl_uuid id = sample_id(session);
    struct store_record *record = NULL;

    assert_int_equal(store_record_create(kind, "ann", 3, &id, sample_text(text), &record), 0);
    assert_int_equal(submit(record), 0);
}

void wait_for_all(void)
{
    struct sl_uuid session = sample_id(1);

    SAMPLE_RUN_UNTIL(loop, seen.ended == seen.submitted);
    for (unsigned i = 0; i < seen.submitted; i++) {
        assert_int_equal(seen.ends[i], 1);
        assert_int_equal(seen.order[i], i);
    }
    assert_false(store_overlay_has(overlay, "ann", 3, &session));
    assert_int_equal(sl_counter_get(&figures->records_waiting), 0);
    assert_int_equal(sl_counter_get(&figures->bytes_waiting), 0);
}

long rows(const char *table)
{
    char sql[64];
    (void)snprintf(sql, sizeof(sql), "select count(*) from %s", table);
    return pg_fixture_number(&server, sql);
}

void submit_range(unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++) {
        submit_text(1 + i % 5, i, "some text of a message");
        if (i % 16 == 0) {
            sl_loop_run_once(loop, 0);
        }
    }
}

void assert_all_stored(unsigned count)
{
    wait_for_all();
    for (unsigned i = 0; i < seen.submitted; i++) {
        assert_int_equal(seen.status[i], 0);
    }
    assert_int_equal(rows("chat_messages"), count);
    assert_int_equal(sl_counter_get(&figures->refused), 0);
}
