/*
 * Reads from Postgres on one pipelined connection per loop.
 *
 * Happy path:
 *   dial      the connector thread opens the connection; the loop watches it from then on
 *   wait      a read that comes while the connection is being opened waits for it, within its deadline
 *   start     a read collects the overlay, queues its query and its own Sync, and arms its deadline;
 *             the first of its kind on this connection puts the preparation in front
 *   result    rows are decoded when they arrive; at the Sync the flight ends
 *   finish    the read's task calls `done`, outside of every libpq call
 *
 *   DOWN ──dial──▶ CONNECTING ──dialled──▶ UP        any failure: back to DOWN, all reads on the
 *     ▲                │                    │         way fail, and a timer with full jitter
 *     └────────────────┴─────── lost ───────┘         dials again
 *
 * Statements are prepared when they are first needed and not all at the start, since preparing one
 * waits for its table's locks: one table under a long lock would keep the reads of all down.
 * Since each read has its own Sync, an error of one does not touch the others. What the server
 * still owes us is the queue of flights, in order. A read that is late or cancelled leaves its
 * flight behind as a tombstone, which swallows the late rows.
 *
 * Failure modes: not connected and not connecting: SL_E_DATABASE_UNAVAILABLE at once. Too many flights, tombstones
 * counted too: SL_E_OVERLOADED. Late: SL_E_DATABASE_TIMEOUT. The server ends a query at the same
 * deadline (statement_timeout), so one that lives sends some result within it; after the time of
 * several deadlines without any the connection is given up (silence_us).
 *
 * Thread: the loop's. Ownership: reads are the callers'; flights and connection are the reader's.
 */
#include "pg_reader.h"

#include <libpq-fe.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "connector.h"
#include "connector_forget.h"
#include "overlay.h"
#include "pg_connect.h"
#include "pg_error.h"
#include "pg_rows.h"
#include "pg_statements.h"
#include "random.h"

enum {
    ROWS_MAX = 200, /* of one read: with answers of up to 1 MiB this is what bounds its memory */
    SILENT_DEADLINES = 3,
    SILENCE_MAX_US = 2 * 1000000,
    SILENCE_MARGIN_US = 500 * 1000,
    STEADY_US = 5 * 1000000, /* a connection that lived this long makes the next wait short again */
    BACKOFF_FIRST_US = 50 * 1000,
    BACKOFF_MAX_US = 5 * 1000000,
    NULLS_MAX = 3, /* results that are none, in a row: libpq and we disagree */
};

/* What the server owes us: the result of one query, perhaps of its preparation, and of the Sync. */
struct flight {
    struct flight *next;
    struct store_pg_reader *reader;
    struct store_read *read; /* NULL: a tombstone */
    enum store_pg_statement statement;
    bool prepares; /* the next result is the preparation's */
    bool hopeless; /* the server says that this connection is of no more use */
    unsigned limit;
    struct store_message_set overlay; /* as it was before the query left */
    int status;
};

/* Of a statement on the present connection. */
enum preparation { UNPREPARED, PREPARING, PREPARED };

struct store_pg_reader {
    struct sl_loop *loop;
    struct store_connector *connector;
    const struct store_overlay *overlay;
    struct store_client_stats *stats;
    char *conninfo;
    uint64_t timeout_us, silence_us;
    unsigned reads_max, history_messages;
    _Atomic int link;
    PGconn *connection; /* NULL: down or dialling */
    enum preparation preparations[STORE_PG_READS];
    struct store_dial dial;
    struct sl_watch watch;
    struct sl_timer redial, silence;
    unsigned failures; /* attempts and connections that failed since the last steady one */
    uint64_t up_since_us;
    struct flight *flights, **flights_tail;
    struct flight *waiting, **waiting_tail; /* of reads that wait for the connection */
    unsigned flight_count, waiting_count;
    struct store_read *ending; /* completed, their tasks are queued; linked by next and prev_next */
};

static uint64_t silence_after(uint64_t timeout_us);
static void dial(struct sl_timer *timer);
static void on_dialled(struct sl_op *op, int status);
static int open_pipeline(struct store_pg_reader *reader);
static void wait_for_connection(struct store_pg_reader *reader, struct store_read *read);
static int release_waiting(struct store_pg_reader *reader, int status);
static int check_read(const struct store_pg_reader *reader, const struct store_read *read);
static int send_read(struct store_pg_reader *reader, struct store_read *read);
static int collect_overlay(struct store_pg_reader *reader, struct flight *flight);
static int flush(struct store_pg_reader *reader);
static void on_ready(struct sl_watch *watch, unsigned events);
static int take_results(struct store_pg_reader *reader);
static void take_result(struct flight *flight, const PGresult *result);
static bool end_flight(struct store_pg_reader *reader);
static void on_late(struct sl_timer *timer);
static void on_silence(struct sl_timer *timer);
static void complete(struct store_pg_reader *reader, struct store_read *read, int status);
static void finish_read(struct sl_task *task);
static void lose_connection(struct store_pg_reader *reader);
static void drop_connection(struct store_pg_reader *reader, int status);
static struct flight *add_flight(struct store_pg_reader *reader);
static void free_flight(struct flight *flight);

int store_pg_reader_create(struct sl_loop *loop, struct store_connector *connector,
                           const struct store_overlay *overlay, const struct store_config *config,
                           struct store_client_stats *stats, struct store_pg_reader **ret_reader)
{
    struct store_pg_limits limits = {.statement_timeout_ms = config->database_timeout_ms};
    struct store_pg_reader *reader = calloc(1, sizeof(*reader));

    if (reader == NULL) {
        return SL_E_NO_MEMORY;
    }
    int err = store_pg_conninfo(config->database_url, &limits, &reader->conninfo);
    if (err != 0) {
        free(reader);
        return err;
    }
    reader->loop = loop;
    reader->connector = connector;
    reader->overlay = overlay;
    reader->stats = stats;
    reader->timeout_us = (uint64_t)config->database_timeout_ms * 1000;
    reader->silence_us = silence_after(reader->timeout_us);
    reader->reads_max = config->database_reads_max;
    reader->history_messages = config->history_messages;
    reader->flights_tail = &reader->flights;
    reader->waiting_tail = &reader->waiting;
    reader->watch.ready = on_ready;
    reader->redial.expired = dial;
    reader->silence.expired = on_silence;
    reader->dial.op.done = on_dialled;
    reader->dial.conninfo = reader->conninfo;
    dial(&reader->redial);
    *ret_reader = reader;
    return 0;
}

/* Several deadlines, at most 2 s, but always more than one deadline. */
static uint64_t silence_after(uint64_t timeout_us)
{
    uint64_t silence_us = timeout_us * SILENT_DEADLINES;

    if (silence_us > SILENCE_MAX_US) {
        silence_us = SILENCE_MAX_US;
    }
    return silence_us > timeout_us + SILENCE_MARGIN_US ? silence_us
                                                       : timeout_us + SILENCE_MARGIN_US;
}

/* ---- the connection ---- */

static void dial(struct sl_timer *timer)
{
    struct store_pg_reader *reader = SL_CONTAINER_OF(timer, struct store_pg_reader, redial);

    atomic_store(&reader->link, STORE_LINK_CONNECTING);
    if (store_connector_dial(reader->connector, reader->loop, &reader->dial) != 0) {
        lose_connection(reader);
    }
}

static void on_dialled(struct sl_op *op, int status)
{
    struct store_pg_reader *reader = SL_CONTAINER_OF(op, struct store_pg_reader, dial.op);

    if (status == 0) {
        reader->connection = reader->dial.connection;
        reader->dial.connection = NULL;
        status = open_pipeline(reader);
    }
    if (status == 0) {
        status = release_waiting(reader, 0);
    }
    if (status != 0) {
        lose_connection(reader);
    }
}

static int open_pipeline(struct store_pg_reader *reader)
{
    memset(reader->preparations, 0, sizeof(reader->preparations));
    if (PQsetnonblocking(reader->connection, 1) != 0 ||
        PQenterPipelineMode(reader->connection) != 1 || flush(reader) != 0) {
        return SL_E_DATABASE_UNAVAILABLE;
    }
    reader->up_since_us = sl_loop_now_us(reader->loop);
    atomic_store(&reader->link, STORE_LINK_UP);
    return 0;
}

/* Sends what libpq still holds, and asks to be woken when the socket takes more. */
static int flush(struct store_pg_reader *reader)
{
    int left = PQflush(reader->connection);

    if (left < 0) {
        return SL_E_DATABASE_UNAVAILABLE;
    }
    return sl_loop_watch(reader->loop, &reader->watch, PQsocket(reader->connection),
                         left > 0 ? SL_READABLE | SL_WRITABLE : SL_READABLE);
}

/* ---- start ---- */

int store_pg_reader_start(struct store_pg_reader *reader, struct store_read *read)
{
    int err = check_read(reader, read);

    if (err != 0) {
        return err;
    }
    read->source = STORE_SOURCE_NONE;
    read->found = false;
    read->more = false;
    read->count = 0;
    read->messages = NULL;
    read->sessions = NULL;
    sl_buffer_init(&read->text, 0);
    read->finish.run = finish_read;
    read->deadline.expired = on_late;
    read->attachment = NULL;
    read->started_us = sl_loop_now_us(reader->loop);
    sl_op_start(&read->op);
    sl_counter_add(&reader->stats->database_reads, 1);
    enum store_link link = store_pg_reader_link(reader);
    if (link == STORE_LINK_DOWN) {
        complete(reader, read, SL_E_DATABASE_UNAVAILABLE);
    } else if (reader->flight_count + reader->waiting_count >= reader->reads_max) {
        complete(reader, read, SL_E_OVERLOADED);
    } else if (link == STORE_LINK_CONNECTING) {
        wait_for_connection(reader, read);
    } else if (send_read(reader, read) != 0) {
        lose_connection(reader);
    }
    return 0;
}

/* A flight that has not left: late and cancelled reads leave it behind as they do any other. */
static void wait_for_connection(struct store_pg_reader *reader, struct store_read *read)
{
    struct flight *flight = calloc(1, sizeof(*flight));

    if (flight == NULL) {
        complete(reader, read, SL_E_NO_MEMORY);
        return;
    }
    flight->reader = reader;
    flight->read = read;
    read->attachment = flight;
    *reader->waiting_tail = flight;
    reader->waiting_tail = &flight->next;
    reader->waiting_count++;
    sl_loop_arm(reader->loop, &read->deadline, reader->timeout_us);
}

/* The connection is there (status 0: they are sent, in order), or it could not be made. */
static int release_waiting(struct store_pg_reader *reader, int status)
{
    struct flight *flight = reader->waiting;

    reader->waiting = NULL;
    reader->waiting_tail = &reader->waiting;
    reader->waiting_count = 0;
    while (flight != NULL) {
        struct flight *next = flight->next;
        struct store_read *read = flight->read;
        free_flight(flight);
        if (read != NULL && status == 0) {
            status = send_read(reader, read);
        } else if (read != NULL) {
            complete(reader, read, status);
        }
        flight = next;
    }
    return status;
}

static int check_read(const struct store_pg_reader *reader, const struct store_read *read)
{
    if (read->user_len == 0 || read->user_len > STORE_USER_ID_MAX) {
        return SL_E_INVALID_VALUE;
    }
    switch (read->kind) {
    case STORE_READ_PROFILE:
        return 0;
    case STORE_READ_HISTORY:
        return read->limit > 0 && reader->history_messages > 0 ? 0 : SL_E_INVALID_VALUE;
    case STORE_READ_SESSIONS:
    case STORE_READ_MESSAGES:
        return read->limit > 0 && read->limit <= ROWS_MAX ? 0 : SL_E_INVALID_VALUE;
    }
    return SL_E_INVALID_VALUE;
}

/* Queues the query. After an error the read is on a flight of a connection that must be given up. */
static int send_read(struct store_pg_reader *reader, struct store_read *read)
{
    struct flight *flight = add_flight(reader);
    int err = 0;

    if (flight == NULL) {
        complete(reader, read, SL_E_NO_MEMORY);
        return 0;
    }
    flight->read = read;
    read->attachment = flight;
    flight->statement = store_pg_statement_of(read);
    flight->limit = read->limit;
    if (read->kind == STORE_READ_HISTORY && flight->limit > reader->history_messages + 1) {
        flight->limit = reader->history_messages + 1; /* one may be the turn's own question */
    }
    if (flight->statement == STORE_PG_READ_MESSAGES && collect_overlay(reader, flight) != 0) {
        /* the query goes out all the same: its flight is in the queue */
        flight->read = NULL;
        complete(reader, read, SL_E_NO_MEMORY);
    } else {
        uint64_t late_us = read->started_us + reader->timeout_us;
        uint64_t now_us = sl_loop_now_us(reader->loop);
        sl_loop_arm(reader->loop, &read->deadline, late_us > now_us ? late_us - now_us : 0);
    }
    enum preparation *preparation = &reader->preparations[flight->statement];
    /* behind a preparation whose outcome is open, a read brings its statement along */
    bool named = *preparation != PREPARING;
    if (*preparation == UNPREPARED) {
        *preparation = PREPARING;
        flight->prepares = true;
        err = store_pg_prepare(reader->connection, flight->statement);
    }
    if (err != 0 || store_pg_send_read(reader->connection, read, flight->limit + 1, named) != 0 ||
        PQpipelineSync(reader->connection) != 1) {
        return SL_E_DATABASE_UNAVAILABLE;
    }
    if (reader->flights == flight) {
        sl_loop_arm(reader->loop, &reader->silence, reader->silence_us);
    }
    return flush(reader);
}

static int collect_overlay(struct store_pg_reader *reader, struct flight *flight)
{
    const struct store_read *read = flight->read;
    bool older = read->has_cursor && read->kind != STORE_READ_HISTORY;

    return store_overlay_collect(reader->overlay, read->user, read->user_len, &read->session,
                                 read->cursor_us, older ? &read->cursor_id : NULL,
                                 flight->limit + (size_t)1, &flight->overlay);
}

/* ---- results ---- */

static void on_ready(struct sl_watch *watch, unsigned events)
{
    struct store_pg_reader *reader = SL_CONTAINER_OF(watch, struct store_pg_reader, watch);

    (void)events;
    /* also when it is only writable: libpq may have to read before it can write */
    bool broken = PQconsumeInput(reader->connection) != 1;
    if (take_results(reader) != 0 || broken || flush(reader) != 0) {
        lose_connection(reader);
    }
}

static int take_results(struct store_pg_reader *reader)
{
    unsigned nulls = 0;
    bool hopeless = false;

    while (!hopeless && reader->flights != NULL && !PQisBusy(reader->connection)) {
        PGresult *result = PQgetResult(reader->connection);
        if (result == NULL) { /* the end of one statement's results */
            if (++nulls > NULLS_MAX) {
                return SL_E_DATABASE_UNAVAILABLE;
            }
            continue;
        }
        nulls = 0;
        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
            hopeless = end_flight(reader);
        } else {
            take_result(reader->flights, result);
        }
        PQclear(result);
    }
    return !hopeless && PQstatus(reader->connection) == CONNECTION_OK ? 0
                                                                      : SL_E_DATABASE_UNAVAILABLE;
}

static void take_result(struct flight *flight, const PGresult *result)
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
        flight->reader->preparations[flight->statement] = PREPARED;
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
static bool end_flight(struct store_pg_reader *reader)
{
    struct flight *flight = reader->flights;
    bool hopeless = flight->hopeless;

    reader->flights = flight->next;
    if (reader->flights == NULL) {
        reader->flights_tail = &reader->flights;
    }
    reader->flight_count--;
    if (reader->flights != NULL) {
        sl_loop_arm(reader->loop, &reader->silence, reader->silence_us);
    } else {
        sl_loop_disarm(reader->loop, &reader->silence);
    }
    if (flight->prepares) { /* in vain: the next read of this kind tries again */
        reader->preparations[flight->statement] = UNPREPARED;
    }
    if (flight->read != NULL) {
        complete(reader, flight->read, flight->status);
    }
    free_flight(flight);
    return hopeless;
}

/* ---- deadlines ---- */

static void on_late(struct sl_timer *timer)
{
    struct store_read *read = SL_CONTAINER_OF(timer, struct store_read, deadline);
    struct flight *flight = read->attachment;
    struct store_pg_reader *reader = flight->reader;

    flight->read = NULL;
    complete(reader, read, SL_E_DATABASE_TIMEOUT);
}

static void on_silence(struct sl_timer *timer)
{
    lose_connection(SL_CONTAINER_OF(timer, struct store_pg_reader, silence));
}

/* ---- the ways out ---- */

/* Queues the read's end; its flight, if there is one, no longer knows it. */
static void complete(struct store_pg_reader *reader, struct store_read *read, int status)
{
    sl_loop_disarm(reader->loop, &read->deadline);
    read->attachment = NULL;
    read->status = status;
    if (status != 0) {
        store_read_dispose(read);
    }
    if (status == SL_E_DATABASE_TIMEOUT) {
        sl_counter_add(&reader->stats->database_timeouts, 1);
    } else if (status != 0 && status != SL_E_CANCELLED) {
        sl_counter_add(&reader->stats->database_errors, 1);
    }
    sl_histogram_record(&reader->stats->database_us,
                        sl_loop_now_us(reader->loop) - read->started_us);
    read->next = reader->ending;
    read->prev_next = &reader->ending;
    if (read->next != NULL) {
        read->next->prev_next = &read->next;
    }
    reader->ending = read;
    sl_loop_defer(reader->loop, &read->finish);
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

void store_pg_reader_cancel(struct store_pg_reader *reader, struct store_read *read)
{
    struct flight *flight = read->op.running ? read->attachment : NULL;

    if (flight == NULL) { /* idle, finished, or its end is already queued */
        return;
    }
    flight->read = NULL;
    complete(reader, read, SL_E_CANCELLED);
}

/* The one way down: also for a dial that failed. */
static void lose_connection(struct store_pg_reader *reader)
{
    uint64_t now_us = sl_loop_now_us(reader->loop);

    drop_connection(reader, SL_E_DATABASE_UNAVAILABLE);
    (void)!release_waiting(reader, SL_E_DATABASE_UNAVAILABLE);
    if (atomic_exchange(&reader->link, STORE_LINK_DOWN) == STORE_LINK_UP &&
        now_us - reader->up_since_us >= STEADY_US) {
        reader->failures = 0;
    }
    sl_loop_arm(reader->loop, &reader->redial,
                store_random_backoff_us(reader->failures++, BACKOFF_FIRST_US, BACKOFF_MAX_US));
}

/* Closes the connection, if there is one; the reads on the way end with `status`. */
static void drop_connection(struct store_pg_reader *reader, int status)
{
    struct flight *flight = reader->flights;

    sl_loop_unwatch(reader->loop, &reader->watch);
    sl_loop_disarm(reader->loop, &reader->silence);
    PQfinish(reader->connection);
    reader->connection = NULL;
    reader->flights = NULL;
    reader->flights_tail = &reader->flights;
    reader->flight_count = 0;
    while (flight != NULL) {
        struct flight *next = flight->next;
        if (flight->read != NULL) {
            complete(reader, flight->read, status);
        }
        free_flight(flight);
        flight = next;
    }
}

/* Reads that the cache has abandoned may still be here: they end before this returns. */
void store_pg_reader_destroy(struct store_pg_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    store_connector_forget(reader->connector, reader->loop);
    sl_loop_disarm(reader->loop, &reader->redial);
    drop_connection(reader, SL_E_CANCELLED);
    (void)!release_waiting(reader, SL_E_CANCELLED);
    while (reader->ending != NULL) {
        struct store_read *read = reader->ending;
        sl_loop_undefer(reader->loop, &read->finish);
        finish_read(&read->finish);
    }
    free(reader->conninfo);
    free(reader);
}

enum store_link store_pg_reader_link(const struct store_pg_reader *reader)
{
    return (enum store_link)atomic_load(&((struct store_pg_reader *)(uintptr_t)reader)->link);
}

/* ---- flights ---- */

static struct flight *add_flight(struct store_pg_reader *reader)
{
    struct flight *flight = calloc(1, sizeof(*flight));

    if (flight == NULL) {
        return NULL;
    }
    flight->reader = reader;
    *reader->flights_tail = flight;
    reader->flights_tail = &flight->next;
    reader->flight_count++;
    return flight;
}

static void free_flight(struct flight *flight)
{
    store_message_set_dispose(&flight->overlay);
    free(flight);
}
