/**
 * The journal: every record on disk before anybody is told that it is safe.
 *
 * Append-only segments in one folder. Records are queued from any thread; the journal thread writes all
 * that is waiting, makes it durable with one fdatasync (group commit), tells each record's origin
 * (store_record_durable) and hands the record to the sink, in order. Sequence numbers only grow (they
 * jump after a start that found damage, so that none is used twice); the writer commits in their order,
 * so one number, the last committed one, says what is in Postgres.
 *
 * Segments whose records are all in Postgres are kept for `retain_s` and `retain_bytes`; when the disk is
 * full they give way earlier.
 *
 * When the sink is full (Postgres is away), records stay on disk only: the journal then *has a backlog*,
 * and the writer reads it back from the segments until it has caught up.
 *
 * Thread: as each function says. Ownership: an append that returns 0 takes the record.
 */
#pragma once

#include "disk.h"
#include "record.h"
#include "sluice/histogram.h"

struct store_journal;

enum store_journal_state {
    STORE_JOURNAL_OPEN,        /* all well */
    STORE_JOURNAL_NEARLY_FULL, /* running turns may append, new ones are refused: free segments < 2 */
    STORE_JOURNAL_FAILED, /* the disk refuses: nothing becomes durable here; appended records go straight
                             to the sink, where their commit is what makes them durable */
};

struct store_journal_stats {
    sl_counter appends, bytes, syncs, segments_created, segments_deleted;
    sl_counter write_errors, quarantined_records, quarantined_bytes, torn_tails, replayed_records;
    sl_counter waiting_records;            /* gauge: queued, not durable yet */
    sl_counter backlog_records;            /* gauge: durable, on disk only, not read back yet */
    sl_counter uncommitted_records;        /* gauge: durable, not in Postgres */
    sl_counter disk_bytes, segments;       /* gauges */
    sl_counter oldest_uncommitted_unix_us; /* gauge; 0: none */
    sl_counter state;                      /* enum store_journal_state */
    struct sl_histogram sync_us, ack_us;   /* ack: from append to durable */
};

struct store_journal_options {
    struct store_disk *disk; /* the journal's from now on, also when open fails */
    uint64_t segment_bytes;  /* 16 MiB */
    uint64_t retain_bytes;   /* of committed segments; 1 GiB */
    unsigned retain_s;       /* 24 h */
    size_t pending_bytes;    /* queued and not durable yet: more is refused */
    /**
     * On the journal thread: offers a durable record (or, in state FAILED, one that is not). True: it is
     * the sink's. False: the sink is full and the record still the journal's.
     */
    bool (*sink)(void *context, struct store_record *record);
    /** On the journal thread: this record stays on disk only; its memory is the callee's to give back. */
    void (*spill)(void *context, struct store_record *record);
    /** On the journal thread: there is something to read back, or to commit. */
    void (*wake)(void *context);
    void *context;
};

/**
 * Opens the folder: takes the lock, finds the segments, cuts a torn tail, notes damage (counted and
 * quarantined, never a refusal), and finds where the uncommitted records begin. Main thread.
 * 0, SL_E_CONFLICT (another process has the lock), SL_E_STORAGE_UNAVAILABLE (the folder cannot be used
 * at all: not a folder, no permission) or SL_E_NO_MEMORY.
 */
SL_MUST_CHECK int store_journal_open(const struct store_journal_options *options,
                                     struct store_journal **ret_journal);

/**
 * Main thread, between open and start: hands every uncommitted record, in order and without an origin,
 * to `take`, until it returns false; the rest stays a backlog. `take` owns what it accepts.
 */
void store_journal_recover(struct store_journal *journal,
                           bool (*take)(void *context, struct store_record *record), void *context);

/** Starts the thread. 0 or SL_E_NO_MEMORY. */
SL_MUST_CHECK int store_journal_start(struct store_journal *journal);

/** Any thread. 0, SL_E_OVERLOADED (too much is waiting) or SL_E_SHUTTING_DOWN; then the record is still the caller's. */
SL_MUST_CHECK int store_journal_append(struct store_journal *journal, struct store_record *record);

/** Any thread, two loads: 0, or SL_E_STORAGE_UNAVAILABLE while new turns must be refused. */
SL_MUST_CHECK int store_journal_admission(const struct store_journal *journal);

/** Writer thread: true while records are on disk only. */
bool store_journal_has_backlog(const struct store_journal *journal);

/**
 * Writer thread: the next records of the backlog, in order, without origins; at most `max` and about
 * `max_bytes`, at least one. 0 and has_backlog false: caught up; from now on records come through the sink
 * again, and none was left out in between (0 and still a backlog: no memory just now). They are the
 * caller's.
 */
size_t store_journal_read_backlog(struct store_journal *journal, struct store_record **ret_records,
                                  size_t max, size_t max_bytes);

/** Writer thread: everything up to this sequence number is in Postgres, or in the dead letters. */
void store_journal_committed(struct store_journal *journal, uint64_t sequence);

/**
 * Makes what is waiting durable (at most `timeout_ms`), writes a last checkpoint, ends the thread.
 * Records that could not be made durable go to the sink or back with SL_E_SHUTTING_DOWN; returns how
 * many of those. Main thread. Idempotent.
 */
size_t store_journal_stop(struct store_journal *journal, unsigned timeout_ms);

/** Stops if need be, frees everything and the disk. NULL is accepted. */
void store_journal_destroy(struct store_journal *journal);

const struct store_journal_stats *store_journal_figures(const struct store_journal *journal);

/**
 * For `sluice replay`: reads every record of every segment whose time is at or after `since_unix_us`, in
 * order, without taking the lock, and hands it to `each`, who owns it; it returns false to stop.
 * 0 or SL_E_STORAGE_UNAVAILABLE. The disk stays the caller's.
 */
SL_MUST_CHECK int store_journal_scan(struct store_disk *disk, int64_t since_unix_us,
                                     bool (*each)(void *context, struct store_record *record),
                                     void *context);
