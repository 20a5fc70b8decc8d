/*
 * The real folder: made with its parents and closed to others, files read back as written, allocated
 * before they are written, and one lock, also against another process and beyond its death.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "disk.h"

static char base[] = "/tmp/sluice-disk-XXXXXX";
static char folder[64];

static int make_base(void **state)
{
    (void)state;
    if (mkdtemp(base) == NULL) {
        return -1;
    }
    (void)snprintf(folder, sizeof(folder), "%s/a/b", base);
    return 0;
}

static int remove_base(void **state)
{
    char command[96];

    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", base);
    return system(command);
}

static struct store_disk *open_disk(void)
{
    struct store_disk *disk = NULL;
    assert_int_equal(store_disk_posix_create(folder, &disk), 0);
    return disk;
}

static void the_folder_is_made_private(void **state)
{
    struct store_disk *disk = open_disk();
    struct stat about;

    (void)state;
    assert_int_equal(stat(folder, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0700);
    disk->ops->destroy(disk);
    disk = open_disk(); /* it may be there already */
    disk->ops->destroy(disk);
}

static void what_cannot_be_a_folder_is_an_error(void **state)
{
    struct store_disk *disk = NULL;
    char path[96];

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/file", base);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fclose(file);
    assert_int_equal(store_disk_posix_create(path, &disk), -ENOTDIR);
    (void)snprintf(path, sizeof(path), "%s/file/below", base);
    assert_int_equal(store_disk_posix_create(path, &disk), -ENOTDIR);
    assert_int_equal(store_disk_posix_create("", &disk), -ENOENT);
    assert_null(disk);
}

static void count_name(void *context, const char *name)
{
    if (strcmp(name, "one") == 0) {
        ++*(int *)context;
    }
}

static void files_are_made_read_and_removed(void **state)
{
    struct store_disk *disk = open_disk();
    const struct store_disk_ops *ops = disk->ops;
    struct stat about;
    char path[96], bytes[8];
    uint64_t size = 0;
    int64_t changed = 0;
    int names = 0;

    (void)state;
    assert_int_equal(ops->open(disk, "one", STORE_DISK_READ), -ENOENT);
    assert_int_equal(ops->open(disk, "one", STORE_DISK_WRITE), -ENOENT);
    int file = ops->open(disk, "one", STORE_DISK_CREATE);
    assert_true(file >= 0);
    assert_int_equal(ops->open(disk, "one", STORE_DISK_CREATE), -EEXIST);
    assert_int_equal(ops->preallocate(disk, file, 100000), 0);
    assert_int_equal(ops->write(disk, file, "hello", 5, 99), 5);
    assert_int_equal(ops->sync(disk, file), 0);
    assert_int_equal(ops->sync_folder(disk), 0);
    assert_int_equal(ops->stat(disk, "one", &size, &changed), 0);
    assert_int_equal(size, 100000);
    assert_true(changed > 1700000000);
    (void)snprintf(path, sizeof(path), "%s/one", folder);
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0600);
    assert_true(about.st_blocks * 512 >= 100000);
    ops->close(disk, file);
    assert_int_equal(ops->rename(disk, "one", "two"), 0);
    assert_int_equal(ops->rename(disk, "two", "one"), 0);
    assert_int_equal(ops->list(disk, count_name, &names), 0);
    assert_int_equal(names, 1);
    file = ops->open(disk, "one", STORE_DISK_READ);
    assert_int_equal(ops->read(disk, file, bytes, 5, 99), 5);
    assert_memory_equal(bytes, "hello", 5);
    assert_int_equal(ops->read(disk, file, bytes, 5, 100000), 0);
    assert_true(ops->write(disk, file, "x", 1, 0) < 0);
    ops->close(disk, file);
    assert_int_equal(ops->unlink(disk, "one"), 0);
    assert_int_equal(ops->unlink(disk, "one"), -ENOENT);
    assert_int_equal(ops->stat(disk, "one", &size, &changed), -ENOENT);
    ops->destroy(disk);
}

static void a_link_is_not_followed(void **state)
{
    struct store_disk *disk = open_disk();
    char path[96];

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/link", folder);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_int_equal(disk->ops->open(disk, "link", STORE_DISK_READ), -ELOOP);
    assert_int_equal(disk->ops->unlink(disk, "link"), 0);
    disk->ops->destroy(disk);
}

static void the_lock_keeps_everybody_else_out(void **state)
{
    struct store_disk *first = open_disk(), *second = open_disk();
    int ready[2];
    char byte;

    (void)state;
    assert_int_equal(first->ops->lock(first), 0);
    assert_int_equal(second->ops->lock(second), -EWOULDBLOCK);
    first->ops->destroy(first);
    assert_int_equal(second->ops->lock(second), 0);
    second->ops->destroy(second);

    assert_int_equal(pipe(ready), 0);
    pid_t child = fork(); /* another process holds it until it is killed */
    if (child == 0) {
        struct store_disk *theirs = NULL;
        if (store_disk_posix_create(folder, &theirs) == 0 && theirs->ops->lock(theirs) == 0 &&
            write(ready[1], "x", 1) == 1) {
            (void)pause();
        }
        _exit(1);
    }
    assert_true(child > 0);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    second = open_disk();
    assert_int_equal(second->ops->lock(second), -EWOULDBLOCK);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(second->ops->lock(second), 0);
    second->ops->destroy(second);
    (void)close(ready[0]);
    (void)close(ready[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_folder_is_made_private),
        cmocka_unit_test(what_cannot_be_a_folder_is_an_error),
        cmocka_unit_test(files_are_made_read_and_removed),
        cmocka_unit_test(a_link_is_not_followed),
        cmocka_unit_test(the_lock_keeps_everybody_else_out),
    };

    return cmocka_run_group_tests(tests, make_base, remove_base);
}
