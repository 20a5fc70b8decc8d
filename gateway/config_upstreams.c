/*
 * The list of upstreams.
 *
 * Happy path: `set` makes one struct per mapping, defaults first; once every source was read,
 * `complete` checks each upstream and fetches its API key, or makes the upstream `default` of
 * upstream.url and the keys beside it, so that the server knows lists only.
 *
 * Failure modes: a value that its key does not accept, a key that is missing or given in two ways, two
 * upstreams of one name, a default model that nobody serves. Each names the key as
 * `upstreams[0].url` and shows no value.
 *
 * Thread: main, while it loads. Ownership: the list and its strings belong to the configuration.
 */
#include "config_upstreams.h"

#include <stdlib.h>
#include <string.h>

#include "config_keys.h"
#include "config_yaml.h"

static int make_list(struct gw_config *config, unsigned upstreams,
                     char error[GW_CONFIG_ERROR_SIZE]);
static int check_not_both(const struct gw_config *config, char error[GW_CONFIG_ERROR_SIZE]);
static bool is_given(const struct gw_config *config, const struct gw_config_key *key);
static int make_default(struct gw_config *config, char error[GW_CONFIG_ERROR_SIZE]);
static int copy_models(const struct gw_config *config, struct gw_upstream_config *upstream);
static int add_model(struct gw_upstream_config *upstream, const char *model);
static int check_entries(const struct gw_config *config, char error[GW_CONFIG_ERROR_SIZE]);
static int fetch_api_key(struct gw_upstream_config *upstream, unsigned index,
                         char error[GW_CONFIG_ERROR_SIZE]);
static int check_model(const struct gw_config *config, char error[GW_CONFIG_ERROR_SIZE]);
static void drop_slashes(char *url);

/* ------------------------------------------------------------------ set */

int gw_config_upstreams_set(struct gw_config *config, const struct gw_config_entry *entry,
                            const char *where, char error[GW_CONFIG_ERROR_SIZE])
{
    char label[GW_CONFIG_LABEL_SIZE];
    size_t count;
    const struct gw_config_key *keys = gw_config_keys_of_upstream(&count);
    int err = make_list(config, entry->count, error);

    for (unsigned i = 0; err == 0 && i < entry->count; i++) {
        for (size_t j = 0; err == 0 && j < count; j++) {
            const struct gw_config_key key = gw_config_keys_label(keys[j].leaf, i, label);
            err = gw_config_value_take(&config->upstreams[i], &key, &entry->sections[i].leaves[j]);
            err = err != 0 ? gw_config_keys_refuse(err, &key, where, error) : 0;
        }
    }
    return err;
}

/* So many upstreams, each with the defaults. */
static int make_list(struct gw_config *config, unsigned upstreams, char error[GW_CONFIG_ERROR_SIZE])
{
    size_t count;
    const struct gw_config_key *keys = gw_config_keys_of_upstream(&count);
    int err = 0;

    gw_config_upstreams_clear(config);
    if (upstreams == 0) {
        return 0;
    }
    config->upstreams = calloc(upstreams, sizeof(*config->upstreams));
    if (config->upstreams == NULL) {
        gw_config_keys_complain(error, "upstreams: out of memory");
        return SL_E_NO_MEMORY;
    }
    config->upstreams_count = upstreams;
    for (unsigned i = 0; err == 0 && i < upstreams; i++) {
        for (size_t j = 0; err == 0 && j < count; j++) {
            if (keys[j].fallback != NULL) {
                err = gw_config_value_set(&config->upstreams[i], &keys[j], keys[j].fallback);
                err = err != 0 ? gw_config_keys_refuse(err, &keys[j], "by default", error) : 0;
            }
        }
    }
    return err;
}

/* ------------------------------------------------------------------ complete */

int gw_config_upstreams_complete(struct gw_config *config, char error[GW_CONFIG_ERROR_SIZE])
{
    int err;

    if (config->upstreams_count == 0) {
        drop_slashes(config->upstream.url);
        err = make_default(config, error);
    } else {
        err = check_not_both(config, error);
        err = err == 0 ? check_entries(config, error) : err;
    }
    for (unsigned i = 0; err == 0 && i < config->upstreams_count; i++) {
        drop_slashes(config->upstreams[i].url);
        err = fetch_api_key(&config->upstreams[i], i, error);
    }
    return err == 0 ? check_model(config, error) : err;
}

/* Beside a list the only upstream's keys would be ignored, and nobody would be told. */
static int check_not_both(const struct gw_config *config, char error[GW_CONFIG_ERROR_SIZE])
{
    size_t count;
    const struct gw_config_key *keys = gw_config_keys(&count);

    for (size_t i = 0; i < count; i++) {
        if ((keys[i].flags & GW_CONFIG_SINGLE) != 0 && is_given(config, &keys[i])) {
            gw_config_keys_complain(error, "upstreams: set this or %s, not both", keys[i].name);
            return SL_E_INVALID_VALUE;
        }
    }
    return 0;
}

/* As its default is as if not given: `--print-config` writes it. */
static bool is_given(const struct gw_config *config, const struct gw_config_key *key)
{
    static const struct gw_config empty;
    const char *text = gw_config_value_text(config, key);

    if (text != NULL && key->fallback != NULL && strcmp(text, key->fallback) == 0) {
        return false;
    }
    return !gw_config_value_equal(config, &empty, key);
}

/* Every text here was checked as upstream.something, so only memory can be missing. */
static int make_default(struct gw_config *config, char error[GW_CONFIG_ERROR_SIZE])
{
    const struct {
        const char *leaf, *text;
    } texts[] = {
        {"name", "default"},
        {"provider", config->upstream.provider},
        {"url", config->upstream.url},
        {"api_key", config->upstream.api_key},
    };
    char label[GW_CONFIG_LABEL_SIZE];
    int err = make_list(config, 1, error);

    if (err != 0) {
        return err;
    }
    for (size_t i = 0; err == 0 && i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (texts[i].text != NULL) {
            const struct gw_config_key key = gw_config_keys_label(texts[i].leaf, 0, label);
            err = gw_config_value_set(config->upstreams, &key, texts[i].text);
        }
    }
    err = err == 0 ? copy_models(config, config->upstreams) : err;
    if (err != 0) {
        gw_config_keys_complain(error, "upstreams: out of memory");
    }
    return err;
}

/* A request may always name upstream.model, be it in upstream.models or not. */
static int copy_models(const struct gw_config *config, struct gw_upstream_config *upstream)
{
    unsigned count = config->upstream.models_count;
    int err = 0;

    if (count == 0) {
        return 0;
    }
    upstream->models = calloc(count + 1, sizeof(*upstream->models));
    if (upstream->models == NULL) {
        return SL_E_NO_MEMORY;
    }
    for (unsigned i = 0; err == 0 && i < count; i++) {
        err = add_model(upstream, config->upstream.models[i]);
    }
    if (err == 0 && gw_config_upstream_model(upstream, config, config->upstream.model) == NULL) {
        err = add_model(upstream, config->upstream.model);
    }
    return err;
}

static int add_model(struct gw_upstream_config *upstream, const char *model)
{
    char *copy = strdup(model);

    if (copy == NULL) {
        return SL_E_NO_MEMORY;
    }
    upstream->models[upstream->models_count++] = copy;
    return 0;
}

/* What must be there is; a name means one upstream. */
static int check_entries(const struct gw_config *config, char error[GW_CONFIG_ERROR_SIZE])
{
    char label[GW_CONFIG_LABEL_SIZE], accepted[GW_CONFIG_ACCEPTED_SIZE];
    size_t count;
    const struct gw_config_key *keys = gw_config_keys_of_upstream(&count);

    for (unsigned i = 0; i < config->upstreams_count; i++) {
        for (size_t j = 0; j < count; j++) {
            const struct gw_config_key key = gw_config_keys_label(keys[j].leaf, i, label);
            if ((key.flags & GW_CONFIG_REQUIRED) != 0 &&
                gw_config_value_text(&config->upstreams[i], &key) == NULL) {
                gw_config_keys_accepted(&key, accepted);
                gw_config_keys_complain(error, "%s: required: %s", key.name, accepted);
                return SL_E_INVALID_VALUE;
            }
        }
        for (unsigned j = 0; j < i; j++) {
            if (strcmp(config->upstreams[i].name, config->upstreams[j].name) == 0) {
                gw_config_keys_complain(
                    error, "upstreams[%u].name: must be another than upstreams[%u].name", i, j);
                return SL_E_INVALID_VALUE;
            }
        }
    }
    return 0;
}

/* From one of three places, into api_key. */
static int fetch_api_key(struct gw_upstream_config *upstream, unsigned index,
                         char error[GW_CONFIG_ERROR_SIZE])
{
    static const char *const places[] = {"api_key", "api_key_file", "api_key_env"};
    enum { IN_PLACE, BY_FILE, BY_ENV, PLACES };
    char labels[PLACES][GW_CONFIG_LABEL_SIZE];
    struct gw_config_key keys[PLACES];
    int given = -1;

    for (int i = 0; i < PLACES; i++) {
        keys[i] = gw_config_keys_label(places[i], index, labels[i]);
        if (gw_config_value_text(upstream, &keys[i]) == NULL) {
            continue;
        }
        if (given >= 0) {
            gw_config_keys_complain(error, "%s: set this or %s, not both", keys[i].name,
                                    keys[given].name);
            return SL_E_INVALID_VALUE;
        }
        given = i;
    }
    if (given == BY_FILE) {
        return gw_config_secret_from_file(upstream, &keys[BY_FILE], &keys[IN_PLACE], error);
    }
    if (given == BY_ENV) {
        return gw_config_secret_from_env(upstream, &keys[BY_ENV], &keys[IN_PLACE], error);
    }
    return 0;
}

static int check_model(const struct gw_config *config, char error[GW_CONFIG_ERROR_SIZE])
{
    for (unsigned i = 0; i < config->upstreams_count; i++) {
        if (gw_config_upstream_model(&config->upstreams[i], config, config->upstream.model) !=
            NULL) {
            return 0;
        }
    }
    gw_config_keys_complain(error,
                            "upstream.model: must be a model that one of the upstreams serves: "
                            "named in its models, or it has none");
    return SL_E_INVALID_VALUE;
}

/* Paths are appended to it. */
static void drop_slashes(char *url)
{
    size_t len = strlen(url);

    while (len > 0 && url[len - 1] == '/') {
        url[--len] = '\0';
    }
}

/* ------------------------------------------------------------------ compare, clear */

static bool are_equal(const struct gw_config *a, const struct gw_config *b, unsigned but_flags)
{
    size_t count;
    const struct gw_config_key *keys = gw_config_keys_of_upstream(&count);

    if (a->upstreams_count != b->upstreams_count) {
        return false;
    }
    for (unsigned i = 0; i < a->upstreams_count; i++) {
        for (size_t j = 0; j < count; j++) {
            if ((keys[j].flags & but_flags) == 0 &&
                !gw_config_value_equal(&a->upstreams[i], &b->upstreams[i], &keys[j])) {
                return false;
            }
        }
    }
    return true;
}

bool gw_config_upstreams_equal(const struct gw_config *a, const struct gw_config *b)
{
    return are_equal(a, b, 0);
}

bool gw_config_upstreams_same(const struct gw_config *a, const struct gw_config *b)
{
    return are_equal(a, b, GW_CONFIG_CHOICE);
}

void gw_config_upstreams_clear(struct gw_config *config)
{
    size_t count;
    const struct gw_config_key *keys = gw_config_keys_of_upstream(&count);

    for (unsigned i = 0; i < config->upstreams_count; i++) {
        for (size_t j = 0; j < count; j++) {
            gw_config_value_clear(&config->upstreams[i], &keys[j]);
        }
    }
    free(config->upstreams);
    config->upstreams = NULL;
    config->upstreams_count = 0;
}
