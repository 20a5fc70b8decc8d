/*
 * Reads the records of one segment, one after the other.
 *
 * Happy path: the next record lies at the offset, in the buffer; its checksum fits; it is the result.
 * Failure modes: where no intact record begins, every eighth byte is tried until one does. A read
 * error is tried again with a fresh handle; what then still cannot be read counts as zeros, and
 * `unreadable` says so. Thread: see the header. Ownership: the cursor owns its handle and buffer.
 */
#include "journal_cursor.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 256 << 10, BLOCK = 4096, READ_ATTEMPTS = 3 };

static int fill(struct store_cursor *cursor, uint64_t from, size_t len);
static void read_range(struct store_cursor *cursor, uint64_t from, uint8_t *to, size_t len);
static int try_at(struct store_cursor *cursor, uint64_t at, struct store_format_view *ret_view);
static int find_candidate(struct store_cursor *cursor, uint64_t *at, uint64_t *dirty_to);

int store_cursor_open(struct store_cursor *cursor, struct store_disk *disk, const char *name,
                      uint64_t offset, uint64_t limit)
{
    int file = disk->ops->open(disk, name, STORE_DISK_READ);

    if (file < 0) {
        return file;
    }
    *cursor = (struct store_cursor){.disk = disk, .file = file, .offset = offset, .limit = limit};
    size_t len = strlen(name);
    memcpy(cursor->name, name, len < sizeof(cursor->name) ? len : sizeof(cursor->name) - 1);
    return 0;
}

int store_cursor_open_segment(struct store_cursor *cursor, struct store_disk *disk,
                              const char *name, uint64_t limit, bool *ret_intact)
{
    struct store_format_segment header;
    uint8_t bytes[STORE_FORMAT_SEGMENT_HEADER];
    int err = store_cursor_open(cursor, disk, name, STORE_FORMAT_SEGMENT_HEADER, limit);

    if (err != 0) {
        return err;
    }
    memset(bytes, 0, sizeof(bytes));
    if (limit >= sizeof(bytes)) {
        read_range(cursor, 0, bytes, sizeof(bytes));
    }
    *ret_intact = store_format_decode_segment(bytes, &header);
    if (*ret_intact) {
        cursor->salt = header.salt;
        cursor->salt_known = true;
    }
    return 0;
}

void store_cursor_close(struct store_cursor *cursor)
{
    if (cursor->disk != NULL && cursor->file >= 0) {
        cursor->disk->ops->close(cursor->disk, cursor->file);
    }
    free(cursor->buffer);
    *cursor = (struct store_cursor){.file = -1};
}

int store_cursor_next(struct store_cursor *cursor, struct store_format_view *ret_view)
{
    uint64_t at = cursor->offset, dirty_to = at;

    cursor->damage_from = cursor->damage_to = at;
    for (;;) {
        int got =
            at + STORE_FORMAT_RECORD_HEADER <= cursor->limit ? try_at(cursor, at, ret_view) : 0;
        if (got < 0) {
            return got;
        }
        if (got > 0) {
            cursor->damage_to = at; /* zeros in the middle are damage too: something was there */
            cursor->salt = ret_view->salt;
            cursor->salt_known = true;
            cursor->offset = at + ret_view->size;
            return 1;
        }
        got = find_candidate(cursor, &at, &dirty_to);
        if (got < 0) {
            return got;
        }
        if (got == 0) {
            cursor->damage_to = dirty_to;
            return 0;
        }
    }
}

/* 1: an intact record begins at `at` */
static int try_at(struct store_cursor *cursor, uint64_t at, struct store_format_view *ret_view)
{
    int err = fill(cursor, at, STORE_FORMAT_RECORD_HEADER);

    if (err != 0) {
        return err;
    }
    size_t size = store_format_peek_size(cursor->buffer + (at - cursor->buffer_at),
                                         cursor->salt_known ? &cursor->salt : NULL);
    if (size == 0 || size > cursor->limit - at) {
        return 0;
    }
    err = fill(cursor, at, size);
    if (err != 0) {
        return err;
    }
    return store_format_decode_record(cursor->buffer + (at - cursor->buffer_at), size, ret_view);
}

/*
 * Moves `at` to the next place after it where a record may begin; 0: there is none. Notes the bytes
 * on the way that are not zero, those at `at` included.
 */
static int find_candidate(struct store_cursor *cursor, uint64_t *at, uint64_t *dirty_to)
{
    uint64_t from = *at;

    while (from < cursor->limit) {
        uint64_t left = cursor->limit - from;
        int err = fill(cursor, from, left < BLOCK ? (size_t)left : BLOCK);
        if (err != 0) {
            return err;
        }
        const uint8_t *bytes = cursor->buffer + (from - cursor->buffer_at);
        size_t len = cursor->filled - (size_t)(from - cursor->buffer_at);
        for (size_t i = 0; i < len; i += STORE_FORMAT_ALIGN) {
            uint64_t word = 0;
            memcpy(&word, bytes + i, len - i < sizeof(word) ? len - i : sizeof(word));
            if (word == 0) {
                continue;
            }
            if (from + i > *at && i + STORE_FORMAT_RECORD_HEADER <= len &&
                store_format_peek_size(bytes + i, cursor->salt_known ? &cursor->salt : NULL) > 0) {
                *at = from + i;
                return 1;
            }
            if (from + i > *at && i + STORE_FORMAT_RECORD_HEADER > len &&
                from + len < cursor->limit) {
                len = i; /* looked at again with the bytes after it */
                break;
            }
            *dirty_to = from + i + sizeof(word);
            if (*dirty_to > cursor->limit) {
                *dirty_to = cursor->limit;
            }
        }
        from += len;
    }
    return 0;
}

/* makes the buffer hold [from, from + len), and more while it is at it; never beyond the limit */
static int fill(struct store_cursor *cursor, uint64_t from, size_t len)
{
    if (cursor->buffer != NULL && from >= cursor->buffer_at &&
        from + len <= cursor->buffer_at + cursor->filled) {
        return 0;
    }
    size_t want = len > CHUNK ? len : CHUNK;
    if (want > cursor->limit - from) {
        want = (size_t)(cursor->limit - from);
    }
    if (want > cursor->capacity) {
        uint8_t *larger = realloc(cursor->buffer, want);
        if (larger == NULL) {
            return SL_E_NO_MEMORY;
        }
        cursor->buffer = larger;
        cursor->capacity = want;
    }
    cursor->buffer_at = from;
    cursor->filled = want;
    assert(cursor->buffer != NULL || want == 0);
    read_range(cursor, from, cursor->buffer, want);
    return 0;
}

/* a read that fails is tried again with a fresh handle; a block that stays unreadable becomes zeros */
static void read_range(struct store_cursor *cursor, uint64_t from, uint8_t *to, size_t len)
{
    struct store_disk *disk = cursor->disk;
    unsigned attempts = 0;
    size_t got = 0;

    assert(to != NULL || len == 0);
    while (got < len) {
        ssize_t n = cursor->file < 0
                        ? cursor->file
                        : disk->ops->read(disk, cursor->file, to + got,
                                          attempts < READ_ATTEMPTS ? len - got : 1, from + got);
        if (n > 0) {
            got += (size_t)n;
            attempts = 0;
            continue;
        }
        if (n == 0) {
            memset(to + got, 0, len - got); /* shorter than it was said to be */
            return;
        }
        if (++attempts <= READ_ATTEMPTS) {
            if (cursor->file >= 0) {
                disk->ops->close(disk, cursor->file);
            }
            cursor->file = disk->ops->open(disk, cursor->name, STORE_DISK_READ);
            continue;
        }
        size_t block = BLOCK - (size_t)((from + got) % BLOCK);
        block = block < len - got ? block : len - got;
        memset(to + got, 0, block);
        got += block;
        cursor->unreadable = true;
        attempts = READ_ATTEMPTS - 1; /* the next block gets one more chance, not three */
    }
}
