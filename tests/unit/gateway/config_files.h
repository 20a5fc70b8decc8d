/*
 * Writing configuration files and loading them, for the tests of the configuration.
 *
 * Files live in a fresh directory that is removed at the end. Everything loaded belongs to the caller;
 * failures end the test.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "config_keys.h"

#define SECRET "0123456789abcdef0123456789abcdef"
#define NEEDED "upstream: {url: 'http://model:8000/v1'}\njwt: {secret: " SECRET "}\n"
#define NO_URL "jwt: {secret: " SECRET "}\n"
#define NO_JWT "upstream: {url: 'http://model:8000/v1'}\n"

static char directory[] = "/tmp/sluice-config-XXXXXX";

static inline const char *in_directory(const char *name)
{
    static char path[2][256];
    static unsigned turn;

    turn ^= 1;
    (void)snprintf(path[turn], sizeof(path[turn]), "%s/%s", directory, name);
    return path[turn];
}

static inline const char *write_bytes(const char *name, const char *bytes, size_t len)
{
    const char *path = in_directory(name);
    FILE *stream = fopen(path, "w");

    assert_non_null(stream);
    assert_int_equal(fwrite(bytes, 1, len, stream), len);
    assert_int_equal(fclose(stream), 0);
    return path;
}

static inline const char *write_file(const char *name, const char *text)
{
    return write_bytes(name, text, strlen(text));
}

static inline struct gw_config *load(const char *yaml)
{
    char error[GW_CONFIG_ERROR_SIZE] = "";
    struct gw_config *config = NULL;
    int err = gw_config_load(yaml == NULL ? NULL : write_file("a.yaml", yaml), error, &config);

    if (err != 0) {
        fail_msg("refused: %s", error);
    }
    assert_non_null(config);
    return config;
}

/* Loads, expects a refusal of one line, and returns that line. */
static inline const char *refused(const char *yaml)
{
    static char error[GW_CONFIG_ERROR_SIZE];
    struct gw_config *config = NULL;

    memset(error, 'x', sizeof(error));
    assert_int_equal(gw_config_load(write_file("a.yaml", yaml), error, &config),
                     SL_E_INVALID_VALUE);
    assert_null(config);
    assert_true(strlen(error) > 0 && strlen(error) < sizeof(error));
    assert_null(strchr(error, '\n'));
    return error;
}

static inline void assert_starts(const char *text, const char *start)
{
    if (strncmp(text, start, strlen(start)) != 0) {
        fail_msg("\"%s\" does not start with \"%s\"", text, start);
    }
}

static inline void assert_contains(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        fail_msg("\"%s\" does not contain \"%s\"", text, part);
    }
}

static inline void assert_lacks(const char *text, const char *part)
{
    if (strstr(text, part) != NULL) {
        fail_msg("\"%s\" contains \"%s\"", text, part);
    }
}

/* What gw_config_print writes; the caller frees it. */
static inline char *printed(const struct gw_config *config)
{
    const char *path = write_file("printed", "");
    char *text = calloc(1, 256 * 1024);
    int keep = dup(STDOUT_FILENO);

    assert_non_null(text);
    (void)fflush(stdout);
    assert_non_null(freopen(path, "w", stdout));
    gw_config_print(config);
    (void)fflush(stdout);
    assert_true(dup2(keep, STDOUT_FILENO) >= 0);
    (void)close(keep);
    FILE *stream = fopen(in_directory("printed"), "r");
    assert_non_null(stream);
    assert_true(fread(text, 1, 256 * 1024 - 1, stream) > 0);
    (void)fclose(stream);
    return text;
}

static inline int clear_environment(void **state)
{
    (void)state;
    char name[GW_CONFIG_ENV_NAME_SIZE];
    size_t count;
    const struct gw_config_key *keys = gw_config_keys(&count);

    for (size_t i = 0; i < count; i++) {
        gw_config_keys_env(&keys[i], name);
        (void)unsetenv(name);
    }
    return 0;
}

static inline int make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) == NULL ? -1 : 0;
}

static inline int remove_directory(void **state)
{
    (void)state;
    static const char *const names[] = {"a.yaml", "printed", "key", "jwt", "large"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)unlink(in_directory(names[i]));
    }
    return rmdir(directory);
}
