/**
 * Dead letters: the records that Postgres refuses on their own account, with the reason, in a file.
 *
 * One file in the journal's folder, append-only: a header like a segment's (journal_format.h), then
 * letters, each a header of 32 bytes and the record as the journal encodes it. Numbers are
 * little-endian, letters begin at multiples of 8:
 *
 *   0 magic "SLD1"   4 CRC32C of all that follows u32   8 the file's salt u64
 *   16 refused at, Unix seconds i64                      24 SQLSTATE, 5 characters and 3 zeros
 *
 * A letter that is damaged is skipped and counted, and stays in the file: nobody knows what it was.
 * After a crash between an append and the journal's next checkpoint a record may be there twice.
 *
 * Thread: append on the writer thread; list and retry in a process that writes nothing else (the
 * commands); the figures from any. Ownership: the disk stays the caller's and outlives the letters.
 */
#pragma once

#include "disk.h"
#include "pg_error.h"
#include "record.h"

struct store_dead_letters;

struct store_dead_letter {
    int64_t refused_unix_s;
    char sqlstate[STORE_SQLSTATE_SIZE];
    /** Lent; a callee that wants to keep it sets this to NULL. It has no origin and no sequence. */
    struct store_record *record;
};

typedef bool (*store_dead_letter_fn)(void *context, struct store_dead_letter *letter);

struct store_dead_letter_stats {
    sl_counter letters; /* in the file */
    sl_counter damaged; /* stretches of the file that are no letter */
};

/**
 * Looks at what is there; a file that is missing is made by the first append. 0,
 * SL_E_STORAGE_UNAVAILABLE (it cannot be read) or SL_E_NO_MEMORY.
 */
SL_MUST_CHECK int store_dead_letter_open(struct store_disk *disk,
                                         struct store_dead_letters **ret_letters);

/** NULL is accepted. */
void store_dead_letter_close(struct store_dead_letters *letters);

/**
 * What store_writer_options.refuse asks for, with the letters as its context. 0 when the letter is
 * durable; SL_E_STORAGE_UNAVAILABLE, SL_E_NO_MEMORY or SL_E_LIMIT (the record is too large): then it
 * is not there, and the next append takes its place.
 */
SL_MUST_CHECK int store_dead_letter_append_on_writer_thread(void *letters,
                                                            const struct store_record *record,
                                                            const char *sqlstate);

/**
 * Calls `each` for every letter, oldest first, until it returns false. Also while another process
 * appends: a letter that is just being written then counts as damaged. 0,
 * SL_E_STORAGE_UNAVAILABLE or SL_E_NO_MEMORY.
 */
SL_MUST_CHECK int store_dead_letter_list(struct store_dead_letters *letters,
                                         store_dead_letter_fn each, void *context);

/**
 * Calls `settle` for every letter, oldest first; those for which it returns true leave the file, all of
 * them at once when this returns 0. After an error or a crash they may still be there, so a record can
 * come a second time. The caller judges whether a record is still wanted: an old profile, title or
 * deletion would undo a newer one. Takes the folder's lock, for as long as the disk lives: what a
 * running gateway appended meanwhile would be lost with the replaced file. 0, SL_E_CONFLICT (another process has the lock),
 * SL_E_STORAGE_UNAVAILABLE or SL_E_NO_MEMORY.
 */
SL_MUST_CHECK int store_dead_letter_retry(struct store_dead_letters *letters,
                                          store_dead_letter_fn settle, void *context);

const struct store_dead_letter_stats *
store_dead_letter_figures(const struct store_dead_letters *letters);
