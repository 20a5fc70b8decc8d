/**
 * One pipelined transaction: sends records, reads what became of them.
 *
 * Thread: the writer thread (the functions say so in their name). Ownership: records stay the
 * writer's; their `status` and `outcome_unknown` are set here.
 */
#pragma once

#include <libpq-fe.h>

#include "pg_error.h"
#include "record.h"

struct store_writer_queue;

enum store_batch_outcome {
    STORE_BATCH_COMMITTED, /* the Sync of an error-free pipeline has arrived */
    STORE_BATCH_FAILED, /* see `sqlstate`; nothing of it is stored unless the outcome is unknown */
    STORE_BATCH_ABANDONED, /* the writer is to end */
};

struct store_batch_result {
    enum store_batch_outcome outcome;
    char sqlstate[STORE_SQLSTATE_SIZE]; /* FAILED; empty: the connection broke or fell silent */
    size_t culprit; /* FAILED: index of the record whose statement failed; `count`: not known */
};

/**
 * Makes a fresh connection ready: pipeline mode, the fence (see writer_batch.c), prepared
 * statements. The outcome tells; COMMITTED means ready. `silence_ms` is how long the server may send
 * nothing at all.
 */
void store_batch_set_up_on_writer_thread(PGconn *connection, uint64_t fence,
                                         struct store_writer_queue *queue, unsigned silence_ms,
                                         struct store_batch_result *ret_result);

/** Writes `count` records in one transaction. */
void store_batch_run_on_writer_thread(PGconn *connection, struct store_record **records,
                                      size_t count, struct store_writer_queue *queue,
                                      unsigned silence_ms, struct store_batch_result *ret_result);
