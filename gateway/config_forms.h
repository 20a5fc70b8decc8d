/**
 * What the text values of the configuration must look like.
 *
 * Pure functions: a text in, yes or no out. Thread: any. Ownership: constant data.
 */
#pragma once

#include <stdbool.h>

struct gw_config_form {
    bool (*accepts)(const char *text);
    const char *accepted; /* completes the sentence "must be ..." */
};

extern const struct gw_config_form gw_config_forms_address;      /* 127.0.0.1:8080, [::1]:0 */
extern const struct gw_config_form gw_config_forms_log_level;    /* info, debug, error */
extern const struct gw_config_form gw_config_forms_redis_url;    /* redis:// or unix:// */
extern const struct gw_config_form gw_config_forms_database_url; /* left to libpq */
extern const struct gw_config_form gw_config_forms_http_url;     /* http:// or https:// base URL */
extern const struct gw_config_form gw_config_forms_origin;       /* "*" or scheme://host[:port] */
extern const struct gw_config_form gw_config_forms_header_token; /* goes into a request header */
extern const struct gw_config_form gw_config_forms_signing_secret; /* RFC 7518 section 3.2 */
extern const struct gw_config_form gw_config_forms_name;           /* of a model */
extern const struct gw_config_form gw_config_forms_model; /* name, or name=upstream's name */
extern const struct gw_config_form gw_config_forms_upstream_name;
extern const struct gw_config_form gw_config_forms_provider; /* openai, anthropic */
extern const struct gw_config_form gw_config_forms_variable; /* of the environment, its name */
extern const struct gw_config_form gw_config_forms_line;
extern const struct gw_config_form gw_config_forms_prompt; /* may have several lines */
extern const struct gw_config_form gw_config_forms_path;
