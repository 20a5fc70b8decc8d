/*
 * What libcyaml logs about a file that it refuses, and the one line that is made of it.
 *
 * libcyaml 1.3.1 logs several lines, the innermost mapping first; `note` picks the names and the line
 * number out of them, never a value, and `describe` makes one line of what was found.
 * Failure modes: none; what is missing in the log is missing in the line.
 * Thread: main, while it loads. Ownership: the caller's struct.
 */
#include "config_yaml_log.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_keys.h"

static void note_place(struct gw_config_yaml_log *log, const char *line);
static void note_name(char to[GW_CONFIG_YAML_NAME_SIZE], const char *from, char end);
static const struct gw_config_key *find_key(const struct gw_config_yaml_log *log);

void gw_config_yaml_log_note(cyaml_log_t level, void *ctx, const char *format, va_list args)
{
    static const char unknown[] = "Unexpected key: ", place[] = "(line: ", syntax[] = "libyaml: ";
    struct gw_config_yaml_log *log = ctx;
    char line[512];

    if (vsnprintf(line, sizeof(line), format, args) < 0) {
        return;
    }
    const char *found;
    if ((found = strstr(line, unknown)) != NULL) {
        note_name(log->unknown, found + sizeof(unknown) - 1, '\0');
        return; /* whatever follows is the file's, not libcyaml's */
    }
    log->twice = log->twice || strstr(line, "already seen") != NULL;
    log->more_documents =
        log->more_documents || (level == CYAML_LOG_WARNING && strstr(line, "documents") != NULL);
    if ((found = strstr(line, syntax)) != NULL) {
        (void)snprintf(log->problem, sizeof(log->problem), "%.*s",
                       (int)strcspn(found + sizeof(syntax) - 1, "\n"), found + sizeof(syntax) - 1);
    }
    note_place(log, line);
    if (log->line == 0 && (found = strstr(line, place)) != NULL) {
        log->line = (unsigned)strtoul(found + sizeof(place) - 1, NULL, 10);
    }
}

/*
 * Puts a name or an index before the path. An entry that is wrong as a whole is its list being wrong,
 * and the list says what is accepted. libcyaml counts what it has begun to read: from one.
 */
static void note_place(struct gw_config_yaml_log *log, const char *line)
{
    static const char field[] = "in mapping field '", entry[] = "in sequence entry '";
    const char *found;
    char inside[sizeof(log->path) - sizeof(log->inner) - 2], name[sizeof(log->inner)];

    memcpy(inside, log->path, sizeof(inside));
    inside[sizeof(inside) - 1] = '\0';
    if ((found = strstr(line, field)) != NULL) {
        note_name(name, found + sizeof(field) - 1, '\'');
        (void)snprintf(log->path, sizeof(log->path), "%s%s%s", name,
                       inside[0] != '\0' && inside[0] != '[' ? "." : "", inside);
        if (log->inner[0] == '\0') {
            memcpy(log->inner, name, sizeof(log->inner));
        }
    } else if ((found = strstr(line, entry)) != NULL &&
               (inside[0] != '\0' || log->unknown[0] != '\0')) {
        unsigned long count = strtoul(found + sizeof(entry) - 1, NULL, 10);
        (void)snprintf(log->path, sizeof(log->path), "[%lu]%s%s", count > 0 ? count - 1 : 0,
                       inside[0] != '\0' ? "." : "", inside);
    }
}

/* Up to `end`; bytes that could break the line or a terminal become question marks. */
static void note_name(char to[GW_CONFIG_YAML_NAME_SIZE], const char *from, char end)
{
    size_t len = 0;

    while (from[len] != '\0' && from[len] != end && len < GW_CONFIG_YAML_NAME_SIZE - 1) {
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

void gw_config_yaml_log_describe(const struct gw_config_yaml_log *log, cyaml_err_t err,
                                 const char *origin, char error[GW_CONFIG_ERROR_SIZE])
{
    char accepted[GW_CONFIG_ACCEPTED_SIZE] = "must be a section with keys below it";
    const char *name = log->path;

    if (log->unknown[0] != '\0') {
        gw_config_keys_complain(error, "%s%s%s: unknown key (near line %u of %.100s)", name,
                                name[0] != '\0' ? "." : "", log->unknown, log->line, origin);
    } else if (log->twice) {
        gw_config_keys_complain(error, "%s: given twice (line %u of %.100s)", name, log->line,
                                origin);
    } else if (log->problem[0] != '\0') {
        gw_config_keys_complain(error, "%.100s: not valid YAML after line %u: %s", origin,
                                log->line, log->problem);
    } else if (log->more_documents) {
        gw_config_keys_complain(error, "%.100s: must hold one YAML document", origin);
    } else if (err == CYAML_ERR_ALIAS) {
        gw_config_keys_complain(error, "%s: YAML aliases are not accepted in %.100s", name, origin);
    } else if (name[0] == '\0' || err == CYAML_ERR_INTERNAL_ERROR) {
        gw_config_keys_complain(error,
                                "%.100s: must be a mapping of the documented keys (near line %u)",
                                origin, log->line);
    } else {
        const struct gw_config_key *key = find_key(log);
        if (key != NULL) {
            gw_config_keys_accepted(key, accepted);
        }
        gw_config_keys_complain(error, "%s: %s (line %u of %.60s)", name, accepted, log->line,
                                origin);
    }
}

static const struct gw_config_key *find_key(const struct gw_config_yaml_log *log)
{
    size_t count;
    const struct gw_config_key *keys = gw_config_keys_of_upstream(&count);

    for (size_t i = 0; i < count && strchr(log->path, '[') != NULL; i++) {
        if (strcmp(keys[i].leaf, log->inner) == 0) {
            return &keys[i];
        }
    }
    return gw_config_keys_find(log->path);
}
