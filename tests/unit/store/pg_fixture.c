/*
 * A private PostgreSQL server for one test program.
 *
 * initdb and postgres are run in children that give up root and ask the kernel to be killed with
 * their parent. Ready means that a connection could be opened, not that some time has passed.
 * Thread: main. Ownership: pg_fixture.h.
 */
#include "pg_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sluice/store.h"

#define BINARIES "/usr/lib/postgresql/15/bin/"

enum { READY_TRIES = 2000, READY_WAIT_US = 10 * 1000 };

static pid_t spawn(const struct pg_fixture *fixture, const char *const *arguments);
static void become_postgres(void);
static void die(const char *what) __attribute__((noreturn));
static PGconn *admin(struct pg_fixture *fixture);
static void print_failure(const char *line);
static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw);

bool pg_fixture_begin(struct pg_fixture *fixture)
{
    memset(fixture, 0, sizeof(*fixture));
    if (access(BINARIES "initdb", X_OK) != 0 || access(BINARIES "postgres", X_OK) != 0) {
        (void)fprintf(stderr, "skipped: PostgreSQL 15 is not installed in " BINARIES "\n");
        return false;
    }
    if (geteuid() == 0 && getpwnam("postgres") == NULL) {
        (void)fprintf(stderr, "skipped: running as root, and there is no user postgres\n");
        return false;
    }
    (void)snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/sluice-pg-XXXXXX");
    if (mkdtemp(fixture->directory) == NULL) {
        die("mkdtemp");
    }
    if (geteuid() == 0) {
        const struct passwd *user = getpwnam("postgres");
        if (chown(fixture->directory, user->pw_uid, user->pw_gid) != 0) {
            die("chown");
        }
    }
    char cluster[96];
    (void)snprintf(cluster, sizeof(cluster), "%s/cluster", fixture->directory);
    const char *initdb[] = {BINARIES "initdb",
                            "-D",
                            cluster,
                            "-U",
                            "postgres",
                            "-A",
                            "trust",
                            "-E",
                            "UTF8",
                            "--locale=C.UTF-8",
                            "--no-sync",
                            "--no-instructions",
                            NULL};
    int status = -1;
    (void)waitpid(spawn(fixture, initdb), &status, 0);
    if (status != 0) {
        die("initdb");
    }
    (void)snprintf(fixture->url, sizeof(fixture->url), "host=%s dbname=sluice user=sluice",
                   fixture->directory);
    (void)snprintf(fixture->admin_url, sizeof(fixture->admin_url),
                   "host=%s dbname=postgres user=postgres", fixture->directory);
    pg_fixture_start(fixture);
    pg_fixture_run(fixture, "create role sluice login");
    pg_fixture_run(fixture, "create database sluice owner sluice");
    PQfinish(fixture->admin);
    fixture->admin = NULL;
    (void)snprintf(fixture->admin_url, sizeof(fixture->admin_url),
                   "host=%s dbname=sluice user=postgres", fixture->directory);
    return true;
}

void pg_fixture_start(struct pg_fixture *fixture)
{
    char cluster[96];
    const struct timespec pause = {.tv_nsec = READY_WAIT_US * 1000};

    (void)snprintf(cluster, sizeof(cluster), "%s/cluster", fixture->directory);
    const char *postgres[] = {BINARIES "postgres",
                              "-D",
                              cluster,
                              "-k",
                              fixture->directory,
                              "-c",
                              "listen_addresses=",
                              "-c",
                              "max_connections=40",
                              NULL};
    fixture->server = spawn(fixture, postgres);
    for (int i = 0; i < READY_TRIES; i++) {
        if (PQping(fixture->admin_url) == PQPING_OK) {
            return;
        }
        (void)nanosleep(&pause, NULL);
    }
    die("the server does not become ready");
}

void pg_fixture_stop(struct pg_fixture *fixture, int how)
{
    if (fixture->server != 0) {
        (void)kill(fixture->server, how);
        (void)waitpid(fixture->server, NULL, 0);
        fixture->server = 0;
    }
    /* only now, so that what it had locked stays locked to the end */
    PQfinish(fixture->admin);
    fixture->admin = NULL;
}

void pg_fixture_end(struct pg_fixture *fixture)
{
    if (fixture->directory[0] == '\0') {
        return;
    }
    pg_fixture_stop(fixture, SIGQUIT);
    (void)nftw(fixture->directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    fixture->directory[0] = '\0';
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status;
    (void)type;
    (void)ftw;
    return remove(path);
}

static pid_t spawn(const struct pg_fixture *fixture, const char *const *arguments)
{
    pid_t child = fork();

    if (child < 0) {
        die("fork");
    }
    if (child > 0) {
        return child;
    }
    become_postgres();
    /* after the change of user, which clears it */
    (void)prctl(PR_SET_PDEATHSIG, SIGQUIT);
    if (chdir(fixture->directory) != 0) {
        _exit(126);
    }
    int log = open("log", O_WRONLY | O_CREAT | O_APPEND, 0600);
    int null = open("/dev/null", O_RDONLY);
    if (log < 0 || null < 0) {
        _exit(126);
    }
    (void)dup2(null, STDIN_FILENO);
    (void)dup2(log, STDOUT_FILENO);
    (void)dup2(log, STDERR_FILENO);
    (void)execv(arguments[0], (char *const *)(uintptr_t)arguments);
    _exit(127);
}

static void become_postgres(void)
{
    if (geteuid() != 0) {
        return;
    }
    const struct passwd *user = getpwnam("postgres");
    if (user == NULL || initgroups(user->pw_name, user->pw_gid) != 0 || setgid(user->pw_gid) != 0 ||
        setuid(user->pw_uid) != 0) {
        _exit(126);
    }
}

/* ---- statements ---- */

void pg_fixture_migrate(struct pg_fixture *fixture)
{
    if (store_migrate(fixture->url, print_failure) != 0) {
        die("migrate");
    }
}

static void print_failure(const char *line)
{
    if (strncmp(line, "failed", 6) == 0 || strncmp(line, "refused", 7) == 0) {
        (void)fprintf(stderr, "%s\n", line);
    }
}

void pg_fixture_empty(struct pg_fixture *fixture)
{
    pg_fixture_run(fixture, "truncate user_profiles, chat_sessions, chat_messages");
}

static PGconn *admin(struct pg_fixture *fixture)
{
    if (fixture->admin == NULL || PQstatus(fixture->admin) != CONNECTION_OK) {
        PQfinish(fixture->admin);
        fixture->admin = PQconnectdb(fixture->admin_url);
        if (PQstatus(fixture->admin) != CONNECTION_OK) {
            die(PQerrorMessage(fixture->admin));
        }
        PQclear(PQexec(fixture->admin, "set client_min_messages = warning"));
    }
    return fixture->admin;
}

void pg_fixture_run(struct pg_fixture *fixture, const char *statements)
{
    PGresult *result = PQexec(admin(fixture), statements);
    ExecStatusType status = PQresultStatus(result);

    PQclear(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        die(PQerrorMessage(fixture->admin));
    }
}

const char *pg_fixture_value(struct pg_fixture *fixture, const char *query)
{
    static char value[4096];
    PGresult *result = PQexec(admin(fixture), query);

    if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) < 1) {
        die(PQerrorMessage(fixture->admin));
    }
    (void)snprintf(value, sizeof(value), "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    return value;
}

long pg_fixture_number(struct pg_fixture *fixture, const char *query)
{
    return strtol(pg_fixture_value(fixture, query), NULL, 10);
}

static void die(const char *what)
{
    (void)fprintf(stderr, "pg_fixture: %s (%s)\n", what, strerror(errno));
    abort();
}
