/**
 * The list of upstreams: set from what the file or the environment says, completed, cleared.
 *
 * One upstream's values go through the same rows, checks and printing as every other key
 * (gw_config_keys_of_upstream); here is what only a list needs.
 * Thread: main, while it loads. Ownership: the list belongs to the configuration.
 */
#pragma once

#include "config.h"

struct gw_config_entry;

/**
 * Replaces the list. `where` completes "set ...". 0, or SL_E_INVALID_VALUE or SL_E_NO_MEMORY and the
 * line in `error`; the list may be half set then.
 */
SL_MUST_CHECK int gw_config_upstreams_set(struct gw_config *config,
                                          const struct gw_config_entry *entry, const char *where,
                                          char error[GW_CONFIG_ERROR_SIZE]);

/**
 * Makes the list ready to be served from, once every source was read: API keys fetched from where they
 * are, URLs without a trailing slash, without a list the upstream `default`. Refuses what cannot
 * serve: something missing, two of one name, the list beside upstream.url, an upstream.model that no
 * upstream has. Errors as gw_config_upstreams_set. Expects upstream.url or a list.
 */
SL_MUST_CHECK int gw_config_upstreams_complete(struct gw_config *config,
                                               char error[GW_CONFIG_ERROR_SIZE]);

/** Wipes and frees it; the list is empty then. */
void gw_config_upstreams_clear(struct gw_config *config);
