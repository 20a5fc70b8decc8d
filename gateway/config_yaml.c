/*
 * The configuration file: YAML read by libcyaml against a schema made from the table of keys.
 *
 * Happy path: the schema is built from the table, one mapping per section and one pointer per key,
 * so that a key that was not given is NULL and keeps its default (libcyaml 1.3.1 cannot tell an
 * absent number from a zero); the file is read whole; libcyaml fills the entries.
 *
 * Failure modes: the file cannot be read or is too large, is not YAML, or does not fit the schema.
 * libcyaml describes those in a log of several lines, innermost mapping first; `note_log` picks the
 * names and the line number out of it, never a value, and `describe` makes one line of them.
 *
 * Thread: main, while it loads. Ownership: entries belong to struct gw_config_yaml.
 */
#include "config_yaml.h"

#include <ctype.h>
#include <cyaml/cyaml.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_keys.h"

enum { NAME_SIZE = 64, PROBLEM_SIZE = 96 };

struct section {
    struct gw_config_entry leaves[GW_CONFIG_LEAF_MAX];
};

/* What libcyaml fills. */
struct document {
    struct gw_config_entry top[GW_CONFIG_LEAF_MAX];
    struct section *sections[GW_CONFIG_SECTION_MAX];
};

struct gw_config_yaml {
    struct document *document; /* NULL: the file says nothing */
    size_t sections;
    cyaml_schema_value_t root;
    cyaml_schema_field_t top[GW_CONFIG_LEAF_MAX + GW_CONFIG_SECTION_MAX + 1];
    cyaml_schema_field_t leaves[GW_CONFIG_SECTION_MAX][GW_CONFIG_LEAF_MAX + 1];
};

/* What the log said about a failure. */
struct complaint {
    char inner[NAME_SIZE], outer[NAME_SIZE]; /* names of the mapping fields it struck in */
    char unknown[NAME_SIZE];                 /* a key that is not in the schema */
    char problem[PROBLEM_SIZE];              /* libyaml's words for a syntax error */
    unsigned line;
    bool twice, more_documents;
};

static void build_schema(struct gw_config_yaml *yaml);
static cyaml_schema_field_t leaf_field(const struct gw_config_key *key, size_t offset);
static int read_whole(const char *file, char error[GW_CONFIG_ERROR_SIZE], uint8_t **ret_bytes,
                      size_t *ret_len);
static void note_log(cyaml_log_t level, void *ctx, const char *format, va_list args);
static void note_name(char to[NAME_SIZE], const char *from, char end);
static void describe(cyaml_err_t err, const struct complaint *said, const char *file,
                     char error[GW_CONFIG_ERROR_SIZE]);
static void wipe_entries(struct gw_config_entry *entries);

static const cyaml_schema_value_t list_entry = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED),
};

int gw_config_yaml_read(const char *file, char error[GW_CONFIG_ERROR_SIZE],
                        struct gw_config_yaml **ret_yaml)
{
    struct complaint said = {0};
    cyaml_config_t settings = {
        .log_fn = note_log,
        .log_ctx = &said,
        .mem_fn = cyaml_mem,
        .log_level = CYAML_LOG_WARNING,
        .flags = CYAML_CFG_NO_ALIAS, /* no document that grows while it is read */
    };
    uint8_t *bytes = NULL;
    size_t len = 0;
    struct gw_config_yaml *yaml = calloc(1, sizeof(*yaml));

    if (yaml == NULL) {
        gw_config_keys_complain(error, "out of memory");
        return SL_E_NO_MEMORY;
    }
    build_schema(yaml);
    int err = read_whole(file, error, &bytes, &len);
    if (err != 0) {
        free(yaml);
        return err;
    }
    cyaml_err_t failure =
        cyaml_load_data(bytes, len, &settings, &yaml->root, (cyaml_data_t **)&yaml->document, NULL);
    explicit_bzero(bytes, len);
    free(bytes);
    if (failure != CYAML_OK || said.more_documents) {
        describe(failure, &said, file, error);
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
    const struct gw_config_key *keys = gw_config_keys(&count);

    for (size_t i = 0; i < count; i++) {
        const struct gw_config_key *key = &keys[i];
        if (key->section[0] == '\0') {
            yaml->top[tops] = leaf_field(key, offsetof(struct document, top[tops]));
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
                        .data_size = sizeof(struct section),
                        .mapping = {.fields = yaml->leaves[at]},
                    },
            };
            leaves = 0;
        }
        yaml->leaves[yaml->sections - 1][leaves] =
            leaf_field(key, offsetof(struct section, leaves[leaves]));
        leaves++;
    }
    yaml->root = (cyaml_schema_value_t){
        .type = CYAML_MAPPING,
        .flags = CYAML_FLAG_POINTER,
        .data_size = sizeof(struct document),
        .mapping = {.fields = yaml->top},
    };
}

static cyaml_schema_field_t leaf_field(const struct gw_config_key *key, size_t offset)
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

    if (key->type == GW_CONFIG_LIST) {
        field.data_offset = (uint32_t)(offset + offsetof(struct gw_config_entry, items));
        field.count_offset = (uint32_t)(offset + offsetof(struct gw_config_entry, count));
        field.count_size = sizeof(unsigned);
        field.value.type = CYAML_SEQUENCE;
        field.value.data_size = sizeof(char *);
        field.value.sequence.entry = &list_entry;
        field.value.sequence.min = 0;
        field.value.sequence.max = GW_CONFIG_LIST_MAX;
    }
    return field;
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
    const struct section *found = yaml->document->sections[section];
    return found != NULL ? &found->leaves[leaf] : NULL;
}

/* ------------------------------------------------------------------ failures */

/* Called by libcyaml once per line. Unlike its return codes, these lines name what was wrong where. */
static void note_log(cyaml_log_t level, void *ctx, const char *format, va_list args)
{
    static const char unknown[] = "Unexpected key: ", field[] = "in mapping field '",
                      place[] = "(line: ", syntax[] = "libyaml: ";
    struct complaint *said = ctx;
    char line[512];

    if (vsnprintf(line, sizeof(line), format, args) < 0) {
        return;
    }
    const char *found;
    if ((found = strstr(line, unknown)) != NULL) {
        note_name(said->unknown, found + sizeof(unknown) - 1, '\0');
        return; /* whatever follows is the file's, not libcyaml's */
    }
    said->twice = said->twice || strstr(line, "already seen") != NULL;
    said->more_documents =
        said->more_documents || (level == CYAML_LOG_WARNING && strstr(line, "documents") != NULL);
    if ((found = strstr(line, syntax)) != NULL) {
        (void)snprintf(said->problem, sizeof(said->problem), "%.*s",
                       (int)strcspn(found + sizeof(syntax) - 1, "\n"), found + sizeof(syntax) - 1);
    }
    if ((found = strstr(line, field)) != NULL) {
        note_name(said->inner[0] == '\0' ? said->inner : said->outer, found + sizeof(field) - 1,
                  '\'');
    }
    if (said->line == 0 && (found = strstr(line, place)) != NULL) {
        said->line = (unsigned)strtoul(found + sizeof(place) - 1, NULL, 10);
    }
}

/* Up to `end`; bytes that could break the line or a terminal become question marks. */
static void note_name(char to[NAME_SIZE], const char *from, char end)
{
    size_t len = 0;

    while (from[len] != '\0' && from[len] != end && len < NAME_SIZE - 1) {
        to[len] = from[len];
        if (!isgraph((unsigned char)to[len])) {
            to[len] = '?';
        }
        len++;
    }
    if (len > 0 && end == '\0' && from[len] == '\0' && from[len - 1] == '\n') {
        len--; /* the log's own line end */
    }
    to[len] = '\0';
}

static void describe(cyaml_err_t err, const struct complaint *said, const char *file,
                     char error[GW_CONFIG_ERROR_SIZE])
{
    char name[2 * NAME_SIZE + 1];
    char accepted[GW_CONFIG_ACCEPTED_SIZE] = "must be a section with keys below it";

    (void)snprintf(name, sizeof(name), "%s%s%s", said->outer, said->outer[0] != '\0' ? "." : "",
                   said->inner);
    if (said->unknown[0] != '\0') {
        gw_config_keys_complain(error, "%s%s%s: unknown key (near line %u of %.100s)", name,
                                name[0] != '\0' ? "." : "", said->unknown, said->line, file);
    } else if (said->twice) {
        gw_config_keys_complain(error, "%s: given twice (line %u of %.100s)", name, said->line,
                                file);
    } else if (said->problem[0] != '\0') {
        gw_config_keys_complain(error, "%.100s: not valid YAML after line %u: %s", file, said->line,
                                said->problem);
    } else if (said->more_documents) {
        gw_config_keys_complain(error, "%.100s: must hold one YAML document", file);
    } else if (err == CYAML_ERR_ALIAS) {
        gw_config_keys_complain(error, "%s: YAML aliases are not accepted in %.100s", name, file);
    } else if (name[0] == '\0' || err == CYAML_ERR_INTERNAL_ERROR) {
        gw_config_keys_complain(error,
                                "%.100s: must be a mapping of the documented keys (near line %u)",
                                file, said->line);
    } else {
        const struct gw_config_key *key = gw_config_keys_find(name);
        if (key != NULL) {
            gw_config_keys_accepted(key, accepted);
        }
        gw_config_keys_complain(error, "%s: %s (line %u of %.60s)", name, accepted, said->line,
                                file);
    }
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
    }
}
