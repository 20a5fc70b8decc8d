/**
 * Reads a Redis URL. Pure: bytes in, struct out.
 *
 *   redis://[[user]:password@]host[:port][/db]        host: a name, an IPv4 or a [bracketed IPv6] address
 *   unix://[[user]:password@]/path/of/socket[?db=N]
 *
 * Everything between the delimiters may be percent-encoded (RFC 3986 section 2.1), which a password
 * with `@`, `/` or `:` needs. TLS (rediss://) is not supported and refused, as is a user without a
 * password and anything else that would otherwise be dropped silently. Thread: any.
 */
#pragma once

#include <stdbool.h>

#include "sluice/error.h"

enum {
    STORE_REDIS_HOST_SIZE = 256,
    STORE_REDIS_PATH_SIZE =
        107, /* one less than sun_path: hiredis 0.14.1 does not end a longer one */
    STORE_REDIS_USER_SIZE = 256,
    STORE_REDIS_PASSWORD_SIZE = 1024,
    STORE_REDIS_DB_MAX = 99999,
};

struct store_redis_url {
    bool is_unix;
    char host[STORE_REDIS_HOST_SIZE]; /* redis: without brackets */
    int port;
    char path[STORE_REDIS_PATH_SIZE];         /* unix: absolute */
    char user[STORE_REDIS_USER_SIZE];         /* empty: the default user */
    char password[STORE_REDIS_PASSWORD_SIZE]; /* empty: no AUTH */
    unsigned db;
};

/** 0 or SL_E_INVALID_VALUE. */
SL_MUST_CHECK int store_redis_url_parse(const char *text, struct store_redis_url *ret_url);
