/**
 * The configuration file: YAML read by libcyaml against a schema made from the table of keys.
 *
 * libcyaml checks the shape (known sections and keys, texts, lists, nothing twice); what a text must
 * look like is checked where the environment's texts are, too. Thread: main, while it loads.
 * Ownership: everything returned belongs to struct gw_config_yaml.
 */
#pragma once

#include <stddef.h>

#include "config.h"
#include "config_keys.h"

struct gw_config_yaml;

enum { GW_CONFIG_FILE_MAX = 1024 * 1024 /* bytes */ };

/** What the file says about one key. */
struct gw_config_entry {
    char *text;   /* a single value; NULL: not given, empty or null */
    char **items; /* a list */
    struct gw_config_section
        *sections;  /* the upstreams, their leaves in the order of their table */
    unsigned count; /* of items or sections */
};

struct gw_config_section {
    struct gw_config_entry leaves[GW_CONFIG_LEAF_MAX];
};

/**
 * Reads a file. 0, or SL_E_INVALID_VALUE and one line in `error` that names the key or the file, or
 * SL_E_NO_MEMORY.
 */
SL_MUST_CHECK int gw_config_yaml_read(const char *file, char error[GW_CONFIG_ERROR_SIZE],
                                      struct gw_config_yaml **ret_yaml);

/**
 * Reads the value of one key at the top from flow text, which an environment variable named `origin`
 * holds. The other keys are not there. Errors as gw_config_yaml_read.
 */
SL_MUST_CHECK int gw_config_yaml_read_key(const struct gw_config_key *key, const char *text,
                                          const char *origin, char error[GW_CONFIG_ERROR_SIZE],
                                          struct gw_config_yaml **ret_yaml);

/** What the file says about the key with this index in gw_config_keys; NULL: its section is not there. */
const struct gw_config_entry *gw_config_yaml_get(const struct gw_config_yaml *yaml, size_t index);

/** Wipes and frees it; NULL is accepted. */
void gw_config_yaml_destroy(struct gw_config_yaml *yaml);
