/**
 * A private PostgreSQL server for one test program: own directory, unix socket only.
 *
 * Made in a temporary directory and removed at the end; if the program dies, the server dies with it.
 * Two roles: `postgres`, the superuser, and `sluice`, which owns the database `sluice` and whose
 * privileges can be taken away. Started as root it runs as the system user `postgres`, since the
 * server refuses to run as root.
 * Thread: main. Ownership: strings that functions return belong to the caller unless they say otherwise.
 */
#pragma once

#include <libpq-fe.h>
#include <stdbool.h>
#include <sys/types.h>

struct pg_fixture {
    char directory[64];
    char url[160];       /* as role sluice */
    char admin_url[160]; /* as role postgres */
    pid_t server;        /* 0: not running */
    PGconn *admin;       /* opened when needed */
};

/** Makes and starts the server. False after printing a reason when PostgreSQL 15 is not installed. */
bool pg_fixture_begin(struct pg_fixture *fixture);

/** Stops the server and removes its directory. */
void pg_fixture_end(struct pg_fixture *fixture);

/** Starts a stopped server and waits until it takes connections. */
void pg_fixture_start(struct pg_fixture *fixture);

/** Stops the server: SIGINT ends it in good order, SIGQUIT as a crash would. */
void pg_fixture_stop(struct pg_fixture *fixture, int how);

/** Runs the embedded migrations. */
void pg_fixture_migrate(struct pg_fixture *fixture);

/** Empties the three tables. */
void pg_fixture_empty(struct pg_fixture *fixture);

/** As the superuser: runs statements; a failure fails the test. */
void pg_fixture_run(struct pg_fixture *fixture, const char *statements);

/** As the superuser: the first value of the first row as text, "" for null. Valid until the next call. */
const char *pg_fixture_value(struct pg_fixture *fixture, const char *query);

/** The same as a number. */
long pg_fixture_number(struct pg_fixture *fixture, const char *query);
