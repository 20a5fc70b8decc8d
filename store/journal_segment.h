/**
 * One segment of the journal: a preallocated file of records.
 *
 * Thread: the journal's; `end`, the sequences, the list and `readers` are shared with the writer's
 * thread and guarded by the journal's mutex. Ownership: the journal's list owns the segments.
 */
#pragma once

#include "disk.h"
#include "journal_format.h"

enum { STORE_SEGMENT_NAME = 40 };

struct store_segment {
    uint64_t number, salt, size;
    uint64_t end;                           /* what lies before it is durable */
    uint64_t first_sequence, last_sequence; /* of the durable records; 0: none */
    int64_t newest_us;                      /* time of the newest record */
    uint64_t damages;                       /* places that the scan at the start stepped over */
    unsigned readers;                       /* not deleted while there are any */
    bool settled;    /* every record in it was committed before this process began */
    bool unreadable; /* nobody knows what is in it: never deleted */
    bool unrescued;  /* its handle died: what is not committed is to be written elsewhere */
    struct store_segment *next;
    /* while it is written to */
    int file;         /* negative: it is not */
    uint64_t written; /* how far it is written; from `end` on not durable yet */
    uint64_t written_first, written_last;
    int64_t written_newest_us;
};

void store_segment_name(uint64_t number, char ret_name[STORE_SEGMENT_NAME]);

/** False: not the name of a segment. */
bool store_segment_parse_name(const char *name, uint64_t *ret_number);

/**
 * Makes a segment that is ready for records: allocated, its header and its name durable. 0 or a
 * negative errno; then nothing is left of it.
 */
SL_MUST_CHECK int store_segment_create(struct store_disk *disk, uint64_t number, uint64_t size,
                                       struct store_segment **ret_segment);

/** Opens a segment of an earlier run to go on writing at its `end`. 0 or a negative errno. */
SL_MUST_CHECK int store_segment_reopen(struct store_disk *disk, struct store_segment *segment);

/** Writes all of it at `written`, in as many calls as it takes. 0 or a negative errno. */
SL_MUST_CHECK int store_segment_write(struct store_disk *disk, struct store_segment *segment,
                                      const uint8_t *bytes, size_t len);

/** Notes a record that has been, or is about to be, written. */
void store_segment_note(struct store_segment *segment, uint64_t sequence, int64_t recorded_at_us);

/** After a sync that returned 0: what was written is durable. */
void store_segment_advance(struct store_segment *segment);

/** Ends writing. Idempotent. */
void store_segment_close(struct store_disk *disk, struct store_segment *segment);

/** Writes all `len` bytes of a small file. 0 or a negative errno. */
SL_MUST_CHECK int store_segment_write_all(struct store_disk *disk, int file, const void *bytes,
                                          size_t len, uint64_t offset);
