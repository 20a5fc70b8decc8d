/*
 * Flights: the reads that are on their way to Postgres.
 *
 * Happy path:
 *   wait      a read that comes while the connection is being opened waits for it, within its deadline
 *   send      a read collects the overlay, queues its query and its own Sync, and arms its deadline;
 *             the first of its kind on this connection puts the preparation in front
 *   result    rows are decoded when they arrive; at the Sync the flight ends
 *   finish    the read's task calls `done`, outside of every libpq call
 *
 * Statements are prepared when they are first needed and not all at the start, since preparing one
 * waits for its table's locks: one table under a long lock would keep the reads of all down.
 *
 * A history that Postgres did not answer is what the overlay has, marked as partial, if it has any.
 *
 * Failure modes: late: SL_E_DATABASE_TIMEOUT, and a tombstone. The server ends a query at the same
 * deadline (statement_timeout), so one that lives sends some result within it; after the time of
 * several deadlines without any the connection is given up (silence_us). A connection that is of no
 * more use is reported by `lost`, whose callee drops it: then all flights end.
 *
 * Thread: the loop's. Ownership: reads are the callers'; flights and connection are the queue's.
 */
#include "pg_flight.h"

#include <stdlib.h>
#include <string.h>

#include "overlay.h"
#include "pg_error.h"
#include "pg_rows.h"

enum { NULLS_MAX = 3 /* results that are none, in a row: libpq and we disagree */ };

/* What the server owes us: the result of one query, perhaps of its preparation, and of the Sync. */
struct store_pg_flight {
    struct store_pg_flight *next;
    struct store_pg_flight_queue *queue;
    struct store_read *read; /* NULL: a tombstone */
    enum store_pg_statement statement;
    bool prepares; /* the next result is the preparation's */
    bool hopeless; /* the server says that this connection is of no more use */
    unsigned limit;
    struct store_message_set overlay; /* as it was before the query left */
    int status;
};

static int flush(struct store_pg_flight_queue *queue);
static struct store_pg_flight *add_flight(struct store_pg_flight_queue *queue);
static int collect_overlay(struct store_pg_flight_queue *queue, struct store_pg_flight *flight);
static void on_ready(struct sl_watch *watch, unsigned events);
static int take_results(struct store_pg_flight_queue *queue);
static void take_result(struct store_pg_flight *flight, const PGresult *result);
static bool end_flight(struct store_pg_flight_queue *queue);
static void arm_deadline(struct store_pg_flight_queue *queue, struct store_read *read);
static void on_late(struct sl_timer *timer);
static void on_silence(struct sl_timer *timer);
static bool take_overlay_alone(struct store_pg_flight_queue *queue, struct store_read *read);
static void finish_read(struct sl_task *task);
static void free_flight(struct store_pg_flight *flight);

void store_pg_flight_init(struct store_pg_flight_queue *queue, struct sl_loop *loop,
                          const struct store_overlay *overlay, const struct store_config *config,
                          struct store_client_stats *stats)
{
    memset(queue, 0, sizeof(*queue));
    queue->loop = loop;
    queue->overlay = overlay;
    queue->stats = stats;
    queue->timeout_us = (uint64_t)config->database_timeout_ms * 1000;
    queue->history_messages = config->history_messages;
    queue->flights_tail = &queue->flights;
    queue->waiting_tail = &queue->waiting;
    queue->watch.ready = on_ready;
    queue->silence.expired = on_silence;
}

/* ---- the connection ---- */

int store_pg_flight_open(struct store_pg_flight_queue *queue, PGconn *connection)
{
    queue->connection = connection;
    memset(queue->preparations, 0, sizeof(queue->preparations));
    return PQsetnonblocking(connection, 1) == 0 && PQenterPipelineMode(connection) == 1 &&
                   flush(queue) == 0
               ? 0
               : SL_E_DATABASE_UNAVAILABLE;
}

/* Sends what libpq still holds, and asks to be woken when the socket takes more. */
static int flush(struct store_pg_flight_queue *queue)
{
    int left = PQflush(queue->connection);

    if (left < 0) {
        return SL_E_DATABASE_UNAVAILABLE;
    }
    return sl_loop_watch(queue->loop, &queue->watch, PQsocket(queue->connection),
                         left > 0 ? SL_READABLE | SL_WRITABLE : SL_READABLE);
}

/* ---- on the ground: reads that wait for the connection ---- */

/* A flight that has not left: late and cancelled reads leave it behind as they do any other. */
void store_pg_flight_wait(struct store_pg_flight_queue *queue, struct store_read *read)
{
    struct store_pg_flight *flight = calloc(1, sizeof(*flight));

    if (flight == NULL) {
        store_pg_flight_complete(queue, read, SL_E_NO_MEMORY);
        return;
    }
    flight->queue = queue;
    flight->read = read;
    read->attachment = flight;
    *queue->waiting_tail = flight;
    queue->waiting_tail = &flight->next;
    queue->waiting_count++;
    arm_deadline(queue, read);
}

int store_pg_flight_release(struct store_pg_flight_queue *queue, int status)
{
    struct store_pg_flight *flight = queue->waiting;

    queue->waiting = NULL;
    queue->waiting_tail = &queue->waiting;
    queue->waiting_count = 0;
    while (flight != NULL) {
        struct store_pg_flight *next = flight->next;
        struct store_read *read = flight->read;
        free_flight(flight);
        if (read != NULL && status == 0) {
            status = store_pg_flight_send(queue, read);
        } else if (read != NULL) {
            store_pg_flight_complete(queue, read, status);
        }
        flight = next;
    }
    return status;
}

/* ---- on the way ---- */

/* Queues the query. After an error the read is on a flight of a connection that must be given up. */
int store_pg_flight_send(struct store_pg_flight_queue *queue, struct store_read *read)
{
    struct store_pg_flight *flight = add_flight(queue);
    int err = 0;

    if (flight == NULL) {
        store_pg_flight_complete(queue, read, SL_E_NO_MEMORY);
        return 0;
    }
    flight->read = read;
    read->attachment = flight;
    flight->statement = store_pg_statement_of(read);
    flight->limit = read->limit;
    if (read->kind == STORE_READ_HISTORY && flight->limit > queue->history_messages + 1) {
        flight->limit = queue->history_messages + 1; /* one may be the turn's own question */
    }
    if (flight->statement == STORE_PG_READ_MESSAGES && collect_overlay(queue, flight) != 0) {
        /* the query goes out all the same: its flight is in the queue */
        flight->read = NULL;
        store_pg_flight_complete(queue, read, SL_E_NO_MEMORY);
    } else {
        arm_deadline(queue, read);
    }
    enum store_pg_preparation *preparation = &queue->preparations[flight->statement];
    /* behind a preparation whose outcome is open, a read brings its statement along */
    bool named = *preparation != STORE_PG_PREPARING;
    if (*preparation == STORE_PG_UNPREPARED) {
        *preparation = STORE_PG_PREPARING;
        flight->prepares = true;
        err = store_pg_prepare(queue->connection, flight->statement);
    }
    if (err != 0 || store_pg_send_read(queue->connection, read, flight->limit + 1, named) != 0 ||
        PQpipelineSync(queue->connection) != 1) {
        return SL_E_DATABASE_UNAVAILABLE;
    }
    if (queue->flights == flight) {
        sl_loop_arm(queue->loop, &queue->silence, queue->silence_us);
    }
    return flush(queue);
}

static struct store_pg_flight *add_flight(struct store_pg_flight_queue *queue)
{
    struct store_pg_flight *flight = calloc(1, sizeof(*flight));

    if (flight == NULL) {
        return NULL;
    }
    flight->queue = queue;
    *queue->flights_tail = flight;
    queue->flights_tail = &flight->next;
    queue->flight_count++;
    return flight;
}

static int collect_overlay(struct store_pg_flight_queue *queue, struct store_pg_flight *flight)
{
    const struct store_read *read = flight->read;
    bool older = read->has_cursor && read->kind != STORE_READ_HISTORY;

    return store_overlay_collect(queue->overlay, read->user, read->user_len, &read->session,
                                 read->cursor_us, older ? &read->cursor_id : NULL,
                                 flight->limit + (size_t)1, &flight->overlay);
}

/* ---- results ---- */

static void on_ready(struct sl_watch *watch, unsigned events)
{
    struct store_pg_flight_queue *queue =
        SL_CONTAINER_OF(watch, struct store_pg_flight_queue, watch);

    (void)events;
    /* also when it is only writable: libpq may have to read before it can write */
    bool broken = PQconsumeInput(queue->connection) != 1;
    if (take_results(queue) != 0 || broken || flush(queue) != 0) {
        queue->lost(queue);
    }
}

static int take_results(struct store_pg_flight_queue *queue)
{
    unsigned nulls = 0;
    bool hopeless = false;

    while (!hopeless && queue->flights != NULL && !PQisBusy(queue->connection)) {
        PGresult *result = PQgetResult(queue->connection);
        if (result == NULL) { /* the end of one statement's results */
            if (++nulls > NULLS_MAX) {
                return SL_E_DATABASE_UNAVAILABLE;
            }
            continue;
        }
        nulls = 0;
        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
            hopeless = end_flight(queue);
        } else {
            take_result(queue->flights, result);
        }
        PQclear(result);
    }
    return !hopeless && PQstatus(queue->connection) == CONNECTION_OK ? 0
                                                                     : SL_E_DATABASE_UNAVAILABLE;
}

static void take_result(struct store_pg_flight *flight, const PGresult *result)
{
    switch (PQresultStatus(result)) {
    case PGRES_TUPLES_OK:
        if (flight->read != NULL) {
            flight->status =
                store_pg_rows_read(result, &flight->overlay, flight->limit, flight->read);
        }
        return;
    case PGRES_COMMAND_OK: /* prepared */
        flight->prepares = false;
        flight->queue->preparations[flight->statement] = STORE_PG_PREPARED;
        return;
    case PGRES_PIPELINE_ABORTED: /* the query behind a preparation that failed, which said so */
        return;
    default:
        break;
    }
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    flight->status = store_pg_read_error(sqlstate);
    flight->hopeless = store_pg_classify(sqlstate) == STORE_PG_RECONNECT;
}

/* The Sync of the first flight has arrived. True: the connection must be given up. */
static bool end_flight(struct store_pg_flight_queue *queue)
{
    struct store_pg_flight *flight = queue->flights;
    bool hopeless = flight->hopeless;

    queue->flights = flight->next;
    if (queue->flights == NULL) {
        queue->flights_tail = &queue->flights;
    }
    queue->flight_count--;
    if (queue->flights != NULL) {
        sl_loop_arm(queue->loop, &queue->silence, queue->silence_us);
    } else {
        sl_loop_disarm(queue->loop, &queue->silence);
    }
    if (flight->prepares) { /* in vain: the next read of this kind tries again */
        queue->preparations[flight->statement] = STORE_PG_UNPREPARED;
    }
    if (flight->read != NULL) {
        store_pg_flight_complete(queue, flight->read, flight->status);
    }
    free_flight(flight);
    return hopeless;
}

/* ---- deadlines ---- */

/* Of a read with a flight; counted from its start, also when it has waited before. */
static void arm_deadline(struct store_pg_flight_queue *queue, struct store_read *read)
{
    uint64_t late_us = read->started_us + queue->timeout_us;
    uint64_t now_us = sl_loop_now_us(queue->loop);

    read->deadline.expired = on_late;
    sl_loop_arm(queue->loop, &read->deadline, late_us > now_us ? late_us - now_us : 0);
}

static void on_late(struct sl_timer *timer)
{
    struct store_read *read = SL_CONTAINER_OF(timer, struct store_read, deadline);
    struct store_pg_flight *flight = read->attachment;
    struct store_pg_flight_queue *queue = flight->queue;

    flight->read = NULL;
    store_pg_flight_complete(queue, read, SL_E_DATABASE_TIMEOUT);
}

static void on_silence(struct sl_timer *timer)
{
    struct store_pg_flight_queue *queue =
        SL_CONTAINER_OF(timer, struct store_pg_flight_queue, silence);

    queue->lost(queue);
}

/* ---- the ways out ---- */

void store_pg_flight_complete(struct store_pg_flight_queue *queue, struct store_read *read,
                              int status)
{
    sl_loop_disarm(queue->loop, &read->deadline);
    read->attachment = NULL;
    if (status != 0) {
        store_read_dispose(read);
    }
    read->status = status;
    if (status != SL_E_CANCELLED && status != 0 && read->kind == STORE_READ_HISTORY &&
        take_overlay_alone(queue, read)) {
        read->status = 0;
    }
    if (status == SL_E_DATABASE_TIMEOUT) {
        sl_counter_add(&queue->stats->database_timeouts, 1);
    } else if (status != 0 && status != SL_E_CANCELLED) {
        sl_counter_add(&queue->stats->database_errors, 1);
    }
    sl_histogram_record(&queue->stats->database_us, sl_loop_now_us(queue->loop) - read->started_us);
    read->next = queue->ending;
    read->prev_next = &queue->ending;
    if (read->next != NULL) {
        read->next->prev_next = &read->next;
    }
    queue->ending = read;
    read->finish.run = finish_read;
    sl_loop_defer(queue->loop, &read->finish);
}

/* Without an answer from Postgres, what it does not have yet is better than nothing: the last turns. */
static bool take_overlay_alone(struct store_pg_flight_queue *queue, struct store_read *read)
{
    struct store_message_set set = {0};

    if (store_overlay_collect(queue->overlay, read->user, read->user_len, &read->session, 0, NULL,
                              read->limit, &set) != 0 ||
        set.count == 0) {
        store_message_set_dispose(&set);
        return false;
    }
    read->messages = set.items;
    read->count = set.count;
    read->text = set.text;
    read->partial = true;
    return true;
}

static void finish_read(struct sl_task *task)
{
    struct store_read *read = SL_CONTAINER_OF(task, struct store_read, finish);

    *read->prev_next = read->next;
    if (read->next != NULL) {
        read->next->prev_next = read->prev_next;
    }
    sl_op_finish(&read->op, read->status);
}

void store_pg_flight_cancel(struct store_pg_flight_queue *queue, struct store_read *read)
{
    struct store_pg_flight *flight = read->op.running ? read->attachment : NULL;

    if (flight == NULL) { /* idle, finished, or its end is already queued */
        return;
    }
    flight->read = NULL;
    store_pg_flight_complete(queue, read, SL_E_CANCELLED);
}

void store_pg_flight_drop(struct store_pg_flight_queue *queue, int status)
{
    struct store_pg_flight *flight = queue->flights;

    if (PQsocket(queue->connection) >= 0) {
        sl_loop_unwatch(queue->loop, &queue->watch);
    } else {
        sl_loop_forget(queue->loop, &queue->watch); /* libpq closes a socket that has failed */
    }
    sl_loop_disarm(queue->loop, &queue->silence);
    PQfinish(queue->connection);
    queue->connection = NULL;
    queue->flights = NULL;
    queue->flights_tail = &queue->flights;
    queue->flight_count = 0;
    while (flight != NULL) {
        struct store_pg_flight *next = flight->next;
        if (flight->read != NULL) {
            store_pg_flight_complete(queue, flight->read, status);
        }
        free_flight(flight);
        flight = next;
    }
}

/* Reads that the cache has abandoned may still be here: they end before this returns. */
void store_pg_flight_finish(struct store_pg_flight_queue *queue)
{
    store_pg_flight_drop(queue, SL_E_CANCELLED);
    (void)store_pg_flight_release(queue, SL_E_CANCELLED);
    while (queue->ending != NULL) {
        struct store_read *read = queue->ending;
        sl_loop_undefer(queue->loop, &read->finish);
        finish_read(&read->finish);
    }
}

static void free_flight(struct store_pg_flight *flight)
{
    store_message_set_dispose(&flight->overlay);
    free(flight);
}
