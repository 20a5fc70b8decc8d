/**
 * What the tests of the writer share: a server, a writer, records with consecutive numbers, and a
 * note of how each of them ended.
 *
 * Thread: main. Ownership: everything is this fixture's.
 */
#pragma once

#include "overlay.h"
#include "pg_fixture.h"
#include "record.h"
#include "samples.h"
#include "writer.h"

enum { RECORDS_MAX = 8192, NOT_ENDED = 1 };

/* What became of the records, by their number. */
struct seen {
    unsigned submitted, ended;
    int status[RECORDS_MAX];
    unsigned ends[RECORDS_MAX];  /* how often */
    unsigned order[RECORDS_MAX]; /* of the ends */
};

/* The seam of a dead-letter file. */
struct refusals {
    int answer; /* to the next refusal; 0 after it */
    _Atomic unsigned count;
    char sqlstate[8];
};

extern struct pg_fixture server;
extern struct sl_loop *loop;
extern struct store_origin *origin;
extern struct store_overlay *overlay;
extern struct store_writer *writer;
extern const struct store_writer_stats *figures;
extern struct seen seen;
extern struct refusals refusals;

/** Setup and teardown of every test: empty tables, batches of 100 rows. */
int set_up(void **state);
int tear_down(void **state);

void reopen_writer(unsigned batch_rows, unsigned silence_ms);

/** Submits a record with the next number. Error of store_writer_submit, which frees the record. */
int submit(struct store_record *record);
int submit_message(const char *user, unsigned session, const struct store_message *message);

/** A message of ann's, whose id is its number. */
void submit_text(unsigned session, unsigned number, const char *content);
void submit_other(enum store_record_kind kind, unsigned session, const char *text);

/** Messages first..first+count-1 of ann's over five sessions, while the loop runs. */
void submit_range(unsigned first, unsigned count);

/** Waits for all, and checks that each ended once, in order, and left the overlay. */
void wait_for_all(void);

/** The same, and that all of them, `count` in the table, were stored and none refused. */
void assert_all_stored(unsigned count);

long rows(const char *table);

#define RUN_WRITER_TESTS(tests)                                                                    \
    do {                                                                                           \
        if (!pg_fixture_begin(&server)) {                                                          \
            return 0;                                                                              \
        }                                                                                          \
        pg_fixture_migrate(&server);                                                               \
        int failed_ = cmocka_run_group_tests(tests, NULL, NULL);                                   \
        pg_fixture_end(&server);                                                                   \
        return failed_;                                                                            \
    } while (0)

#define WRITER_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
