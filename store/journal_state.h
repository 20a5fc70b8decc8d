/**
 * What the journal's own files share: its state, and the steps of its thread.
 *
 *   journal.c          opens, queues, runs the thread, stops
 *   journal_write.c    makes records durable; what to do when the disk refuses
 *   journal_deliver.c  hands durable records on; the backlog and its reader
 *   journal_upkeep.c   spare segment, checkpoint, retention, gauges
 *
 * Thread: fields say which; "mutex" means under it. Private to the journal.
 */
#pragma once

#include <pthread.h>

#include "journal.h"
#include "journal_age.h"
#include "journal_checkpoint.h"
#include "journal_reader.h"
#include "journal_segment.h"

enum {
    STORE_JOURNAL_RETRY_MS = 500, /* "reopens within a second of space returning" */
    STORE_JOURNAL_CHECKPOINT_MS = 1000,
};

struct store_journal {
    struct store_journal_options options;
    struct store_disk *disk;
    struct store_journal_stats stats;
    pthread_mutex_t mutex;
    pthread_cond_t wake;    /* for the journal's thread */
    pthread_cond_t visible; /* for the reader of the backlog */
    pthread_t thread;
    _Atomic int admission; /* 0 or the error */
    _Atomic bool has_backlog;

    /* mutex: the queue */
    struct store_record *first, **tail;
    size_t pending_bytes, waiting; /* queued, or taken by the thread and not handed on */
    uint64_t next_sequence;
    bool started, closed, stopping, stopped;
    int64_t stop_by_ms;

    /* mutex: segments and how far everybody is */
    struct store_segment *segments, **segments_tail;
    uint64_t committed, checkpointed;
    uint64_t
        checkpoint_max; /* what lies behind it could not be read: the next start is to try again */
    uint64_t newest;    /* the highest number that was handed on */
    struct store_age age;      /* when what is uncommitted was made */
    uint64_t uncommitted_base; /* numbers up to here are an earlier run's */
    uint64_t recovered_last;   /* the newest of them that was not in Postgres */
    uint64_t recovered;        /* uncommitted records of the earlier runs */

    /* mutex: the backlog */
    bool backlog;
    uint64_t backlog_last;    /* the newest record of it */
    uint64_t backlog_visible; /* up to here it may be read: not spilled a moment later */
    uint64_t backlog_read;    /* up to here it was read */
    uint64_t backlog_count;

    /* the writer's thread (before start: the main one) */
    struct store_reader reader;

    /* the journal's thread (before start and after stop: the main one) */
    struct store_segment *active, *spare;
    uint64_t next_number;
    struct store_record *pending, **pending_tail; /* taken from the queue, not handed on */
    uint8_t *out;                                 /* encoded, not written */
    size_t out_len, out_capacity;
    int64_t spare_retry_ms, failed_retry_ms, checkpoint_ms;
};

int64_t store_journal_now_ms(void); /* monotonic */

/* ---- journal_write.c ---- */

/** Makes all of `pending` durable, on a fresh segment if need be. 0 or a negative errno. */
SL_MUST_CHECK int store_journal_persist(struct store_journal *journal);

/** Makes a segment; gives up committed ones, oldest first, while the disk is full. 0 or a negative errno. */
SL_MUST_CHECK int store_journal_make_segment(struct store_journal *journal, uint64_t size,
                                             struct store_segment **ret_segment);

/** Takes a segment that no longer matters out of the list and off the disk. */
void store_journal_remove_segment(struct store_journal *journal, struct store_segment *segment);

/* ---- journal_deliver.c ---- */

/** All of `pending` is durable: acknowledges it and hands it on. */
void store_journal_deliver(struct store_journal *journal);

/** Nothing is durable: offers `pending` to the sink, as far as it takes it. */
void store_journal_offer(struct store_journal *journal);

/* ---- journal_upkeep.c ---- */

void store_journal_set_state(struct store_journal *journal, enum store_journal_state state);

/** Spare, checkpoint, retention: whatever is due. */
void store_journal_upkeep(struct store_journal *journal);

/** When the next of these is due, in ms; INT64_MAX: never. With the mutex. */
int64_t store_journal_next_due_ms(const struct store_journal *journal);

void store_journal_write_checkpoint(struct store_journal *journal);

/** How far everything is in Postgres for certain. With the mutex. */
uint64_t store_journal_settled(const struct store_journal *journal);

/** With the mutex. */
void store_journal_publish_gauges(struct store_journal *journal);
