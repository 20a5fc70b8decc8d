/*
 * What a SQLSTATE means for the writer and for a read.
 *
 * One table, searched from the top: the first row whose letters begin the state decides, so exact
 * states stand before their class. Pure functions; any thread.
 *
 * Two rows deserve a word. 23 (constraints): 23505 can only come from a key that the statement's
 * conflict target does not name, since that one is ignored; it is one row's fault. 25006: the
 * server is read-only because the primary moved; a new connection finds the new one.
 */
#include "pg_error.h"

#include <stddef.h>
#include <string.h>

#include "sluice/error.h"

static const struct {
    const char *prefix;
    enum store_pg_class meaning;
} meanings[] = {
    {"08", STORE_PG_RECONNECT},        /* connection exception */
    {"25006", STORE_PG_RECONNECT},     /* read-only: failed over */
    {"25P", STORE_PG_RECONNECT},       /* transaction state that is not ours */
    {"26", STORE_PG_RECONNECT},        /* our prepared statements are not there */
    {"57014", STORE_PG_RETRY_SMALLER}, /* statement_timeout */
    {"57", STORE_PG_RECONNECT},        /* terminated, shutting down, starting up */
    {"40", STORE_PG_RETRY},            /* serialization, deadlock */
    {"53", STORE_PG_RETRY},            /* disk, memory, connections */
    {"55P03", STORE_PG_RETRY},         /* lock_timeout */
    {"58", STORE_PG_RETRY},            /* the server's system calls */
    {"XX", STORE_PG_RETRY_FEW},        /* internal error, damaged data */
    {"21", STORE_PG_BAD_ROW},          /* cardinality */
    {"22", STORE_PG_BAD_ROW},          /* encoding, range, json */
    {"23", STORE_PG_BAD_ROW},          /* constraints */
    {"44", STORE_PG_BAD_ROW},          /* check option of a view */
    {"54", STORE_PG_BAD_ROW},          /* program limits */
};

enum store_pg_class store_pg_classify(const char *sqlstate)
{
    if (sqlstate == NULL || sqlstate[0] == '\0') {
        return STORE_PG_RECONNECT;
    }
    for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
        if (strncmp(sqlstate, meanings[i].prefix, strlen(meanings[i].prefix)) == 0) {
            return meanings[i].meaning;
        }
    }
    return STORE_PG_SYSTEMIC;
}

int store_pg_read_error(const char *sqlstate)
{
    switch (store_pg_classify(sqlstate)) {
    case STORE_PG_RETRY_SMALLER:
        return SL_E_DATABASE_TIMEOUT;
    case STORE_PG_RECONNECT:
    case STORE_PG_RETRY:
        return SL_E_DATABASE_UNAVAILABLE;
    case STORE_PG_RETRY_FEW:
    case STORE_PG_BAD_ROW:
    case STORE_PG_SYSTEMIC:
        break;
    }
    return SL_E_DATABASE_REFUSED;
}
