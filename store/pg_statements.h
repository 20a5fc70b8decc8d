/**
 * Every statement that Sluice sends to Postgres at run time, and how its parameters are bound.
 *
 * All parameters and results are in binary format: a text parameter in text format would be cut at
 * a NUL without a word, in binary the server refuses it (22021). Nothing of a user's is ever part of
 * a statement's text. Thread: the connection's. Ownership: none; libpq copies what it sends.
 */
#pragma once

#include <libpq-fe.h>

#include "record.h"
#include "sluice/store.h"

enum store_pg_statement {
    STORE_PG_READ_PROFILE,
    STORE_PG_READ_MESSAGES, /* HISTORY and MESSAGES */
    STORE_PG_READ_SESSIONS,
    STORE_PG_READ_TURN,
    STORE_PG_READS, /* how many reads there are; the first of the writes */
    STORE_PG_WRITE_SESSION = STORE_PG_READS,
    STORE_PG_WRITE_MESSAGE,
    STORE_PG_WRITE_PROFILE,
    STORE_PG_WRITE_TITLE,
    STORE_PG_WRITE_DELETE,
    STORE_PG_WRITE_SESSIONS, /* many, by arrays: writer_rows.c */
    STORE_PG_WRITE_MESSAGES,
    STORE_PG_STATEMENTS,
};

/* Seconds from 1970 to 2000, where Postgres' binary timestamps begin. */
#define STORE_PG_EPOCH_US (INT64_C(946684800) * 1000000)

/** The SQL of a statement, for EXPLAIN in tests. */
const char *store_pg_statement_text(enum store_pg_statement statement);

/** Queues the preparation of one statement. 0 or SL_E_DATABASE_UNAVAILABLE (broken). */
SL_MUST_CHECK int store_pg_prepare(PGconn *connection, enum store_pg_statement statement);

/** The statement of a read. */
enum store_pg_statement store_pg_statement_of(const struct store_read *read);

/**
 * Queues the query of a read; `rows` is how many to fetch, of those kinds that have a limit. `named`:
 * its statement is prepared, or the preparation is right in front of it; otherwise the statement's text
 * goes along. 0 or SL_E_DATABASE_UNAVAILABLE (the connection is broken).
 */
SL_MUST_CHECK int store_pg_send_read(PGconn *connection, const struct store_read *read,
                                     unsigned rows, bool named);

/** How many statements (and results) a record takes. */
unsigned store_pg_record_statements(const struct store_record *record);

/** Queues the statements of a record. 0 or SL_E_DATABASE_UNAVAILABLE (the connection is broken). */
SL_MUST_CHECK int store_pg_send_record(PGconn *connection, const struct store_record *record);

/** Binary form of a timestamptz. A time that is out of its range becomes one that the server refuses. */
int64_t store_pg_time(int64_t unix_us);

/** Type of the elements of a parameter that is an array. */
Oid store_pg_element_type(enum store_pg_statement statement, size_t parameter);

/** Queues a statement whose parameters are binary arrays. 0 or SL_E_DATABASE_UNAVAILABLE (broken). */
SL_MUST_CHECK int store_pg_send_arrays(PGconn *connection, enum store_pg_statement statement,
                                       const char *const *values, const int *lengths);
