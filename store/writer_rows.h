/**
 * Many messages in two statements: the form in which a large backlog goes to Postgres.
 *
 * The first statement makes or touches each session once, the second adds all messages. What is in the
 * tables afterwards is what the messages, sent one by one, would have left there. What this form cannot
 * do is name the row that the server refuses; for that they are sent one by one (writer_batch.c).
 *
 * Thread: the writer thread. Ownership: records stay the caller's; libpq copies what it sends.
 */
#pragma once

#include <libpq-fe.h>

#include "record.h"

enum {
    STORE_WRITER_ROWS_MIN = 32,       /* fewer messages than that are sent one by one */
    STORE_WRITER_ROWS_STATEMENTS = 2, /* results of one send */
};

/**
 * How many of these records, from the first, go into one send: messages only, at most 1,000 and 16 MiB.
 * 0: too few of them.
 */
size_t store_writer_rows_count(struct store_record *const *records, size_t count);

/**
 * Queues the two statements; `count` is what store_writer_rows_count has said. 0, or
 * SL_E_DATABASE_UNAVAILABLE or SL_E_NO_MEMORY: one of the two may have been queued, so the connection
 * is of no more use.
 */
SL_MUST_CHECK int store_writer_rows_send_on_writer_thread(PGconn *connection,
                                                          struct store_record *const *records,
                                                          size_t count);
