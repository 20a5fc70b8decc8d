/**
 * The table of configuration keys: one row per key, and everything else follows from the row.
 *
 * The YAML schema, the environment variable, the default, the check, the printed form and the list of
 * keys that need a restart are all derived from it, so a key cannot be forgotten in one place.
 * A row's section and leaf are the names of the member of struct gw_config.
 *
 * Thread: any (constant data and pure functions); values are set by main while it loads.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "config.h"
#include "sluice/buffer.h"

struct gw_config_form;

enum gw_config_type {
    GW_CONFIG_TEXT,     /* char * */
    GW_CONFIG_UNSIGNED, /* unsigned */
    GW_CONFIG_SIZE,     /* size_t */
    GW_CONFIG_REAL,     /* double */
    GW_CONFIG_LIST,     /* char ** and an unsigned count */
};

enum gw_config_flag {
    GW_CONFIG_SECRET = 1 << 0,   /* the value is never shown */
    GW_CONFIG_PASSWORD = 1 << 1, /* the value may hold a password, which is never shown */
    GW_CONFIG_FIXED = 1 << 2,    /* a change needs a restart */
    GW_CONFIG_REQUIRED = 1 << 3, /* there is no default */
};

enum {
    GW_CONFIG_LIST_MAX = 64,      /* entries of a list */
    GW_CONFIG_SECTION_MAX = 12,   /* sections in the table */
    GW_CONFIG_LEAF_MAX = 24,      /* keys of one section */
    GW_CONFIG_ENV_NAME_SIZE = 64, /* bytes, with the NUL */
    GW_CONFIG_ACCEPTED_SIZE = 160 /* bytes, with the NUL */
};

struct gw_config_key {
    const char *name;    /* "upstream.url" */
    const char *section; /* "upstream", or "" for a key at the top */
    const char *leaf;    /* "url" */
    const char *env;     /* NULL: SLUICE_ and the name in capitals, dots as underscores */
    enum gw_config_type type;
    size_t offset;                     /* in struct gw_config */
    size_t count_offset;               /* lists only */
    const char *fallback;              /* the default as one would write it; NULL: none */
    double min, max;                   /* numbers only, both allowed */
    const struct gw_config_form *form; /* texts and the entries of lists */
    unsigned flags;                    /* gw_config_flag */
};

/* ------------------------------------------------------------------ the table: config_keys.c */

/** The rows; those of one section are neighbours. */
const struct gw_config_key *gw_config_keys(size_t *ret_count);

/** The row of a name, or NULL. */
const struct gw_config_key *gw_config_keys_find(const char *name);

/** The name of the key's environment variable. */
void gw_config_keys_env(const struct gw_config_key *key, char name[GW_CONFIG_ENV_NAME_SIZE]);

/** "must be a whole number from 1 to 60000": what the key accepts, never what it was given. */
void gw_config_keys_accepted(const struct gw_config_key *key,
                             char accepted[GW_CONFIG_ACCEPTED_SIZE]);

/** Writes the one line of a failed load: cut to fit, control characters replaced. */
void gw_config_keys_complain(char error[GW_CONFIG_ERROR_SIZE], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ------------------------------------------------------------------ one value: config_value.c */

/**
 * Checks `text` and stores it; a list's entries are separated by commas. Empty text is not special
 * here. 0, SL_E_INVALID_VALUE or SL_E_NO_MEMORY; on failure the old value stays.
 */
SL_MUST_CHECK int gw_config_value_set(struct gw_config *config, const struct gw_config_key *key,
                                      const char *text);

/** The same for a list whose entries are known already. */
SL_MUST_CHECK int gw_config_value_set_items(struct gw_config *config,
                                            const struct gw_config_key *key,
                                            const char *const *items, size_t count);

/** The text of a GW_CONFIG_TEXT key, or NULL. */
const char *gw_config_value_text(const struct gw_config *config, const struct gw_config_key *key);

/** Wipes and frees a text or a list; numbers become 0. */
void gw_config_value_clear(struct gw_config *config, const struct gw_config_key *key);

bool gw_config_value_equal(const struct gw_config *a, const struct gw_config *b,
                           const struct gw_config_key *key);

/** Appends the value as YAML on one line, as it is, secret or not. Errors as sl_buffer_append. */
SL_MUST_CHECK int gw_config_value_append(const struct gw_config *config,
                                         const struct gw_config_key *key, struct sl_buffer *yaml);
