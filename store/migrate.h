/**
 * Migrations from any list of files; store_migrate (sluice/store.h) uses the embedded one.
 *
 * Thread: the caller's; blocks.
 */
#pragma once

#include "sluice/asset.h"
#include "sluice/error.h"

/* Generated from migrations/ by cmake/embed.cmake, sorted by name. */
extern const struct sl_asset store_migrations[];
extern const size_t store_migrations_count;

/** As store_migrate. The name of each file begins with its version in four digits, rising. */
SL_MUST_CHECK int store_migrate_from(const char *database_url, const struct sl_asset *migrations,
                                     size_t count, void (*report)(const char *line));
