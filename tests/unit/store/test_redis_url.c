/* Redis URLs: what is read, and what is refused instead of being dropped silently. Pure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "redis_url.h"

static void reads_every_form(void **state)
{
    static const struct {
        const char *text, *host;
        int port;
        const char *path, *user, *password;
        unsigned db;
    } rows[] = {
        {"redis://127.0.0.1:6379/0", "127.0.0.1", 6379, "", "", "", 0},
        {"redis://cache", "cache", 6379, "", "", "", 0},
        {"REDIS://cache:1/", "cache", 1, "", "", "", 0},
        {"redis://cache:65535/15", "cache", 65535, "", "", "", 15},
        {"redis://cache?db=7", "cache", 6379, "", "", "", 7},
        {"redis://:secret@cache/2", "cache", 6379, "", "", "secret", 2},
        {"redis://me:secret@cache:1234", "cache", 1234, "", "me", "secret", 0},
        {"redis://me:p%40s%2Fs%3a%25@cache", "cache", 6379, "", "me", "p@s/s:%", 0},
        {"redis://me:a@b@cache", "cache", 6379, "", "me", "a@b", 0},
        {"redis://me:a:b@cache", "cache", 6379, "", "me", "a:b", 0},
        {"redis://:@cache", "cache", 6379, "", "", "", 0},
        {"redis://[::1]:7000/3", "::1", 7000, "", "", "", 3},
        {"redis://[2001:db8::5]", "2001:db8::5", 6379, "", "", "", 0},
        {"redis://:x@[::1]", "::1", 6379, "", "", "x", 0},
        {"unix:///run/redis.sock", "", 6379, "/run/redis.sock", "", "", 0},
        {"unix:///run/redis.sock?db=9", "", 6379, "/run/redis.sock", "", "", 9},
        {"unix://:secret@/run/r%20s", "", 6379, "/run/r s", "", "secret", 0},
        {"unix://me:secret@/r?db=0", "", 6379, "/r", "me", "secret", 0},
        {"unix:///a@b", "", 6379, "/a@b", "", "", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct store_redis_url url;
        if (store_redis_url_parse(rows[i].text, &url) != 0) {
            fail_msg("refused: %s", rows[i].text);
        }
        assert_string_equal(url.host, rows[i].host);
        assert_int_equal(url.port, rows[i].port);
        assert_string_equal(url.path, rows[i].path);
        assert_string_equal(url.user, rows[i].user);
        assert_string_equal(url.password, rows[i].password);
        assert_int_equal(url.db, rows[i].db);
        assert_int_equal(url.is_unix, rows[i].path[0] != '\0');
    }
}

static void refuses_the_rest(void **state)
{
    static const char *const rows[] = {
        "",
        "redis",
        "redis:",
        "redis:/x",
        "redis://",
        "redis:///0",
        "rediss://cache",
        "http://cache",
        "127.0.0.1:6379",
        "redis://:6379",
        "redis://cache:",
        "redis://cache:0",
        "redis://cache:65536",
        "redis://cache:99999999999999999999",
        "redis://cache:12x",
        "redis://cache: 1",
        "redis://cache:-1",
        "redis://cache/x",
        "redis://cache/-1",
        "redis://cache/1/2",
        "redis://cache/100000",
        "redis://cache/0#f",
        "redis://cache/0?timeout=1",
        "redis://cache?db=",
        "redis://cache?db=1&x=2",
        "redis://me@cache",
        "redis://@cache",
        "redis://me:@cache",
        "redis://:a%4@cache",
        "redis://:a%zz@cache",
        "redis://:a%00@cache",
        "redis://:a%",
        "redis://:%@cache",
        "redis://::1",
        "redis://::1:6379",
        "redis://[::1",
        "redis://[]",
        "redis://[::1]x",
        "redis://[::1]:",
        "unix://",
        "unix://run/redis.sock",
        "unix://host/run/redis.sock",
        "unix://me@/r",
        "unix:///r?db=x",
        "unix:///r%00",
        "unix:///0123456789012345678901234567890123456789012345678901234567890123456789"
        "0123456789012345678901234567890123456",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct store_redis_url url = {.port = 4711};
        if (store_redis_url_parse(rows[i], &url) != SL_E_INVALID_VALUE) {
            fail_msg("accepted: %s", rows[i]);
        }
        assert_int_equal(url.port, 4711); /* untouched */
    }
}

static void bounds_every_piece(void **state)
{
    char text[4096];
    struct store_redis_url url;

    (void)state;
    memset(text, 'a', sizeof(text));
    memcpy(text, "redis://", 8);
    text[8 + STORE_REDIS_HOST_SIZE - 1] = '\0';
    assert_int_equal(store_redis_url_parse(text, &url), 0);
    assert_int_equal(strlen(url.host), STORE_REDIS_HOST_SIZE - 1);
    text[8 + STORE_REDIS_HOST_SIZE - 1] = 'a';
    text[8 + STORE_REDIS_HOST_SIZE] = '\0';
    assert_int_equal(store_redis_url_parse(text, &url), SL_E_INVALID_VALUE);

    memset(text, 'b', sizeof(text));
    memcpy(text, "redis://:", 9);
    memcpy(text + 9 + STORE_REDIS_PASSWORD_SIZE - 1, "@c", 3);
    assert_int_equal(store_redis_url_parse(text, &url), 0);
    memset(text + 9, 'b', sizeof(text) - 9);
    memcpy(text + 9 + STORE_REDIS_PASSWORD_SIZE, "@c", 3);
    assert_int_equal(store_redis_url_parse(text, &url), SL_E_INVALID_VALUE);
}

static void survives_every_prefix(void **state)
{
    static const char whole[] = "redis://us%20er:pa%2Fss@[2001:db8::1]:6379/12?db=3";

    (void)state;
    for (size_t len = 0; len < sizeof(whole); len++) {
        char text[sizeof(whole)];
        struct store_redis_url url;
        (void)snprintf(text, sizeof(text), "%.*s", (int)len, whole);
        (void)!store_redis_url_parse(text, &url); /* for the sanitizers */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_form),
        cmocka_unit_test(refuses_the_rest),
        cmocka_unit_test(bounds_every_piece),
        cmocka_unit_test(survives_every_prefix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
