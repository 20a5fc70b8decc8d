/**
 * The commands beside serving: --check-config, --print-config, migrate, replay, dead-letter, --version.
 *
 * Thread: main, before any other. They write results to standard output and one line per failure to
 * standard error.
 */
#pragma once

#include "sluice/store.h"

#ifndef SLUICE_VERSION
#error "the build passes SLUICE_VERSION"
#endif

struct gw_config;

/* What the process exits with. */
enum { EXIT_CLEAN = 0, EXIT_RUNTIME = 1, EXIT_USAGE = 2 };

/** Runs the command that the arguments name; `config_file` may be NULL. Returns the exit code. */
int gw_command_run(const char *config_file, int argc, char **argv);

/** What the store needs of the configuration, whose strings it points to. */
struct store_config gw_command_store_config(const struct gw_config *config);
