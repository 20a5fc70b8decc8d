/*
 * The commands beside serving. Each loads the configuration, does one thing, and says how it went.
 *
 * Failure modes: bad usage or configuration exits with 2 and one line, anything else with 1.
 * Thread: main.
 */
#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "auth.h"
#include "config.h"

static int check_config(const char *config_file, bool print);
static int migrate(const char *config_file);
static int replay(const char *config_file, const char *since);
static int dead_letter(const char *config_file, const char *what);
static int load_stores(const char *config_file, struct gw_config **ret_config);
static int read_time(const char *text, int64_t *ret_unix_us);
static void print_line(const char *line);
static int usage(FILE *to, int code);

int gw_command_run(const char *config_file, int argc, char **argv)
{
    const char *command = argv[0];

    if (argc == 1 && strcmp(command, "--check-config") == 0) {
        return check_config(config_file, false);
    }
    if (argc == 1 && strcmp(command, "--print-config") == 0) {
        return check_config(config_file, true);
    }
    if (argc == 1 && strcmp(command, "migrate") == 0) {
        return migrate(config_file);
    }
    if (argc == 3 && strcmp(command, "replay") == 0 && strcmp(argv[1], "--since") == 0) {
        return replay(config_file, argv[2]);
    }
    if (argc == 2 && strcmp(command, "dead-letter") == 0) {
        return dead_letter(config_file, argv[1]);
    }
    if (argc == 1 && strcmp(command, "--version") == 0) {
        (void)printf("sluice %s\n", SLUICE_VERSION);
        return EXIT_CLEAN;
    }
    return argc == 1 && strcmp(command, "--help") == 0 ? usage(stdout, EXIT_CLEAN)
                                                       : usage(stderr, EXIT_USAGE);
}

static int usage(FILE *to, int code)
{
    (void)fprintf(
        to, "usage: sluice [--config FILE]                         serve\n"
            "       sluice [--config FILE] --check-config          name the bad key, or say it is "
            "valid\n"
            "       sluice [--config FILE] --print-config          every key and its value\n"
            "       sluice [--config FILE] migrate                 bring the database's schema up "
            "to date\n"
            "       sluice [--config FILE] replay --since TIME     the journal's messages into "
            "Postgres again\n"
            "       sluice [--config FILE] dead-letter list|retry  what Postgres refused for good\n"
            "       sluice --version | --help\n"
            "TIME is Unix seconds or like 2026-11-20T23:00:00Z. Every configuration key a.b can be "
            "set as\n"
            "SLUICE_A_B in the environment.\n");
    return code;
}

static int check_config(const char *config_file, bool print)
{
    char error[GW_CONFIG_ERROR_SIZE];
    struct gw_config *config;
    struct gw_auth_keys *keys;

    if (gw_config_load(config_file, error, &config) != 0) {
        (void)fprintf(stderr, "sluice: %s\n", error);
        return EXIT_USAGE;
    }
    if (print) {
        gw_config_print(config);
        gw_config_destroy(config);
        return EXIT_CLEAN;
    }
    int err = gw_auth_keys_load(config, error, &keys);
    gw_config_destroy(config);
    if (err != 0) {
        (void)fprintf(stderr, "sluice: %s\n", error);
        return EXIT_USAGE;
    }
    gw_auth_keys_destroy(keys);
    (void)printf("configuration is valid\n");
    return EXIT_CLEAN;
}

/* ---------------------------------------------------------------- stores */

static int load_stores(const char *config_file, struct gw_config **ret_config)
{
    char error[GW_CONFIG_ERROR_SIZE];

    if (gw_config_load_stores(config_file, error, ret_config) != 0) {
        (void)fprintf(stderr, "sluice: %s\n", error);
        return EXIT_USAGE;
    }
    return EXIT_CLEAN;
}

static int migrate(const char *config_file)
{
    struct gw_config *config;
    int code = load_stores(config_file, &config);

    if (code != EXIT_CLEAN) {
        return code;
    }
    int err = store_migrate(config->database.url, print_line);
    gw_config_destroy(config);
    return err == 0 ? EXIT_CLEAN : EXIT_RUNTIME;
}

static int replay(const char *config_file, const char *since)
{
    struct gw_config *config;
    int64_t since_us;

    if (read_time(since, &since_us) != 0) {
        (void)fprintf(stderr, "sluice: --since: Unix seconds or like 2026-11-20T23:00:00Z\n");
        return EXIT_USAGE;
    }
    int code = load_stores(config_file, &config);
    if (code != EXIT_CLEAN) {
        return code;
    }
    const struct store_config store_config = gw_command_store_config(config);
    int err = store_replay(&store_config, since_us, print_line);
    gw_config_destroy(config);
    return err == 0 ? EXIT_CLEAN : EXIT_RUNTIME;
}

static int dead_letter(const char *config_file, const char *what)
{
    bool list = strcmp(what, "list") == 0;
    struct gw_config *config;

    if (!list && strcmp(what, "retry") != 0) {
        return usage(stderr, EXIT_USAGE);
    }
    int code = load_stores(config_file, &config);
    if (code != EXIT_CLEAN) {
        return code;
    }
    const struct store_config store_config = gw_command_store_config(config);
    int err = list ? store_dead_letters_list(&store_config, print_line)
                   : store_dead_letters_retry(&store_config, print_line);
    gw_config_destroy(config);
    return err == 0 ? EXIT_CLEAN : EXIT_RUNTIME;
}

struct store_config gw_command_store_config(const struct gw_config *config)
{
    return (struct store_config){
        .redis_url = config->redis.url,
        .database_url = config->database.url,
        .redis_timeout_ms = config->redis.timeout_ms,
        .database_timeout_ms = config->database.timeout_ms,
        .database_reads_max = config->database.reads_max,
        .profile_ttl_s = config->cache.profile_ttl_s,
        .absent_profile_ttl_s = config->cache.absent_profile_ttl_s,
        .history_ttl_s = config->cache.history_ttl_s,
        .history_pending_ttl_s = config->cache.history_pending_ttl_s,
        .history_messages = config->chat.history_messages,
        .local_profiles_max = config->cache.local_profiles_max,
        .writer_batch_rows = config->writer.batch_rows,
        .writer_batch_bytes = config->writer.batch_max_bytes,
        .writer_queue_bytes = config->writer.queue_max_bytes,
        .journal_dir = config->journal.dir,
        .journal_segment_bytes = config->journal.segment_bytes,
        .journal_retain_bytes = config->journal.retain_bytes,
        .journal_retain_s = config->journal.retain_s,
    };
}

/* ---------------------------------------------------------------- words */

static int read_time(const char *text, int64_t *ret_unix_us)
{
    struct tm utc = {0};
    char *end;
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &utc);

    if (rest != NULL && *rest == '\0') {
        *ret_unix_us = (int64_t)timegm(&utc) * 1000000;
        return 0;
    }
    long long seconds = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || seconds < 0 || seconds > 253402300799) {
        return SL_E_INVALID_VALUE;
    }
    *ret_unix_us = (int64_t)seconds * 1000000;
    return 0;
}

static void print_line(const char *line)
{
    (void)printf("%s\n", line);
}
