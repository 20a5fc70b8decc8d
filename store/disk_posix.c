/*
 * The journal's disk: one folder of the real file system.
 *
 * Happy path: the folder is opened once; everything else is relative to it (openat), so that a rename
 * of a parent cannot lead the journal elsewhere. The lock is flock(2) on the folder itself: it needs
 * no file, goes with the process however that ends, and also keeps out a second open in this process.
 *
 * Failure modes: every call gives the kernel's errno, negated. A sync that failed is not repeated
 * here: the kernel has marked the pages clean and the next one would lie (Rebello et al., ATC '20).
 * Thread: any, one at a time per handle. Ownership: destroy frees the disk.
 */
#include "disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sluice/op.h"

struct posix_disk {
    struct store_disk disk;
    int folder;
};

enum { ZEROS = 1 << 16 };

static int make_folders(const char *folder);
static int make_folder(const char *path);
static int fill_with_zeros(int handle, uint64_t size);

static int folder_of(const struct store_disk *disk)
{
    return SL_CONTAINER_OF(disk, const struct posix_disk, disk)->folder;
}

/* ---- files ---- */

static int posix_open(struct store_disk *disk, const char *name, enum store_disk_mode mode)
{
    int flags = mode == STORE_DISK_READ ? O_RDONLY : O_RDWR;
    int handle;

    if (mode == STORE_DISK_CREATE) {
        flags |= O_CREAT | O_EXCL;
    }
    do {
        handle = openat(folder_of(disk), name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    } while (handle < 0 && errno == EINTR);
    return handle < 0 ? -errno : handle;
}

static void posix_close(struct store_disk *disk, int handle)
{
    (void)disk;
    (void)close(handle);
}

static ssize_t posix_read(struct store_disk *disk, int handle, void *to, size_t len,
                          uint64_t offset)
{
    ssize_t got;

    (void)disk;
    do {
        got = pread(handle, to, len, (off_t)offset);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static ssize_t posix_write(struct store_disk *disk, int handle, const void *from, size_t len,
                           uint64_t offset)
{
    ssize_t put;

    (void)disk;
    do {
        put = pwrite(handle, from, len, (off_t)offset);
    } while (put < 0 && errno == EINTR);
    return put < 0 ? -errno : put;
}

static int posix_preallocate(struct store_disk *disk, int handle, uint64_t size)
{
    int result;

    (void)disk;
    do {
        result = fallocate(handle, 0, 0, (off_t)size);
    } while (result < 0 && errno == EINTR);
    if (result < 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) {
        return fill_with_zeros(handle, size);
    }
    return result < 0 ? -errno : 0;
}

/* for file systems without fallocate: written blocks are allocated blocks */
static int fill_with_zeros(int handle, uint64_t size)
{
    static const char zeros[ZEROS];
    struct stat about;

    if (fstat(handle, &about) < 0) {
        return -errno;
    }
    for (uint64_t at = (uint64_t)about.st_size; at < size;) {
        size_t len = size - at < ZEROS ? (size_t)(size - at) : ZEROS;
        ssize_t put = pwrite(handle, zeros, len, (off_t)at);
        if (put < 0 && errno != EINTR) {
            return -errno;
        }
        at += put > 0 ? (uint64_t)put : 0;
    }
    return 0;
}

static int posix_sync(struct store_disk *disk, int handle)
{
    (void)disk;
    return fdatasync(handle) < 0 ? -errno : 0;
}

/* ---- the folder ---- */

static int posix_sync_folder(struct store_disk *disk)
{
    return fsync(folder_of(disk)) < 0 ? -errno : 0;
}

static int posix_rename(struct store_disk *disk, const char *from, const char *to)
{
    return renameat(folder_of(disk), from, folder_of(disk), to) < 0 ? -errno : 0;
}

static int posix_unlink(struct store_disk *disk, const char *name)
{
    return unlinkat(folder_of(disk), name, 0) < 0 ? -errno : 0;
}

static int posix_stat(struct store_disk *disk, const char *name, uint64_t *ret_size,
                      int64_t *ret_changed_unix_s)
{
    struct stat about;

    if (fstatat(folder_of(disk), name, &about, AT_SYMLINK_NOFOLLOW) < 0) {
        return -errno;
    }
    *ret_size = (uint64_t)about.st_size;
    *ret_changed_unix_s = (int64_t)about.st_mtim.tv_sec;
    return 0;
}

static int posix_list(struct store_disk *disk, void (*each)(void *context, const char *name),
                      void *context)
{
    int folder = openat(folder_of(disk), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (folder < 0) {
        return -errno;
    }
    DIR *entries = fdopendir(folder);
    if (entries == NULL) {
        int err = -errno;
        (void)close(folder);
        return err;
    }
    int err = 0;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(entries);
        if (entry == NULL) {
            err = -errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            each(context, entry->d_name);
        }
    }
    (void)closedir(entries);
    return err;
}

static int posix_lock(struct store_disk *disk)
{
    return flock(folder_of(disk), LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

static void posix_destroy(struct store_disk *disk)
{
    (void)close(folder_of(disk));
    free(SL_CONTAINER_OF(disk, struct posix_disk, disk));
}

static const struct store_disk_ops posix_ops = {
    .open = posix_open,
    .close = posix_close,
    .read = posix_read,
    .write = posix_write,
    .preallocate = posix_preallocate,
    .sync = posix_sync,
    .sync_folder = posix_sync_folder,
    .rename = posix_rename,
    .unlink = posix_unlink,
    .stat = posix_stat,
    .list = posix_list,
    .lock = posix_lock,
    .destroy = posix_destroy,
};

/* ---- start ---- */

int store_disk_posix_create(const char *folder, struct store_disk **ret_disk)
{
    int err = make_folders(folder);

    if (err != 0) {
        return err;
    }
    struct posix_disk *disk = calloc(1, sizeof(*disk));
    if (disk == NULL) {
        return -ENOMEM;
    }
    disk->disk.ops = &posix_ops;
    disk->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (disk->folder < 0) {
        err = -errno;
        free(disk);
        return err;
    }
    *ret_disk = &disk->disk;
    return 0;
}

/* every missing folder of the path, from the top */
static int make_folders(const char *folder)
{
    char path[PATH_MAX];
    size_t len = strlen(folder);

    if (len == 0 || len >= sizeof(path)) {
        return len == 0 ? -ENOENT : -ENAMETOOLONG;
    }
    memcpy(path, folder, len + 1);
    for (size_t i = 1; i < len; i++) {
        if (path[i] == '/') {
            path[i] = '\0';
            int err = make_folder(path);
            if (err != 0) {
                return err;
            }
            path[i] = '/';
        }
    }
    return make_folder(path);
}

/* a new folder's name must be as durable as what is going to be in it */
static int make_folder(const char *path)
{
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');

    if (mkdir(path, 0700) < 0) {
        /* a missing right to create matters only if the folder is missing too */
        return errno == EEXIST || access(path, F_OK) == 0 ? 0 : -errno;
    }
    if (slash == NULL) {
        memcpy(parent, ".", 2);
    } else if (slash == path) {
        memcpy(parent, "/", 2);
    } else {
        memcpy(parent, path, (size_t)(slash - path));
        parent[slash - path] = '\0';
    }
    int above = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (above >= 0) {
        (void)fsync(above); /* some file systems refuse it; the journal's own syncs decide */
        (void)close(above);
    }
    return 0;
}
