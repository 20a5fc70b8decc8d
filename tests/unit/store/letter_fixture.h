/**
 * What the tests of the dead letters share: a folder, a disk that can fail at any of its calls, letters
 * with consecutive numbers, and a note of those that a walk has shown.
 *
 * Thread: main. Ownership: everything is this fixture's.
 */
#pragma once

#include "dead_letter.h"
#include "samples.h"

enum { LETTERS_MAX = 64, FILE_MAX = 16384 };

/* The real folder, with a fault at one call. */
struct fault_disk {
    struct store_disk disk;
    struct store_disk *below;
    unsigned calls; /* that change something, so far */
    unsigned fails; /* at which of them, from 1; 0: never */
};

/* What a walk has shown, by the messages' numbers. */
struct seen_letters {
    unsigned numbers[LETTERS_MAX], count;
};

extern struct fault_disk fault;
extern char folder[64], file[96];
extern struct store_dead_letters *letters;
extern struct seen_letters seen;

/** Setup and teardown of every test: an empty folder, no fault. */
int set_up(void **state);
int tear_down(void **state);

/** As the next process would. */
void reopen_letters(void);

/** The file's bytes, at most FILE_MAX, and the file made of bytes. */
size_t load_file(uint8_t bytes[FILE_MAX]);
void put_file(const uint8_t *bytes, size_t len);

/** A message of ann's whose id and sequence are its number. */
struct store_record *make_record(unsigned number, struct store_text content);

/** Appends such a message. Error of the append. */
int append(unsigned number, const char *content);

/** Messages 0..count-1, of several lengths. */
void append_some(unsigned count);

/** For list and retry: notes the letter. True. */
bool see(void *context, struct store_dead_letter *letter);

/** Lists the letters and notes them. Returns how many. */
unsigned list(void);

/** The noted letters are 0..count-1 without `missing`. */
void assert_seen_but(unsigned count, unsigned missing);

/** The figures. */
uint64_t damaged(void);
uint64_t counted(void);

#define LETTER_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
