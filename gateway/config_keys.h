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

struct gw_config_entry;
struct gw_config_form;

enum gw_config_type {
    GW_CONFIG_TEXT,     /* char * */
    GW_CONFIG_UNSIGNED, /* unsigned */
    GW_CONFIG_SIZE,     /* size_t */
    GW_CONFIG_REAL,     /* double */
    GW_CONFIG_BOOL,     /* bool */
    GW_CONFIG_LIST,     /* char ** and an unsigned count */
    /* struct gw_upstream_config * and an unsigned count; its entries have a table of their own */
    GW_CONFIG_UPSTREAMS,
};

enum gw_config_flag {
    GW_CONFIG_SECRET = 1 << 0,   /* the value is never shown */
    GW_CONFIG_PASSWORD = 1 << 1, /* the value may hold a password, which is never shown */
    GW_CONFIG_FIXED = 1 << 2,    /* a change needs a restart */
    GW_CONFIG_REQUIRED = 1 << 3, /* there is no default */
    GW_CONFIG_SINGLE = 1 << 4,   /* describes the only upstream; not beside a list of them */
    GW_CONFIG_CHOICE = 1 << 5,   /* says when an upstream is asked, not what it is */
};

enum {
    GW_CONFIG_LIST_MAX = 64,      /* entries of a list */
    GW_CONFIG_SECTION_MAX = 16,   /* sections in the table */
    GW_CONFIG_LEAF_MAX = 32,      /* keys of one section */
    GW_CONFIG_ENV_NAME_SIZE = 64, /* bytes, with the NUL */
    GW_CONFIG_LABEL_SIZE = 64,    /* bytes, with the NUL */
    GW_CONFIG_ACCEPTED_SIZE = 160 /* bytes, with the NUL */
};

struct gw_config_key {
    const char *name;    /* "upstream.url" */
    const char *section; /* "upstream", or "" for a key at the top */
    const char *leaf;    /* "url" */
    const char *env;     /* NULL: SLUICE_ and the name in capitals, dots as underscores */
    enum gw_config_type type;
    size_t offset;                     /* in struct gw_config, or in an upstream's */
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

/** The rows of one of the `upstreams`: section `upstreams`, offsets in struct gw_upstream_config. */
const struct gw_config_key *gw_config_keys_of_upstream(size_t *ret_count);

/**
 * The row `leaf` of one of the `upstreams`, named as it is to be shown: `upstreams[1].url`. The name is
 * kept in `label`. Accepts only names that are in the table.
 */
struct gw_config_key gw_config_keys_label(const char *leaf, unsigned index,
                                          char label[GW_CONFIG_LABEL_SIZE]);

/** The name of the key's environment variable. */
void gw_config_keys_env(const struct gw_config_key *key, char name[GW_CONFIG_ENV_NAME_SIZE]);

/** "must be a whole number from 1 to 60000": what the key accepts, never what it was given. */
void gw_config_keys_accepted(const struct gw_config_key *key,
                             char accepted[GW_CONFIG_ACCEPTED_SIZE]);

/** Writes the one line of a failed load: cut to fit, control characters replaced. */
void gw_config_keys_complain(char error[GW_CONFIG_ERROR_SIZE], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/**
 * The line for a value that was not taken with `err`; `where` completes "set ...". Returns what the
 * load returns.
 */
SL_MUST_CHECK int gw_config_keys_refuse(int err, const struct gw_config_key *key, const char *where,
                                        char error[GW_CONFIG_ERROR_SIZE]);

/* ------------------------------------------------------------------ one value: config_value.c */

/* `values` is what the row's offset counts from: a struct gw_config, or one of its upstreams. */

/**
 * Checks `text` and stores it; a list's entries are separated by commas. Empty text is not special
 * here; the upstreams are not one value and not accepted. 0, SL_E_INVALID_VALUE or SL_E_NO_MEMORY; on
 * failure the old value stays.
 */
SL_MUST_CHECK int gw_config_value_set(void *values, const struct gw_config_key *key,
                                      const char *text);

/** The same for a list whose entries are known already. */
SL_MUST_CHECK int gw_config_value_set_items(void *values, const struct gw_config_key *key,
                                            const char *const *items, size_t count);

/** The same with what a file says; when it says nothing the old value stays, and that is a success. */
SL_MUST_CHECK int gw_config_value_take(void *values, const struct gw_config_key *key,
                                       const struct gw_config_entry *entry);

/** The text of a GW_CONFIG_TEXT key, or NULL. */
const char *gw_config_value_text(const void *values, const struct gw_config_key *key);

/** Wipes and frees a text, a list or the upstreams; numbers become 0. */
void gw_config_value_clear(void *values, const struct gw_config_key *key);

bool gw_config_value_equal(const void *a, const void *b, const struct gw_config_key *key);

/**
 * Appends the value as YAML on one line, as it is, secret or not; the upstreams are not accepted.
 * Errors as sl_buffer_append.
 */
SL_MUST_CHECK int gw_config_value_append(const void *values, const struct gw_config_key *key,
                                         struct sl_buffer *yaml);

/* ------------------------------------------------------------------ one secret: config_secret.c */

/**
 * Sets a secret to the content of the file that `file_key` names; one line feed at its end is dropped.
 * On failure `error` holds the line: SL_E_INVALID_VALUE or SL_E_NO_MEMORY.
 */
SL_MUST_CHECK int gw_config_secret_from_file(void *values, const struct gw_config_key *file_key,
                                             const struct gw_config_key *secret_key,
                                             char error[GW_CONFIG_ERROR_SIZE]);

/** The same with the content of the environment variable that `env_key` names. */
SL_MUST_CHECK int gw_config_secret_from_env(void *values, const struct gw_config_key *env_key,
                                            const struct gw_config_key *secret_key,
                                            char error[GW_CONFIG_ERROR_SIZE]);
