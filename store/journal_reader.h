/**
 * Reads records over many segments in the order of their sequence numbers, each once.
 *
 * Normally one segment follows the other. After the death of a handle the same record may be in two
 * segments, and a later number in an older one; so the reader always takes the lowest number next.
 * Memory: one struct per segment, a buffer only for those being read.
 *
 * Thread: one at a time; attach, and detaching by it, need whatever guards the segments. Ownership:
 * segments stay their list's and are not deleted while `readers` counts the reader.
 */
#pragma once

#include "journal_cursor.h"
#include "journal_segment.h"

struct store_reader_source {
    struct store_segment *segment;
    uint64_t first_sequence;
    struct store_cursor cursor;
    bool started, has_head, ended;
    uint64_t damages; /* places stepped over so far */
    struct store_format_view head;
};

struct store_reader {
    struct store_disk *disk;
    uint64_t after; /* numbers up to it are passed over */
    struct store_reader_source **sources;
    size_t count, capacity;
    bool has_last; /* the record taken last */
    struct sl_uuid last_id;
    int64_t last_recorded_at_us;
    size_t last_size;
    uint64_t damages; /* found while reading, beyond those known from the start */
    bool unreadable;  /* the disk refused to give something that may come back another day */
};

void store_reader_init(struct store_reader *reader, struct store_disk *disk, uint64_t after);

/**
 * Takes up segments of the list that hold something after `after`, and what was appended to those it
 * has; lets go of the others. `only_unrescued`: those marked so. 0 or SL_E_NO_MEMORY.
 */
SL_MUST_CHECK int store_reader_attach(struct store_reader *reader, struct store_segment *first,
                                      bool only_unrescued);

/** 1 and the next record, which stays the next; 0: there is none; or SL_E_NO_MEMORY. */
SL_MUST_CHECK int store_reader_peek(struct store_reader *reader,
                                    struct store_format_view *ret_view);

/** Steps over the record that peek has shown. */
void store_reader_take(struct store_reader *reader);

/** Lets go of everything. Idempotent. */
void store_reader_detach(struct store_reader *reader);
