/**
 * The checkpoint: how far the writer has come, in a small file that is replaced as a whole.
 *
 * It only saves work. Without it everything that is retained is delivered again, which the ids make
 * harmless; a checkpoint that names segments which are gone is fine too (vectordotdev/vector #25570).
 * Thread: any, one at a time.
 */
#pragma once

#include "disk.h"

#define STORE_CHECKPOINT_NAME "checkpoint"
#define STORE_CHECKPOINT_TEMPORARY "checkpoint.tmp"

struct store_checkpoint {
    uint64_t committed;     /* everything up to this sequence number is in Postgres */
    uint64_t next_sequence; /* no number below it may be given out */
    uint64_t first_segment; /* segments below it hold nothing that is uncommitted */
};

/** 0, or a negative errno: -ENOENT (none) and -EBADMSG (damaged) among them. */
SL_MUST_CHECK int store_checkpoint_read(struct store_disk *disk,
                                        struct store_checkpoint *ret_checkpoint);

/** Temporary file, sync, rename, folder sync. 0 or a negative errno; then the old one still counts. */
SL_MUST_CHECK int store_checkpoint_write(struct store_disk *disk,
                                         const struct store_checkpoint *checkpoint);
