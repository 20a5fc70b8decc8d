/*
 * How Sluice connects to Postgres.
 *
 * Happy path: libpq takes the operator's string or URI apart, we fill what is missing and write all
 * of it as one keyword string. Values are quoted as "Connection Strings" in the libpq manual says:
 * single quotes, with quote and backslash escaped.
 *
 * Failure modes: a string that libpq cannot read; memory. Thread: any. Ownership: see the header.
 */
#include "pg_connect.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sluice/buffer.h"

enum { CONNINFO_MAX = 64 * 1024, TIMEOUT_MAX_S = 3600 };

static const struct {
    const char *keyword, *value;
} defaults[] = {
    {"application_name", "sluice"},         {"connect_timeout", "3"},
    {"tcp_user_timeout", "5000"},           {"keepalives_idle", "5"},
    {"keepalives_interval", "2"},           {"keepalives_count", "3"},
    {"target_session_attrs", "read-write"},
};

static const char *default_of(const char *keyword);
static int append_options(struct sl_buffer *out, const struct store_pg_limits *limits,
                          const char *given);
static int append_setting(struct sl_buffer *out, const char *keyword, const char *value);
static bool has_several_hosts(PGconn *connection);
static int timeout_ms_of(PGconn *connection);
static bool finish_connecting(PGconn *connection, int timeout_ms);
static int64_t now_ms(void);
static void drop_notice(void *context, const PGresult *result);

int store_pg_conninfo(const char *url, const struct store_pg_limits *limits, char **ret_conninfo)
{
    PQconninfoOption *options = PQconninfoParse(url, NULL);
    struct sl_buffer out, server_options;
    int err = 0;

    if (options == NULL) {
        return SL_E_INVALID_VALUE;
    }
    sl_buffer_init(&out, CONNINFO_MAX);
    sl_buffer_init(&server_options, CONNINFO_MAX);
    for (PQconninfoOption *at = options; at->keyword != NULL && err == 0; at++) {
        const char *value = at->val != NULL ? at->val : default_of(at->keyword);
        if (strcmp(at->keyword, "options") == 0) {
            err = append_options(&server_options, limits,
                                 at->val != NULL ? at->val : getenv("PGOPTIONS"));
            value = server_options.base;
        } else if (strcmp(at->keyword, "client_encoding") == 0) {
            value = "UTF8";
        } else if (strcmp(at->keyword, "target_session_attrs") == 0 && limits->writes) {
            value = "read-write";
        }
        if (err == 0 && value != NULL) {
            err = append_setting(&out, at->keyword, value);
        }
    }
    if (err == 0) {
        err = sl_buffer_append(&out, "", 1);
    }
    PQconninfoFree(options);
    sl_buffer_dispose(&server_options);
    if (err != 0) {
        sl_buffer_dispose(&out);
        return err == SL_E_LIMIT ? SL_E_INVALID_VALUE : err;
    }
    *ret_conninfo = out.base;
    return 0;
}

static const char *default_of(const char *keyword)
{
    for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++) {
        if (strcmp(defaults[i].keyword, keyword) == 0) {
            return defaults[i].value;
        }
    }
    return NULL;
}

/* The server takes the last of two settings of one name. Always ends with a NUL. */
static int append_options(struct sl_buffer *out, const struct store_pg_limits *limits,
                          const char *given)
{
    int err = 0;

    if (limits->statement_timeout_ms > 0) {
        err = sl_buffer_appendf(out, "-c statement_timeout=%u ", limits->statement_timeout_ms);
    }
    if (err == 0 && limits->lock_timeout_ms > 0) {
        err = sl_buffer_appendf(out, "-c lock_timeout=%u ", limits->lock_timeout_ms);
    }
    if (err == 0 && limits->idle_in_transaction_ms > 0) {
        err = sl_buffer_appendf(out, "-c idle_in_transaction_session_timeout=%u ",
                                limits->idle_in_transaction_ms);
    }
    if (err == 0 && given != NULL) {
        err = sl_buffer_append_str(out, given);
    }
    return err == 0 ? sl_buffer_append(out, "", 1) : err;
}

static int append_setting(struct sl_buffer *out, const char *keyword, const char *value)
{
    int err = sl_buffer_appendf(out, "%s%s='", out->len > 0 ? " " : "", keyword);

    for (; err == 0 && *value != '\0'; value++) {
        if (*value == '\'' || *value == '\\') {
            err = sl_buffer_append(out, "\\", 1);
        }
        if (err == 0) {
            err = sl_buffer_append(out, value, 1);
        }
    }
    return err == 0 ? sl_buffer_append(out, "'", 1) : err;
}

/*
 * The receiver must be there before the server can say anything: libpq prints what comes earlier to
 * standard error, where our log is. PQconnectdb leaves no room for that, but it alone can pass on from
 * a host that is silent to the next one, so it stays for several hosts.
 */
PGconn *store_pg_connect(const char *conninfo)
{
    PGconn *connection = PQconnectStart(conninfo);

    if (connection == NULL || PQstatus(connection) == CONNECTION_BAD) {
        return connection;
    }
    if (has_several_hosts(connection)) {
        PQfinish(connection);
        connection = PQconnectdb(conninfo);
        if (connection != NULL) {
            (void)PQsetNoticeReceiver(connection, drop_notice, NULL);
        }
        return connection;
    }
    (void)PQsetNoticeReceiver(connection, drop_notice, NULL);
    if (!finish_connecting(connection, timeout_ms_of(connection))) {
        PQfinish(connection);
        return NULL;
    }
    return connection;
}

/* False: the time is up. Otherwise it has succeeded or failed, as its status says. */
static bool finish_connecting(PGconn *connection, int timeout_ms)
{
    PostgresPollingStatusType wants = PGRES_POLLING_WRITING;
    int64_t until_ms = now_ms() + timeout_ms;

    while (wants == PGRES_POLLING_READING || wants == PGRES_POLLING_WRITING) {
        struct pollfd polled = {.fd = PQsocket(connection),
                                .events = wants == PGRES_POLLING_READING ? POLLIN : POLLOUT};
        int64_t left_ms = until_ms - now_ms();
        if (left_ms <= 0 || poll(&polled, 1, (int)left_ms) == 0) {
            return false;
        }
        wants = PQconnectPoll(connection);
    }
    return true;
}

static bool has_several_hosts(PGconn *connection)
{
    PQconninfoOption *options = PQconninfo(connection);
    bool several = false;

    for (const PQconninfoOption *at = options; at != NULL && at->keyword != NULL; at++) {
        several = several || (strncmp(at->keyword, "host", 4) == 0 && at->val != NULL &&
                              strchr(at->val, ',') != NULL);
    }
    PQconninfoFree(options);
    return several;
}

/* connect_timeout, which is ours unless the operator set one; 0 stands for no limit */
static int timeout_ms_of(PGconn *connection)
{
    PQconninfoOption *options = PQconninfo(connection);
    long seconds = 0;

    for (const PQconninfoOption *at = options; at != NULL && at->keyword != NULL; at++) {
        if (strcmp(at->keyword, "connect_timeout") == 0 && at->val != NULL) {
            seconds = strtol(at->val, NULL, 10);
        }
    }
    PQconninfoFree(options);
    return seconds > 0 && seconds < TIMEOUT_MAX_S ? (int)seconds * 1000 : TIMEOUT_MAX_S * 1000;
}

static int64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void drop_notice(void *context, const PGresult *result)
{
    (void)context;
    (void)result;
}
