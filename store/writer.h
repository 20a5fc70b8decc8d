/**
 * The writer: a thread that moves records into Postgres, in order, in batches, and loses none.
 *
 * What it promises: a record that was taken is either in Postgres, or was refused by Postgres on its
 * own account, or is handed back when the writer ends; in each case exactly once. Records are written
 * in the order in which they were submitted.
 *
 * Thread: submit from any thread, create, stop and destroy from the process's main thread.
 * Ownership: a submit that returns 0 takes the record; it goes back by store_record_committed.
 */
#pragma once

#include "record.h"

struct store_journal;
struct store_overlay;
struct store_writer;

struct store_writer_options {
    const char *database_url;
    unsigned batch_rows;
    size_t batch_bytes;
    size_t queue_bytes;
    unsigned silence_ms;           /* a server that sends nothing for this long is given up */
    struct store_overlay *overlay; /* committed records leave it; NULL: none */
    /**
     * On the writer thread: Postgres refuses this record, whatever is done. 0 when that has been
     * noted durably (the record is then handed back with SL_E_DATABASE_REFUSED), or an error: the
     * record is kept and tried again later. NULL: nothing is noted, the record is only counted.
     */
    int (*refuse)(void *context, const struct store_record *record, const char *sqlstate);
    void *refuse_context;
    struct store_journal *journal; /* its backlog is read, and told what is committed; NULL: none */
    bool held;                     /* writes nothing before store_writer_release */
};

/** Strings are copied. 0, SL_E_INVALID_VALUE (the URL cannot be read) or SL_E_NO_MEMORY. */
SL_MUST_CHECK int store_writer_create(const struct store_writer_options *options,
                                      struct store_writer **ret_writer);

/** Queues a record. 0, SL_E_OVERLOADED or SL_E_SHUTTING_DOWN; then the record is still the caller's. */
SL_MUST_CHECK int store_writer_submit(struct store_writer *writer, struct store_record *record);

/** Lets a writer that was made `held` begin: what it is to take up from the journal is queued. */
void store_writer_release(struct store_writer *writer);

/** Any thread: there may be a backlog to read. */
void store_writer_nudge(struct store_writer *writer);

/**
 * Refuses new records, waits until all are written or `timeout_ms` have passed (and, if just then a
 * connection is being opened, until that has succeeded or failed), and ends the thread. Records that
 * are left go back with SL_E_SHUTTING_DOWN. Returns how many of them are not in the journal either.
 * Idempotent.
 */
size_t store_writer_stop(struct store_writer *writer, unsigned timeout_ms);

/** Stops at once if it was not stopped before. NULL is accepted. */
void store_writer_destroy(struct store_writer *writer);

/** Any thread. */
const struct store_writer_stats *store_writer_figures(const struct store_writer *writer);
