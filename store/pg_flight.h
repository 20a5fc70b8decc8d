/**
 * Flights: the reads that are on their way to Postgres, in the order in which it will answer.
 *
 * Each flight is one query (the first of its kind with its preparation in front) and its own Sync, so
 * an error of one does not touch the others. A read that is late or cancelled leaves its flight
 * behind as a tombstone, which swallows the late rows. A flight may also wait on the ground, for a
 * connection that is being opened.
 *
 * Thread: the loop's. Ownership: reads are the callers' (op.h); the flights, and the connection from
 * store_pg_flight_open to store_pg_flight_drop, are the queue's.
 */
#pragma once

#include <libpq-fe.h>

#include "pg_statements.h"

struct store_overlay;
struct store_pg_flight;

/* Of a statement on the present connection. */
enum store_pg_preparation { STORE_PG_UNPREPARED, STORE_PG_PREPARING, STORE_PG_PREPARED };

struct store_pg_flight_queue {
    struct sl_loop *loop;
    const struct store_overlay *overlay;
    struct store_client_stats *stats;
    uint64_t timeout_us; /* of one read */
    uint64_t silence_us; /* so long no read on its way ends: the connection is given up */
    unsigned history_messages;
    unsigned flight_count, waiting_count; /* read-only for the caller; tombstones are counted too */
    /** The connection is of no more use. The callee drops it. */
    void (*lost)(struct store_pg_flight_queue *queue);
    /* private */
    PGconn *connection; /* NULL: none */
    enum store_pg_preparation preparations[STORE_PG_READS];
    struct sl_watch watch;
    struct sl_timer silence;
    struct store_pg_flight *flights, **flights_tail;
    struct store_pg_flight *waiting, **waiting_tail; /* of reads that wait for the connection */
    struct store_read *ending; /* completed, their tasks are queued; linked by next and prev_next */
};

/** Empty and without a connection. `config` is not kept; `silence_us` and `lost` are set by the caller. */
void store_pg_flight_init(struct store_pg_flight_queue *queue, struct sl_loop *loop,
                          const struct store_overlay *overlay, const struct store_config *config,
                          struct store_client_stats *stats);

/** Ends every read at once with SL_E_CANCELLED, outside of the loop's order, and drops the connection. */
void store_pg_flight_finish(struct store_pg_flight_queue *queue);

/** Takes the connection, also on failure, and makes it a pipeline. 0 or SL_E_DATABASE_UNAVAILABLE: drop it. */
SL_MUST_CHECK int store_pg_flight_open(struct store_pg_flight_queue *queue, PGconn *connection);

/**
 * Sends the query of a read that has been started. 0 (the read may have completed already) or
 * SL_E_DATABASE_UNAVAILABLE: drop the connection.
 */
SL_MUST_CHECK int store_pg_flight_send(struct store_pg_flight_queue *queue,
                                       struct store_read *read);

/** Lets a started read wait for a connection, within its deadline. */
void store_pg_flight_wait(struct store_pg_flight_queue *queue, struct store_read *read);

/**
 * Ends the waiting: with `status` 0 the reads are sent, in order, with an error they complete with it.
 * Returns `status`, or SL_E_DATABASE_UNAVAILABLE when sending failed: drop the connection.
 */
int store_pg_flight_release(struct store_pg_flight_queue *queue, int status);

/** Queues the read's end; its flight, if there is one, must no longer know it. */
void store_pg_flight_complete(struct store_pg_flight_queue *queue, struct store_read *read,
                              int status);

/** Completes the read with SL_E_CANCELLED if it is on its way; otherwise nothing. */
void store_pg_flight_cancel(struct store_pg_flight_queue *queue, struct store_read *read);

/** Closes the connection, if there is one; the reads on the way (not those that wait) end with `status`. */
void store_pg_flight_drop(struct store_pg_flight_queue *queue, int status);
