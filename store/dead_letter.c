/*
 * Dead letters in a file.
 *
 * Happy path:
 *   open      the file's header gives the salt; a walk counts what is there
 *   append    one letter behind the end, then fdatasync; the file is opened for each, since they are
 *             rare and an operator may have moved it away
 *   list      a walk
 *   retry     a walk: what stays is copied to a second file, which then takes the first one's name
 *
 * If the file's header is damaged, its first letter gives the salt; if that is damaged too, the next
 * append puts the file aside and begins a new one.
 *
 * Failure modes: an append that fails leaves `end` where it was: the next one writes over it, through
 * a descriptor of its own (after a failed fdatasync a second one on the same descriptor would lie).
 * Thread, ownership: see the header.
 */
#include "dead_letter.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dead_letter_file.h"
#include "sluice/random.h"

#define NEW_NAME STORE_DEAD_LETTER_FILE ".new"
#define ASIDE_NAME STORE_DEAD_LETTER_FILE ".damaged-"

enum { FILE_HEADER = STORE_DEAD_LETTER_FILE_HEADER };

struct store_dead_letters {
    struct store_disk *disk;
    struct store_dead_letter_stats stats;
    uint64_t salt;
    uint64_t end;   /* where the next letter goes; 0: the file is to be begun */
    bool put_aside; /* there is a file, but its salt is not known */
};

static int learn_salt(struct store_dead_letters *letters);
static int try_first_letter(struct store_dead_letters *letters, const uint8_t *salt);
static int count_letters(struct store_dead_letters *letters);
static int put_aside(struct store_dead_letters *letters);
static int open_for_append(struct store_dead_letters *letters);
static int begin_file(struct store_dead_letters *letters, int handle);
static int write_header(struct store_dead_letters *letters, int handle);
static int append_letter(struct store_dead_letters *letters, int handle, const uint8_t *bytes,
                         size_t size);
static int rewrite(struct store_dead_letters *letters, int to, store_dead_letter_fn settle,
                   void *context);
static int copy_rest(struct store_dead_letters *letters, struct store_dead_letter_walk *walk,
                     int to, store_dead_letter_fn settle, void *context, uint64_t *ret_end,
                     uint64_t *ret_left);
static uint64_t align(uint64_t size);

/* ---- open ---- */

int store_dead_letter_open(struct store_disk *disk, struct store_dead_letters **ret_letters)
{
    struct store_dead_letters *letters = calloc(1, sizeof(*letters));

    if (letters == NULL) {
        return SL_E_NO_MEMORY;
    }
    letters->disk = disk;
    int err = learn_salt(letters);
    if (err == 0) {
        err = count_letters(letters);
    }
    if (err != 0) {
        free(letters);
        return err;
    }
    *ret_letters = letters;
    return 0;
}

void store_dead_letter_close(struct store_dead_letters *letters)
{
    free(letters);
}

/* Also decides where the next letter goes: never over anything that is there. */
static int learn_salt(struct store_dead_letters *letters)
{
    uint8_t head[FILE_HEADER + 2 * sizeof(uint64_t)] = {0};
    struct store_format_segment header;
    struct store_dead_letter_walk walk;
    int err = store_dead_letter_walk_begin(letters->disk, 0, &walk);

    letters->salt = sl_random_u64();
    if (err == 0 && walk.size >= FILE_HEADER) {
        size_t len = walk.size < sizeof(head) ? (size_t)walk.size : sizeof(head);
        err = store_dead_letter_file_read(letters->disk, walk.handle, head, len, 0);
        letters->end = align(walk.size);
    }
    store_dead_letter_walk_end(&walk);
    if (err != 0 || letters->end == 0) {
        return err;
    }
    if (store_format_decode_segment(head, &header)) {
        letters->salt = header.salt;
        return 0;
    }
    return try_first_letter(letters, head + FILE_HEADER + sizeof(uint64_t));
}

static int try_first_letter(struct store_dead_letters *letters, const uint8_t *salt)
{
    struct store_dead_letter_walk walk;
    struct store_dead_letter_stretch first = {.len = 0};
    uint64_t candidate;

    memcpy(&candidate, salt, sizeof(candidate));
    candidate = le64toh(candidate);
    int err = store_dead_letter_walk_begin(letters->disk, candidate, &walk);
    if (err == 0) {
        err = store_dead_letter_walk_next(&walk, &first);
    }
    store_dead_letter_walk_end(&walk);
    store_record_destroy(first.letter.record);
    if (first.is_letter) {
        letters->salt = candidate;
    }
    letters->put_aside = !first.is_letter;
    return err;
}

static int count_letters(struct store_dead_letters *letters)
{
    struct store_dead_letter_walk walk;
    struct store_dead_letter_stretch stretch = {.len = 1};
    uint64_t found = 0, damaged = 0;
    int err = store_dead_letter_walk_begin(letters->disk, letters->salt, &walk);

    while (err == 0 && stretch.len > 0) {
        err = store_dead_letter_walk_next(&walk, &stretch);
        if (err == 0 && stretch.len > 0) {
            found += stretch.is_letter;
            damaged += !stretch.is_letter;
            store_record_destroy(stretch.letter.record);
        }
    }
    store_dead_letter_walk_end(&walk);
    atomic_store_explicit(&letters->stats.letters, found, memory_order_relaxed);
    atomic_store_explicit(&letters->stats.damaged, damaged, memory_order_relaxed);
    return err;
}

/* ---- append ---- */

int store_dead_letter_append_on_writer_thread(void *context, const struct store_record *record,
                                              const char *sqlstate)
{
    struct store_dead_letters *letters = context;
    struct store_disk *disk = letters->disk;
    size_t size = store_dead_letter_file_size(record);

    if (size == 0) {
        return SL_E_LIMIT;
    }
    if (letters->put_aside && put_aside(letters) != 0) {
        return SL_E_STORAGE_UNAVAILABLE;
    }
    uint8_t *bytes = malloc(size);
    if (bytes == NULL) {
        return SL_E_NO_MEMORY;
    }
    store_dead_letter_file_encode(record, sqlstate, (int64_t)time(NULL), letters->salt, bytes);
    int err = SL_E_STORAGE_UNAVAILABLE;
    int handle = open_for_append(letters);
    if (handle >= 0) {
        err = append_letter(letters, handle, bytes, size);
        disk->ops->close(disk, handle);
    }
    free(bytes);
    return err;
}

static int put_aside(struct store_dead_letters *letters)
{
    char name[sizeof(ASIDE_NAME) + 16];

    (void)snprintf(name, sizeof(name), ASIDE_NAME "%016llx", (unsigned long long)sl_random_u64());
    if (letters->disk->ops->rename(letters->disk, STORE_DEAD_LETTER_FILE, name) != 0) {
        return SL_E_STORAGE_UNAVAILABLE;
    }
    letters->put_aside = false;
    letters->end = 0;
    return 0;
}

static int open_for_append(struct store_dead_letters *letters)
{
    struct store_disk *disk = letters->disk;
    int handle = disk->ops->open(disk, STORE_DEAD_LETTER_FILE, STORE_DISK_WRITE);

    if (handle == -ENOENT) {
        letters->end = 0;
        handle = disk->ops->open(disk, STORE_DEAD_LETTER_FILE, STORE_DISK_CREATE);
    }
    return handle;
}

static int append_letter(struct store_dead_letters *letters, int handle, const uint8_t *bytes,
                         size_t size)
{
    struct store_disk *disk = letters->disk;

    if (letters->end == 0 && begin_file(letters, handle) != 0) {
        return SL_E_STORAGE_UNAVAILABLE;
    }
    if (store_dead_letter_file_write(disk, handle, bytes, size, letters->end) != 0 ||
        disk->ops->sync(disk, handle) != 0) {
        return SL_E_STORAGE_UNAVAILABLE;
    }
    letters->end += size;
    sl_counter_add(&letters->stats.letters, 1);
    return 0;
}

/* Header and name are durable before the first letter is written. */
static int begin_file(struct store_dead_letters *letters, int handle)
{
    struct store_disk *disk = letters->disk;

    if (write_header(letters, handle) != 0 || disk->ops->sync(disk, handle) != 0 ||
        disk->ops->sync_folder(disk) != 0) {
        return SL_E_STORAGE_UNAVAILABLE;
    }
    letters->end = FILE_HEADER;
    return 0;
}

static int write_header(struct store_dead_letters *letters, int handle)
{
    struct store_format_segment header = {.salt = letters->salt,
                                          .created_us = (int64_t)time(NULL) * 1000000};
    uint8_t bytes[FILE_HEADER];

    store_format_encode_segment(&header, bytes);
    return store_dead_letter_file_write(letters->disk, handle, bytes, sizeof(bytes), 0);
}

/* ---- list and retry ---- */

int store_dead_letter_list(struct store_dead_letters *letters, store_dead_letter_fn each,
                           void *context)
{
    struct store_dead_letter_walk walk;
    struct store_dead_letter_stretch stretch = {.len = 1};
    bool wanted = true;
    int err = store_dead_letter_walk_begin(letters->disk, letters->salt, &walk);

    while (err == 0 && wanted && stretch.len > 0) {
        err = store_dead_letter_walk_next(&walk, &stretch);
        if (err == 0 && stretch.is_letter) {
            wanted = each(context, &stretch.letter);
            store_record_destroy(stretch.letter.record);
        }
    }
    store_dead_letter_walk_end(&walk);
    return err;
}

int store_dead_letter_retry(struct store_dead_letters *letters, store_dead_letter_fn settle,
                            void *context)
{
    struct store_disk *disk = letters->disk;
    int err = disk->ops->lock(disk);

    if (err != 0) {
        return err == -EWOULDBLOCK ? SL_E_CONFLICT : SL_E_STORAGE_UNAVAILABLE;
    }
    if (letters->end == 0 || letters->put_aside) {
        return 0;
    }
    (void)disk->ops->unlink(disk, NEW_NAME); /* of an attempt that was cut short */
    int to = disk->ops->open(disk, NEW_NAME, STORE_DISK_CREATE);
    if (to < 0) {
        return SL_E_STORAGE_UNAVAILABLE;
    }
    err = rewrite(letters, to, settle, context);
    disk->ops->close(disk, to);
    if (err != 0) {
        (void)disk->ops->unlink(disk, NEW_NAME);
    }
    return err;
}

static int rewrite(struct store_dead_letters *letters, int to, store_dead_letter_fn settle,
                   void *context)
{
    struct store_disk *disk = letters->disk;
    struct store_dead_letter_walk walk;
    uint64_t end = 0, left = 0;
    int err = store_dead_letter_walk_begin(disk, letters->salt, &walk);

    if (err == 0) {
        err = copy_rest(letters, &walk, to, settle, context, &end, &left);
    }
    store_dead_letter_walk_end(&walk);
    if (err != 0) {
        return err;
    }
    if (disk->ops->sync(disk, to) != 0 ||
        disk->ops->rename(disk, NEW_NAME, STORE_DEAD_LETTER_FILE) != 0) {
        return SL_E_STORAGE_UNAVAILABLE;
    }
    letters->end = align(end);
    atomic_store_explicit(&letters->stats.letters, left, memory_order_relaxed);
    return disk->ops->sync_folder(disk) == 0 ? 0 : SL_E_STORAGE_UNAVAILABLE;
}

/* Damaged stretches are copied too. */
static int copy_rest(struct store_dead_letters *letters, struct store_dead_letter_walk *walk,
                     int to, store_dead_letter_fn settle, void *context, uint64_t *ret_end,
                     uint64_t *ret_left)
{
    struct store_dead_letter_stretch stretch = {.len = 1};
    uint64_t end = FILE_HEADER, left = 0;
    int err = write_header(letters, to);

    while (err == 0) {
        err = store_dead_letter_walk_next(walk, &stretch);
        if (err != 0 || stretch.len == 0) {
            break;
        }
        bool gone = false;
        if (stretch.is_letter) {
            gone = settle(context, &stretch.letter);
            store_record_destroy(stretch.letter.record);
        }
        if (!gone) {
            err = store_dead_letter_walk_copy(walk, &stretch, to, end);
            end += stretch.len;
            left += stretch.is_letter;
        }
    }
    *ret_end = end;
    *ret_left = left;
    return err;
}

/* ---- figures ---- */

const struct store_dead_letter_stats *
store_dead_letter_figures(const struct store_dead_letters *letters)
{
    return &letters->stats;
}

static uint64_t align(uint64_t size)
{
    return (size + STORE_FORMAT_ALIGN - 1) & ~(uint64_t)(STORE_FORMAT_ALIGN - 1);
}
