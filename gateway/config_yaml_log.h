/**
 * What libcyaml logs about a file that it refuses, and the one line that is made of it.
 *
 * Unlike libcyaml's return codes its log names what was wrong where.
 * Thread: main, while it loads. Ownership: the caller's struct.
 */
#pragma once

#include <cyaml/cyaml.h>
#include <stdarg.h>
#include <stdbool.h>

#include "config.h"

enum { GW_CONFIG_YAML_NAME_SIZE = 64, GW_CONFIG_YAML_PATH_SIZE = 160 /* bytes, with the NUL */ };

/** Zeroed before the load. */
struct gw_config_yaml_log {
    char path[GW_CONFIG_YAML_PATH_SIZE];    /* where it struck: upstream.url, upstreams[0].url */
    char inner[GW_CONFIG_YAML_NAME_SIZE];   /* its last name */
    char unknown[GW_CONFIG_YAML_NAME_SIZE]; /* a key that is not in the schema */
    char problem[96];                       /* libyaml's words for a syntax error */
    unsigned line;
    bool twice, more_documents;
};

/** A cyaml_log_fn_t with a struct gw_config_yaml_log as its context; called once per line. */
void gw_config_yaml_log_note(cyaml_log_t level, void *ctx, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

/** Writes the line: what was wrong with which key of `origin`, a file or an environment variable. */
void gw_config_yaml_log_describe(const struct gw_config_yaml_log *log, cyaml_err_t err,
                                 const char *origin, char error[GW_CONFIG_ERROR_SIZE]);
