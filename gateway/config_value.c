/*
 * One value of the configuration, whatever its type: set, cleared, compared, written.
 *
 * Every source (default, file, environment) hands over text, so there is one parser and one check per
 * type. Failure modes: a text that its key does not accept, no memory; the old value stays then.
 * Thread: main, while it loads. Ownership: texts and lists belong to the configuration and are wiped
 * before they are freed, since any of them may hold a secret.
 */
#include "config_keys.h"

#include <ctype.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config_forms.h"
#include "config_upstreams.h"
#include "config_yaml.h"
#include "sluice/text.h"

static int set_text(void *values, const struct gw_config_key *key, const char *text);
static int set_whole(void *values, const struct gw_config_key *key, const char *text);
static int set_real(void *values, const struct gw_config_key *key, const char *text);
static int set_bool(void *values, const struct gw_config_key *key, const char *text);
static int set_list(void *values, const struct gw_config_key *key, const char *text);
static char *trim(char *item);
static int append_text(struct sl_buffer *yaml, const char *text);
static void *value_at(const void *values, const struct gw_config_key *key);
static unsigned *count_at(const void *values, const struct gw_config_key *key);
static double number_at(const void *values, const struct gw_config_key *key);
static void wipe(char *text);

int gw_config_value_set(void *values, const struct gw_config_key *key, const char *text)
{
    switch (key->type) {
    case GW_CONFIG_TEXT:
        return set_text(values, key, text);
    case GW_CONFIG_UNSIGNED:
    case GW_CONFIG_SIZE:
        return set_whole(values, key, text);
    case GW_CONFIG_REAL:
        return set_real(values, key, text);
    case GW_CONFIG_BOOL:
        return set_bool(values, key, text);
    case GW_CONFIG_LIST:
        return set_list(values, key, text);
    case GW_CONFIG_UPSTREAMS:
        break;
    }
    return SL_E_INTERNAL;
}

static int set_text(void *values, const struct gw_config_key *key, const char *text)
{
    char **value = value_at(values, key);

    if (!key->form->accepts(text)) {
        return SL_E_INVALID_VALUE;
    }
    char *copy = strdup(text);
    if (copy == NULL) {
        return SL_E_NO_MEMORY;
    }
    wipe(*value);
    *value = copy;
    return 0;
}

/* Decimal digits only: no sign, and no leading zero, which YAML reads as octal. */
static int set_whole(void *values, const struct gw_config_key *key, const char *text)
{
    size_t len = strlen(text);
    uint64_t number = 0;

    if (len == 0 || len > 18 || (len > 1 && text[0] == '0')) {
        return SL_E_INVALID_VALUE;
    }
    for (size_t i = 0; i < len; i++) {
        if (!isdigit((unsigned char)text[i])) {
            return SL_E_INVALID_VALUE;
        }
        number = number * 10 + (uint64_t)(text[i] - '0');
    }
    if ((double)number < key->min || (double)number > key->max) {
        return SL_E_INVALID_VALUE;
    }
    if (key->type == GW_CONFIG_SIZE) {
        *(size_t *)value_at(values, key) = number;
    } else {
        *(unsigned *)value_at(values, key) = (unsigned)number;
    }
    return 0;
}

static int set_real(void *values, const struct gw_config_key *key, const char *text)
{
    char *end = NULL;

    /* strtod also reads hexadecimal, infinities and leading space */
    if (strspn(text, "0123456789.") != strlen(text)) {
        return SL_E_INVALID_VALUE;
    }
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(number) || number < key->min ||
        number > key->max) {
        return SL_E_INVALID_VALUE;
    }
    *(double *)value_at(values, key) = number;
    return 0;
}

/* The words of YAML 1.2 (section 10.2.1.2) and JSON, not the yes and on of YAML 1.1. */
static int set_bool(void *values, const struct gw_config_key *key, const char *text)
{
    bool yes = strcmp(text, "true") == 0;

    if (!yes && strcmp(text, "false") != 0) {
        return SL_E_INVALID_VALUE;
    }
    *(bool *)value_at(values, key) = yes;
    return 0;
}

static int set_list(void *values, const struct gw_config_key *key, const char *text)
{
    const char *items[GW_CONFIG_LIST_MAX];
    size_t count = 0;
    char *copy = strdup(text);
    int err = 0;

    if (copy == NULL) {
        return SL_E_NO_MEMORY;
    }
    for (char *rest = copy, *item; err == 0 && (item = strsep(&rest, ",")) != NULL;) {
        item = trim(item);
        if (*item == '\0') {
            continue;
        }
        if (count == GW_CONFIG_LIST_MAX) {
            err = SL_E_INVALID_VALUE;
        } else {
            items[count++] = item;
        }
    }
    if (err == 0) {
        err = gw_config_value_set_items(values, key, items, count);
    }
    wipe(copy);
    return err;
}

int gw_config_value_set_items(void *values, const struct gw_config_key *key,
                              const char *const *items, size_t count)
{
    char **copies = NULL;

    if (key->type != GW_CONFIG_LIST || count > GW_CONFIG_LIST_MAX) {
        return SL_E_INVALID_VALUE;
    }
    for (size_t i = 0; i < count; i++) {
        if (!key->form->accepts(items[i])) {
            return SL_E_INVALID_VALUE;
        }
    }
    if (count > 0) {
        copies = calloc(count, sizeof(*copies));
        if (copies == NULL) {
            return SL_E_NO_MEMORY;
        }
    }
    for (size_t i = 0; i < count; i++) {
        copies[i] = strdup(items[i]);
        if (copies[i] == NULL) {
            while (i > 0) {
                wipe(copies[--i]);
            }
            free(copies);
            return SL_E_NO_MEMORY;
        }
    }
    gw_config_value_clear(values, key);
    *(char ***)value_at(values, key) = copies;
    *count_at(values, key) = (unsigned)count;
    return 0;
}

int gw_config_value_take(void *values, const struct gw_config_key *key,
                         const struct gw_config_entry *entry)
{
    if (entry->items != NULL) {
        return gw_config_value_set_items(values, key, (const char *const *)entry->items,
                                         entry->count);
    }
    return entry->text != NULL ? gw_config_value_set(values, key, entry->text) : 0;
}

const char *gw_config_value_text(const void *values, const struct gw_config_key *key)
{
    return key->type == GW_CONFIG_TEXT ? *(char **)value_at(values, key) : NULL;
}

bool gw_config_value_equal(const void *a, const void *b, const struct gw_config_key *key)
{
    if (key->type == GW_CONFIG_TEXT) {
        const char *one = gw_config_value_text(a, key);
        const char *other = gw_config_value_text(b, key);
        return one == NULL || other == NULL ? one == other : strcmp(one, other) == 0;
    }
    if (key->type == GW_CONFIG_UPSTREAMS) {
        return gw_config_upstreams_equal(a, b);
    }
    if (key->type != GW_CONFIG_LIST) {
        double one = number_at(a, key), other = number_at(b, key);
        return one >= other && one <= other;
    }
    if (*count_at(a, key) != *count_at(b, key)) {
        return false;
    }
    for (unsigned i = 0; i < *count_at(a, key); i++) {
        if (strcmp((*(char ***)value_at(a, key))[i], (*(char ***)value_at(b, key))[i]) != 0) {
            return false;
        }
    }
    return true;
}

int gw_config_value_append(const void *values, const struct gw_config_key *key,
                           struct sl_buffer *yaml)
{
    if (key->type == GW_CONFIG_TEXT) {
        return append_text(yaml, gw_config_value_text(values, key));
    }
    if (key->type == GW_CONFIG_REAL) {
        return sl_buffer_appendf(yaml, "%.15g", number_at(values, key));
    }
    if (key->type == GW_CONFIG_BOOL) {
        return sl_buffer_append_str(yaml, *(bool *)value_at(values, key) ? "true" : "false");
    }
    if (key->type == GW_CONFIG_UPSTREAMS) {
        return SL_E_INTERNAL;
    }
    if (key->type != GW_CONFIG_LIST) {
        return sl_buffer_appendf(yaml, "%.0f", number_at(values, key));
    }
    int err = sl_buffer_append_str(yaml, "[");
    for (unsigned i = 0; err == 0 && i < *count_at(values, key); i++) {
        err = i > 0 ? sl_buffer_append_str(yaml, ", ") : 0;
        if (err == 0) {
            err = append_text(yaml, (*(char ***)value_at(values, key))[i]);
        }
    }
    return err != 0 ? err : sl_buffer_append_str(yaml, "]");
}

/* A JSON string is a double-quoted YAML scalar. */
static int append_text(struct sl_buffer *yaml, const char *text)
{
    if (text == NULL) {
        return sl_buffer_append_str(yaml, "null");
    }
    return sl_json_append_string(yaml, text, strlen(text));
}

void gw_config_value_clear(void *values, const struct gw_config_key *key)
{
    if (key->type == GW_CONFIG_TEXT) {
        char **text = value_at(values, key);
        wipe(*text);
        *text = NULL;
    } else if (key->type == GW_CONFIG_LIST) {
        char ***items = value_at(values, key);
        for (unsigned i = 0; i < *count_at(values, key); i++) {
            wipe((*items)[i]);
        }
        free(*items);
        *items = NULL;
        *count_at(values, key) = 0;
    } else if (key->type == GW_CONFIG_UPSTREAMS) {
        gw_config_upstreams_clear(values);
    } else if (key->type == GW_CONFIG_REAL) {
        *(double *)value_at(values, key) = 0;
    } else if (key->type == GW_CONFIG_BOOL) {
        *(bool *)value_at(values, key) = false;
    } else if (key->type == GW_CONFIG_SIZE) {
        *(size_t *)value_at(values, key) = 0;
    } else {
        *(unsigned *)value_at(values, key) = 0;
    }
}

/* ------------------------------------------------------------------ parts */

static char *trim(char *item)
{
    item += strspn(item, " \t");
    size_t len = strlen(item);
    while (len > 0 && (item[len - 1] == ' ' || item[len - 1] == '\t')) {
        item[--len] = '\0';
    }
    return item;
}

/* Not const: readers and writers share it, and the readers only read. */
static void *value_at(const void *values, const struct gw_config_key *key)
{
    return (char *)(uintptr_t)values + key->offset;
}

static unsigned *count_at(const void *values, const struct gw_config_key *key)
{
    return (unsigned *)(void *)((char *)(uintptr_t)values + key->count_offset);
}

/* Exact: every number in the table is below 2^53. */
static double number_at(const void *values, const struct gw_config_key *key)
{
    if (key->type == GW_CONFIG_SIZE) {
        return (double)*(size_t *)value_at(values, key);
    }
    if (key->type == GW_CONFIG_REAL) {
        return *(double *)value_at(values, key);
    }
    if (key->type == GW_CONFIG_BOOL) {
        return *(bool *)value_at(values, key) ? 1 : 0;
    }
    return *(unsigned *)value_at(values, key);
}

static void wipe(char *text)
{
    if (text != NULL) {
        explicit_bzero(text, strlen(text));
        free(text);
    }
}
