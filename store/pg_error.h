/**
 * What a SQLSTATE means for the writer and for a read (PostgreSQL 15, appendix A).
 *
 * Thread: any (pure functions).
 */
#pragma once

enum { STORE_SQLSTATE_SIZE = 6 };

enum store_pg_class {
    STORE_PG_RECONNECT,     /* the connection is of no use; the outcome may be unknown */
    STORE_PG_RETRY,         /* the same batch again, on the same connection */
    STORE_PG_RETRY_SMALLER, /* the batch took too long: half of it */
    STORE_PG_RETRY_FEW,     /* the server stumbled: a few times, then as a bad row */
    STORE_PG_BAD_ROW,       /* one record is to blame: find it */
    STORE_PG_SYSTEMIC,      /* schema, privileges: nothing can be written until someone mends it */
};

/**
 * The class of an error. NULL stands for an error of libpq itself, which has no SQLSTATE: the
 * connection broke. A state that is not known is SYSTEMIC: waiting loses nothing.
 */
enum store_pg_class store_pg_classify(const char *sqlstate);

/** The same for a read: SL_E_DATABASE_TIMEOUT, SL_E_DATABASE_UNAVAILABLE or SL_E_DATABASE_REFUSED. */
int store_pg_read_error(const char *sqlstate);
