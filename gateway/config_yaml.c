/*
 * The configuration file: YAML read by libcyaml against a schema made from the table of keys.
 *
 * Happy path: the schema is built from the table, one mapping per section and one pointer per key,
 * so that a key that was not given is NULL and keeps its default (libcyaml 1.3.1 cannot tell an
 * absent number from a zero); the file is read whole; libcyaml fills the entries. The text of a single
 * key takes the same way, as a document that may hold nothing else.
 *
 * Failure modes: the file cannot be read or is too large, is not YAML, or does not fit the schema.
 * config_yaml_log.c makes one line of what libcyaml says about those.
 *
 * Thread: main, while it loads. Ownership: entries belong to struct gw_config_yaml.
 */
#include "config_yaml.h"

#include <cyaml/cyaml.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_keys.h"
#include "config_yaml_log.h"

/* What libcyaml fills. */
struct document {
    struct gw_config_entry top[GW_CONFIG_LEAF_MAX];
    struct gw_config_section *sections[GW_CONFIG_SECTION_MAX];
};

struct gw_config_yaml {
    struct document *document; /* NULL: the file says nothing */
    size_t sections;
    cyaml_schema_value_t root;
    cyaml_schema_field_t top[GW_CONFIG_LEAF_MAX + GW_CONFIG_SECTION_MAX + 1];
    cyaml_schema_field_t leaves[GW_CONFIG_SECTION_MAX][GW_CONFIG_LEAF_MAX + 1];
    cyaml_schema_field_t upstream_leaves[GW_CONFIG_LEAF_MAX + 1];
    cyaml_schema_value_t upstream;
};

static int parse(const uint8_t *bytes, size_t len, const struct gw_config_key *only,
                 const char *origin, char error[GW_CONFIG_ERROR_SIZE],
                 struct gw_config_yaml **ret_yaml);
static void build_schema(struct gw_config_yaml *yaml);
static cyaml_schema_field_t leaf_field(const struct gw_config_yaml *yaml,
                                       const struct gw_config_key *key, size_t offset);
static void keep_only(struct gw_config_yaml *yaml, const struct gw_config_key *key);
static int read_whole(const char *file, char error[GW_CONFIG_ERROR_SIZE], uint8_t **ret_bytes,
                      size_t *ret_len);
static void wipe_entries(struct gw_config_entry *entries);

static const cyaml_schema_value_t list_entry = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED),
};

int gw_config_yaml_read(const char *file, char error[GW_CONFIG_ERROR_SIZE],
                        struct gw_config_yaml **ret_yaml)
{
    uint8_t *bytes = NULL;
    size_t len = 0;
    int err = read_whole(file, error, &bytes, &len);

    if (err != 0) {
        return err;
    }
    err = parse(bytes, len, NULL, file, error, ret_yaml);
    explicit_bzero(bytes, len);
    free(bytes);
    return err;
}

int gw_config_yaml_read_key(const struct gw_config_key *key, const char *text, const char *origin,
                            char error[GW_CONFIG_ERROR_SIZE], struct gw_config_yaml **ret_yaml)
{
    char *document = NULL;
    /* the line feed ends a comment */
    int len = asprintf(&document, "{%s: %s\n}", key->leaf, text);

    if (len < 0) {
        gw_config_keys_complain(error, "out of memory");
        return SL_E_NO_MEMORY;
    }
    int err = parse((uint8_t *)document, (size_t)len, key, origin, error, ret_yaml);
    explicit_bzero(document, (size_t)len);
    free(document);
    return err;
}

/* `only`: the one key that may be there; NULL: all. */
static int parse(const uint8_t *bytes, size_t len, const struct gw_config_key *only,
                 const char *origin, char error[GW_CONFIG_ERROR_SIZE],
                 struct gw_config_yaml **ret_yaml)
{
    struct gw_config_yaml_log log = {0};
    cyaml_config_t settings = {
        .log_fn = gw_config_yaml_log_note,
        .log_ctx = &log,
        .mem_fn = cyaml_mem,
        .log_level = CYAML_LOG_WARNING,
        .flags = CYAML_CFG_NO_ALIAS, /* no document that grows while it is read */
    };
    struct gw_config_yaml *yaml = calloc(1, sizeof(*yaml));

    if (yaml == NULL) {
        gw_config_keys_complain(error, "out of memory");
        return SL_E_NO_MEMORY;
    }
    build_schema(yaml);
    if (only != NULL) {
        keep_only(yaml, only);
    }
    cyaml_err_t failure =
        cyaml_load_data(bytes, len, &settings, &yaml->root, (cyaml_data_t **)&yaml->document, NULL);
    if (failure != CYAML_OK || log.more_documents) {
        gw_config_yaml_log_describe(&log, failure, origin, error);
        gw_config_yaml_destroy(yaml);
        return failure == CYAML_ERR_OOM ? SL_E_NO_MEMORY : SL_E_INVALID_VALUE;
    }
    *ret_yaml = yaml;
    return 0;
}

/* Keys at the top come first in a document, then the sections in the order of the table. */
static void build_schema(struct gw_config_yaml *yaml)
{
    size_t count, tops = 0, leaves = 0;
    const struct gw_config_key *keys = gw_config_keys_of_upstream(&count);

    for (size_t i = 0; i < count; i++) {
        yaml->upstream_leaves[i] =
            leaf_field(yaml, &keys[i], offsetof(struct gw_config_section, leaves[i]));
    }
    yaml->upstream = (cyaml_schema_value_t){
        .type = CYAML_MAPPING,
        .flags = CYAML_FLAG_DEFAULT,
        .data_size = sizeof(struct gw_config_section),
        .mapping = {.fields = yaml->upstream_leaves},
    };
    keys = gw_config_keys(&count);
    for (size_t i = 0; i < count; i++) {
        const struct gw_config_key *key = &keys[i];
        if (key->section[0] == '\0') {
            yaml->top[tops] = leaf_field(yaml, key, offsetof(struct document, top[tops]));
            tops++;
            continue;
        }
        if (i == 0 || strcmp(key->section, keys[i - 1].section) != 0) {
            size_t at = yaml->sections++;
            yaml->top[tops + at] = (cyaml_schema_field_t){
                .key = key->section,
                .data_offset = (uint32_t)offsetof(struct document, sections[at]),
                .value =
                    {
                        .type = CYAML_MAPPING,
                        .flags = CYAML_FLAG_OPTIONAL | CYAML_FLAG_POINTER_NULL_STR,
                        .data_size = sizeof(struct gw_config_section),
                        .mapping = {.fields = yaml->leaves[at]},
                    },
            };
            leaves = 0;
        }
        yaml->leaves[yaml->sections - 1][leaves] =
            leaf_field(yaml, key, offsetof(struct gw_config_section, leaves[leaves]));
        leaves++;
    }
    yaml->root = (cyaml_schema_value_t){
        .type = CYAML_MAPPING,
        .flags = CYAML_FLAG_POINTER,
        .data_size = sizeof(struct document),
        .mapping = {.fields = yaml->top},
    };
}

static cyaml_schema_field_t leaf_field(const struct gw_config_yaml *yaml,
                                       const struct gw_config_key *key, size_t offset)
{
    cyaml_schema_field_t field = {
        .key = key->leaf,
        .data_offset = (uint32_t)(offset + offsetof(struct gw_config_entry, text)),
        .value =
            {
                .type = CYAML_STRING,
                .flags = CYAML_FLAG_OPTIONAL | CYAML_FLAG_POINTER_NULL_STR,
                .data_size = sizeof(char),
                .string = {.min = 0, .max = CYAML_UNLIMITED},
            },
    };

    if (key->type == GW_CONFIG_LIST || key->type == GW_CONFIG_UPSTREAMS) {
        bool list = key->type == GW_CONFIG_LIST;
        field.data_offset =
            (uint32_t)(offset + (list ? offsetof(struct gw_config_entry, items)
                                      : offsetof(struct gw_config_entry, sections)));
        field.count_offset = (uint32_t)(offset + offsetof(struct gw_config_entry, count));
        field.count_size = sizeof(unsigned);
        field.value.type = CYAML_SEQUENCE;
        field.value.data_size = list ? sizeof(char *) : sizeof(struct gw_config_section);
        field.value.sequence.entry = list ? &list_entry : &yaml->upstream;
        field.value.sequence.min = 0;
        field.value.sequence.max = list ? GW_CONFIG_LIST_MAX : GW_UPSTREAMS_MAX;
    }
    return field;
}

static void keep_only(struct gw_config_yaml *yaml, const struct gw_config_key *key)
{
    size_t at = 0;

    while (yaml->top[at].key != NULL && strcmp(yaml->top[at].key, key->leaf) != 0) {
        at++;
    }
    yaml->top[0] = yaml->top[at];
    yaml->top[1].key = NULL;
}

static int read_whole(const char *file, char error[GW_CONFIG_ERROR_SIZE], uint8_t **ret_bytes,
                      size_t *ret_len)
{
    FILE *stream = fopen(file, "re");
    uint8_t *bytes = stream == NULL ? NULL : malloc(GW_CONFIG_FILE_MAX + 1);

    if (stream == NULL || bytes == NULL) {
        gw_config_keys_complain(error, "%.150s: cannot be read: %s", file, strerror(errno));
        if (stream != NULL) {
            (void)fclose(stream);
        }
        return SL_E_INVALID_VALUE;
    }
    errno = 0;
    size_t len = fread(bytes, 1, GW_CONFIG_FILE_MAX + 1, stream);
    if (ferror(stream) != 0) {
        gw_config_keys_complain(error, "%.150s: cannot be read: %s", file, strerror(errno));
    } else if (len > GW_CONFIG_FILE_MAX) {
        gw_config_keys_complain(error, "%.150s: larger than %d bytes", file, GW_CONFIG_FILE_MAX);
    } else {
        (void)fclose(stream);
        *ret_bytes = bytes;
        *ret_len = len;
        return 0;
    }
    (void)fclose(stream);
    explicit_bzero(bytes, len);
    free(bytes);
    return SL_E_INVALID_VALUE;
}

const struct gw_config_entry *gw_config_yaml_get(const struct gw_config_yaml *yaml, size_t index)
{
    size_t count, section = 0, leaf = 0;
    const struct gw_config_key *keys = gw_config_keys(&count);

    if (yaml->document == NULL || index >= count) {
        return NULL;
    }
    for (size_t i = 1; i <= index; i++) {
        leaf++;
        if (strcmp(keys[i].section, keys[i - 1].section) != 0) {
            section += keys[i - 1].section[0] != '\0';
            leaf = 0;
        }
    }
    if (keys[index].section[0] == '\0') {
        return &yaml->document->top[leaf];
    }
    const struct gw_config_section *found = yaml->document->sections[section];
    return found != NULL ? &found->leaves[leaf] : NULL;
}

/* ------------------------------------------------------------------ teardown */

void gw_config_yaml_destroy(struct gw_config_yaml *yaml)
{
    const cyaml_config_t settings = {.mem_fn = cyaml_mem, .flags = CYAML_CFG_NO_ALIAS};

    if (yaml == NULL) {
        return;
    }
    if (yaml->document != NULL) {
        wipe_entries(yaml->document->top);
        for (size_t i = 0; i < yaml->sections; i++) {
            if (yaml->document->sections[i] != NULL) {
                wipe_entries(yaml->document->sections[i]->leaves);
            }
        }
        (void)cyaml_free(&settings, &yaml->root, yaml->document, 0);
    }
    free(yaml);
}

static void wipe_entries(struct gw_config_entry *entries)
{
    for (size_t i = 0; i < GW_CONFIG_LEAF_MAX; i++) {
        if (entries[i].text != NULL) {
            explicit_bzero(entries[i].text, strlen(entries[i].text));
        }
        for (unsigned j = 0; entries[i].sections != NULL && j < entries[i].count; j++) {
            wipe_entries(entries[i].sections[j].leaves);
        }
    }
}
