/*
 * Makes records durable, and what to do when the disk refuses.
 *
 * Happy path: records are encoded into a buffer, written to the active segment, and one sync covers
 * them all. A full segment is synced and closed; the spare takes its place.
 *
 * Failure modes: after the first error of a write or a sync the handle is dead for good (the kernel
 * has marked the pages clean, so the next sync would say yes to nothing). Everything that is not known
 * to be committed is written again, to a fresh segment: what had been acknowledged is read back from
 * the dead one, the rest is still in memory. Numbers stay the same, so a replay that finds both takes
 * one. If the fresh segment fails too, nothing is durable and the caller says so.
 * Thread: the journal's. Ownership: segments are the list's.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "journal_state.h"

enum { OUT_MAX = 1 << 20 };

static int write_everything(struct store_journal *journal);
static int rescue(struct store_journal *journal);
static int make_room(struct store_journal *journal, size_t size);
static int take_fresh(struct store_journal *journal, size_t size);
static int flush(struct store_journal *journal);
static int sync_active(struct store_journal *journal);
static void bury_active(struct store_journal *journal, int err);
static bool remove_oldest_committed(struct store_journal *journal);
static uint64_t now_us(void);

int store_journal_persist(struct store_journal *journal)
{
    int err = 0;

    for (int attempt = 0; attempt < 2; attempt++) { /* the second on a fresh segment */
        err = write_everything(journal);
        if (err == 0) {
            return 0;
        }
        sl_counter_add(&journal->stats.write_errors, 1);
        bury_active(journal, err);
    }
    return err;
}

static int write_everything(struct store_journal *journal)
{
    int err = 0;

    journal->out_len = 0;
    if (journal->active == NULL) {
        err = take_fresh(journal, 0);
    }
    if (err == 0) {
        err = rescue(journal);
    }
    for (struct store_record *record = journal->pending; err == 0 && record != NULL;
         record = record->queue_next) {
        size_t size = store_format_record_size(record);
        err = make_room(journal, size);
        if (err == 0) {
            store_format_encode_record(record, journal->active->salt,
                                       journal->out + journal->out_len);
            journal->out_len += size;
            store_segment_note(journal->active, record->sequence, record->recorded_at_us);
        }
    }
    if (err == 0) {
        err = flush(journal);
    }
    if (err == 0 && journal->active->written > journal->active->end) {
        err = sync_active(journal);
    }
    if (err == 0) {
        for (struct store_segment *at = journal->segments; at != NULL; at = at->next) {
            at->unrescued = false;
        }
    }
    return err;
}

/* what was acknowledged in a segment whose handle died, and is not committed, goes first: it is older */
static int rescue(struct store_journal *journal)
{
    struct store_reader reader;
    struct store_format_view view;
    int err, got;

    (void)pthread_mutex_lock(&journal->mutex);
    store_reader_init(&reader, journal->disk, journal->committed);
    err = store_reader_attach(&reader, journal->segments, true);
    (void)pthread_mutex_unlock(&journal->mutex);
    err = err != 0 ? -ENOMEM : 0;
    while (err == 0 && (got = store_reader_peek(&reader, &view)) != 0) {
        err = got < 0 ? -ENOMEM : make_room(journal, view.size);
        if (err == 0) {
            store_format_copy_record(&view, journal->active->salt, journal->out + journal->out_len);
            journal->out_len += view.size;
            store_segment_note(journal->active, view.sequence, view.recorded_at_us);
            store_reader_take(&reader);
        }
    }
    (void)pthread_mutex_lock(&journal->mutex);
    store_reader_detach(&reader);
    (void)pthread_mutex_unlock(&journal->mutex);
    return err;
}

/* room for `size` bytes in the active segment and in the buffer */
static int make_room(struct store_journal *journal, size_t size)
{
    int err = 0;

    if (journal->active->written + journal->out_len + size > journal->active->size) {
        err = flush(journal);
        if (err == 0 && journal->active->written > journal->active->end) {
            err = sync_active(journal);
        }
        if (err != 0) {
            return err;
        }
        store_segment_close(journal->disk, journal->active);
        journal->active = NULL;
        journal->checkpoint_ms = 0; /* one is due at each switch */
        err = take_fresh(journal, size);
    }
    if (err == 0 && journal->out_len > 0 && journal->out_len + size > OUT_MAX) {
        err = flush(journal);
    }
    if (err == 0 && journal->out_len + size > journal->out_capacity) {
        size_t capacity = journal->out_len + size > OUT_MAX ? journal->out_len + size : OUT_MAX;
        uint8_t *larger = realloc(journal->out, capacity);
        if (larger == NULL) {
            return -ENOMEM;
        }
        journal->out = larger;
        journal->out_capacity = capacity;
    }
    return err;
}

/* the spare, or a new one */
static int take_fresh(struct store_journal *journal, size_t size)
{
    uint64_t want = STORE_FORMAT_SEGMENT_HEADER + (uint64_t)size;

    if (journal->spare != NULL && journal->spare->size < want) {
        /* numbers of segments follow the order of writing, so a spare is not kept for later */
        struct store_segment *small = journal->spare;
        journal->spare = NULL;
        store_segment_close(journal->disk, small);
        store_journal_remove_segment(journal, small);
    }
    if (journal->spare != NULL) {
        journal->active = journal->spare;
        journal->spare = NULL;
    } else {
        uint64_t usual = journal->options.segment_bytes;
        int err =
            store_journal_make_segment(journal, usual > want ? usual : want, &journal->active);
        if (err != 0) {
            return err;
        }
    }
    journal->active->written = journal->active->end;
    return 0;
}

static int flush(struct store_journal *journal)
{
    int err = 0;

    if (journal->out_len > 0) {
        err = store_segment_write(journal->disk, journal->active, journal->out, journal->out_len);
        sl_counter_add(&journal->stats.bytes, journal->out_len);
        journal->out_len = 0;
    }
    return err;
}

static int sync_active(struct store_journal *journal)
{
    uint64_t began_us = now_us();
    int err = journal->disk->ops->sync(journal->disk, journal->active->file);

    sl_histogram_record(&journal->stats.sync_us, now_us() - began_us);
    sl_counter_add(&journal->stats.syncs, 1);
    if (err == 0) {
        (void)pthread_mutex_lock(&journal->mutex);
        store_segment_advance(journal->active);
        (void)pthread_mutex_unlock(&journal->mutex);
    }
    return err;
}

static void bury_active(struct store_journal *journal, int err)
{
    struct store_segment *dead = journal->active;

    journal->active = NULL;
    journal->out_len = 0;
    if (dead == NULL) {
        return;
    }
    store_segment_close(journal->disk, dead);
    dead->written_first = dead->written_last = 0;
    if (dead->last_sequence == 0) {
        store_journal_remove_segment(journal, dead);
    } else if (err != -ENOSPC && err != -ENOMEM) {
        dead->unrescued = true;
    }
}

/* ---- segments ---- */

int store_journal_make_segment(struct store_journal *journal, uint64_t size,
                               struct store_segment **ret_segment)
{
    struct store_segment *segment = NULL;
    int err;

    do {
        err = store_segment_create(journal->disk, journal->next_number++, size, &segment);
    } while (err == -EEXIST || (err == -ENOSPC && remove_oldest_committed(journal)));
    if (err != 0) {
        return err;
    }
    (void)pthread_mutex_lock(&journal->mutex);
    *journal->segments_tail = segment;
    journal->segments_tail = &segment->next;
    (void)pthread_mutex_unlock(&journal->mutex);
    sl_counter_add(&journal->stats.segments_created, 1);
    *ret_segment = segment;
    return 0;
}

/* what is kept for replay only is worth less than what is not in Postgres yet */
static bool remove_oldest_committed(struct store_journal *journal)
{
    struct store_segment *found = NULL;

    (void)pthread_mutex_lock(&journal->mutex);
    for (struct store_segment *at = journal->segments; at != NULL && found == NULL; at = at->next) {
        if (at != journal->active && at != journal->spare && at->readers == 0 && !at->unreadable &&
            at->last_sequence <= store_journal_settled(journal)) {
            found = at;
        }
    }
    (void)pthread_mutex_unlock(&journal->mutex);
    if (found != NULL) {
        store_journal_remove_segment(journal, found);
        (void)journal->disk->ops->sync_folder(
            journal->disk); /* some give the space back only then */
    }
    return found != NULL;
}

void store_journal_remove_segment(struct store_journal *journal, struct store_segment *segment)
{
    char name[STORE_SEGMENT_NAME];
    struct store_segment **at = &journal->segments;

    (void)pthread_mutex_lock(&journal->mutex);
    while (*at != segment) {
        at = &(*at)->next;
    }
    *at = segment->next;
    if (segment->next == NULL) {
        journal->segments_tail = at;
    }
    (void)pthread_mutex_unlock(&journal->mutex);
    store_segment_name(segment->number, name);
    (void)journal->disk->ops->unlink(journal->disk, name);
    sl_counter_add(&journal->stats.segments_deleted, 1);
    free(segment);
}

static uint64_t now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}
