/*
 * LD_PRELOAD: makes writes, syncs and allocations below one folder fail when a test says so.
 *
 * Happy path: each call goes to the real function. The test shares a page with this library (the file
 * named by DISK_FAULTS_CONTROL): per kind of call how many more fail (-1: all), with which errno, how
 * many have failed and how many were seen. DISK_FAULTS_FOLDER says below which folder; sockets, logs
 * and everything else are never touched.
 *
 * A failed call has no effect on the file, as after an EIO that the kernel reports: what was not
 * synced may be lost. A write that meets ENOSPC writes nothing.
 *
 * Failure modes: without the two variables, or without the file, nothing ever fails.
 * Thread: any; the page is read and written with atomics. Ownership: the page stays until exit.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { SYNC, WRITE, ALLOCATE, KINDS };

/* The layout that the test writes: harness/disk_faults.py. */
struct fault {
    int32_t remaining, error, hits, calls;
};

static struct fault *faults;
static const char *folder;
static size_t folder_len;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void share_page(void)
{
    const char *control = getenv("DISK_FAULTS_CONTROL");

    folder = getenv("DISK_FAULTS_FOLDER");
    if (control == NULL || folder == NULL) {
        return;
    }
    folder_len = strlen(folder);
    int fd = open(control, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    void *page =
        mmap(NULL, KINDS * sizeof(struct fault), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    faults = page == MAP_FAILED ? NULL : page;
}

static bool is_below_folder(int fd)
{
    char link[64], path[4096];

    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof(path));
    return len >= 0 && (size_t)len >= folder_len && memcmp(path, folder, folder_len) == 0 &&
           ((size_t)len == folder_len || path[folder_len] == '/');
}

/* 0: the call may go on; otherwise the errno it fails with. */
static int error_for(enum kind kind, int fd)
{
    (void)pthread_once(&once, share_page);
    if (faults == NULL || !is_below_folder(fd)) {
        return 0;
    }
    struct fault *fault = &faults[kind];
    (void)__atomic_add_fetch(&fault->calls, 1, __ATOMIC_SEQ_CST);
    int32_t remaining = __atomic_load_n(&fault->remaining, __ATOMIC_SEQ_CST);
    while (remaining > 0 &&
           !__atomic_compare_exchange_n(&fault->remaining, &remaining, remaining - 1, false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    if (remaining == 0) {
        return 0;
    }
    (void)__atomic_add_fetch(&fault->hits, 1, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&fault->error, __ATOMIC_SEQ_CST);
}

/* The real function, for a wrapper of the same name. */
#define CALL_REAL(name, ...)                                                                       \
    do {                                                                                           \
        static __typeof__(name) *real;                                                             \
        if (real == NULL) {                                                                        \
            real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name);                                    \
        }                                                                                          \
        return real(__VA_ARGS__);                                                                  \
    } while (0)

#define FAIL_IF_DUE(kind, fd)                                                                      \
    do {                                                                                           \
        int error = error_for(kind, fd);                                                           \
        if (error != 0) {                                                                          \
            errno = error;                                                                         \
            return -1;                                                                             \
        }                                                                                          \
    } while (0)

int fdatasync(int fd)
{
    FAIL_IF_DUE(SYNC, fd);
    CALL_REAL(fdatasync, fd);
}

int fsync(int fd)
{
    FAIL_IF_DUE(SYNC, fd);
    CALL_REAL(fsync, fd);
}

ssize_t write(int fd, const void *from, size_t len)
{
    FAIL_IF_DUE(WRITE, fd);
    CALL_REAL(write, fd, from, len);
}

ssize_t pwrite(int fd, const void *from, size_t len, off_t offset)
{
    FAIL_IF_DUE(WRITE, fd);
    CALL_REAL(pwrite, fd, from, len, offset);
}

ssize_t pwrite64(int fd, const void *from, size_t len, off64_t offset)
{
    FAIL_IF_DUE(WRITE, fd);
    CALL_REAL(pwrite64, fd, from, len, offset);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    FAIL_IF_DUE(WRITE, fd);
    CALL_REAL(pwritev, fd, parts, count, offset);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
    FAIL_IF_DUE(WRITE, fd);
    CALL_REAL(pwritev64, fd, parts, count, offset);
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    FAIL_IF_DUE(ALLOCATE, fd);
    CALL_REAL(fallocate, fd, mode, offset, len);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t len)
{
    FAIL_IF_DUE(ALLOCATE, fd);
    CALL_REAL(fallocate64, fd, mode, offset, len);
}

int posix_fallocate(int fd, off_t offset, off_t len)
{
    int error = error_for(ALLOCATE, fd); /* this one returns the error */

    if (error != 0) {
        return error;
    }
    CALL_REAL(posix_fallocate, fd, offset, len);
}

int posix_fallocate64(int fd, off64_t offset, off64_t len)
{
    int error = error_for(ALLOCATE, fd);

    if (error != 0) {
        return error;
    }
    CALL_REAL(posix_fallocate64, fd, offset, len);
}
