/*
 * Hands durable records on, and the backlog of those that are on disk only.
 *
 * Happy path: acknowledge, then offer to the sink, in order. The first record that the sink refuses
 * begins a backlog; from then on every record is spilled, until the reader has caught up.
 *
 * The switch back: only the journal's thread begins a backlog, only the reader ends one, both under
 * the mutex. A record joins (backlog_last) under the mutex before it is spilled, and may be read
 * (backlog_visible) once it has been: so a reader that finds nothing more knows that the next record
 * has not joined, and will find the backlog ended and go to the sink.
 *
 * Failure modes: a hole (a record that cannot be read any more) is counted and stepped over.
 * Thread: as each function says. Ownership: see journal.h.
 */
#include <stdlib.h>
#include <time.h>

#include "journal_state.h"

static void acknowledge(struct store_journal *journal);
static bool join_backlog(struct store_journal *journal, uint64_t sequence);
static void begin_backlog(struct store_journal *journal, uint64_t sequence);
static void spill(struct store_journal *journal, struct store_record *record);
static void hand_on(struct store_journal *journal, uint64_t sequence, size_t bytes,
                    int64_t recorded_at_us);
static bool await_backlog(struct store_journal *journal, uint64_t *ret_until);
static void note_unreadable(struct store_journal *journal);
static size_t read_until(struct store_journal *journal, uint64_t until,
                         struct store_record **ret_records, size_t max, size_t max_bytes,
                         bool *ret_end);

/* ---- the journal's thread ---- */

void store_journal_deliver(struct store_journal *journal)
{
    bool any = journal->pending != NULL;

    acknowledge(journal);
    while (journal->pending != NULL) {
        struct store_record *record = journal->pending;
        uint64_t sequence = record->sequence;
        size_t bytes = record->bytes;
        int64_t recorded_at_us = record->recorded_at_us;
        journal->pending = record->queue_next;
        record->queue_next = NULL;
        if (join_backlog(journal, sequence)) {
            spill(journal, record);
        } else if (!journal->options.sink(journal->options.context, record)) {
            begin_backlog(journal, sequence);
            spill(journal, record);
        }
        hand_on(journal, sequence, bytes, recorded_at_us);
    }
    journal->pending_tail = &journal->pending;
    if (any) {
        journal->options.wake(journal->options.context);
    }
}

static void acknowledge(struct store_journal *journal)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    int64_t now_us = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
    for (struct store_record *record = journal->pending; record != NULL;
         record = record->queue_next) {
        int64_t took_us = now_us - record->recorded_at_us;
        sl_histogram_record(&journal->stats.ack_us, took_us > 0 ? (uint64_t)took_us : 0);
        sl_counter_add(&journal->stats.appends, 1);
        store_record_durable(record);
    }
}

static bool join_backlog(struct store_journal *journal, uint64_t sequence)
{
    (void)pthread_mutex_lock(&journal->mutex);
    bool joined = journal->backlog;
    if (joined) {
        journal->backlog_last = sequence;
        journal->backlog_count++;
    }
    (void)pthread_mutex_unlock(&journal->mutex);
    return joined;
}

static void begin_backlog(struct store_journal *journal, uint64_t sequence)
{
    (void)pthread_mutex_lock(&journal->mutex);
    journal->backlog = true;
    journal->backlog_last = sequence;
    journal->backlog_visible = journal->backlog_read = sequence - 1;
    journal->backlog_count = 1;
    atomic_store(&journal->has_backlog, true);
    (void)pthread_mutex_unlock(&journal->mutex);
}

static void spill(struct store_journal *journal, struct store_record *record)
{
    uint64_t sequence = record->sequence;

    journal->options.spill(journal->options.context, record);
    (void)pthread_mutex_lock(&journal->mutex);
    journal->backlog_visible = sequence;
    (void)pthread_cond_broadcast(&journal->visible);
    (void)pthread_mutex_unlock(&journal->mutex);
}

static void hand_on(struct store_journal *journal, uint64_t sequence, size_t bytes,
                    int64_t recorded_at_us)
{
    (void)pthread_mutex_lock(&journal->mutex);
    journal->waiting--;
    journal->pending_bytes -= bytes;
    if (sequence > journal->newest) {
        journal->newest = sequence;
    }
    store_age_add(&journal->age, sequence, recorded_at_us);
    (void)pthread_mutex_unlock(&journal->mutex);
}

void store_journal_offer(struct store_journal *journal)
{
    bool any = false;

    while (journal->pending != NULL) {
        struct store_record *record = journal->pending;
        struct store_record *next = record->queue_next;
        uint64_t sequence = record->sequence;
        size_t bytes = record->bytes;
        int64_t recorded_at_us = record->recorded_at_us;
        /* what is on disk only is older and goes first */
        if (atomic_load(&journal->has_backlog)) {
            break;
        }
        record->queue_next = NULL;
        if (!journal->options.sink(journal->options.context, record)) {
            record->queue_next = next;
            break;
        }
        any = true;
        journal->pending = next;
        hand_on(journal, sequence, bytes, recorded_at_us);
    }
    if (journal->pending == NULL) {
        journal->pending_tail = &journal->pending;
    }
    if (any) {
        journal->options.wake(journal->options.context);
    }
}

/* ---- the main thread, before start ---- */

void store_journal_recover(struct store_journal *journal,
                           bool (*take)(void *context, struct store_record *record), void *context)
{
    struct store_reader *reader = &journal->reader;
    struct store_format_view view;
    bool goes_on = journal->backlog && store_reader_attach(reader, journal->segments, false) == 0;
    int got = 1;

    while (goes_on && (got = store_reader_peek(reader, &view)) > 0) {
        struct store_record *record = NULL;
        int err = store_format_rebuild(&view, &record);
        if (err == SL_E_NO_MEMORY) {
            return; /* the rest stays a backlog */
        }
        if (err != 0) {
            sl_counter_add(&journal->stats.quarantined_records, 1);
        } else if (!take(context, record)) {
            store_record_destroy(record);
            return;
        } else {
            sl_counter_add(&journal->stats.replayed_records, 1);
        }
        store_reader_take(reader);
        note_unreadable(journal);
        journal->backlog_read = reader->after;
        journal->backlog_count -= journal->backlog_count > 0 ? 1 : 0;
    }
    note_unreadable(journal);
    if (goes_on && got == 0) {
        store_reader_detach(reader);
        journal->backlog = false;
        journal->backlog_count = 0;
        atomic_store(&journal->has_backlog, false);
    }
}

/* ---- the writer's thread ---- */

bool store_journal_has_backlog(const struct store_journal *journal)
{
    return atomic_load(&journal->has_backlog);
}

size_t store_journal_read_backlog(struct store_journal *journal, struct store_record **ret_records,
                                  size_t max, size_t max_bytes)
{
    uint64_t until = 0;
    size_t count = 0;
    bool end = true;

    while (count == 0 && end && max > 0 && await_backlog(journal, &until)) {
        count = read_until(journal, until, ret_records, max, max_bytes, &end);
        (void)pthread_mutex_lock(&journal->mutex);
        note_unreadable(journal);
        /* at the end without having met the last number: that record is gone, and was counted */
        journal->backlog_read = end ? until : journal->reader.after;
        journal->backlog_count -= count < journal->backlog_count ? count : journal->backlog_count;
        sl_counter_add(&journal->stats.replayed_records, count);
        journal->stats.quarantined_records += journal->reader.damages;
        journal->reader.damages = 0;
        store_journal_publish_gauges(journal);
        (void)pthread_mutex_unlock(&journal->mutex);
    }
    return count;
}

/* false: there is no backlog any more. Waits out the moment between joining and being spilled. */
static bool await_backlog(struct store_journal *journal, uint64_t *ret_until)
{
    struct store_reader *reader = &journal->reader;
    bool there;

    (void)pthread_mutex_lock(&journal->mutex);
    while (journal->backlog && journal->backlog_read >= journal->backlog_visible &&
           journal->backlog_visible < journal->backlog_last) {
        (void)pthread_cond_wait(&journal->visible, &journal->mutex);
    }
    if (journal->backlog && journal->backlog_read >= journal->backlog_last) {
        journal->backlog = false;
        journal->backlog_count = 0;
        atomic_store(&journal->has_backlog, false);
        store_reader_detach(reader);
        store_journal_publish_gauges(journal);
        (void)pthread_cond_signal(&journal->wake); /* what is not durable may be offered now */
    }
    there = journal->backlog;
    if (there) {
        if (reader->after < journal->backlog_read) {
            reader->after = journal->backlog_read;
            reader->has_last = false; /* the record with that number went another way */
        }
        *ret_until = journal->backlog_visible;
        there = store_reader_attach(reader, journal->segments, false) == 0;
    }
    (void)pthread_mutex_unlock(&journal->mutex);
    return there;
}

/* with the mutex, before backlog_read moves on: no checkpoint may pass what was stepped over */
static void note_unreadable(struct store_journal *journal)
{
    if (journal->reader.unreadable && journal->checkpoint_max == UINT64_MAX) {
        journal->checkpoint_max =
            journal->backlog_read < journal->committed ? journal->backlog_read : journal->committed;
    }
}

/* `*ret_end`: there is nothing more up to `until` */
static size_t read_until(struct store_journal *journal, uint64_t until,
                         struct store_record **ret_records, size_t max, size_t max_bytes,
                         bool *ret_end)
{
    struct store_reader *reader = &journal->reader;
    struct store_format_view view;
    size_t count = 0, bytes = 0;

    *ret_end = false;
    while (count < max) {
        struct store_record *record = NULL;
        int got = reader->after < until ? store_reader_peek(reader, &view) : 0;
        if (got < 0 || (got > 0 && view.sequence <= until && count > 0 &&
                        bytes + view.payload_len > max_bytes)) {
            break;
        }
        if (got == 0 || view.sequence > until) {
            *ret_end = true;
            break;
        }
        int err = store_format_rebuild(&view, &record);
        if (err == SL_E_NO_MEMORY) {
            break;
        }
        store_reader_take(reader);
        if (err != 0) {
            reader->damages++;
            continue;
        }
        bytes += record->bytes;
        ret_records[count++] = record;
    }
    return count;
}
