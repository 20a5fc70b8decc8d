/*
 * Brings the schema up to date: forward only, one transaction per file.
 *
 * Happy path: connect, take the advisory lock (a second `sluice migrate` waits here), make the table
 * of versions, refuse if the database is ahead of this binary, then for each file that the table
 * does not list: begin, the file's statements, a row in the table, commit.
 *
 * Failure modes: a server that cannot be reached; a statement that is refused, whose transaction is
 * rolled back while the files before it stay applied. The operator reads the server's own words in
 * the reported line: this is a command line tool, not an answer to a client.
 *
 * Thread: the caller's; blocks. Ownership: the connection lives as long as the call; closing it
 * also gives the lock back.
 */
#include "migrate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pg_connect.h"
#include "sluice/store.h"

enum { LINE_SIZE = 512, VERSION_DIGITS = 4 };

/* An arbitrary number that only Sluice's migrations lock: "sluice" in ASCII. */
#define LOCK_STATEMENT "select pg_advisory_lock(126909663503205)"

struct migration {
    PGconn *connection;
    void (*report)(const char *line);
};

static int connect_and_lock(struct migration *run, const char *database_url);
static int refuse_newer(struct migration *run, int newest);
static int apply(struct migration *run, const struct sl_asset *file, int version);
static int is_applied(struct migration *run, int version, bool *ret_applied);
static int version_of(const struct sl_asset *file);
static int execute(struct migration *run, const char *statement, const char *doing);
static int read_number(struct migration *run, const char *statement, long *ret_number);
static int fail(struct migration *run, const char *doing);
static void report_line(const struct migration *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

int store_migrate(const char *database_url, void (*report)(const char *line))
{
    return store_migrate_from(database_url, store_migrations, store_migrations_count, report);
}

int store_migrate_from(const char *database_url, const struct sl_asset *migrations, size_t count,
                       void (*report)(const char *line))
{
    struct migration run = {.report = report};
    int newest = count > 0 ? version_of(&migrations[count - 1]) : 0;
    int err = connect_and_lock(&run, database_url);

    if (err == 0) {
        err = execute(&run,
                      "create table if not exists sluice_migrations ("
                      "version integer primary key, name text not null, "
                      "applied_at timestamptz not null default now())",
                      "make the table of versions");
    }
    if (err == 0) {
        err = refuse_newer(&run, newest);
    }
    for (size_t i = 0; i < count && err == 0; i++) {
        bool applied = false;
        int version = version_of(&migrations[i]);
        err = is_applied(&run, version, &applied);
        if (err == 0 && !applied) {
            err = apply(&run, &migrations[i], version);
        }
    }
    if (err == 0) {
        report_line(&run, "schema is at version %d", newest);
    }
    PQfinish(run.connection);
    return err;
}

static int connect_and_lock(struct migration *run, const char *database_url)
{
    struct store_pg_limits limits = {.writes = true}; /* a migration may take as long as it needs */
    char *conninfo = NULL;
    int err = store_pg_conninfo(database_url, &limits, &conninfo);

    if (err != 0) {
        report_line(run, "the database URL cannot be read");
        return SL_E_DATABASE_UNAVAILABLE;
    }
    run->connection = store_pg_connect(conninfo);
    free(conninfo);
    if (PQstatus(run->connection) != CONNECTION_OK) {
        return fail(run, "connect");
    }
    return execute(run, LOCK_STATEMENT, "take the migration lock");
}

static int refuse_newer(struct migration *run, int newest)
{
    long in_database = 0;
    int err =
        read_number(run, "select coalesce(max(version), 0) from sluice_migrations", &in_database);

    if (err == 0 && in_database > newest) {
        report_line(
            run,
            "refused: the database's schema is at version %ld, newer than this binary's %d; "
            "use a newer sluice",
            in_database, newest);
        return SL_E_DATABASE_REFUSED;
    }
    return err;
}

static int is_applied(struct migration *run, int version, bool *ret_applied)
{
    char statement[96];
    long found = 0;

    (void)snprintf(statement, sizeof(statement),
                   "select count(*) from sluice_migrations where version = %d", version);
    int err = read_number(run, statement, &found);
    if (err == 0) {
        *ret_applied = found > 0;
    }
    return err;
}

static int apply(struct migration *run, const struct sl_asset *file, int version)
{
    char number[16];
    const char *values[] = {number, file->name};

    (void)snprintf(number, sizeof(number), "%d", version);
    int err = execute(run, "begin", "begin");
    if (err == 0) {
        err = execute(run, file->bytes, file->name);
    }
    if (err == 0) {
        PGresult *result = PQexecParams(
            run->connection,
            "insert into sluice_migrations (version, name) values ($1::text::integer, $2)", 2, NULL,
            values, NULL, NULL, 0);
        err = PQresultStatus(result) == PGRES_COMMAND_OK ? 0 : fail(run, file->name);
        PQclear(result);
    }
    if (err == 0) {
        err = execute(run, "commit", file->name);
    }
    if (err != 0) {
        /* closing the connection rolls back; saying so at once keeps the lock's order obvious */
        PQclear(PQexec(run->connection, "rollback"));
        return err;
    }
    report_line(run, "applied %s", file->name);
    return 0;
}

static int version_of(const struct sl_asset *file)
{
    int version = 0;

    for (int i = 0; i < VERSION_DIGITS && file->name[i] >= '0' && file->name[i] <= '9'; i++) {
        version = version * 10 + (file->name[i] - '0');
    }
    return version;
}

static int execute(struct migration *run, const char *statement, const char *doing)
{
    PGresult *result = PQexec(run->connection, statement);
    ExecStatusType status = PQresultStatus(result);

    PQclear(result);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ? 0 : fail(run, doing);
}

static int read_number(struct migration *run, const char *statement, long *ret_number)
{
    PGresult *result = PQexec(run->connection, statement);
    int err = 0;

    if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1) {
        *ret_number = strtol(PQgetvalue(result, 0, 0), NULL, 10);
    } else {
        err = fail(run, "read the table of versions");
    }
    PQclear(result);
    return err;
}

/* Reports the server's last words on one line and tells a broken connection from a refusal. */
static int fail(struct migration *run, const char *doing)
{
    char words[LINE_SIZE];

    (void)snprintf(words, sizeof(words), "%s", PQerrorMessage(run->connection));
    for (char *at = words; *at != '\0'; at++) {
        if (*at == '\n') {
            *at = at[1] == '\0' ? '\0' : ' ';
        }
    }
    report_line(run, "failed: %s: %s", doing, words);
    return PQstatus(run->connection) == CONNECTION_OK ? SL_E_DATABASE_REFUSED
                                                      : SL_E_DATABASE_UNAVAILABLE;
}

static void report_line(const struct migration *run, const char *format, ...)
{
    char line[LINE_SIZE * 2];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    run->report(line);
}
