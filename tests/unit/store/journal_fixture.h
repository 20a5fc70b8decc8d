/**
 * A writer and a Postgres for the journal's tests, and records whose every field follows from a number.
 *
 * The sink holds `sink_max` records; fixture_commit moves them, and the backlog, into the "table",
 * where each number may be inserted again only in another run (as ON CONFLICT DO NOTHING would allow).
 * Thread: the sink runs on the journal's thread, the rest on the test's.
 */
#pragma once

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "journal.h"
#include "sim_disk.h"

enum { FIXTURE_RECORDS = 400, FIXTURE_SEGMENT = 8192 };

struct fixture {
    struct sim_disk *sim;
    struct store_journal *journal;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    size_t sink_max;
    uint64_t segment_bytes;
    struct store_record *sunk[FIXTURE_RECORDS];
    size_t sunk_count;
    unsigned appended, settled; /* of this run */
    bool acked[FIXTURE_RECORDS];
    uint64_t run, last_sequence;           /* delivered in this run */
    uint64_t inserted_in[FIXTURE_RECORDS]; /* the run that delivered it last; 0: never */
    unsigned table[FIXTURE_RECORDS];       /* in the order of insertion */
    size_t table_count;
    unsigned refused; /* appends that were not taken */
};

struct store_record *fixture_record(unsigned number);
unsigned fixture_number(const struct store_record *record);
/** Fails the test unless every field is what fixture_record makes. */
void fixture_check_record(const struct store_record *record);

void fixture_init(struct fixture *fixture, uint64_t seed);
void fixture_finish(struct fixture *fixture);

struct store_journal_options fixture_options(struct fixture *fixture);
/** Opens, recovers into the table, starts; false: the disk would not let it (crashed, or a fault at open). */
bool fixture_open(struct fixture *fixture);
/** Stops and frees. */
void fixture_close(struct fixture *fixture, unsigned timeout_ms);

/** Appends numbers [from, to) and waits until each was acknowledged or given to the sink, or a crash. */
void fixture_append(struct fixture *fixture, unsigned from, unsigned to);
/** Commits what the sink holds but the last `keep`, and then the backlog. */
void fixture_commit(struct fixture *fixture, size_t keep);
/** Every acknowledged number is in the table. */
void fixture_check_acked(const struct fixture *fixture, const char *where);
/** And the table is in order. */
void fixture_check_table(const struct fixture *fixture, const char *where);
