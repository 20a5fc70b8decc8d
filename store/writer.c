/*
 * The writer thread.
 *
 * Happy path, over and over:
 *   connect   blocking, with the primary among several hosts; fence; prepared statements
 *   peek      the first records of the queue, bounded by rows and bytes
 *   run       one pipelined transaction (writer_batch.c)
 *   settle    off the queue, out of the overlay, back to their origins
 * A batch that was not confirmed stays at the head of the queue and is sent again; message ids make
 * that harmless. Nothing behind it overtakes it.
 *
 * Failure modes, by class (pg_error.h):
 *   reconnect      new connection, after a wait with full jitter (50 ms to 5 s); the same batch
 *   retry          the same wait; the same batch
 *   retry smaller  it took too long: half the rows
 *   retry few      the same batch RETRIES_FEW times, then as a bad row
 *   bad row        what is before the culprit is written first, then the culprit alone; if it fails
 *                  alone it is refused, and the rest goes on. Without a culprit (the commit failed)
 *                  the batch is halved. So a record is only ever refused after it failed alone.
 *   systemic       nothing is given up: the same batch again every 1 to 5 s until it works
 *
 * Thread: `run_on_writer_thread` and what it calls. Ownership: queued records are the writer's.
 */
#include "writer.h"

#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "journal.h"
#include "overlay.h"
#include "pg_connect.h"
#include "sluice/random.h"
#include "writer_batch.h"
#include "writer_queue.h"

enum {
    STATEMENT_TIMEOUT_MS = 30 * 1000,
    LOCK_TIMEOUT_MS = 10 * 1000,
    IDLE_IN_TRANSACTION_MS = 60 * 1000,
    BACKOFF_FIRST_US = 50 * 1000,
    BACKOFF_MAX_US = 5 * 1000000,
    SLOW_MIN_MS = 1000,
    SLOW_MAX_MS = 5000,
    RETRIES_FEW = 3,
    NO_MEMORY_MS = 100,
    DRAIN_ROWS = 1000, /* of a batch while many records wait: multi-row statements pay off there */
};

struct store_writer {
    struct store_writer_options options; /* database_url is not used any more */
    char *conninfo;
    uint64_t fence;
    struct store_writer_queue queue;
    struct store_writer_stats stats;
    pthread_t thread;
    bool joined;
    atomic_bool held;
    /* the writer thread's own */
    PGconn *connection;
    struct store_record **batch; /* batch_max of them */
    size_t batch_max;            /* rows of a batch while a backlog is drained */
    unsigned failures;           /* in a row */
    unsigned stumbles;           /* of the class "retry few", in a row */
    size_t rows_limit;           /* of the next batch; smaller while a culprit is looked for */
    bool culprit_next;           /* the batch after this one is the culprit alone */
};

static void *run_on_writer_thread(void *argument);
static bool connect_on_writer_thread(struct store_writer *writer);
static void disconnect_on_writer_thread(struct store_writer *writer);
static bool read_backlog(struct store_writer *writer);
static bool idle_on_writer_thread(struct store_writer *writer);
static void note_committed(struct store_writer *writer, const struct store_record *last);
static void write_batch(struct store_writer *writer, size_t count);
static void settle_committed(struct store_writer *writer, size_t count);
static void settle_failed(struct store_writer *writer, size_t count,
                          const struct store_batch_result *result);
static void look_for_culprit(struct store_writer *writer, size_t count,
                             const struct store_batch_result *result);
static void refuse_record(struct store_writer *writer, const char *sqlstate);
static void hand_back(struct store_writer *writer, struct store_record *record, int status);
static void pause_before_retry(struct store_writer *writer, bool systemic);
static uint64_t now_us(void);

int store_writer_create(const struct store_writer_options *options,
                        struct store_writer **ret_writer)
{
    struct store_pg_limits limits = {.statement_timeout_ms = STATEMENT_TIMEOUT_MS,
                                     .lock_timeout_ms = LOCK_TIMEOUT_MS,
                                     .idle_in_transaction_ms = IDLE_IN_TRANSACTION_MS,
                                     .writes = true};
    struct store_writer *writer = calloc(1, sizeof(*writer));

    if (writer == NULL) {
        return SL_E_NO_MEMORY;
    }
    writer->options = *options;
    writer->options.database_url = NULL;
    atomic_init(&writer->held, options->held);
    writer->fence = sl_random_u64() >> 1; /* a bigint that is not negative */
    writer->rows_limit = options->batch_rows;
    int err = store_pg_conninfo(options->database_url, &limits, &writer->conninfo);
    if (err != 0) {
        goto err_after_alloc;
    }
    err = SL_E_NO_MEMORY;
    writer->batch_max = options->batch_rows > DRAIN_ROWS ? options->batch_rows : DRAIN_ROWS;
    writer->batch = calloc(writer->batch_max, sizeof(writer->batch[0]));
    if (writer->batch == NULL) {
        goto err_after_conninfo;
    }
    if (store_writer_queue_init(&writer->queue, options->queue_bytes, &writer->stats) != 0) {
        goto err_after_batch;
    }
    if (pthread_create(&writer->thread, NULL, run_on_writer_thread, writer) != 0) {
        goto err_after_queue;
    }
    *ret_writer = writer;
    return 0;

err_after_queue:
    store_writer_queue_finish(&writer->queue);
err_after_batch:
    free(writer->batch);
err_after_conninfo:
    free(writer->conninfo);
err_after_alloc:
    free(writer);
    return err;
}

void store_writer_release(struct store_writer *writer)
{
    atomic_store(&writer->held, false);
    store_writer_queue_nudge(&writer->queue);
}

void store_writer_nudge(struct store_writer *writer)
{
    store_writer_queue_nudge(&writer->queue);
}

int store_writer_submit(struct store_writer *writer, struct store_record *record)
{
    return store_writer_queue_push(&writer->queue, record);
}

/* ---- the thread ---- */

static void *run_on_writer_thread(void *argument)
{
    struct store_writer *writer = argument;
    sigset_t signals;

    /* signals are the main thread's business */
    (void)sigfillset(&signals);
    (void)pthread_sigmask(SIG_SETMASK, &signals, NULL);
    while (store_writer_queue_wake(&writer->queue)) {
        if (atomic_load(&writer->held)) {
            struct pollfd wake = {.fd = writer->queue.wake_fd, .events = POLLIN};
            (void)poll(&wake, 1, -1);
            continue;
        }
        if (writer->connection == NULL && !connect_on_writer_thread(writer)) {
            continue;
        }
        size_t count = store_writer_queue_peek(&writer->queue, writer->batch, writer->rows_limit,
                                               writer->options.batch_bytes);
        if (count > 0) {
            write_batch(writer, count);
        } else if (read_backlog(writer)) {
            continue;
        } else if (!idle_on_writer_thread(writer)) {
            disconnect_on_writer_thread(writer);
        }
    }
    disconnect_on_writer_thread(writer);
    return NULL;
}

/* Records that the queue had no room for come back from the journal's segments. */
static bool read_backlog(struct store_writer *writer)
{
    struct store_journal *journal = writer->options.journal;

    if (journal == NULL || !store_journal_has_backlog(journal)) {
        return false;
    }
    size_t count = store_journal_read_backlog(journal, writer->batch, writer->batch_max,
                                              writer->options.batch_bytes);
    store_writer_queue_refill(&writer->queue, writer->batch, count);
    if (count == 0 && store_journal_has_backlog(journal)) {
        store_writer_queue_pause(&writer->queue, NO_MEMORY_MS);
        return true;
    }
    return count > 0;
}

/* False: it failed, and the wait before the next attempt is over. */
static bool connect_on_writer_thread(struct store_writer *writer)
{
    struct store_batch_result result = {.outcome = STORE_BATCH_FAILED};

    writer->connection = store_pg_connect(writer->conninfo);
    if (PQstatus(writer->connection) == CONNECTION_OK) {
        store_batch_set_up_on_writer_thread(writer->connection, writer->fence, &writer->queue,
                                            writer->options.silence_ms, &result);
    }
    if (result.outcome == STORE_BATCH_COMMITTED) {
        atomic_store_explicit(&writer->stats.connected, 1, memory_order_relaxed);
        return true;
    }
    disconnect_on_writer_thread(writer);
    if (result.outcome == STORE_BATCH_FAILED) {
        sl_counter_add(&writer->stats.failures, 1);
        pause_before_retry(writer, store_pg_classify(result.sqlstate) == STORE_PG_SYSTEMIC);
    }
    return false;
}

static void disconnect_on_writer_thread(struct store_writer *writer)
{
    PQfinish(writer->connection);
    writer->connection = NULL;
    atomic_store_explicit(&writer->stats.connected, 0, memory_order_relaxed);
}

/* Waits for a record. False: the connection broke meanwhile. */
static bool idle_on_writer_thread(struct store_writer *writer)
{
    struct pollfd polled[] = {
        {.fd = PQsocket(writer->connection), .events = POLLIN},
        {.fd = writer->queue.wake_fd, .events = POLLIN},
    };

    if (poll(polled, 2, -1) <= 0 || polled[0].revents == 0) {
        return true;
    }
    return PQconsumeInput(writer->connection) == 1 && PQstatus(writer->connection) == CONNECTION_OK;
}

/* ---- a batch and what became of it ---- */

static void write_batch(struct store_writer *writer, size_t count)
{
    struct store_batch_result result;
    uint64_t started_us = now_us();

    store_batch_run_on_writer_thread(writer->connection, writer->batch, count, &writer->queue,
                                     writer->options.silence_ms, &result);
    sl_counter_add(&writer->stats.batches, 1);
    sl_histogram_record(&writer->stats.batch_us, now_us() - started_us);
    switch (result.outcome) {
    case STORE_BATCH_COMMITTED:
        settle_committed(writer, count);
        break;
    case STORE_BATCH_FAILED:
        sl_counter_add(&writer->stats.failures, 1);
        settle_failed(writer, count, &result);
        break;
    case STORE_BATCH_ABANDONED:
        break;
    }
}

static void settle_committed(struct store_writer *writer, size_t count)
{
    store_writer_queue_settle(&writer->queue, count);
    writer->failures = 0;
    writer->stumbles = 0;
    sl_counter_add(&writer->stats.rows, count);
    atomic_store_explicit(&writer->stats.last_success_unix_s, (uint64_t)time(NULL),
                          memory_order_relaxed);
    if (writer->culprit_next) {
        writer->culprit_next = false;
        writer->rows_limit = 1;
    } else {
        size_t most = count < writer->rows_limit ? writer->options.batch_rows : writer->batch_max;
        writer->rows_limit = writer->rows_limit * 2 < most ? writer->rows_limit * 2 : most;
    }
    note_committed(writer, writer->batch[count - 1]);
    for (size_t i = 0; i < count; i++) {
        hand_back(writer, writer->batch[i], writer->batch[i]->status);
    }
}

static void settle_failed(struct store_writer *writer, size_t count,
                          const struct store_batch_result *result)
{
    enum store_pg_class meaning = store_pg_classify(result->sqlstate);

    if (meaning == STORE_PG_RETRY_FEW && ++writer->stumbles >= RETRIES_FEW) {
        writer->stumbles = 0;
        meaning = STORE_PG_BAD_ROW;
    }
    if (meaning == STORE_PG_BAD_ROW && count == 1) {
        refuse_record(writer, result->sqlstate);
        return;
    }
    sl_counter_add(&writer->stats.retries, 1);
    switch (meaning) {
    case STORE_PG_BAD_ROW:
        look_for_culprit(writer, count, result);
        return;
    case STORE_PG_RETRY_SMALLER:
        writer->rows_limit = count > 1 ? count / 2 : 1;
        writer->culprit_next = false;
        break;
    case STORE_PG_RECONNECT:
        disconnect_on_writer_thread(writer);
        break;
    case STORE_PG_RETRY:
    case STORE_PG_RETRY_FEW:
    case STORE_PG_SYSTEMIC:
        break;
    }
    pause_before_retry(writer, meaning == STORE_PG_SYSTEMIC);
}

/* Chooses the next batch so that it ends before the culprit, or is the culprit alone. */
static void look_for_culprit(struct store_writer *writer, size_t count,
                             const struct store_batch_result *result)
{
    writer->culprit_next = result->culprit > 0 && result->culprit < count;
    if (result->culprit == 0) {
        writer->rows_limit = 1;
    } else if (result->culprit < count) {
        writer->rows_limit = result->culprit;
    } else {
        writer->rows_limit = count / 2;
    }
}

/* The first record of the queue failed alone, on its own account. */
static void refuse_record(struct store_writer *writer, const char *sqlstate)
{
    struct store_record *record = writer->batch[0];

    if (writer->options.refuse != NULL &&
        writer->options.refuse(writer->options.refuse_context, record, sqlstate) != 0) {
        sl_counter_add(&writer->stats.retries, 1);
        pause_before_retry(writer, true);
        return;
    }
    store_writer_queue_settle(&writer->queue, 1);
    sl_counter_add(&writer->stats.refused, 1);
    writer->failures = 0;
    writer->culprit_next = false;
    writer->rows_limit = writer->options.batch_rows;
    note_committed(writer, record);
    hand_back(writer, record, SL_E_DATABASE_REFUSED);
}

/* Records go to Postgres in the journal's order, so the last one stands for all before it. */
static void note_committed(struct store_writer *writer, const struct store_record *last)
{
    if (writer->options.journal != NULL && last->sequence != 0) {
        store_journal_committed(writer->options.journal, last->sequence);
    }
}

static void hand_back(struct store_writer *writer, struct store_record *record, int status)
{
    if (writer->options.overlay != NULL) {
        store_overlay_remove(writer->options.overlay, record);
    }
    store_record_committed(record, status);
}

static void pause_before_retry(struct store_writer *writer, bool systemic)
{
    uint64_t delay_us;

    if (systemic) {
        delay_us = sl_random_spread((SLOW_MIN_MS + SLOW_MAX_MS) / 2 * 1000, 100 * 2 / 3);
    } else {
        delay_us = sl_random_backoff_us(writer->failures, BACKOFF_FIRST_US, BACKOFF_MAX_US);
    }
    writer->failures++;
    store_writer_queue_pause(&writer->queue, (unsigned)(delay_us / 1000) + 1);
}

/* ---- the end ---- */

size_t store_writer_stop(struct store_writer *writer, unsigned timeout_ms)
{
    size_t left = 0;

    if (writer->joined) {
        return 0;
    }
    store_writer_queue_drain(&writer->queue, timeout_ms);
    store_writer_queue_stop(&writer->queue);
    (void)pthread_join(writer->thread, NULL);
    writer->joined = true;
    while (store_writer_queue_peek(&writer->queue, writer->batch, 1, SIZE_MAX) == 1) {
        struct store_record *record = writer->batch[0];
        store_writer_queue_settle(&writer->queue, 1);
        left += record->sequence == 0;
        hand_back(writer, record, SL_E_SHUTTING_DOWN);
    }
    return left;
}

void store_writer_destroy(struct store_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    (void)store_writer_stop(writer, 0);
    store_writer_queue_finish(&writer->queue);
    free(writer->batch);
    free(writer->conninfo);
    free(writer);
}

const struct store_writer_stats *store_writer_figures(const struct store_writer *writer)
{
    return &writer->stats;
}

static uint64_t now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}
