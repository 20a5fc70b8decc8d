/*
 * Reads a Redis URL.
 *
 * Happy path: scheme, then the authority up to the first `/`, split at its last `@` into
 * user:password and host:port; then the path, split at `?`. Each piece is percent-decoded into its
 * array as it is found. Failure modes: one error for everything; the text may hold a password, so
 * no message quotes it. Pure; any thread.
 */
#include "redis_url.h"

#include <string.h>
#include <strings.h>

enum { PORT_DEFAULT = 6379, PORT_MAX = 65535 };

static int parse_tcp(const char *rest, struct store_redis_url *url);
static int parse_unix(const char *rest, struct store_redis_url *url);
static int parse_login(const char *text, size_t len, struct store_redis_url *url);
static int parse_host_and_port(const char *text, size_t len, struct store_redis_url *url);
static int parse_query(const char *text, struct store_redis_url *url);
static int parse_number(const char *text, size_t len, unsigned most, unsigned *ret_number);
static int decode(const char *text, size_t len, char *to, size_t to_size);
static int hex_value(char c);
static const char *find_last(const char *text, size_t len, char wanted);

int store_redis_url_parse(const char *text, struct store_redis_url *ret_url)
{
    struct store_redis_url url = {.port = PORT_DEFAULT};
    int err = SL_E_INVALID_VALUE;

    if (strchr(text, '#') != NULL) {
        return SL_E_INVALID_VALUE;
    }
    if (strncasecmp(text, "redis://", 8) == 0) {
        err = parse_tcp(text + 8, &url);
    } else if (strncasecmp(text, "unix://", 7) == 0) {
        url.is_unix = true;
        err = parse_unix(text + 7, &url);
    }
    if (err == 0) {
        *ret_url = url;
    }
    return err;
}

static int parse_tcp(const char *rest, struct store_redis_url *url)
{
    size_t len = strcspn(rest, "/?");
    const char *at = find_last(rest, len, '@');
    const char *host = at != NULL ? at + 1 : rest;
    const char *path = rest + len;

    if (at != NULL && parse_login(rest, (size_t)(at - rest), url) != 0) {
        return SL_E_INVALID_VALUE;
    }
    if (parse_host_and_port(host, len - (size_t)(host - rest), url) != 0) {
        return SL_E_INVALID_VALUE;
    }
    if (*path == '/') {
        path++;
        size_t db_len = strcspn(path, "?");
        if (db_len > 0 && parse_number(path, db_len, STORE_REDIS_DB_MAX, &url->db) != 0) {
            return SL_E_INVALID_VALUE;
        }
        path += db_len;
    }
    return parse_query(path, url);
}

static int parse_unix(const char *rest, struct store_redis_url *url)
{
    size_t len = strcspn(rest, "/?");
    const char *path = rest + len;

    if (len > 0) {
        if (rest[len - 1] != '@' || parse_login(rest, len - 1, url) != 0) {
            return SL_E_INVALID_VALUE; /* a host has no place here */
        }
    }
    size_t path_len = strcspn(path, "?");
    if (*path != '/' || decode(path, path_len, url->path, sizeof(url->path)) != 0) {
        return SL_E_INVALID_VALUE;
    }
    return parse_query(path + path_len, url);
}

static int parse_login(const char *text, size_t len, struct store_redis_url *url)
{
    const char *colon = memchr(text, ':', len);

    if (colon == NULL) {
        return SL_E_INVALID_VALUE;
    }
    size_t user_len = (size_t)(colon - text);
    if (decode(text, user_len, url->user, sizeof(url->user)) != 0 ||
        decode(colon + 1, len - user_len - 1, url->password, sizeof(url->password)) != 0) {
        return SL_E_INVALID_VALUE;
    }
    return url->user[0] != '\0' && url->password[0] == '\0' ? SL_E_INVALID_VALUE : 0;
}

static int parse_host_and_port(const char *text, size_t len, struct store_redis_url *url)
{
    const char *host = text;
    const char *port = find_last(text, len, ':');
    size_t host_len = port != NULL ? (size_t)(port - text) : len;

    if (len > 0 && text[0] == '[') {
        const char *close = memchr(text, ']', len);
        if (close == NULL) {
            return SL_E_INVALID_VALUE;
        }
        host = text + 1;
        host_len = (size_t)(close - host);
        port = close + 1 < text + len ? close + 1 : NULL;
        if (port != NULL && *port != ':') {
            return SL_E_INVALID_VALUE;
        }
    } else if (memchr(text, ':', host_len) != NULL) {
        return SL_E_INVALID_VALUE; /* an IPv6 address needs its brackets */
    }
    if (host_len == 0 || decode(host, host_len, url->host, sizeof(url->host)) != 0) {
        return SL_E_INVALID_VALUE;
    }
    if (port != NULL) {
        unsigned number;
        size_t port_len = len - (size_t)(port + 1 - text);
        if (parse_number(port + 1, port_len, PORT_MAX, &number) != 0 || number == 0) {
            return SL_E_INVALID_VALUE;
        }
        url->port = (int)number;
    }
    return 0;
}

/* Nothing, or `?db=N` and nothing else. */
static int parse_query(const char *text, struct store_redis_url *url)
{
    if (*text == '\0') {
        return 0;
    }
    if (strncmp(text, "?db=", 4) != 0) {
        return SL_E_INVALID_VALUE;
    }
    return parse_number(text + 4, strlen(text + 4), STORE_REDIS_DB_MAX, &url->db);
}

static int parse_number(const char *text, size_t len, unsigned most, unsigned *ret_number)
{
    unsigned number = 0;

    if (len == 0) {
        return SL_E_INVALID_VALUE;
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return SL_E_INVALID_VALUE;
        }
        number = number * 10 + (unsigned)(text[i] - '0');
        if (number > most) {
            return SL_E_INVALID_VALUE;
        }
    }
    *ret_number = number;
    return 0;
}

/* Percent-decodes into a C string. A NUL byte cannot be part of one and is refused. */
static int decode(const char *text, size_t len, char *to, size_t to_size)
{
    size_t out = 0;

    for (size_t i = 0; i < len; i++) {
        int byte = (unsigned char)text[i];
        if (text[i] == '%') {
            bool whole = len - i >= 3;
            int high = whole ? hex_value(text[i + 1]) : -1;
            int low = whole ? hex_value(text[i + 2]) : -1;
            byte = high < 0 || low < 0 ? 0 : high << 4 | low;
            i += 2;
        }
        if (byte == 0 || out + 1 >= to_size) {
            return SL_E_INVALID_VALUE;
        }
        to[out++] = (char)byte;
    }
    to[out] = '\0';
    return 0;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static const char *find_last(const char *text, size_t len, char wanted)
{
    while (len > 0 && text[len - 1] != wanted) {
        len--;
    }
    return len > 0 ? text + len - 1 : NULL;
}
