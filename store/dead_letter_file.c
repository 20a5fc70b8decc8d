/*
 * The bytes of the file of dead letters.
 *
 * Happy path: a walk reads letter after letter, checks its checksum and makes the record again. Where
 * there is no letter, it looks for the next place with magic and salt. The salt, a random number that
 * never leaves the disk, stands in every letter, so nothing that a user has written into a message can
 * pass for one.
 *
 * Failure modes: the file cannot be read, or there is no memory. Damage is none: it is a stretch.
 * Thread, ownership: see the header.
 */
#include "dead_letter_file.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NO_SEQUENCE                                                                                \
    (STORE_FORMAT_NUMBER_MAX -                                                                     \
     1) /* of a record that the journal has not seen; it cannot rebuild 0 */

enum {
    LETTER_HEADER = 32,
    HEADERS = LETTER_HEADER + STORE_FORMAT_RECORD_HEADER,
    MARK = 16, /* bytes by which a letter is found: magic, checksum, salt */
    CRC_AT = 4,
    SALT_AT = 8, /* the checksum begins here */
    TIME_AT = 16,
    SQLSTATE_AT = 24,
    BLOCK = 4096,
};

static const char magic[4] = {'S', 'L', 'D', '1'};

static int read_letter(struct store_dead_letter_walk *walk,
                       struct store_dead_letter_stretch *stretch);
static int read_bytes(struct store_dead_letter_walk *walk, uint64_t from, size_t *ret_size);
static int skip_damage(struct store_dead_letter_walk *walk,
                       struct store_dead_letter_stretch *stretch);

/* ---- out ---- */

size_t store_dead_letter_file_size(const struct store_record *record)
{
    size_t size = store_format_record_size(record);

    return size > 0 ? LETTER_HEADER + size : 0;
}

void store_dead_letter_file_encode(const struct store_record *record, const char *sqlstate,
                                   int64_t unix_s, uint64_t salt, uint8_t *to)
{
    /* field by field: the links of its queues and of the overlay belong to other threads */
    const struct store_record copy = {
        .kind = record->kind,
        .user = record->user,
        .user_len = record->user_len,
        .session = record->session,
        .message = record->message,
        .text = record->text,
        .sequence = record->sequence != 0 ? record->sequence : NO_SEQUENCE,
        .recorded_at_us = record->recorded_at_us,
    };
    uint64_t wire_salt = htole64(salt), wire_time = htole64((uint64_t)unix_s);

    memset(to, 0, LETTER_HEADER);
    memcpy(to, magic, sizeof(magic));
    memcpy(to + SALT_AT, &wire_salt, sizeof(wire_salt));
    memcpy(to + TIME_AT, &wire_time, sizeof(wire_time));
    memcpy(to + SQLSTATE_AT, sqlstate, strnlen(sqlstate, STORE_SQLSTATE_SIZE - 1));
    store_format_encode_record(&copy, salt, to + LETTER_HEADER);
    size_t size = store_dead_letter_file_size(record);
    uint32_t crc = htole32(store_format_crc32c(0, to + SALT_AT, size - SALT_AT));
    memcpy(to + CRC_AT, &crc, sizeof(crc));
}

/* ---- the walk ---- */

int store_dead_letter_walk_begin(struct store_disk *disk, uint64_t salt,
                                 struct store_dead_letter_walk *walk)
{
    int64_t changed;

    *walk = (struct store_dead_letter_walk){
        .disk = disk, .salt = salt, .at = STORE_DEAD_LETTER_FILE_HEADER};
    walk->handle = disk->ops->open(disk, STORE_DEAD_LETTER_FILE, STORE_DISK_READ);
    if (walk->handle == -ENOENT) {
        return 0;
    }
    if (walk->handle < 0 ||
        disk->ops->stat(disk, STORE_DEAD_LETTER_FILE, &walk->size, &changed) != 0) {
        return SL_E_STORAGE_UNAVAILABLE;
    }
    return 0;
}

void store_dead_letter_walk_end(struct store_dead_letter_walk *walk)
{
    if (walk->handle >= 0) {
        walk->disk->ops->close(walk->disk, walk->handle);
    }
    free(walk->bytes);
}

int store_dead_letter_walk_next(struct store_dead_letter_walk *walk,
                                struct store_dead_letter_stretch *ret_stretch)
{
    struct store_dead_letter_stretch stretch = {.from = walk->at};
    int err = 0;

    if (walk->at < walk->size) {
        err = read_letter(walk, &stretch);
        if (err == 0 && !stretch.is_letter) {
            err = skip_damage(walk, &stretch);
        }
    }
    if (err == 0) {
        walk->at += stretch.len;
        *ret_stretch = stretch;
    }
    return err;
}

/* Leaves `is_letter` false when what is there is none. */
static int read_letter(struct store_dead_letter_walk *walk,
                       struct store_dead_letter_stretch *stretch)
{
    struct store_dead_letter *letter = &stretch->letter;
    struct store_format_view view;
    size_t size = 0;
    uint64_t refused;
    uint32_t crc;
    int err = read_bytes(walk, stretch->from, &size);

    if (err != 0 || size == 0) {
        return err;
    }
    memcpy(&crc, walk->bytes + CRC_AT, sizeof(crc));
    if (le32toh(crc) != store_format_crc32c(0, walk->bytes + SALT_AT, size - SALT_AT) ||
        !store_format_decode_record(walk->bytes + LETTER_HEADER, size - LETTER_HEADER, &view)) {
        return 0;
    }
    err = store_format_rebuild(&view, &letter->record);
    if (err != 0) {
        return err == SL_E_INVALID_VALUE ? 0 : err;
    }
    letter->record->sequence = 0;
    memcpy(&refused, walk->bytes + TIME_AT, sizeof(refused));
    letter->refused_unix_s = (int64_t)le64toh(refused);
    memcpy(letter->sqlstate, walk->bytes + SQLSTATE_AT, STORE_SQLSTATE_SIZE - 1);
    stretch->len = size;
    stretch->is_letter = true;
    return 0;
}

/* All that its headers promise. Size 0: this does not begin like a letter. */
static int read_bytes(struct store_dead_letter_walk *walk, uint64_t from, size_t *ret_size)
{
    uint64_t salt = htole64(walk->salt), left = walk->size - from;
    uint8_t head[HEADERS];

    if (left < HEADERS) {
        return 0;
    }
    int err = store_dead_letter_file_read(walk->disk, walk->handle, head, sizeof(head), from);
    if (err != 0 || memcmp(head, magic, sizeof(magic)) != 0 ||
        memcmp(head + SALT_AT, &salt, sizeof(salt)) != 0) {
        return err;
    }
    size_t size = store_format_peek_size(head + LETTER_HEADER, &walk->salt);
    if (size == 0 || size > left - LETTER_HEADER) {
        return 0;
    }
    size += LETTER_HEADER;
    if (size > walk->capacity) {
        uint8_t *bytes = realloc(walk->bytes, size);
        if (bytes == NULL) {
            return SL_E_NO_MEMORY;
        }
        walk->bytes = bytes;
        walk->capacity = size;
    }
    err = store_dead_letter_file_read(walk->disk, walk->handle, walk->bytes, size, from);
    if (err == 0) {
        *ret_size = size;
    }
    return err;
}

/* Up to the next place that looks like a letter, or the end. */
static int skip_damage(struct store_dead_letter_walk *walk,
                       struct store_dead_letter_stretch *stretch)
{
    uint64_t salt = htole64(walk->salt);
    uint8_t block[BLOCK];

    for (uint64_t at = stretch->from + STORE_FORMAT_ALIGN; at + MARK <= walk->size;) {
        size_t len = walk->size - at < BLOCK ? (size_t)(walk->size - at) : BLOCK;
        int err = store_dead_letter_file_read(walk->disk, walk->handle, block, len, at);
        if (err != 0) {
            return err;
        }
        size_t i = 0;
        for (; i + MARK <= len; i += STORE_FORMAT_ALIGN) {
            if (memcmp(block + i, magic, sizeof(magic)) == 0 &&
                memcmp(block + i + SALT_AT, &salt, sizeof(salt)) == 0) {
                stretch->len = at + i - stretch->from;
                return 0;
            }
        }
        at += i;
    }
    stretch->len = walk->size - stretch->from;
    return 0;
}

int store_dead_letter_walk_copy(const struct store_dead_letter_walk *walk,
                                const struct store_dead_letter_stretch *stretch, int to,
                                uint64_t at)
{
    struct store_disk *disk = walk->disk;
    uint8_t block[BLOCK];
    int err = 0;

    for (uint64_t done = 0; done < stretch->len && err == 0;) {
        size_t len = stretch->len - done < BLOCK ? (size_t)(stretch->len - done) : BLOCK;
        err = store_dead_letter_file_read(disk, walk->handle, block, len, stretch->from + done);
        if (err == 0) {
            err = store_dead_letter_file_write(disk, to, block, len, at + done);
        }
        done += len;
    }
    return err;
}

/* ---- bytes ---- */

/* A file that has become shorter meanwhile cannot be read. */
int store_dead_letter_file_read(struct store_disk *disk, int handle, void *to, size_t len,
                                uint64_t at)
{
    for (size_t done = 0; done < len;) {
        ssize_t got = disk->ops->read(disk, handle, (char *)to + done, len - done, at + done);
        if (got <= 0) {
            return SL_E_STORAGE_UNAVAILABLE;
        }
        done += (size_t)got;
    }
    return 0;
}

int store_dead_letter_file_write(struct store_disk *disk, int handle, const void *from, size_t len,
                                 uint64_t at)
{
    for (size_t done = 0; done < len;) {
        ssize_t put =
            disk->ops->write(disk, handle, (const char *)from + done, len - done, at + done);
        if (put <= 0) {
            return SL_E_STORAGE_UNAVAILABLE;
        }
        done += (size_t)put;
    }
    return 0;
}
