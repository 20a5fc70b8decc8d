/*
 * The checkpoint: how far the writer has come.
 *
 * Happy path: the new one is written beside the old one, synced, renamed over it, and the folder
 * synced. Failure modes: at any step the old one is left as it was; a temporary file that a crash
 * left behind is removed by the next write. Thread, ownership: see the header.
 */
#include "journal_checkpoint.h"

#include <errno.h>
#include <string.h>

#include "journal_format.h"
#include "journal_segment.h"

/* magic, three numbers, checksum; in this machine's byte order, which the magic shows */
struct checkpoint_file {
    uint64_t magic, committed, next_sequence, first_segment, reserved;
    uint32_t version, crc;
};

#define CHECKPOINT_MAGIC UINT64_C(0x3130504b434a4c53) /* "SLJCKP01" */

static uint32_t checksum(const struct checkpoint_file *file)
{
    return store_format_crc32c(0, file, offsetof(struct checkpoint_file, crc));
}

int store_checkpoint_read(struct store_disk *disk, struct store_checkpoint *ret_checkpoint)
{
    struct checkpoint_file file;
    int from = disk->ops->open(disk, STORE_CHECKPOINT_NAME, STORE_DISK_READ);

    if (from < 0) {
        return from;
    }
    memset(&file, 0, sizeof(file));
    ssize_t got = disk->ops->read(disk, from, &file, sizeof(file), 0);
    disk->ops->close(disk, from);
    if (got < 0) {
        return (int)got;
    }
    if ((size_t)got != sizeof(file) || file.magic != CHECKPOINT_MAGIC || file.version != 1 ||
        file.crc != checksum(&file) || file.committed >= STORE_FORMAT_NUMBER_MAX ||
        file.next_sequence >= STORE_FORMAT_NUMBER_MAX) {
        return -EBADMSG;
    }
    *ret_checkpoint = (struct store_checkpoint){.committed = file.committed,
                                                .next_sequence = file.next_sequence,
                                                .first_segment = file.first_segment};
    return 0;
}

int store_checkpoint_write(struct store_disk *disk, const struct store_checkpoint *checkpoint)
{
    struct checkpoint_file file = {.magic = CHECKPOINT_MAGIC,
                                   .version = 1,
                                   .committed = checkpoint->committed,
                                   .next_sequence = checkpoint->next_sequence,
                                   .first_segment = checkpoint->first_segment};
    file.crc = checksum(&file);

    int to = disk->ops->open(disk, STORE_CHECKPOINT_TEMPORARY, STORE_DISK_CREATE);
    if (to == -EEXIST) {
        (void)disk->ops->unlink(disk, STORE_CHECKPOINT_TEMPORARY);
        to = disk->ops->open(disk, STORE_CHECKPOINT_TEMPORARY, STORE_DISK_CREATE);
    }
    if (to < 0) {
        return to;
    }
    int err = store_segment_write_all(disk, to, &file, sizeof(file), 0);
    if (err == 0) {
        err = disk->ops->sync(disk, to);
    }
    disk->ops->close(disk, to);
    if (err == 0) {
        err = disk->ops->rename(disk, STORE_CHECKPOINT_TEMPORARY, STORE_CHECKPOINT_NAME);
    }
    if (err != 0) {
        (void)disk->ops->unlink(disk, STORE_CHECKPOINT_TEMPORARY);
        return err;
    }
    return disk->ops->sync_folder(disk);
}
