/**
 * The records that wait for the writer: in order, bounded by bytes, with the ways to wait for them.
 *
 * A record stays in the queue until it is settled, so a batch that failed is simply looked at again.
 * Thread: push, drain and stop from any thread; everything else from the writer thread. Ownership:
 * a push that returns 0 takes the record.
 */
#pragma once

#include <pthread.h>

#include "record.h"

struct store_writer_queue {
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* settled, or stopped */
    struct store_record *first, **tail;
    size_t count, bytes, bytes_max;
    bool closed;  /* refuses records */
    bool hurry;   /* one pause of the writer is to be cut short */
    bool stopped; /* the writer is to end */
    int wake_fd;  /* readable after any of these changed; the writer polls it */
    struct store_writer_stats *stats;
};

/** 0 or SL_E_NO_MEMORY. `stats` gets the depth. */
SL_MUST_CHECK int store_writer_queue_init(struct store_writer_queue *queue, size_t bytes_max,
                                          struct store_writer_stats *stats);
/** Must be empty. */
void store_writer_queue_finish(struct store_writer_queue *queue);

/** 0, SL_E_OVERLOADED (it would hold more than its bytes) or SL_E_SHUTTING_DOWN. */
SL_MUST_CHECK int store_writer_queue_push(struct store_writer_queue *queue,
                                          struct store_record *record);

/** Writer thread: adds records of the backlog, whatever the limits say. */
void store_writer_queue_refill(struct store_writer_queue *queue,
                               struct store_record *const *records, size_t count);

/** Any thread: the writer looks around. */
void store_writer_queue_nudge(struct store_writer_queue *queue);

/** The first records, at most `rows` and `bytes`, but one at least if there is any. */
size_t store_writer_queue_peek(struct store_writer_queue *queue, struct store_record **ret_records,
                               size_t rows, size_t bytes);

/** Takes the first `count` records off, which the caller has from peek. */
void store_writer_queue_settle(struct store_writer_queue *queue, size_t count);

/** Waits `delay_ms`, or until the end; new records do not cut it short, a drain does, once. */
void store_writer_queue_pause(struct store_writer_queue *queue, unsigned delay_ms);

/** Takes a wake-up off wake_fd. False: the writer is to end. */
bool store_writer_queue_wake(struct store_writer_queue *queue);

/** Refuses records from now on and waits until all are settled, at most `timeout_ms`. */
void store_writer_queue_drain(struct store_writer_queue *queue, unsigned timeout_ms);

/** Tells the writer to end. */
void store_writer_queue_stop(struct store_writer_queue *queue);
