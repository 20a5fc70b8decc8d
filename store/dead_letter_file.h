/**
 * The bytes of the file of dead letters: one letter encoded, and a walk through all of them.
 *
 * The layout is in dead_letter.h. Thread: the caller's, one at a time per walk. Ownership: the disk is the
 * caller's; a walk holds an open file until its end.
 */
#pragma once

#include "dead_letter.h"
#include "journal_format.h"

#define STORE_DEAD_LETTER_FILE "dead-letters"

enum { STORE_DEAD_LETTER_FILE_HEADER = STORE_FORMAT_SEGMENT_HEADER };

/** The bytes of a letter; 0: the record is too large for any. */
size_t store_dead_letter_file_size(const struct store_record *record);

/** Writes that many bytes to `to`. */
void store_dead_letter_file_encode(const struct store_record *record, const char *sqlstate,
                                   int64_t unix_s, uint64_t salt, uint8_t *to);

/* Its members are read-only for the caller. */
struct store_dead_letter_walk {
    struct store_disk *disk;
    uint64_t salt;
    int handle;        /* negative: there is no file */
    uint64_t at, size; /* in the file */
    uint8_t *bytes;    /* of the present letter */
    size_t capacity;
};

/* What the walk has come to: a letter, or a stretch that is none. */
struct store_dead_letter_stretch {
    uint64_t from, len; /* len 0: the end */
    bool is_letter;
    struct store_dead_letter letter; /* its record is the caller's to free */
};

/**
 * Opens the file and stands at its first letter; a missing one is empty. End the walk in any case. 0 or
 * SL_E_STORAGE_UNAVAILABLE.
 */
SL_MUST_CHECK int store_dead_letter_walk_begin(struct store_disk *disk, uint64_t salt,
                                               struct store_dead_letter_walk *walk);
void store_dead_letter_walk_end(struct store_dead_letter_walk *walk);

/** The next stretch. 0, SL_E_STORAGE_UNAVAILABLE or SL_E_NO_MEMORY. */
SL_MUST_CHECK int store_dead_letter_walk_next(struct store_dead_letter_walk *walk,
                                              struct store_dead_letter_stretch *ret_stretch);

/** Copies a stretch as it is to another file. 0 or SL_E_STORAGE_UNAVAILABLE. */
SL_MUST_CHECK int store_dead_letter_walk_copy(const struct store_dead_letter_walk *walk,
                                              const struct store_dead_letter_stretch *stretch,
                                              int to, uint64_t at);

/** Reads or writes all of it, in as many calls as it takes. 0 or SL_E_STORAGE_UNAVAILABLE. */
SL_MUST_CHECK int store_dead_letter_file_read(struct store_disk *disk, int handle, void *to,
                                              size_t len, uint64_t at);
SL_MUST_CHECK int store_dead_letter_file_write(struct store_disk *disk, int handle,
                                               const void *from, size_t len, uint64_t at);
