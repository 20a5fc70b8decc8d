/*
 * Reads from Postgres on one pipelined connection per loop: the connection and who may use it.
 *
 * Happy path:
 *   dial      the connector thread opens the connection; the loop watches it from then on
 *   start     a read is sent, or waits for the connection that is being opened (pg_flight.c); a turn
 *             that the overlay knows is found at once, whatever the connection does
 *
 *   DOWN ──dial──▶ CONNECTING ──dialled──▶ UP        any failure: back to DOWN, all reads on the
 *     ▲                │                    │         way fail, and a timer with full jitter
 *     └────────────────┴─────── lost ───────┘         dials again
 *
 * Failure modes: not connected and not connecting: SL_E_DATABASE_UNAVAILABLE at once. Too many flights, tombstones
 * counted too: SL_E_OVERLOADED. Those of a read on its way are in pg_flight.c.
 *
 * Thread: the loop's. Ownership: reads are the callers'; the flights are the reader's.
 */
#include "pg_reader.h"

#include <libpq-fe.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "connector.h"
#include "connector_forget.h"
#include "overlay.h"
#include "pg_connect.h"
#include "pg_flight.h"
#include "sluice/random.h"

enum {
    ROWS_MAX = 200, /* of one read: with answers of up to 1 MiB this is what bounds its memory */
    STEADY_US = 5 * 1000000, /* a connection that lived this long makes the next wait short again */
    BACKOFF_FIRST_US = 50 * 1000,
    BACKOFF_MAX_US = 5 * 1000000,
    SILENT_DEADLINES = 3,
    SILENCE_MAX_US = 2 * 1000000,
    SILENCE_MARGIN_US = 500 * 1000,
};

struct store_pg_reader {
    struct sl_loop *loop;
    struct store_connector *connector;
    char *conninfo;
    unsigned reads_max;
    _Atomic int link;
    struct store_pg_flight_queue flights;
    struct store_dial dial;
    struct sl_timer redial;
    unsigned failures; /* attempts and connections that failed since the last steady one */
    uint64_t up_since_us;
};

static uint64_t silence_after(uint64_t timeout_us);
static void dial(struct sl_timer *timer);
static void on_dialled(struct sl_op *op, int status);
static int take_connection(struct store_pg_reader *reader);
static int check_read(const struct store_pg_reader *reader, const struct store_read *read);
static void begin_read(struct store_pg_reader *reader, struct store_read *read);
static bool find_uncommitted(const struct store_pg_reader *reader, struct store_read *read);
static void on_lost(struct store_pg_flight_queue *flights);
static void lose_connection(struct store_pg_reader *reader);

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
    reader->reads_max = config->database_reads_max;
    store_pg_flight_init(&reader->flights, loop, overlay, config, stats);
    reader->flights.silence_us = silence_after(reader->flights.timeout_us);
    reader->flights.lost = on_lost;
    reader->redial.expired = dial;
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
        status = take_connection(reader);
    }
    if (status == 0) {
        status = store_pg_flight_release(&reader->flights, 0);
    }
    if (status != 0) {
        lose_connection(reader);
    }
}

static int take_connection(struct store_pg_reader *reader)
{
    PGconn *connection = reader->dial.connection;

    reader->dial.connection = NULL;
    int err = store_pg_flight_open(&reader->flights, connection);
    if (err != 0) {
        return err;
    }
    reader->up_since_us = sl_loop_now_us(reader->loop);
    atomic_store(&reader->link, STORE_LINK_UP);
    return 0;
}

/* ---- reads ---- */

int store_pg_reader_start(struct store_pg_reader *reader, struct store_read *read)
{
    struct store_pg_flight_queue *flights = &reader->flights;
    int err = check_read(reader, read);

    if (err != 0) {
        return err;
    }
    begin_read(reader, read);
    enum store_link link = store_pg_reader_link(reader);
    if (find_uncommitted(reader, read)) {
        store_pg_flight_complete(flights, read, 0);
    } else if (link == STORE_LINK_DOWN) {
        store_pg_flight_complete(flights, read, SL_E_DATABASE_UNAVAILABLE);
    } else if (flights->flight_count + flights->waiting_count >= reader->reads_max) {
        store_pg_flight_complete(flights, read, SL_E_OVERLOADED);
    } else if (link == STORE_LINK_CONNECTING) {
        store_pg_flight_wait(flights, read);
    } else if (store_pg_flight_send(flights, read) != 0) {
        lose_connection(reader);
    }
    return 0;
}

static int check_read(const struct store_pg_reader *reader, const struct store_read *read)
{
    if (read->user_len == 0 || read->user_len > STORE_USER_ID_MAX) {
        return SL_E_INVALID_VALUE;
    }
    switch (read->kind) {
    case STORE_READ_PROFILE:
    case STORE_READ_TURN:
        return 0;
    case STORE_READ_HISTORY:
        return read->limit > 0 && reader->flights.history_messages > 0 ? 0 : SL_E_INVALID_VALUE;
    case STORE_READ_SESSIONS:
    case STORE_READ_MESSAGES:
        return read->limit > 0 && read->limit <= ROWS_MAX ? 0 : SL_E_INVALID_VALUE;
    }
    return SL_E_INVALID_VALUE;
}

static void begin_read(struct store_pg_reader *reader, struct store_read *read)
{
    read->source = STORE_SOURCE_NONE;
    read->found = false;
    read->more = false;
    read->partial = false;
    read->count = 0;
    read->messages = NULL;
    read->sessions = NULL;
    sl_buffer_init(&read->text, 0);
    read->attachment = NULL;
    read->started_us = sl_loop_now_us(reader->loop);
    sl_op_start(&read->op);
    sl_counter_add(&reader->flights.stats->database_reads, 1);
}

/* Before the query, which then sees what has just left the overlay: it is committed. */
static bool find_uncommitted(const struct store_pg_reader *reader, struct store_read *read)
{
    read->found = read->kind == STORE_READ_TURN &&
                  store_overlay_find_turn(reader->flights.overlay, read->user, read->user_len,
                                          &read->turn, &read->session);
    return read->found;
}

void store_pg_reader_cancel(struct store_pg_reader *reader, struct store_read *read)
{
    store_pg_flight_cancel(&reader->flights, read);
}

enum store_link store_pg_reader_link(const struct store_pg_reader *reader)
{
    return (enum store_link)atomic_load(&((struct store_pg_reader *)(uintptr_t)reader)->link);
}

/* ---- the ways out ---- */

static void on_lost(struct store_pg_flight_queue *flights)
{
    lose_connection(SL_CONTAINER_OF(flights, struct store_pg_reader, flights));
}

/* The one way down: also for a dial that failed. */
static void lose_connection(struct store_pg_reader *reader)
{
    uint64_t now_us = sl_loop_now_us(reader->loop);

    store_pg_flight_drop(&reader->flights, SL_E_DATABASE_UNAVAILABLE);
    (void)store_pg_flight_release(&reader->flights, SL_E_DATABASE_UNAVAILABLE);
    if (atomic_exchange(&reader->link, STORE_LINK_DOWN) == STORE_LINK_UP &&
        now_us - reader->up_since_us >= STEADY_US) {
        reader->failures = 0;
    }
    sl_loop_arm(reader->loop, &reader->redial,
                sl_random_backoff_us(reader->failures++, BACKOFF_FIRST_US, BACKOFF_MAX_US));
}

void store_pg_reader_destroy(struct store_pg_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    store_connector_forget(reader->connector, reader->loop);
    sl_loop_disarm(reader->loop, &reader->redial);
    store_pg_flight_finish(&reader->flights);
    free(reader->conninfo);
    free(reader);
}
