/* What the tests of the dead letters share. See letter_fixture.h. Thread: main. */
#include "letter_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

struct fault_disk fault;
char folder[64], file[96];
struct store_dead_letters *letters;
struct seen_letters seen;

/* ---- a disk that fails at one call ---- */

static bool fails_now(void)
{
    return ++fault.calls == fault.fails;
}

static int fault_open(struct store_disk *disk, const char *name, enum store_disk_mode mode)
{
    (void)disk;
    if (mode != STORE_DISK_READ && fails_now()) {
        return -EIO;
    }
    return fault.below->ops->open(fault.below, name, mode);
}

static void fault_close(struct store_disk *disk, int handle)
{
    (void)disk;
    fault.below->ops->close(fault.below, handle);
}

static ssize_t fault_read(struct store_disk *disk, int handle, void *to, size_t len,
                          uint64_t offset)
{
    (void)disk;
    /* in pieces, as a disk may */
    return fault.below->ops->read(fault.below, handle, to, len > 1000 ? 1000 : len, offset);
}

/* The call that fails has written half of it. */
static ssize_t fault_write(struct store_disk *disk, int handle, const void *from, size_t len,
                           uint64_t offset)
{
    (void)disk;
    if (fails_now()) {
        (void)!fault.below->ops->write(fault.below, handle, from, len / 2, offset);
        return -ENOSPC;
    }
    return fault.below->ops->write(fault.below, handle, from, len > 1000 ? 1000 : len, offset);
}

static int fault_sync(struct store_disk *disk, int handle)
{
    (void)disk;
    return fails_now() ? -EIO : fault.below->ops->sync(fault.below, handle);
}

static int fault_sync_folder(struct store_disk *disk)
{
    (void)disk;
    return fails_now() ? -EIO : fault.below->ops->sync_folder(fault.below);
}

static int fault_rename(struct store_disk *disk, const char *from, const char *to)
{
    (void)disk;
    return fails_now() ? -EIO : fault.below->ops->rename(fault.below, from, to);
}

static int fault_unlink(struct store_disk *disk, const char *name)
{
    (void)disk;
    return fails_now() ? -EIO : fault.below->ops->unlink(fault.below, name);
}

static int fault_stat(struct store_disk *disk, const char *name, uint64_t *ret_size,
                      int64_t *ret_changed_unix_s)
{
    (void)disk;
    return fault.below->ops->stat(fault.below, name, ret_size, ret_changed_unix_s);
}

static int fault_lock(struct store_disk *disk)
{
    (void)disk;
    return fault.below->ops->lock(fault.below);
}

static const struct store_disk_ops fault_ops = {
    .open = fault_open,
    .close = fault_close,
    .read = fault_read,
    .write = fault_write,
    .sync = fault_sync,
    .sync_folder = fault_sync_folder,
    .rename = fault_rename,
    .unlink = fault_unlink,
    .stat = fault_stat,
    .lock = fault_lock,
};

/* ---- the folder ---- */

static void open_letters(void)
{
    assert_int_equal(store_dead_letter_open(&fault.disk, &letters), 0);
}

void reopen_letters(void)
{
    store_dead_letter_close(letters);
    open_letters();
}

int set_up(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/sluice-letters-XXXXXX");
    assert_non_null(mkdtemp(folder));
    (void)snprintf(file, sizeof(file), "%s/dead-letters", folder);
    fault = (struct fault_disk){.disk = {.ops = &fault_ops}};
    assert_int_equal(store_disk_posix_create(folder, &fault.below), 0);
    open_letters();
    return 0;
}

static void remove_entry(void *context, const char *name)
{
    (void)context;
    (void)fault.below->ops->unlink(fault.below, name);
}

int tear_down(void **state)
{
    (void)state;
    store_dead_letter_close(letters);
    assert_int_equal(fault.below->ops->list(fault.below, remove_entry, NULL), 0);
    fault.below->ops->destroy(fault.below);
    assert_int_equal(rmdir(folder), 0);
    return 0;
}

size_t load_file(uint8_t bytes[FILE_MAX])
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    ssize_t len = read(fd, bytes, FILE_MAX);
    (void)close(fd);
    assert_true(len >= 0 && len < FILE_MAX);
    return (size_t)len;
}

void put_file(const uint8_t *bytes, size_t len)
{
    int fd = open(file, O_WRONLY | O_TRUNC | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    (void)close(fd);
}

/* ---- letters ---- */

struct store_record *make_record(unsigned number, struct store_text content)
{
    struct store_message message = sample_message(number, NULL);
    struct sl_uuid session = sample_id(1);
    struct store_record *record = NULL;

    message.content = content;
    assert_int_equal(store_record_create_message("ann", 3, &session, &message, &record), 0);
    record->sequence = number; /* 0: never journalled */
    return record;
}

int append(unsigned number, const char *content)
{
    struct store_record *record = make_record(number, sample_text(content));
    int err = store_dead_letter_append_on_writer_thread(letters, record, "22021");
    store_record_destroy(record);
    return err;
}

void append_some(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char content[64];
        (void)snprintf(content, sizeof(content), "%.*s", (int)(i * 7 % 50),
                       "a text whose length is not always the same, \xff and all");
        assert_int_equal(append(i, content), 0);
    }
}

bool see(void *context, struct store_dead_letter *letter)
{
    (void)context;
    assert_true(seen.count < LETTERS_MAX);
    seen.numbers[seen.count++] = sample_number(&letter->record->message.id);
    assert_int_equal(letter->record->sequence, 0);
    assert_null(letter->record->origin);
    return true;
}

unsigned list(void)
{
    seen.count = 0;
    assert_int_equal(store_dead_letter_list(letters, see, NULL), 0);
    return seen.count;
}

void assert_seen_but(unsigned count, unsigned missing)
{
    for (unsigned i = 0, at = 0; i < count; i++) {
        if (i != missing) {
            assert_int_equal(seen.numbers[at++], i);
        }
    }
}

uint64_t damaged(void)
{
    return sl_counter_get(&store_dead_letter_figures(letters)->damaged);
}

uint64_t counted(void)
{
    return sl_counter_get(&store_dead_letter_figures(letters)->letters);
}
