/**
 * What the tests of the Postgres reader share: a server, a loop with a reader on it, and reads whose
 * end is noted.
 *
 * Thread: main. Ownership: everything is this fixture's; a test opens a reader, the teardown closes it.
 */
#pragma once

#include "overlay.h"
#include "pg_fixture.h"
#include "pg_reader.h"
#include "samples.h"

struct store_connector;
struct store_record;

extern struct pg_fixture server;
extern struct sl_loop *loop;
extern struct store_connector *connector;
extern struct store_overlay *overlay;
extern struct store_client_stats stats;
extern struct store_pg_reader *reader;

struct waited_read {
    struct store_read read;
    unsigned ends; /* how often it ended */
    int status;
};

/** Makes a reader; history_messages is 10. */
void open_reader(const char *url, unsigned timeout_ms, unsigned reads_max);

/** The same on the test's server, and waits until it is connected. */
void open_ready(unsigned timeout_ms, unsigned reads_max);

/** Teardown and setup of every test. */
int close_reader(void **state);
int empty_tables(void **state);

/** Fills in a read. */
void start(struct waited_read *waited, enum store_read_kind kind, const char *user,
           unsigned session, unsigned limit);

/** Fills in a read of a turn. */
void start_turn(struct waited_read *waited, const char *user, unsigned turn);

/** Starts it, waits for its one end, and returns the status. */
int go(struct waited_read *waited);

/** Session 1 of ann gets the messages from..to, of turn 9, each written in its number's second of 2024. */
void insert_messages(unsigned from, unsigned to);

/** Puts a message of session 1 of ann, whose turn has its number too, into the overlay. */
struct store_record *add_uncommitted(unsigned number, const char *content);

/** Takes it out again and frees it. */
void drop_uncommitted(struct store_record *record);

/** Runs the tests on a fresh server; the program's exit code. */
#define RUN_READER_TESTS(tests)                                                                    \
    do {                                                                                           \
        if (!pg_fixture_begin(&server)) {                                                          \
            return 0;                                                                              \
        }                                                                                          \
        pg_fixture_migrate(&server);                                                               \
        int failed_ = cmocka_run_group_tests(tests, NULL, NULL);                                   \
        pg_fixture_end(&server);                                                                   \
        return failed_;                                                                            \
    } while (0)

#define READER_TEST(name) cmocka_unit_test_setup_teardown(name, empty_tables, close_reader)
