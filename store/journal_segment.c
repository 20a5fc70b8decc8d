/*
 * One segment of the journal: a preallocated file of records.
 *
 * Happy path: created (blocks allocated, header written, file synced, folder synced), written to by
 * appending, synced by the journal, closed when full. Both syncs of the creation come before the
 * first record, so a record's own sync is all that an acknowledgement needs.
 *
 * Failure modes: a creation that fails removes what it made. Writes report the errno; what to do
 * about a dead handle is the journal's business. Thread, ownership: see the header.
 */
#include "journal_segment.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sluice/random.h"

static int prepare_file(struct store_disk *disk, struct store_segment *segment);

void store_segment_name(uint64_t number, char ret_name[STORE_SEGMENT_NAME])
{
    (void)snprintf(ret_name, STORE_SEGMENT_NAME, "segment-%016" PRIx64 ".log", number);
}

bool store_segment_parse_name(const char *name, uint64_t *ret_number)
{
    static const char prefix[] = "segment-";
    char again[STORE_SEGMENT_NAME];

    if (strncmp(name, prefix, sizeof(prefix) - 1) != 0) {
        return false;
    }
    /* the name that the number makes must be this one again, which checks every character */
    uint64_t number = strtoull(name + sizeof(prefix) - 1, NULL, 16);
    store_segment_name(number, again);
    if (strcmp(name, again) != 0 || number >= STORE_FORMAT_NUMBER_MAX) {
        return false;
    }
    *ret_number = number;
    return true;
}

int store_segment_create(struct store_disk *disk, uint64_t number, uint64_t size,
                         struct store_segment **ret_segment)
{
    char name[STORE_SEGMENT_NAME];
    struct store_segment *segment = calloc(1, sizeof(*segment));

    if (segment == NULL) {
        return -ENOMEM;
    }
    store_segment_name(number, name);
    segment->number = number;
    segment->salt = sl_random_u64();
    segment->size = size;
    segment->file = disk->ops->open(disk, name, STORE_DISK_CREATE);
    int err = segment->file < 0 ? segment->file : prepare_file(disk, segment);
    if (err != 0) {
        if (segment->file >= 0) {
            disk->ops->close(disk, segment->file);
            (void)disk->ops->unlink(disk, name);
        }
        free(segment);
        return err;
    }
    *ret_segment = segment;
    return 0;
}

static int prepare_file(struct store_disk *disk, struct store_segment *segment)
{
    struct timespec now;
    uint8_t header[STORE_FORMAT_SEGMENT_HEADER];

    (void)clock_gettime(CLOCK_REALTIME, &now);
    store_format_encode_segment(
        &(struct store_format_segment){.number = segment->number,
                                       .salt = segment->salt,
                                       .created_us =
                                           (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000},
        header);
    int err = disk->ops->preallocate(disk, segment->file, segment->size);
    if (err == 0) {
        err = store_segment_write(disk, segment, header, sizeof(header));
    }
    if (err == 0) {
        err = disk->ops->sync(disk, segment->file);
    }
    if (err == 0) {
        err = disk->ops->sync_folder(disk);
    }
    segment->end = sizeof(header);
    segment->newest_us = (int64_t)now.tv_sec * 1000000;
    return err;
}

int store_segment_reopen(struct store_disk *disk, struct store_segment *segment)
{
    char name[STORE_SEGMENT_NAME];

    store_segment_name(segment->number, name);
    int file = disk->ops->open(disk, name, STORE_DISK_WRITE);
    if (file < 0) {
        return file;
    }
    /* whatever the last process had not synced when it ended becomes durable here */
    int err = disk->ops->preallocate(disk, file, segment->size);
    if (err == 0) {
        err = disk->ops->sync(disk, file);
    }
    if (err == 0) {
        err = disk->ops->sync_folder(disk);
    }
    if (err != 0) {
        disk->ops->close(disk, file);
        return err;
    }
    segment->file = file;
    segment->written = segment->end;
    return 0;
}

int store_segment_write_all(struct store_disk *disk, int file, const void *bytes, size_t len,
                            uint64_t offset)
{
    const uint8_t *at = bytes;

    while (len > 0) {
        ssize_t put = disk->ops->write(disk, file, at, len, offset);
        if (put <= 0) {
            return put < 0 ? (int)put : -EIO;
        }
        at += put;
        len -= (size_t)put;
        offset += (uint64_t)put;
    }
    return 0;
}

int store_segment_write(struct store_disk *disk, struct store_segment *segment,
                        const uint8_t *bytes, size_t len)
{
    int err = store_segment_write_all(disk, segment->file, bytes, len, segment->written);

    if (err == 0) {
        segment->written += len;
    }
    return err;
}

void store_segment_note(struct store_segment *segment, uint64_t sequence, int64_t recorded_at_us)
{
    if (segment->written_first == 0) {
        segment->written_first = sequence;
    }
    segment->written_last = sequence;
    if (recorded_at_us > segment->written_newest_us) {
        segment->written_newest_us = recorded_at_us;
    }
}

void store_segment_advance(struct store_segment *segment)
{
    segment->end = segment->written;
    if (segment->written_first == 0) {
        return;
    }
    if (segment->first_sequence == 0) {
        segment->first_sequence = segment->written_first;
    }
    if (segment->written_last > segment->last_sequence) {
        segment->last_sequence = segment->written_last;
    }
    if (segment->written_newest_us > segment->newest_us) {
        segment->newest_us = segment->written_newest_us;
    }
}

void store_segment_close(struct store_disk *disk, struct store_segment *segment)
{
    if (segment->file >= 0) {
        disk->ops->close(disk, segment->file);
        segment->file = -1;
    }
}
