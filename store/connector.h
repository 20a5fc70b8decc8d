/**
 * The connector thread: everything that blocks while a connection is made.
 *
 * getaddrinfo and PQconnectdb wait for name servers and peers (libpq "Database Connection Control
 * Functions"), so a loop must not call them. Operations follow op.h; the callback runs on the loop
 * that is named. Functions that run on the connector thread say so in their name.
 */
#pragma once

#include <netinet/in.h>
#include <stdint.h>

#include "sluice/loop.h"
#include "sluice/op.h"

struct store_connector;

struct store_resolve {
    struct sl_op op;
    const char *host;               /* input; must stay valid until done */
    char address[INET6_ADDRSTRLEN]; /* output: numeric, IPv4 or IPv6 */
    /* private */
    struct sl_loop *loop;
    struct sl_message message;
    struct store_resolve *next;
    int status;
};

struct store_dial {
    struct sl_op op;
    const char *conninfo; /* input: libpq connection string or URI; must stay valid until done */
    void *connection;     /* output: a PGconn in good state; the caller's from now on */
    /* private */
    struct sl_loop *loop;
    struct sl_message message;
    struct store_dial *next;
    int status;
};

SL_MUST_CHECK int store_connector_create(struct store_connector **ret_connector);

/** Waits for the job under way, forgets the others, ends the thread. NULL is accepted. */
void store_connector_destroy(struct store_connector *connector);

/** Resolves a name. Done with 0 or SL_E_REDIS_UNAVAILABLE. Cannot be cancelled. */
SL_MUST_CHECK int store_connector_resolve(struct store_connector *connector, struct sl_loop *loop,
                                          struct store_resolve *resolve);

/** Opens a Postgres connection. Done with 0 or SL_E_DATABASE_UNAVAILABLE. Cannot be cancelled. */
SL_MUST_CHECK int store_connector_dial(struct store_connector *connector, struct sl_loop *loop,
                                       struct store_dial *dial);
