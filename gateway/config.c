/*
 * The configuration: defaults, then the file, then the environment, then what follows from them.
 *
 * Happy path, in order: every key gets its default from the table; keys in the file are set; keys in
 * the environment are set; secrets named by file are read; what is required is there; the upstreams
 * are completed; values get their working form (threads counted).
 *
 * Failure modes: a value that its key does not accept, a key that is missing or given in two ways, a
 * file that cannot be read. Each ends the load with one line that names the key and what it accepts
 * and where it was set; no value is ever shown, since it may be a secret put into the wrong place.
 *
 * Thread: main. Ownership: all strings belong to the configuration and are wiped with it.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config_keys.h"
#include "config_upstreams.h"
#include "config_yaml.h"

enum { WHERE_SIZE = 100 };

/* A key that names a file, and the secret that is read from it. */
static const struct {
    const char *file_key, *secret_key;
} secret_files[] = {
    {"upstream.api_key_file", "upstream.api_key"},
    {"jwt.secret_file", "jwt.secret"},
};

static int load(const char *file, bool to_serve, char error[GW_CONFIG_ERROR_SIZE],
                struct gw_config **ret_config);
static int set_defaults(struct gw_config *config, char error[GW_CONFIG_ERROR_SIZE]);
static int set_from_file(struct gw_config *config, const char *file,
                         char error[GW_CONFIG_ERROR_SIZE]);
static int take(struct gw_config *config, const struct gw_config_key *key,
                const struct gw_config_entry *entry, const char *where,
                char error[GW_CONFIG_ERROR_SIZE]);
static int set_from_environment(struct gw_config *config, char error[GW_CONFIG_ERROR_SIZE]);
static int read_secrets(struct gw_config *config, char error[GW_CONFIG_ERROR_SIZE]);
static int check_required(const struct gw_config *config, char error[GW_CONFIG_ERROR_SIZE]);
static void settle(struct gw_config *config);

int gw_config_load(const char *file, char error[GW_CONFIG_ERROR_SIZE],
                   struct gw_config **ret_config)
{
    return load(file, true, error, ret_config);
}

int gw_config_load_stores(const char *file, char error[GW_CONFIG_ERROR_SIZE],
                          struct gw_config **ret_config)
{
    return load(file, false, error, ret_config);
}

static int load(const char *file, bool to_serve, char error[GW_CONFIG_ERROR_SIZE],
                struct gw_config **ret_config)
{
    struct gw_config *config = calloc(1, sizeof(*config));

    if (config == NULL) {
        gw_config_keys_complain(error, "out of memory");
        return SL_E_NO_MEMORY;
    }
    int err = set_defaults(config, error);
    if (err == 0 && file != NULL) {
        err = set_from_file(config, file, error);
    }
    if (err == 0) {
        err = set_from_environment(config, error);
    }
    if (err == 0) {
        err = read_secrets(config, error);
    }
    if (err == 0 && to_serve) {
        err = check_required(config, error);
    }
    if (err == 0 && to_serve) {
        err = gw_config_upstreams_complete(config, error);
    }
    if (err != 0) {
        gw_config_destroy(config);
        return err;
    }
    settle(config);
    *ret_config = config;
    return 0;
}

static int set_defaults(struct gw_config *config, char error[GW_CONFIG_ERROR_SIZE])
{
    size_t count;
    const struct gw_config_key *keys = gw_config_keys(&count);

    for (size_t i = 0; i < count; i++) {
        if (keys[i].fallback == NULL) {
            continue;
        }
        int err = gw_config_value_set(config, &keys[i], keys[i].fallback);
        if (err != 0) {
            return gw_config_keys_refuse(err, &keys[i], "by default", error);
        }
    }
    return 0;
}

static int set_from_file(struct gw_config *config, const char *file,
                         char error[GW_CONFIG_ERROR_SIZE])
{
    char where[WHERE_SIZE];
    size_t count;
    const struct gw_config_key *keys = gw_config_keys(&count);
    struct gw_config_yaml *yaml = NULL;
    int err = gw_config_yaml_read(file, error, &yaml);

    if (err != 0) {
        return err;
    }
    (void)snprintf(where, sizeof(where), "in %.80s", file);
    for (size_t i = 0; err == 0 && i < count; i++) {
        err = take(config, &keys[i], gw_config_yaml_get(yaml, i), where, error);
    }
    gw_config_yaml_destroy(yaml);
    return err;
}

/* `entry`: what YAML says about the key; NULL: nothing. */
static int take(struct gw_config *config, const struct gw_config_key *key,
                const struct gw_config_entry *entry, const char *where,
                char error[GW_CONFIG_ERROR_SIZE])
{
    if (entry == NULL) {
        return 0;
    }
    if (key->type == GW_CONFIG_UPSTREAMS) {
        return gw_config_upstreams_set(config, entry, where, error);
    }
    int err = gw_config_value_take(config, key, entry);
    return err != 0 ? gw_config_keys_refuse(err, key, where, error) : 0;
}

static int set_from_environment(struct gw_config *config, char error[GW_CONFIG_ERROR_SIZE])
{
    char name[GW_CONFIG_ENV_NAME_SIZE], where[WHERE_SIZE];
    size_t count;
    const struct gw_config_key *keys = gw_config_keys(&count);
    int err = 0;

    for (size_t i = 0; err == 0 && i < count; i++) {
        struct gw_config_yaml *yaml = NULL;
        gw_config_keys_env(&keys[i], name);
        const char *text = getenv(name);
        if (text == NULL || *text == '\0') {
            continue;
        }
        (void)snprintf(where, sizeof(where), "by %s", name);
        if (keys[i].type == GW_CONFIG_UPSTREAMS) {
            err = gw_config_yaml_read_key(&keys[i], text, name, error, &yaml);
            if (err == 0) {
                err = take(config, &keys[i], gw_config_yaml_get(yaml, i), where, error);
            }
            gw_config_yaml_destroy(yaml);
            continue;
        }
        err = gw_config_value_set(config, &keys[i], text);
        if (err != 0) {
            err = gw_config_keys_refuse(err, &keys[i], where, error);
        }
    }
    return err;
}

static int read_secrets(struct gw_config *config, char error[GW_CONFIG_ERROR_SIZE])
{
    for (size_t i = 0; i < sizeof(secret_files) / sizeof(secret_files[0]); i++) {
        const struct gw_config_key *file_key = gw_config_keys_find(secret_files[i].file_key);
        const struct gw_config_key *secret_key = gw_config_keys_find(secret_files[i].secret_key);

        if (gw_config_value_text(config, file_key) == NULL) {
            continue;
        }
        if (gw_config_value_text(config, secret_key) != NULL) {
            gw_config_keys_complain(error, "%s: set this or %s, not both", file_key->name,
                                    secret_key->name);
            return SL_E_INVALID_VALUE;
        }
        int err = gw_config_secret_from_file(config, file_key, secret_key, error);
        if (err != 0) {
            return err;
        }
    }
    return 0;
}

static int check_required(const struct gw_config *config, char error[GW_CONFIG_ERROR_SIZE])
{
    char accepted[GW_CONFIG_ACCEPTED_SIZE], name[GW_CONFIG_ENV_NAME_SIZE];
    size_t count;
    const struct gw_config_key *keys = gw_config_keys(&count);

    for (size_t i = 0; i < count; i++) {
        bool single = (keys[i].flags & GW_CONFIG_SINGLE) != 0;

        if ((keys[i].flags & GW_CONFIG_REQUIRED) != 0 &&
            gw_config_value_text(config, &keys[i]) == NULL &&
            !(single && config->upstreams_count > 0)) {
            gw_config_keys_accepted(&keys[i], accepted);
            gw_config_keys_env(&keys[i], name);
            gw_config_keys_complain(error, "%s: required (or %s): %s%s", keys[i].name, name,
                                    accepted, single ? "; or upstreams" : "");
            return SL_E_INVALID_VALUE;
        }
    }
    if (config->jwt.secret == NULL && config->jwt.jwks_file == NULL) {
        (void)snprintf(
            error, GW_CONFIG_ERROR_SIZE,
            "jwt.secret: required (or SLUICE_JWT_SECRET): a secret of at least 32 bytes; "
            "or jwt.secret_file, or jwt.jwks_file");
        return SL_E_INVALID_VALUE;
    }
    if (config->jwt.secret != NULL && config->jwt.jwks_file != NULL) {
        gw_config_keys_complain(error, "jwt.jwks_file: set this or a jwt.secret, not both");
        return SL_E_INVALID_VALUE;
    }
    return 0;
}

static void settle(struct gw_config *config)
{
    if (config->threads == 0) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        double max = gw_config_keys_find("threads")->max;
        config->threads = online < 1 ? 1 : (double)online > max ? (unsigned)max : (unsigned)online;
    }
}

bool gw_config_section_equal(const struct gw_config *a, const struct gw_config *b,
                             const char *section)
{
    size_t count;
    const struct gw_config_key *keys = gw_config_keys(&count);

    for (size_t i = 0; i < count; i++) {
        if (strcmp(keys[i].section, section) == 0 && !gw_config_value_equal(a, b, &keys[i])) {
            return false;
        }
    }
    return true;
}

/* The names that are being collected. */
struct names {
    char *text;
    size_t size, len, count;
};

static void add_name(struct names *names, const char *name)
{
    size_t len = strlen(name) + (names->len > 0);

    names->count++;
    if (names->len + len < names->size) {
        (void)snprintf(names->text + names->len, names->size - names->len, "%s%s",
                       names->len > 0 ? "," : "", name);
        names->len += len;
    }
}

static struct names no_names(char *text, size_t size)
{
    if (size > 0) {
        text[0] = '\0';
    }
    return (struct names){.text = text, .size = size};
}

size_t gw_config_changes(const struct gw_config *now, const struct gw_config *next, char *text,
                         size_t size)
{
    struct names names = no_names(text, size);
    bool is_list = now->upstream.url == NULL || next->upstream.url == NULL;
    char label[GW_CONFIG_LABEL_SIZE];
    size_t count;
    const struct gw_config_key *keys = gw_config_keys(&count);

    for (size_t i = 0; i < count; i++) {
        if (keys[i].type != GW_CONFIG_UPSTREAMS && !gw_config_value_equal(now, next, &keys[i])) {
            add_name(&names, keys[i].name);
        }
    }
    /* what was made of upstream.url and the keys beside it has their names */
    if (is_list && now->upstreams_count != next->upstreams_count) {
        add_name(&names, "upstreams");
        return names.count;
    }
    keys = gw_config_keys_of_upstream(&count);
    for (unsigned i = 0; is_list && i < now->upstreams_count; i++) {
        for (size_t j = 0; j < count; j++) {
            if (!gw_config_value_equal(&now->upstreams[i], &next->upstreams[i], &keys[j])) {
                add_name(&names, gw_config_keys_label(keys[j].leaf, i, label).name);
            }
        }
    }
    return names.count;
}

size_t gw_config_fixed_changes(const struct gw_config *now, const struct gw_config *next,
                               char *text, size_t size)
{
    struct names names = no_names(text, size);
    size_t count;
    const struct gw_config_key *keys = gw_config_keys(&count);

    for (size_t i = 0; i < count; i++) {
        if ((keys[i].flags & GW_CONFIG_FIXED) != 0 && !gw_config_value_equal(now, next, &keys[i])) {
            add_name(&names, keys[i].name);
        }
    }
    return names.count;
}

void gw_config_destroy(struct gw_config *config)
{
    size_t count;
    const struct gw_config_key *keys = gw_config_keys(&count);

    if (config == NULL) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        gw_config_value_clear(config, &keys[i]);
    }
    free(config);
}
