/**
 * The scan at the start: which segments there are, what is in them, and what became of their ends.
 *
 * Damage never stops it: it is counted, copied to a file `quarantine-<segment>-<offset>` in the folder
 * and stepped over. Thread: the main one, before the journal's runs. Ownership: the list is the caller's.
 */
#pragma once

#include "journal.h"
#include "journal_checkpoint.h"
#include "journal_segment.h"

struct store_recovery {
    struct store_segment *segments;     /* by number */
    struct store_segment *last;         /* may be gone on with: clean, and the newest; or NULL */
    struct store_checkpoint checkpoint; /* zeros: none */
    uint64_t highest_number, highest_sequence;
    uint64_t uncommitted, newest_uncommitted;
    int64_t oldest_uncommitted_us;
    bool
        unclean; /* something could not be read: numbers that are given out must stay clear of it */
};

/** 0, SL_E_NO_MEMORY or SL_E_STORAGE_UNAVAILABLE (the folder cannot be listed). Counts into `stats`. */
SL_MUST_CHECK int store_recovery_run(struct store_disk *disk, struct store_journal_stats *stats,
                                     struct store_recovery *ret_recovery);

/**
 * For a reader only: the segments changed at or after `since_unix_s`, as far as they can be opened.
 * Nothing is written. Same errors.
 */
SL_MUST_CHECK int store_recovery_look(struct store_disk *disk, int64_t since_unix_s,
                                      struct store_segment **ret_segments);

void store_recovery_free_segments(struct store_segment *first);
