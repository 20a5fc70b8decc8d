/*
 * The journal: every record on disk before anybody is told that it is safe.
 *
 * Happy path: append puts a record into the queue and wakes the thread; the thread takes all that is
 * there, writes and syncs it (journal_write.c), acknowledges and hands it on (journal_deliver.c), and
 * looks after its segments (journal_upkeep.c). While one group is being synced the next one gathers:
 * that is the whole of group commit.
 *
 *   OPEN ──no spare segment──▶ NEARLY_FULL ──nothing can be written──▶ FAILED
 *    ▲ ◀──── a spare was made ────┘                                      │
 *    └────────────── a fresh segment took what was waiting ──────────────┘
 *
 * Failure modes: see journal_write.c. In FAILED nothing is acknowledged; records go to the sink, or
 * wait in memory while it is full or a backlog is in front of them, at most `pending_bytes`.
 * Thread: as journal.h says; one mutex, never held over I/O or a callback. Ownership: see journal.h.
 */
#include "journal.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "journal_recovery.h"
#include "journal_state.h"

enum { GROUP_BYTES = 4 << 20 };

static int adopt(struct store_journal *journal, const struct store_recovery *recovery);
static void *run(void *context);
static void await_work(struct store_journal *journal);
static void take_queue(struct store_journal *journal);
static void work(struct store_journal *journal);
static size_t give_back(struct store_journal *journal);

int64_t store_journal_now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- open ---- */

int store_journal_open(const struct store_journal_options *options,
                       struct store_journal **ret_journal)
{
    struct store_journal *journal = calloc(1, sizeof(*journal));
    struct store_recovery recovery;
    pthread_condattr_t monotonic;

    if (journal == NULL) {
        options->disk->ops->destroy(options->disk);
        return SL_E_NO_MEMORY;
    }
    int err = options->disk->ops->lock(options->disk);
    if (err == 0) {
        err = store_recovery_run(options->disk, &journal->stats, &recovery);
    } else {
        err = err == -EWOULDBLOCK ? SL_E_CONFLICT : SL_E_STORAGE_UNAVAILABLE;
    }
    if (err != 0) {
        options->disk->ops->destroy(options->disk);
        free(journal);
        return err;
    }
    journal->options = *options;
    journal->disk = options->disk;
    (void)pthread_mutex_init(&journal->mutex, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&journal->wake, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)pthread_cond_init(&journal->visible, NULL);
    journal->tail = &journal->first;
    journal->pending_tail = &journal->pending;
    err = adopt(journal, &recovery);
    *ret_journal = journal;
    return err;
}

/* what the scan has found becomes the state; a disk that refuses now is no reason not to start */
static int adopt(struct store_journal *journal, const struct store_recovery *recovery)
{
    uint64_t newest = recovery->highest_sequence;

    journal->segments = recovery->segments;
    journal->segments_tail = &journal->segments;
    while (*journal->segments_tail != NULL) {
        journal->segments_tail = &(*journal->segments_tail)->next;
    }
    journal->next_number = recovery->highest_number + 1;
    journal->committed = journal->checkpointed = recovery->checkpoint.committed;
    journal->checkpoint_max = UINT64_MAX;
    journal->newest = journal->uncommitted_base = newest;
    journal->recovered = journal->backlog_count = recovery->uncommitted;
    journal->recovered_last = recovery->newest_uncommitted;
    /* a number that an unreadable place may hold must not be given to another record */
    journal->next_sequence = newest + 1 + (recovery->unclean ? UINT64_C(1) << 32 : 0);
    if (journal->next_sequence > newest + 1) {
        journal->newest = journal->uncommitted_base = journal->next_sequence - 1;
    }
    store_reader_init(&journal->reader, journal->disk, journal->committed);
    if (recovery->uncommitted > 0) {
        journal->backlog = true;
        journal->backlog_last = journal->backlog_visible = recovery->newest_uncommitted;
        journal->backlog_read = journal->committed;
        atomic_store(&journal->has_backlog, true);
        store_age_add(&journal->age, journal->committed + 1, recovery->oldest_uncommitted_us);
    }
    if (recovery->last != NULL && store_segment_reopen(journal->disk, recovery->last) == 0) {
        journal->active = recovery->last;
    }
    if (store_journal_persist(journal) !=
        0) { /* nothing yet: only makes a segment if there is none */
        store_journal_set_state(journal, STORE_JOURNAL_FAILED);
        journal->failed_retry_ms = store_journal_now_ms() + STORE_JOURNAL_RETRY_MS;
    }
    store_journal_upkeep(journal);
    return 0;
}

int store_journal_start(struct store_journal *journal)
{
    journal->started = pthread_create(&journal->thread, NULL, run, journal) == 0;
    return journal->started ? 0 : SL_E_NO_MEMORY;
}

/* ---- any thread ---- */

int store_journal_append(struct store_journal *journal, struct store_record *record)
{
    int err = 0;

    (void)pthread_mutex_lock(&journal->mutex);
    if (journal->closed) {
        err = SL_E_SHUTTING_DOWN;
    } else if (record->bytes > journal->options.pending_bytes - journal->pending_bytes ||
               store_format_record_size(record) == 0) {
        err = SL_E_OVERLOADED;
    } else {
        bool was_empty = journal->first == NULL;
        record->sequence = journal->next_sequence++;
        record->queue_next = NULL;
        *journal->tail = record;
        journal->tail = &record->queue_next;
        journal->pending_bytes += record->bytes;
        journal->waiting++;
        atomic_store_explicit(&journal->stats.waiting_records, journal->waiting,
                              memory_order_relaxed);
        if (was_empty) {
            (void)pthread_cond_signal(&journal->wake);
        }
    }
    (void)pthread_mutex_unlock(&journal->mutex);
    return err;
}

int store_journal_admission(const struct store_journal *journal)
{
    return atomic_load_explicit(&journal->admission, memory_order_relaxed);
}

const struct store_journal_stats *store_journal_figures(const struct store_journal *journal)
{
    return &journal->stats;
}

void store_journal_committed(struct store_journal *journal, uint64_t sequence)
{
    (void)pthread_mutex_lock(&journal->mutex);
    if (sequence >= journal->recovered_last && sequence < journal->uncommitted_base) {
        sequence =
            journal->uncommitted_base; /* behind damage there is a gap that no record will fill */
    }
    if (sequence > journal->committed) {
        bool first = journal->committed == journal->checkpointed;
        journal->committed = sequence;
        store_journal_publish_gauges(journal);
        /* a checkpoint is to be planned, or the sink may have room for what is not durable */
        if (first || sl_counter_get(&journal->stats.state) == STORE_JOURNAL_FAILED) {
            (void)pthread_cond_signal(&journal->wake);
        }
    }
    (void)pthread_mutex_unlock(&journal->mutex);
}

/* ---- the thread ---- */

static void *run(void *context)
{
    struct store_journal *journal = context;
    bool goes_on = true;

    while (goes_on) {
        (void)pthread_mutex_lock(&journal->mutex);
        await_work(journal);
        take_queue(journal);
        (void)pthread_mutex_unlock(&journal->mutex);
        work(journal);
        (void)pthread_mutex_lock(&journal->mutex);
        bool idle = journal->first == NULL && journal->pending == NULL;
        goes_on = !journal->stopping || (!idle && store_journal_now_ms() < journal->stop_by_ms);
        (void)pthread_mutex_unlock(&journal->mutex);
    }
    return NULL;
}

/* until there is a record, a stop, or something that is due */
static void await_work(struct store_journal *journal)
{
    int64_t due_ms = store_journal_next_due_ms(journal);
    int waited = 0;

    if (journal->stopping) {
        if (journal->pending == NULL) {
            return;
        }
        due_ms = journal->stop_by_ms < due_ms ? journal->stop_by_ms : due_ms;
    }
    if (journal->first != NULL || store_journal_now_ms() >= due_ms) {
        return;
    }
    if (due_ms == INT64_MAX) {
        (void)pthread_cond_wait(&journal->wake, &journal->mutex);
    } else {
        struct timespec until = {.tv_sec = (time_t)(due_ms / 1000),
                                 .tv_nsec = (long)(due_ms % 1000) * 1000000};
        waited = pthread_cond_timedwait(&journal->wake, &journal->mutex, &until);
    }
    (void)waited; /* early or late: the thread looks at everything anyway */
}

static void take_queue(struct store_journal *journal)
{
    size_t bytes = 0;

    while (journal->first != NULL && bytes < GROUP_BYTES) {
        struct store_record *record = journal->first;
        journal->first = record->queue_next;
        bytes += record->bytes;
        record->queue_next = NULL;
        *journal->pending_tail = record;
        journal->pending_tail = &record->queue_next;
    }
    if (journal->first == NULL) {
        journal->tail = &journal->first;
    }
}

static void work(struct store_journal *journal)
{
    bool failed = sl_counter_get(&journal->stats.state) == STORE_JOURNAL_FAILED;
    int64_t now_ms = store_journal_now_ms();

    if (failed && now_ms < journal->failed_retry_ms) {
        store_journal_offer(journal);
    } else if (failed || journal->pending != NULL) {
        int err = store_journal_persist(journal);
        if (err == 0) {
            if (failed) {
                store_journal_set_state(journal,
                                        STORE_JOURNAL_NEARLY_FULL); /* until there is a spare */
                journal->spare_retry_ms = 0;
            }
            store_journal_deliver(journal);
        } else {
            store_journal_set_state(journal, STORE_JOURNAL_FAILED);
            journal->failed_retry_ms =
                now_ms + (err == -ENOSPC ? STORE_JOURNAL_RETRY_MS : 2 * STORE_JOURNAL_RETRY_MS);
            store_journal_offer(journal);
        }
    }
    store_journal_upkeep(journal);
}

/* ---- end ---- */

size_t store_journal_stop(struct store_journal *journal, unsigned timeout_ms)
{
    (void)pthread_mutex_lock(&journal->mutex);
    bool first = !journal->stopping;
    journal->closed = journal->stopping = true;
    journal->stop_by_ms = store_journal_now_ms() + (int64_t)timeout_ms;
    (void)pthread_cond_signal(&journal->wake);
    (void)pthread_mutex_unlock(&journal->mutex);
    if (!first) {
        return 0;
    }
    if (journal->started) {
        (void)pthread_join(journal->thread, NULL);
    }
    size_t returned = give_back(journal);
    if (store_journal_settled(journal) > journal->checkpointed) {
        store_journal_write_checkpoint(journal);
    }
    journal->stopped = true;
    return returned;
}

/* what could not be made durable: the sink's, or its origin's */
static size_t give_back(struct store_journal *journal)
{
    size_t returned = 0;

    while (journal->first != NULL) {
        take_queue(journal);
    }
    store_journal_offer(journal);
    while (journal->pending != NULL) {
        struct store_record *record = journal->pending;
        journal->pending = record->queue_next;
        journal->waiting--;
        journal->pending_bytes -= record->bytes;
        store_record_committed(record, SL_E_SHUTTING_DOWN);
        returned++;
    }
    journal->pending_tail = &journal->pending;
    return returned;
}

void store_journal_destroy(struct store_journal *journal)
{
    if (journal == NULL) {
        return;
    }
    (void)store_journal_stop(journal, 0);
    if (store_journal_settled(journal) >
        journal->checkpointed) { /* the writer ended after the thread did */
        store_journal_write_checkpoint(journal);
    }
    store_reader_detach(&journal->reader);
    for (struct store_segment *at = journal->segments; at != NULL; at = at->next) {
        store_segment_close(journal->disk, at);
    }
    store_recovery_free_segments(journal->segments);
    journal->disk->ops->destroy(journal->disk);
    (void)pthread_cond_destroy(&journal->visible);
    (void)pthread_cond_destroy(&journal->wake);
    (void)pthread_mutex_destroy(&journal->mutex);
    free(journal->out);
    free(journal);
}

/* ---- replay ---- */

int store_journal_scan(struct store_disk *disk, int64_t since_unix_us,
                       bool (*each)(void *context, struct store_record *record), void *context)
{
    struct store_segment *segments = NULL;
    struct store_reader reader;
    struct store_format_view view;
    bool goes_on = true;
    int err = store_recovery_look(disk, since_unix_us / 1000000 - 1, &segments);

    if (err != 0) {
        return SL_E_STORAGE_UNAVAILABLE;
    }
    store_reader_init(&reader, disk, 0);
    err = store_reader_attach(&reader, segments, false);
    while (err == 0 && goes_on && (err = store_reader_peek(&reader, &view)) > 0) {
        struct store_record *record = NULL;
        err = view.recorded_at_us >= since_unix_us ? store_format_rebuild(&view, &record) : 0;
        store_reader_take(&reader);
        if (err == SL_E_INVALID_VALUE) {
            err = 0;
        }
        if (record != NULL) {
            goes_on = each(context, record);
        }
    }
    store_reader_detach(&reader);
    store_recovery_free_segments(segments);
    return err < 0 ? SL_E_STORAGE_UNAVAILABLE : 0;
}
