/*
 * The scan at the start.
 *
 * Happy path: the checkpoint says which segments still matter; each of those is read from front to
 * back, every checksum tested; the newest one is gone on with after its last record.
 *
 * Failure modes, in the order of their likelihood:
 *   torn tail     bytes after the last intact record of the newest segment: overwritten with zeros, so
 *                 that they can never be taken for anything again;
 *   damage        bytes that are no record, with intact ones behind them or in an older segment:
 *                 copied to a quarantine file, counted, stepped over;
 *   no segment    a segment that a crash left without header and records: removed;
 *   unreadable    counted, kept, left alone.
 * Thread, ownership: see the header.
 */
#include "journal_recovery.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "journal_cursor.h"

struct listing {
    struct store_segment *first;
    bool no_memory;
};

/* what one segment's scan has found out */
struct finding {
    bool intact_header;
    uint64_t tail_from, tail_to; /* bytes that are not zero behind the last record */
};

static void on_name(void *context, const char *name);
static int scan_all(struct store_disk *disk, struct store_journal_stats *stats,
                    struct store_recovery *recovery);
static int scan_segment(struct store_disk *disk, struct store_journal_stats *stats,
                        struct store_recovery *recovery, struct store_segment *segment,
                        struct finding *ret_finding);
static void note_record(struct store_recovery *recovery, struct store_segment *segment,
                        const struct store_format_view *view);
static void settle_tail(struct store_disk *disk, struct store_journal_stats *stats,
                        struct store_recovery *recovery, struct store_segment *segment,
                        const struct finding *finding, bool newest);
static int cut(struct store_disk *disk, const struct store_segment *segment, uint64_t from,
               uint64_t to);
static void quarantine(struct store_disk *disk, struct store_journal_stats *stats,
                       struct store_recovery *recovery, struct store_segment *segment,
                       uint64_t from, uint64_t to, uint64_t records);

/* ---- the folder ---- */

static int list_segments(struct store_disk *disk, struct store_segment **ret_first)
{
    struct listing listing = {.first = NULL};
    int err = disk->ops->list(disk, on_name, &listing);

    if (err != 0 || listing.no_memory) {
        store_recovery_free_segments(listing.first);
        return err != 0 ? SL_E_STORAGE_UNAVAILABLE : SL_E_NO_MEMORY;
    }
    *ret_first = listing.first;
    return 0;
}

static void on_name(void *context, const char *name)
{
    struct listing *listing = context;
    struct store_segment **at = &listing->first;
    uint64_t number;

    if (!store_segment_parse_name(name, &number)) {
        return;
    }
    struct store_segment *segment = calloc(1, sizeof(*segment));
    if (segment == NULL) {
        listing->no_memory = true;
        return;
    }
    while (*at != NULL && (*at)->number < number) {
        at = &(*at)->next;
    }
    segment->number = number;
    segment->file = -1;
    segment->end = STORE_FORMAT_SEGMENT_HEADER;
    segment->next = *at;
    *at = segment;
}

void store_recovery_free_segments(struct store_segment *first)
{
    while (first != NULL) {
        struct store_segment *next = first->next;
        free(first);
        first = next;
    }
}

int store_recovery_look(struct store_disk *disk, int64_t since_unix_s,
                        struct store_segment **ret_segments)
{
    struct store_segment *first = NULL;
    int err = list_segments(disk, &first);

    if (err != 0) {
        return err;
    }
    for (struct store_segment **at = &first; *at != NULL;) {
        struct store_segment *segment = *at;
        struct store_cursor cursor;
        struct store_format_view view;
        char name[STORE_SEGMENT_NAME];
        int64_t changed = 0;
        bool intact, wanted = false;
        store_segment_name(segment->number, name);
        if (disk->ops->stat(disk, name, &segment->size, &changed) == 0 && changed >= since_unix_s &&
            store_cursor_open_segment(&cursor, disk, name, segment->size, &intact) == 0) {
            wanted = store_cursor_next(&cursor, &view) > 0;
            store_cursor_close(&cursor);
        }
        if (wanted) {
            segment->first_sequence = view.sequence;
            segment->last_sequence = UINT64_MAX; /* unknown; it may even grow */
            segment->end = segment->size;
            at = &segment->next;
        } else {
            *at = segment->next;
            free(segment);
        }
    }
    *ret_segments = first;
    return 0;
}

/* ---- the start ---- */

int store_recovery_run(struct store_disk *disk, struct store_journal_stats *stats,
                       struct store_recovery *ret_recovery)
{
    struct store_recovery recovery = {.segments = NULL};
    int err = list_segments(disk, &recovery.segments);

    if (err != 0) {
        return err;
    }
    err = store_checkpoint_read(disk, &recovery.checkpoint);
    if (err != 0 && err != -ENOENT) {
        recovery.unclean = true;
    }
    recovery.highest_sequence = recovery.checkpoint.committed;
    if (recovery.checkpoint.next_sequence > recovery.highest_sequence + 1) {
        recovery.highest_sequence = recovery.checkpoint.next_sequence - 1;
    }
    err = scan_all(disk, stats, &recovery);
    if (err != 0) {
        store_recovery_free_segments(recovery.segments);
        return err;
    }
    *ret_recovery = recovery;
    return 0;
}

/* in the order of their numbers; a segment's tail is judged once it is known whether a newer one follows */
static int scan_all(struct store_disk *disk, struct store_journal_stats *stats,
                    struct store_recovery *recovery)
{
    struct store_segment *candidate = NULL; /* the newest one with anything in it, so far */
    struct finding candidate_finding = {.intact_header = false};

    for (struct store_segment **at = &recovery->segments; *at != NULL;) {
        struct store_segment *segment = *at;
        struct finding finding = {.intact_header = false};
        recovery->highest_number = segment->number;
        int err = scan_segment(disk, stats, recovery, segment, &finding);
        if (err != 0) {
            return err;
        }
        bool empty = segment->last_sequence == 0 && finding.tail_to <= finding.tail_from &&
                     !segment->unreadable && !segment->settled;
        if (empty) {
            /* without a record, so nothing was acknowledged in it: a spare, or half made */
            char name[STORE_SEGMENT_NAME];
            store_segment_name(segment->number, name);
            (void)disk->ops->unlink(disk, name);
            *at = segment->next;
            free(segment);
            continue;
        }
        if (!segment->settled && !segment->unreadable) {
            if (candidate != NULL) {
                settle_tail(disk, stats, recovery, candidate, &candidate_finding, false);
            }
            candidate = segment;
            candidate_finding = finding;
        }
        at = &segment->next;
    }
    if (candidate != NULL) {
        settle_tail(disk, stats, recovery, candidate, &candidate_finding, true);
    }
    return 0;
}

static int scan_segment(struct store_disk *disk, struct store_journal_stats *stats,
                        struct store_recovery *recovery, struct store_segment *segment,
                        struct finding *ret_finding)
{
    char name[STORE_SEGMENT_NAME];
    struct store_cursor cursor = {.file = -1};
    struct store_format_view view;
    int64_t changed = 0;
    uint64_t previous = 0;
    int got;

    store_segment_name(segment->number, name);
    if (disk->ops->stat(disk, name, &segment->size, &changed) == 0) {
        segment->newest_us = changed * 1000000;
    }
    if (segment->number < recovery->checkpoint.first_segment) {
        segment->settled = true;
        return 0;
    }
    got =
        store_cursor_open_segment(&cursor, disk, name, segment->size, &ret_finding->intact_header);
    if (got != 0) {
        got = store_cursor_open_segment(&cursor, disk, name, segment->size,
                                        &ret_finding->intact_header);
    }
    if (got != 0) {
        segment->unreadable = recovery->unclean = true;
        sl_counter_add(&stats->quarantined_records, 1);
        sl_counter_add(&stats->quarantined_bytes, segment->size);
        return 0;
    }
    while ((got = store_cursor_next(&cursor, &view)) > 0) {
        if (cursor.damage_to > cursor.damage_from) {
            uint64_t most = (cursor.damage_to - cursor.damage_from) / STORE_FORMAT_RECORD_HEADER;
            uint64_t lost =
                previous != 0 && view.sequence > previous + 1 ? view.sequence - previous - 1 : 1;
            segment->damages++;
            quarantine(disk, stats, recovery, segment, cursor.damage_from, cursor.damage_to,
                       lost < most ? lost : (most > 0 ? most : 1));
        }
        previous = view.sequence;
        note_record(recovery, segment, &view);
        segment->end = cursor.offset;
    }
    ret_finding->tail_from = cursor.damage_from;
    ret_finding->tail_to = cursor.damage_to;
    segment->salt = cursor.salt;
    if (cursor.unreadable) {
        segment->unreadable = recovery->unclean = true;
        sl_counter_add(&stats->quarantined_records, 1);
    }
    if (!ret_finding->intact_header && segment->last_sequence != 0) {
        quarantine(disk, stats, recovery, segment, 0, STORE_FORMAT_SEGMENT_HEADER, 0);
    }
    store_cursor_close(&cursor);
    return got < 0 ? got : 0;
}

static void note_record(struct store_recovery *recovery, struct store_segment *segment,
                        const struct store_format_view *view)
{
    if (segment->last_sequence == 0 || view->recorded_at_us > segment->newest_us) {
        segment->newest_us = view->recorded_at_us;
    }
    if (segment->first_sequence == 0 || view->sequence < segment->first_sequence) {
        segment->first_sequence = view->sequence;
    }
    if (view->sequence > segment->last_sequence) {
        segment->last_sequence = view->sequence;
    }
    if (view->sequence > recovery->checkpoint.committed &&
        view->sequence > recovery->newest_uncommitted) {
        recovery->newest_uncommitted = view->sequence;
        if (recovery->uncommitted++ == 0) {
            recovery->oldest_uncommitted_us = view->recorded_at_us;
        }
    }
    if (view->sequence > recovery->highest_sequence) {
        recovery->highest_sequence = view->sequence;
    }
}

/* the bytes behind the last record: torn in the newest segment, damage in an older one */
static void settle_tail(struct store_disk *disk, struct store_journal_stats *stats,
                        struct store_recovery *recovery, struct store_segment *segment,
                        const struct finding *finding, bool newest)
{
    bool dirty = finding->tail_to > finding->tail_from;

    if (dirty && newest) {
        sl_counter_add(&stats->torn_tails, 1);
        if (cut(disk, segment, finding->tail_from, finding->tail_to) != 0) {
            recovery->unclean = true;
            return;
        }
    } else if (dirty) {
        segment->damages++;
        quarantine(disk, stats, recovery, segment, finding->tail_from, finding->tail_to, 1);
    }
    if (newest && finding->intact_header && segment->damages == 0 && !segment->unreadable &&
        segment->end + STORE_FORMAT_RECORD_HEADER <= segment->size) {
        recovery->last = segment;
    }
}

static int cut(struct store_disk *disk, const struct store_segment *segment, uint64_t from,
               uint64_t to)
{
    static const uint8_t zeros[1 << 16];
    char name[STORE_SEGMENT_NAME];
    int err = 0;

    store_segment_name(segment->number, name);
    int file = disk->ops->open(disk, name, STORE_DISK_WRITE);
    if (file < 0) {
        return file;
    }
    /* from the far end: an interrupted cut leaves the rest in front of it to be found again */
    while (err == 0 && to > from) {
        uint64_t len = to - from < sizeof(zeros) ? to - from : sizeof(zeros);
        to -= len;
        err = store_segment_write_all(disk, file, zeros, (size_t)len, to);
    }
    if (err == 0) {
        err = disk->ops->sync(disk, file);
    }
    disk->ops->close(disk, file);
    return err;
}

/* a copy for whoever looks into it; the counting matters more than the copy, so it may fail */
static void quarantine(struct store_disk *disk, struct store_journal_stats *stats,
                       struct store_recovery *recovery, struct store_segment *segment,
                       uint64_t from, uint64_t to, uint64_t records)
{
    char name[STORE_SEGMENT_NAME], copy[80];
    uint8_t bytes[4096];

    recovery->unclean = true;
    sl_counter_add(&stats->quarantined_records, records);
    sl_counter_add(&stats->quarantined_bytes, to - from);
    store_segment_name(segment->number, name);
    (void)snprintf(copy, sizeof(copy), "quarantine-%016" PRIx64 "-%" PRIu64, segment->number, from);
    int source = disk->ops->open(disk, name, STORE_DISK_READ);
    if (source < 0) {
        return;
    }
    int target = disk->ops->open(disk, copy, STORE_DISK_CREATE); /* it exists: an earlier start's */
    if (target >= 0) {
        int err = 0;
        for (uint64_t at = from; err == 0 && at < to;) {
            size_t len = to - at < sizeof(bytes) ? (size_t)(to - at) : sizeof(bytes);
            ssize_t got = disk->ops->read(disk, source, bytes, len, at);
            err = got <= 0 ? -EIO
                           : store_segment_write_all(disk, target, bytes, (size_t)got, at - from);
            at += got > 0 ? (uint64_t)got : 0;
        }
        if (err == 0) {
            err = disk->ops->sync(disk, target);
        }
        disk->ops->close(disk, target);
        if (err == 0) {
            (void)disk->ops->sync_folder(disk);
        } else {
            (void)disk->ops->unlink(disk, copy);
        }
    }
    disk->ops->close(disk, source);
}
