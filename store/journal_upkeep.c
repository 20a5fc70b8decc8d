/*
 * What the journal does beside writing: spare segment, checkpoint, retention, gauges.
 *
 * Happy path: after a switch a new spare is made; about once a second, while the writer advances, a
 * checkpoint is written; then committed segments that are too old or too many are deleted.
 *
 * Failure modes: no spare means that new turns are refused while running ones use what is left; it is
 * tried again every half second. A checkpoint that fails is tried again a second later.
 * Thread: the journal's. Ownership: see journal_state.h.
 */
#include <errno.h>
#include <time.h>

#include "journal_state.h"

static void keep_spare(struct store_journal *journal, int64_t now_ms);
static void apply_retention(struct store_journal *journal);
static struct store_segment *find_expendable(struct store_journal *journal, int64_t now_s);
static bool is_expendable(const struct store_journal *journal, const struct store_segment *segment);

void store_journal_set_state(struct store_journal *journal, enum store_journal_state state)
{
    atomic_store_explicit(&journal->stats.state, (uint64_t)state, memory_order_relaxed);
    atomic_store_explicit(&journal->admission,
                          state == STORE_JOURNAL_OPEN ? 0 : SL_E_STORAGE_UNAVAILABLE,
                          memory_order_relaxed);
}

void store_journal_upkeep(struct store_journal *journal)
{
    int64_t now_ms = store_journal_now_ms();

    (void)pthread_mutex_lock(&journal->mutex);
    bool due =
        store_journal_settled(journal) > journal->checkpointed && now_ms >= journal->checkpoint_ms;
    (void)pthread_mutex_unlock(&journal->mutex);
    if (due) {
        store_journal_write_checkpoint(journal);
    }
    apply_retention(journal);
    if (sl_counter_get(&journal->stats.state) != STORE_JOURNAL_FAILED) {
        keep_spare(journal, now_ms);
    }
    (void)pthread_mutex_lock(&journal->mutex);
    store_journal_publish_gauges(journal);
    (void)pthread_mutex_unlock(&journal->mutex);
}

static void keep_spare(struct store_journal *journal, int64_t now_ms)
{
    if (journal->spare == NULL && now_ms >= journal->spare_retry_ms) {
        int err =
            store_journal_make_segment(journal, journal->options.segment_bytes, &journal->spare);
        if (err != 0) {
            sl_counter_add(&journal->stats.write_errors, err == -ENOSPC ? 0 : 1);
            journal->spare_retry_ms = now_ms + STORE_JOURNAL_RETRY_MS;
        }
    }
    store_journal_set_state(journal, journal->spare != NULL ? STORE_JOURNAL_OPEN
                                                            : STORE_JOURNAL_NEARLY_FULL);
}

int64_t store_journal_next_due_ms(const struct store_journal *journal)
{
    int64_t due_ms = INT64_MAX;

    if (sl_counter_get(&journal->stats.state) == STORE_JOURNAL_FAILED) {
        due_ms = journal->failed_retry_ms;
    } else if (journal->spare == NULL) {
        due_ms = journal->spare_retry_ms;
    }
    if (store_journal_settled(journal) > journal->checkpointed && journal->checkpoint_ms < due_ms) {
        due_ms = journal->checkpoint_ms;
    }
    for (const struct store_segment *at = journal->segments; at != NULL; at = at->next) {
        if (is_expendable(journal, at)) {
            struct timespec now;
            (void)clock_gettime(CLOCK_REALTIME, &now);
            int64_t left_s =
                at->newest_us / 1000000 + (int64_t)journal->options.retain_s - now.tv_sec + 1;
            int64_t expires_ms =
                store_journal_now_ms() + (left_s > 1 ? (left_s < 3600 ? left_s : 3600) : 1) * 1000;
            due_ms = expires_ms < due_ms ? expires_ms : due_ms;
            break;
        }
    }
    return due_ms;
}

/* ---- checkpoint ---- */

uint64_t store_journal_settled(const struct store_journal *journal)
{
    return journal->committed < journal->checkpoint_max ? journal->committed
                                                        : journal->checkpoint_max;
}

void store_journal_write_checkpoint(struct store_journal *journal)
{
    struct store_checkpoint checkpoint;

    (void)pthread_mutex_lock(&journal->mutex);
    checkpoint.committed = store_journal_settled(journal);
    checkpoint.next_sequence = journal->next_sequence;
    checkpoint.first_segment = journal->next_number;
    for (const struct store_segment *at = journal->segments; at != NULL; at = at->next) {
        bool needed = at == journal->active || at == journal->spare || at->unreadable ||
                      (at->last_sequence > checkpoint.committed && !at->settled);
        if (needed && at->number < checkpoint.first_segment) {
            checkpoint.first_segment = at->number;
        }
    }
    (void)pthread_mutex_unlock(&journal->mutex);
    int err = store_checkpoint_write(journal->disk, &checkpoint);
    journal->checkpoint_ms = store_journal_now_ms() + STORE_JOURNAL_CHECKPOINT_MS;
    if (err != 0) {
        sl_counter_add(&journal->stats.write_errors, 1);
        return;
    }
    (void)pthread_mutex_lock(&journal->mutex);
    journal->checkpointed = checkpoint.committed;
    (void)pthread_mutex_unlock(&journal->mutex);
}

/* ---- retention ---- */

static void apply_retention(struct store_journal *journal)
{
    struct timespec now;
    struct store_segment *segment;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    for (;;) {
        (void)pthread_mutex_lock(&journal->mutex);
        segment = find_expendable(journal, now.tv_sec);
        (void)pthread_mutex_unlock(&journal->mutex);
        if (segment == NULL) {
            return;
        }
        store_journal_remove_segment(journal, segment);
    }
}

/* the oldest one, if it is too old or there is too much of them */
static struct store_segment *find_expendable(struct store_journal *journal, int64_t now_s)
{
    struct store_segment *oldest = NULL;
    uint64_t bytes = 0;

    for (struct store_segment *at = journal->segments; at != NULL; at = at->next) {
        if (is_expendable(journal, at)) {
            bytes += at->size;
            oldest = oldest == NULL ? at : oldest;
        }
    }
    if (oldest != NULL &&
        (bytes > journal->options.retain_bytes ||
         oldest->newest_us / 1000000 + (int64_t)journal->options.retain_s < now_s)) {
        return oldest;
    }
    return NULL;
}

static bool is_expendable(const struct store_journal *journal, const struct store_segment *segment)
{
    return segment != journal->active && segment != journal->spare && segment->readers == 0 &&
           !segment->unreadable && segment->last_sequence <= journal->checkpointed;
}

/* ---- gauges ---- */

static void set(sl_counter *gauge, uint64_t value)
{
    atomic_store_explicit(gauge, value, memory_order_relaxed);
}

void store_journal_publish_gauges(struct store_journal *journal)
{
    struct store_journal_stats *stats = &journal->stats;
    uint64_t count = 0, bytes = 0, uncommitted = 0;

    for (const struct store_segment *at = journal->segments; at != NULL; at = at->next) {
        count++;
        bytes += at->size;
    }
    if (journal->committed < journal->uncommitted_base) {
        uint64_t left = journal->uncommitted_base - journal->committed;
        uncommitted = left < journal->recovered ? left : journal->recovered;
    }
    uint64_t from = journal->committed > journal->uncommitted_base ? journal->committed
                                                                   : journal->uncommitted_base;
    uncommitted += journal->newest > from ? journal->newest - from : 0;
    set(&stats->segments, count);
    set(&stats->disk_bytes, bytes);
    set(&stats->waiting_records, journal->waiting);
    set(&stats->backlog_records, journal->backlog_count);
    set(&stats->uncommitted_records, uncommitted);
    set(&stats->oldest_uncommitted_unix_us,
        (uint64_t)store_age_oldest(&journal->age, journal->committed, journal->newest));
}
