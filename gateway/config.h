/**
 * The configuration: one struct, one table of keys (config_keys.c), three sources.
 *
 * Defaults, then the YAML file, then the environment: every key `a.b` can be overridden by
 * SLUICE_A_B; one exception: `log_level` is SLUICE_LOG. Lists in the environment are comma separated,
 * but SLUICE_UPSTREAMS is YAML in flow style, which JSON is, too. An empty value, in the file as in the
 * environment, means "not set". Units are in the names.
 * Thread: made by main, read-only afterwards; a SIGHUP makes a new one and the workers switch over.
 * Ownership: all strings belong to the struct.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sluice/error.h"

enum { GW_UPSTREAMS_MAX = 16 };

/** One model endpoint. */
struct gw_upstream_config {
    char *name;         /* letters, digits, '-' and '_', up to 32; unique */
    char *provider;     /* openai (default) or anthropic */
    char *url;          /* http(s) base URL ending in /v1; loaded without a trailing slash */
    char *api_key;      /* (secret) */
    char *api_key_file; /* read into api_key at load */
    char *api_key_env;  /* the environment variable that holds the key; read into api_key at load */
    char **models; /* "name", or "name=what this upstream calls it"; empty: upstream.model alone */
    unsigned models_count;
    unsigned weight;   /* 1: share among those of one priority, 1 to 1000 */
    unsigned priority; /* 0: first; the next is used when none of a priority is usable, 0 to 100 */
    /* 0: a normal one; 1 to 100: only for this share of the users, always the same ones */
    unsigned canary_percent;
};

struct gw_config {
    char *listen;     /* listen: 127.0.0.1:8080 */
    unsigned threads; /* threads: 0 = number of CPUs; never 0 once loaded */
    char *log_level;  /* log_level: info (or debug, error) */
    /*
     * upstreams: the endpoints; none in the file and the environment: one named `default`, made from
     * upstream.url and the keys beside it. Never empty once loaded to serve.
     */
    struct gw_upstream_config *upstreams;
    unsigned upstreams_count;
    struct {
        char *url;           /* redis.url: redis://127.0.0.1:6379/0 (secret: may hold a password) */
        unsigned timeout_ms; /* redis.timeout_ms: 50 */
    } redis;
    struct {
        char *url;           /* database.url: postgresql:///sluice (secret: may hold a password) */
        unsigned timeout_ms; /* database.timeout_ms: 300, per read */
        unsigned reads_max;  /* database.reads_max: 64, per thread */
        /* database.save_timeout_ms: 5000, PUT/PATCH/DELETE wait for the writer at most this long */
        unsigned save_timeout_ms;
    } database;
    struct {
        /*
         * upstream.url: required unless there are upstreams; http(s) base URL ending in /v1; loaded
         * without a trailing slash. It, provider, api_key, api_key_file and models are refused beside
         * upstreams.
         */
        char *url;
        char *provider;     /* upstream.provider: openai (or anthropic) */
        char *api_key;      /* upstream.api_key: none (secret) */
        char *api_key_file; /* upstream.api_key_file: none; read into api_key at load */
        char *model;        /* upstream.model: default; used when a request names none */
        /* upstream.models: list of other models a request may name, as in an upstream; default none */
        char **models;
        unsigned models_count;
        /*
         * upstream.allow_private_addresses: false: a host name that resolves to a private, loopback or
         * link-local address is refused. A URL that itself names such an address or localhost is
         * always allowed.
         */
        bool allow_private_addresses;
        unsigned connect_timeout_ms;     /* 2000 */
        unsigned first_token_timeout_ms; /* 30000 */
        unsigned idle_timeout_ms;        /* 20000 */
        unsigned total_timeout_ms;       /* 600000 */
        unsigned connections_max;        /* idle connections kept per thread: 256 */
        unsigned retry_backoff_ms;       /* 100; full jitter: a retry waits 0 to this */
        unsigned retry_budget_percent;   /* 10; retries per hundred turns */
        unsigned breaker_failures; /* 5; so many in a row open an upstream's breaker; 0: never */
        unsigned breaker_open_ms;  /* 10000 */
        unsigned hedge_percent;    /* 0 = off, at most 2; turns in a hundred that ask twice */
        unsigned dns_refresh_s;    /* 30 */
        size_t event_max_bytes;    /* one upstream event: 1048576 */
        size_t answer_max_bytes;   /* 1048576 */
        double temperature_max;    /* 2.0; requests are clamped to 0..this */
        unsigned max_tokens_max;   /* 8192; requests are clamped to 1..this */
    } upstream;
    struct {
        char *secret;           /* jwt.secret: HS256 key, at least 32 bytes (secret) */
        char *secret_file;      /* jwt.secret_file: none; read into secret at load */
        char *jwks_file;        /* jwt.jwks_file: none; instead of secret */
        char *issuer;           /* jwt.issuer: none = not checked */
        char *audience;         /* jwt.audience: none = not checked */
        unsigned leeway_s;      /* jwt.leeway_s: 30, at most 60 */
        unsigned cache_entries; /* jwt.cache_entries: 4096 per thread */
    } jwt;
    struct {
        char *dir;            /* journal.dir: /var/lib/sluice/journal */
        size_t segment_bytes; /* journal.segment_bytes: 16777216 */
        size_t
            retain_bytes;  /* journal.retain_bytes: 1073741824, of segments that are in Postgres */
        unsigned retain_s; /* journal.retain_s: 86400 */
    } journal;
    struct {
        unsigned head_max_bytes;     /* http.head_max_bytes: 32768 */
        unsigned body_max_bytes;     /* http.body_max_bytes: 262144 */
        unsigned connections_max;    /* http.connections_max: 10000, all threads together */
        unsigned request_timeout_ms; /* http.request_timeout_ms: 10000, head and body */
        /* http.write_timeout_ms: 30000, a client without progress is cut */
        unsigned write_timeout_ms;
        char **cors_origins; /* http.cors_origins: list; "*" allows all; default none */
        unsigned cors_origins_count;
    } http;
    struct {
        /* chat.system_prompt: template; {{profile}} is replaced by the profile's JSON or by nothing */
        char *system_prompt;
        bool rag;           /* chat.rag: true; off: a request's use_rag only brings a warning */
        bool debug_timings; /* chat.debug_timings: false; every turn tells where its time went */
        unsigned message_max_bytes;  /* chat.message_max_bytes: 32768 */
        unsigned history_messages;   /* chat.history_messages: 10 */
        unsigned history_tokens;     /* chat.history_tokens: 4000, an estimate of bytes / 4 */
        unsigned turns_max;          /* chat.turns_max: 4096 running turns, all threads together */
        unsigned turns_per_user_max; /* chat.turns_per_user_max: 16, all threads together */
        unsigned heartbeat_s;        /* chat.heartbeat_s: 10 */
        unsigned disconnect_grace_s; /* chat.disconnect_grace_s: 5 */
        unsigned resume_window_s;    /* chat.resume_window_s: 120, then a finished turn is gone */
        /* chat.resume_bytes_max: 33554432, of finished turns, all threads together; the oldest go first */
        size_t resume_bytes_max;
        /* chat.log_bytes_max: 268435456, of all turn logs, all threads together; then turns are refused */
        size_t log_bytes_max;
    } chat;
    struct {
        unsigned profile_ttl_s;         /* cache.profile_ttl_s: 300 */
        unsigned absent_profile_ttl_s;  /* cache.absent_profile_ttl_s: 5 */
        unsigned history_ttl_s;         /* cache.history_ttl_s: 60 */
        unsigned history_pending_ttl_s; /* cache.history_pending_ttl_s: 86400 */
        unsigned local_profiles_max;    /* cache.local_profiles_max: 10000 */
    } cache;
    struct {
        unsigned batch_rows;      /* writer.batch_rows: 100 */
        unsigned batch_max_bytes; /* writer.batch_max_bytes: 1048576 */
        unsigned queue_max_bytes; /* writer.queue_max_bytes: 201326592 */
        /* writer.save_timeout_ms: 5000: how long an ended turn waits to become durable before it says so */
        unsigned save_timeout_ms;
    } writer;
    struct {
        /* ops.listen: none = the main address; else metrics, performance and their API are only there */
        char *listen;
    } ops;
    struct {
        char *url; /* tracing.url: none = off; an OTLP/HTTP address, .../v1/traces */
        unsigned
            sample_percent; /* tracing.sample_percent: 100, of turns whose caller did not say */
        unsigned queue_max; /* tracing.queue_max: 4096 spans that wait; more are dropped */
        unsigned batch_max; /* tracing.batch_max: 512 spans in one request */
        unsigned
            interval_ms; /* tracing.interval_ms: 1000, the longest that a span waits for others */
        unsigned timeout_ms; /* tracing.timeout_ms: 5000, of one request */
    } tracing;
    struct {
        unsigned timeout_s;       /* shutdown.timeout_s: 30, running turns may finish */
        unsigned drain_timeout_s; /* shutdown.drain_timeout_s: 10, then for the writer */
    } shutdown;
};

enum { GW_CONFIG_ERROR_SIZE = 256 };

/**
 * Loads the configuration. `file` may be NULL: defaults and environment only. On failure `error` holds
 * one line that names the key (or the file) and what is accepted, never a value, and
 * SL_E_INVALID_VALUE is returned (SL_E_NO_MEMORY when there was none).
 */
SL_MUST_CHECK int gw_config_load(const char *file, char error[GW_CONFIG_ERROR_SIZE],
                                 struct gw_config **ret_config);

/**
 * The same for commands that only touch the stores (`migrate`): what serving requires may be missing,
 * and the upstreams are not completed (no keys from elsewhere, no `default`).
 */
SL_MUST_CHECK int gw_config_load_stores(const char *file, char error[GW_CONFIG_ERROR_SIZE],
                                        struct gw_config **ret_config);

/** Frees it; NULL is accepted. Secrets are wiped first. */
void gw_config_destroy(struct gw_config *config);

/**
 * Writes every key and its value as YAML to standard output. The text loads again, but for secrets that
 * are set and passwords within URLs, which show as "***".
 */
void gw_config_print(const struct gw_config *config);

/**
 * The names of the keys that differ between two configurations, separated by commas; those of the list
 * as `upstreams[1].weight`, or `upstreams` when it has become longer or shorter. Names that do not fit
 * into `size` are left out. Returns how many there are.
 */
size_t gw_config_changes(const struct gw_config *now, const struct gw_config *next, char *text,
                         size_t size);

/** The same for those of them that cannot change without a restart. */
size_t gw_config_fixed_changes(const struct gw_config *now, const struct gw_config *next,
                               char *text, size_t size);

/** Whether the lists of upstreams are the same in every field, so that what was made from one serves on. */
bool gw_config_upstreams_equal(const struct gw_config *a, const struct gw_config *b);

/**
 * Whether they name the same endpoints in the same order, so that what is known of them still holds.
 * When an endpoint is asked, and for what (weight, priority, canary, models), may differ.
 */
bool gw_config_upstreams_same(const struct gw_config *a, const struct gw_config *b);

/** Whether all keys of a section have the same values. */
bool gw_config_section_equal(const struct gw_config *a, const struct gw_config *b,
                             const char *section);

/**
 * What this upstream of `config` calls `model`, or NULL when it does not serve it. An upstream without
 * a list of models serves upstream.model alone. The text belongs to the configuration.
 */
const char *gw_config_upstream_model(const struct gw_upstream_config *upstream,
                                     const struct gw_config *config, const char *model);
