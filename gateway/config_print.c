/*
 * The configuration as YAML on standard output, for `sluice --print-config`.
 *
 * One line per key in the order of the table, so the output loads again. A secret shows as "***", or
 * as null when it comes from a file or a variable that is named beside it. Of an URL or a connection
 * string only the password is hidden; where it is open what the password is, more is hidden rather
 * than less.
 *
 * Failure modes: none that matter; out of memory ends the text early with a comment that says so.
 * Thread: main. Ownership: nothing is kept.
 */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config.h"
#include "config_keys.h"
#include "sluice/buffer.h"
#include "sluice/text.h"

enum { TEXT_MAX = 16 * 1024 * 1024 /* bytes; the checks on the values keep it far below */ };

static int append_all(const struct gw_config *config, struct sl_buffer *yaml);
static int append_upstreams(const struct gw_config *config, struct sl_buffer *yaml);
static int append_key(const void *values, const struct gw_config_key *keys, size_t count,
                      size_t index, const char *indent, struct sl_buffer *yaml);
static bool came_from_elsewhere(const void *values, const struct gw_config_key *keys, size_t count,
                                const struct gw_config_key *key);
static int append_masked(const char *text, struct sl_buffer *yaml);
static int mask_parameters(const char *text, size_t len, struct sl_buffer *masked);
static size_t parameter_len(const char *text, size_t len);
static int mask_userinfo(const char *text, size_t len, struct sl_buffer *masked);

void gw_config_print(const struct gw_config *config)
{
    struct sl_buffer yaml;

    sl_buffer_init(&yaml, TEXT_MAX);
    int err = append_all(config, &yaml);
    if (yaml.len > 0) {
        (void)fwrite(yaml.base, 1, yaml.len, stdout);
    }
    if (err != 0) {
        (void)fputs("\n# out of memory: the rest is missing\n", stdout);
    }
    (void)fflush(stdout);
    sl_buffer_dispose(&yaml);
}

static int append_all(const struct gw_config *config, struct sl_buffer *yaml)
{
    const char *section = "";
    size_t count;
    const struct gw_config_key *keys = gw_config_keys(&count);
    int err = 0;

    for (size_t i = 0; err == 0 && i < count; i++) {
        if (strcmp(keys[i].section, section) != 0) {
            section = keys[i].section;
            err = sl_buffer_appendf(yaml, "%s:\n", section);
        }
        if (err == 0) {
            err = keys[i].type == GW_CONFIG_UPSTREAMS
                      ? append_upstreams(config, yaml)
                      : append_key(config, keys, count, i, section[0] != '\0' ? "  " : "", yaml);
        }
    }
    return err;
}

/* One mapping per upstream; what was made from upstream.url shows there. */
static int append_upstreams(const struct gw_config *config, struct sl_buffer *yaml)
{
    size_t count;
    const struct gw_config_key *keys = gw_config_keys_of_upstream(&count);

    if (config->upstream.url != NULL || config->upstreams_count == 0) {
        return sl_buffer_append_str(yaml, "upstreams: []\n");
    }
    int err = sl_buffer_append_str(yaml, "upstreams:\n");
    for (unsigned i = 0; i < config->upstreams_count; i++) {
        for (size_t j = 0; err == 0 && j < count; j++) {
            err = append_key(&config->upstreams[i], keys, count, j, j == 0 ? "  - " : "    ", yaml);
        }
    }
    return err;
}

static int append_key(const void *values, const struct gw_config_key *keys, size_t count,
                      size_t index, const char *indent, struct sl_buffer *yaml)
{
    const struct gw_config_key *key = &keys[index];
    const char *text = gw_config_value_text(values, key);
    int err = sl_buffer_appendf(yaml, "%s%s: ", indent, key->leaf);

    if (err != 0) {
        return err;
    }
    if (text != NULL && (key->flags & GW_CONFIG_SECRET) != 0) {
        bool elsewhere = came_from_elsewhere(values, keys, count, key);
        err = sl_buffer_append_str(yaml, elsewhere ? "null" : "\"***\"");
    } else if (text != NULL && (key->flags & GW_CONFIG_PASSWORD) != 0) {
        err = append_masked(text, yaml);
    } else {
        err = gw_config_value_append(values, key, yaml);
    }
    return err != 0 ? err : sl_buffer_append_str(yaml, "\n");
}

/* The key `a.b` is read from what `a.b_file` or `a.b_env` names, if one of them is set. */
static bool came_from_elsewhere(const void *values, const struct gw_config_key *keys, size_t count,
                                const struct gw_config_key *key)
{
    size_t len = strlen(key->name);

    for (size_t i = 0; i < count; i++) {
        if (strncmp(keys[i].name, key->name, len) == 0 &&
            (strcmp(keys[i].name + len, "_file") == 0 || strcmp(keys[i].name + len, "_env") == 0) &&
            gw_config_value_text(values, &keys[i]) != NULL) {
            return true;
        }
    }
    return false;
}

static int append_masked(const char *text, struct sl_buffer *yaml)
{
    struct sl_buffer parameters, masked;

    sl_buffer_init(&parameters, TEXT_MAX);
    sl_buffer_init(&masked, TEXT_MAX);
    int err = mask_parameters(text, strlen(text), &parameters);
    if (err == 0) {
        err = mask_userinfo(parameters.base, parameters.len, &masked);
    }
    if (err == 0) {
        err = sl_json_append_string(yaml, masked.base, masked.len);
    }
    sl_buffer_dispose(&parameters);
    sl_buffer_dispose(&masked);
    return err;
}

/* password=..., sslpassword=...: libpq's connection strings (manual section 34.1.1). */
static int mask_parameters(const char *text, size_t len, struct sl_buffer *masked)
{
    static const char word[] = "password";
    size_t done = 0;
    int err = 0;

    while (err == 0 && done < len) {
        size_t skip =
            len - done >= sizeof(word) - 1 && strncasecmp(text + done, word, sizeof(word) - 1) == 0
                ? parameter_len(text + done, len - done)
                : 0;
        if (skip == 0) {
            err = sl_buffer_append(masked, text + done, 1);
            done++;
            continue;
        }
        err = sl_buffer_append_str(masked, "password=***");
        done += skip;
    }
    return err;
}

/* The length of `password = value` at `text`, or 0 when no equals sign follows the word. */
static size_t parameter_len(const char *text, size_t len)
{
    size_t at = strlen("password");

    while (at < len && isspace((unsigned char)text[at])) {
        at++;
    }
    if (at >= len || text[at] != '=') {
        return 0;
    }
    at++;
    while (at < len && isspace((unsigned char)text[at])) {
        at++;
    }
    bool quoted = at < len && text[at] == '\'';
    at += quoted;
    for (; at < len; at++) {
        if (text[at] == '\\' && at + 1 < len) {
            at++;
        } else if (quoted ? text[at] == '\''
                          : isspace((unsigned char)text[at]) || text[at] == '&') {
            return at + quoted;
        }
    }
    return at;
}

/*
 * scheme://name:password@host: everything from the first colon to the last @, since a password with
 * such characters in it is wrong but common.
 */
static int mask_userinfo(const char *text, size_t len, struct sl_buffer *masked)
{
    const char *authority = memmem(text, len, "://", 3);
    const char *at = memrchr(text, '@', len);
    const char *colon = authority == NULL || at == NULL || at < authority + 3
                            ? NULL
                            : memchr(authority + 3, ':', (size_t)(at - (authority + 3)));

    if (colon == NULL) {
        return sl_buffer_append(masked, text, len);
    }
    int err = sl_buffer_append(masked, text, (size_t)(colon + 1 - text));
    if (err == 0) {
        err = sl_buffer_append_str(masked, "***");
    }
    return err != 0 ? err : sl_buffer_append(masked, at, (size_t)(text + len - at));
}
