/**
 * The calls through which the journal touches a disk, as one table.
 *
 * Production uses disk_posix.c; the tests use a simulated disk that can stop, tear and fail at every
 * single call while the production code runs unchanged (SQLite's way of testing). Names are relative
 * to the one folder that the disk stands for. All functions return 0 (or a count) or a negative errno,
 * and block. Thread: one at a time per handle. Ownership: a handle is its opener's until close.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "sluice/error.h"

struct store_disk;

enum store_disk_mode {
    STORE_DISK_READ,   /* must exist */
    STORE_DISK_CREATE, /* must not exist; read and write, mode 0600 */
    STORE_DISK_WRITE,  /* must exist; read and write */
};

struct store_disk_ops {
    int (*open)(struct store_disk *disk, const char *name, enum store_disk_mode mode);
    void (*close)(struct store_disk *disk, int handle);
    ssize_t (*read)(struct store_disk *disk, int handle, void *to, size_t len, uint64_t offset);
    /** May write less than `len`. */
    ssize_t (*write)(struct store_disk *disk, int handle, const void *from, size_t len,
                     uint64_t offset);
    /** Allocates blocks up to `size`, so that writes into it cannot meet a full disk. */
    int (*preallocate)(struct store_disk *disk, int handle, uint64_t size);
    int (*sync)(struct store_disk *disk, int handle); /* fdatasync */
    int (*sync_folder)(struct store_disk *disk);
    int (*rename)(struct store_disk *disk, const char *from, const char *to);
    int (*unlink)(struct store_disk *disk, const char *name);
    /** Size in bytes and time of last change of a file. */
    int (*stat)(struct store_disk *disk, const char *name, uint64_t *ret_size,
                int64_t *ret_changed_unix_s);
    /** Calls `each` for every name in the folder, in no order. */
    int (*list)(struct store_disk *disk, void (*each)(void *context, const char *name),
                void *context);
    /** Takes the lock against a second process; it lasts until destroy. -EWOULDBLOCK: held elsewhere. */
    int (*lock)(struct store_disk *disk);
    void (*destroy)(struct store_disk *disk);
};

struct store_disk {
    const struct store_disk_ops *ops;
};

/** A folder of the real file system; it is made (0700) when it is missing, with its parents. 0 or a negative errno. */
SL_MUST_CHECK int store_disk_posix_create(const char *folder, struct store_disk **ret_disk);
