/*
 * One pipelined transaction.
 *
 * Happy path: queue the statements of all records and one Sync, then flush and read at the same time
 * until the Sync's own result arrives. Writing and reading never wait for each other, so client and
 * server cannot both sit on full buffers. Only that last result means committed: statements that
 * reported success before are rolled back when a later one fails (PostgreSQL 15 manual, "Pipeline
 * Mode").
 *
 * Many messages in a row, as a backlog has them, go in two statements for all of them (writer_rows.c).
 * If one of those two is refused, nobody knows on whose account: the whole batch is then run again at
 * once, record by record, and that run's result counts.
 *
 * The fence. When a connection is given up while its server process lives on (frozen, or behind a
 * dead network), that process may still execute the batch in its socket buffer, long after the batch
 * was sent again and later ones were written. For messages this does no harm, their ids see to that.
 * A stale delete or profile would undo what came after it. So every writer holds one advisory lock
 * of its own for as long as its connection lives; a new connection first ends whoever still holds
 * that lock and then waits for it.
 *
 * Failure modes: an error of a statement or of the commit (its SQLSTATE); a connection that breaks
 * or falls silent (no SQLSTATE, outcome unknown); the end of the writer.
 * Thread: the writer thread. Ownership: see the header.
 */
#include "writer_batch.h"

#include <endian.h>
#include <poll.h>
#include <string.h>

#include "pg_statements.h"
#include "writer_queue.h"
#include "writer_rows.h"

enum { NULLS_MAX = 3 /* results that are none, in a row: nothing more is there now */ };

/* A pipeline under way: which record the next result belongs to. */
struct pipeline {
    PGconn *connection;
    struct store_record **records; /* NULL: the preparation */
    size_t count;
    bool one_by_one; /* no statement is for many records */
    size_t at;       /* index of the record that the next result belongs to, or the first of them */
    unsigned statement; /* of that record, or of those records */
    bool failed;
    bool failed_as_many; /* it was a statement for many records */
    struct store_batch_result *result;
};

static bool send_fence(PGconn *connection, uint64_t fence);
static void run(struct pipeline *pipeline, struct store_writer_queue *queue, unsigned silence_ms);
static size_t rows_at(const struct pipeline *pipeline, size_t at);
static int send_records(const struct pipeline *pipeline);
static bool is_worth_a_look(const struct store_batch_result *result);
static void finish_pipeline(struct pipeline *pipeline, struct store_writer_queue *queue,
                            unsigned silence_ms);
static bool wait_for_server(struct pipeline *pipeline, struct store_writer_queue *queue,
                            unsigned silence_ms, bool wants_write);
static bool take_results(struct pipeline *pipeline);
static void take_result(struct pipeline *pipeline, const PGresult *result);
static void next_statement(struct pipeline *pipeline, const PGresult *result);
static int status_of(const struct store_record *record, const PGresult *result);
static void fail(struct pipeline *pipeline, const char *sqlstate, size_t culprit);

/* ---- the preparation ---- */

void store_batch_set_up_on_writer_thread(PGconn *connection, uint64_t fence,
                                         struct store_writer_queue *queue, unsigned silence_ms,
                                         struct store_batch_result *ret_result)
{
    struct pipeline pipeline = {.connection = connection, .result = ret_result};

    memset(ret_result, 0, sizeof(*ret_result));
    int err = PQsetnonblocking(connection, 1) == 0 && PQenterPipelineMode(connection) == 1 &&
                      send_fence(connection, fence)
                  ? 0
                  : SL_E_DATABASE_UNAVAILABLE;
    for (unsigned i = STORE_PG_WRITE_SESSION; i < (unsigned)STORE_PG_STATEMENTS && err == 0; i++) {
        err = store_pg_prepare(connection, (enum store_pg_statement)i);
    }
    if (err != 0 || PQpipelineSync(connection) != 1) {
        fail(&pipeline, NULL, 0);
        return;
    }
    finish_pipeline(&pipeline, queue, silence_ms);
}

static bool send_fence(PGconn *connection, uint64_t fence)
{
    uint64_t key = htobe64(fence);
    const char *values[] = {(const char *)&key};
    const int lengths[] = {sizeof(key)}, formats[] = {1};
    const Oid types[] = {20 /* int8 */};

    /* pg_locks shows a bigint key as its two halves, objsubid 1 (manual, section 54.12) */
    return PQsendQueryParams(
               connection,
               "select pg_terminate_backend(pid) from pg_locks"
               " where locktype = 'advisory' and objsubid = 1 and granted"
               " and database = (select oid from pg_database where datname = current_database())"
               " and classid = ($1 >> 32)::oid and objid = ($1 & 4294967295)::oid",
               1, types, values, lengths, formats, 1) == 1 &&
           PQsendQueryParams(connection, "select pg_advisory_lock($1)", 1, types, values, lengths,
                             formats, 1) == 1;
}

/* ---- a batch ---- */

void store_batch_run_on_writer_thread(PGconn *connection, struct store_record **records,
                                      size_t count, struct store_writer_queue *queue,
                                      unsigned silence_ms, struct store_batch_result *ret_result)
{
    struct pipeline pipeline = {
        .connection = connection, .records = records, .count = count, .result = ret_result};

    run(&pipeline, queue, silence_ms);
    if (pipeline.failed_as_many && is_worth_a_look(ret_result)) {
        pipeline = (struct pipeline){.connection = connection,
                                     .records = records,
                                     .count = count,
                                     .one_by_one = true,
                                     .result = ret_result};
        run(&pipeline, queue, silence_ms);
    }
    bool known = ret_result->outcome == STORE_BATCH_COMMITTED ||
                 (ret_result->outcome == STORE_BATCH_FAILED &&
                  store_pg_classify(ret_result->sqlstate) != STORE_PG_RECONNECT);
    for (size_t i = 0; i < count && !known; i++) {
        records[i]->outcome_unknown = true;
    }
}

static void run(struct pipeline *pipeline, struct store_writer_queue *queue, unsigned silence_ms)
{
    memset(pipeline->result, 0, sizeof(*pipeline->result));
    pipeline->result->culprit = pipeline->count;
    if (send_records(pipeline) != 0 || PQpipelineSync(pipeline->connection) != 1) {
        fail(pipeline, NULL, pipeline->count);
        return;
    }
    finish_pipeline(pipeline, queue, silence_ms);
}

static int send_records(const struct pipeline *pipeline)
{
    int err = 0;

    for (size_t at = 0; at < pipeline->count && err == 0;) {
        size_t rows = rows_at(pipeline, at);
        if (rows > 0) {
            err = store_writer_rows_send_on_writer_thread(pipeline->connection,
                                                          pipeline->records + at, rows);
            at += rows;
        } else {
            err = store_pg_send_record(pipeline->connection, pipeline->records[at]);
            at++;
        }
    }
    return err;
}

/* How many records from this one share their statements; 0: it has its own. */
static size_t rows_at(const struct pipeline *pipeline, size_t at)
{
    if (pipeline->one_by_one || at == pipeline->count) {
        return 0;
    }
    return store_writer_rows_count(pipeline->records + at, pipeline->count - at);
}

/* Whether the records one by one may fare better, or tell more. */
static bool is_worth_a_look(const struct store_batch_result *result)
{
    if (result->outcome != STORE_BATCH_FAILED) {
        return false;
    }
    switch (store_pg_classify(result->sqlstate)) {
    case STORE_PG_BAD_ROW:
    case STORE_PG_RETRY_FEW:
        return true;
    case STORE_PG_RECONNECT:
    case STORE_PG_RETRY:
    case STORE_PG_RETRY_SMALLER:
    case STORE_PG_SYSTEMIC:
        break;
    }
    return false;
}

/* Flushes and reads until the Sync has come back. */
static void finish_pipeline(struct pipeline *pipeline, struct store_writer_queue *queue,
                            unsigned silence_ms)
{
    for (;;) {
        int left = PQflush(pipeline->connection);
        if (left < 0) {
            /* what the server had to say before it closed is still worth reading */
            (void)PQconsumeInput(pipeline->connection);
            if (!take_results(pipeline)) {
                fail(pipeline, NULL, pipeline->count);
            }
            return;
        }
        if (take_results(pipeline)) {
            return;
        }
        if (PQstatus(pipeline->connection) != CONNECTION_OK) {
            fail(pipeline, NULL, pipeline->count);
            return;
        }
        if (!wait_for_server(pipeline, queue, silence_ms, left > 0)) {
            return;
        }
    }
}

/* False: the pipeline has ended, its result is set. */
static bool wait_for_server(struct pipeline *pipeline, struct store_writer_queue *queue,
                            unsigned silence_ms, bool wants_write)
{
    struct pollfd polled[] = {
        {.fd = PQsocket(pipeline->connection),
         .events = (short)(wants_write ? POLLIN | POLLOUT : POLLIN)},
        {.fd = queue->wake_fd, .events = POLLIN},
    };
    int ready = poll(polled, 2, (int)silence_ms);

    if (ready == 0) {
        fail(pipeline, NULL, pipeline->count);
        return false;
    }
    if (polled[1].revents != 0 && !store_writer_queue_wake(queue)) {
        pipeline->result->outcome = STORE_BATCH_ABANDONED;
        return false;
    }
    if ((polled[0].revents & (POLLIN | POLLERR | POLLHUP)) != 0) {
        /* a failure shows in PQstatus, after the results that came before it were taken */
        (void)PQconsumeInput(pipeline->connection);
    }
    return true;
}

/* ---- results ---- */

/* True: the Sync has arrived, the result is set. */
static bool take_results(struct pipeline *pipeline)
{
    unsigned nulls = 0;

    while (!PQisBusy(pipeline->connection)) {
        PGresult *result = PQgetResult(pipeline->connection);
        if (result == NULL) { /* the end of one statement's results */
            if (++nulls > NULLS_MAX) {
                return false;
            }
            continue;
        }
        nulls = 0;
        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
            PQclear(result);
            if (!pipeline->failed) {
                pipeline->result->outcome = STORE_BATCH_COMMITTED;
            }
            return true;
        }
        take_result(pipeline, result);
        PQclear(result);
    }
    return false;
}

static void take_result(struct pipeline *pipeline, const PGresult *result)
{
    switch (PQresultStatus(result)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
        next_statement(pipeline, result);
        return;
    case PGRES_PIPELINE_ABORTED:
        return;
    default:
        /* the first error is the cause; once all statements were fine it is the commit's */
        if (!pipeline->failed) {
            pipeline->failed_as_many = rows_at(pipeline, pipeline->at) > 0;
            fail(pipeline, PQresultErrorField(result, PG_DIAG_SQLSTATE),
                 pipeline->failed_as_many ? pipeline->count : pipeline->at);
        }
    }
}

static void next_statement(struct pipeline *pipeline, const PGresult *result)
{
    if (pipeline->at == pipeline->count) { /* the preparation has no records */
        return;
    }
    size_t rows = rows_at(pipeline, pipeline->at);
    if (rows > 0) {
        if (++pipeline->statement == STORE_WRITER_ROWS_STATEMENTS) {
            for (size_t end = pipeline->at + rows; pipeline->at < end; pipeline->at++) {
                pipeline->records[pipeline->at]->status = 0;
            }
            pipeline->statement = 0;
        }
        return;
    }
    struct store_record *record = pipeline->records[pipeline->at];
    record->status = status_of(record, result);
    if (++pipeline->statement == store_pg_record_statements(record)) {
        pipeline->at++;
        pipeline->statement = 0;
    }
}

static int status_of(const struct store_record *record, const PGresult *result)
{
    bool none = strcmp(PQcmdTuples((PGresult *)(uintptr_t)result), "0") == 0;

    switch (record->kind) {
    case STORE_RECORD_TITLE:
        return none ? SL_E_NOT_FOUND : 0;
    case STORE_RECORD_DELETE:
        /* sent again after an unknown outcome: the first time may well have deleted it */
        return none && !record->outcome_unknown ? SL_E_NOT_FOUND : 0;
    case STORE_RECORD_MESSAGE:
    case STORE_RECORD_PROFILE:
        break;
    }
    return 0;
}

static void fail(struct pipeline *pipeline, const char *sqlstate, size_t culprit)
{
    struct store_batch_result *result = pipeline->result;

    pipeline->failed = true;
    result->outcome = STORE_BATCH_FAILED;
    result->culprit = culprit;
    memset(result->sqlstate, 0, sizeof(result->sqlstate));
    if (sqlstate != NULL) {
        strncpy(result->sqlstate, sqlstate, sizeof(result->sqlstate) - 1);
    }
}
