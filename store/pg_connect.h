/**
 * How Sluice connects to Postgres: one connection string from the operator's and our defaults.
 *
 * Thread: any; store_pg_connect blocks (name servers, peers) and therefore never runs on a loop.
 */
#pragma once

#include <libpq-fe.h>
#include <stdbool.h>

#include "sluice/error.h"

/** Server-side limits of a connection; 0 leaves the server's own. */
struct store_pg_limits {
    unsigned statement_timeout_ms;
    unsigned lock_timeout_ms;
    unsigned idle_in_transaction_ms;
    bool writes; /* insists on a server that accepts writes */
};

/**
 * Makes a connection string in keyword form. Where `url` does not say otherwise: application name
 * `sluice`, 3 s to connect, dead peers noticed within seconds, and the primary among several hosts,
 * since a replica may lag behind what a user has just been told is saved. The encoding is always
 * UTF-8. The limits go in front of the url's own `options`, which therefore win.
 * The caller frees the string. 0, SL_E_INVALID_VALUE (cannot be read) or SL_E_NO_MEMORY.
 */
SL_MUST_CHECK int store_pg_conninfo(const char *url, const struct store_pg_limits *limits,
                                    char **ret_conninfo);

/**
 * PQconnectdb, with the server's notices dropped instead of printed. The caller looks at PQstatus
 * and calls PQfinish either way. NULL without memory, or when connect_timeout has passed.
 */
PGconn *store_pg_connect(const char *conninfo);
