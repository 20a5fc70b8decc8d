/**
 * Reads the records of one segment, one after the other, and steps over damage to the next intact one.
 *
 * Thread: one at a time per cursor; the segment may be appended to meanwhile, behind the cursor's limit.
 * Ownership: a view stays valid until the next call on the cursor.
 */
#pragma once

#include "disk.h"
#include "journal_format.h"

struct store_cursor {
    struct store_disk *disk;
    char name[40];
    int file;        /* negative: not open */
    uint64_t offset; /* where the next record is looked for */
    uint64_t limit;  /* nothing at or after it is looked at; may be raised */
    uint64_t salt;
    bool salt_known; /* false: the first intact record's salt is taken for the segment's */
    /* what the last call stepped over: nothing when both are equal */
    uint64_t damage_from, damage_to;
    bool unreadable; /* the disk refused to give some of it */
    /* private */
    uint8_t *buffer;
    size_t capacity, filled;
    uint64_t buffer_at;
};

/** Starts at `offset`, a multiple of 8. 0 or a negative errno. */
SL_MUST_CHECK int store_cursor_open(struct store_cursor *cursor, struct store_disk *disk,
                                    const char *name, uint64_t offset, uint64_t limit);

/** As store_cursor_open, and reads the segment's header: `*ret_intact` says whether it was one. */
SL_MUST_CHECK int store_cursor_open_segment(struct store_cursor *cursor, struct store_disk *disk,
                                            const char *name, uint64_t limit, bool *ret_intact);

/**
 * 1: the next intact record; damage_from and damage_to are the bytes stepped over before it.
 * 0: no intact record up to the limit; the damage is what is not zero of the rest, and the offset
 * stays, so a raised limit can be tried. Or SL_E_NO_MEMORY.
 */
SL_MUST_CHECK int store_cursor_next(struct store_cursor *cursor,
                                    struct store_format_view *ret_view);

/** Idempotent, also on zeroed memory with file -1. */
void store_cursor_close(struct store_cursor *cursor);
