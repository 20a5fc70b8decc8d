/*
 * The configuration: sources and their order, files that do not fit, secrets, printing, changes.
 *
 * The tests change this process's environment and standard output and put both back.
 */
#include "config_files.h"

static void test_defaults(void **state)
{
    (void)state;
    (void)setenv("SLUICE_UPSTREAM_URL", "https://model.example/v1/", 1);
    (void)setenv("SLUICE_JWT_SECRET", SECRET, 1);
    struct gw_config *config = load(NULL);

    assert_string_equal(config->listen, "127.0.0.1:8080");
    assert_true(config->threads == (unsigned)sysconf(_SC_NPROCESSORS_ONLN));
    assert_string_equal(config->log_level, "info");
    assert_string_equal(config->redis.url, "redis://127.0.0.1:6379/0");
    assert_int_equal(config->redis.timeout_ms, 50);
    assert_string_equal(config->database.url, "postgresql:///sluice");
    assert_string_equal(config->upstream.url, "https://model.example/v1");
    assert_null(config->upstream.api_key);
    assert_string_equal(config->upstream.model, "default");
    assert_int_equal(config->upstream.models_count, 0);
    assert_int_equal(config->upstream.answer_max_bytes, 1048576);
    assert_false(config->upstream.allow_private_addresses);
    assert_int_equal(config->upstream.retry_backoff_ms, 100);
    assert_int_equal(config->upstream.retry_budget_percent, 10);
    assert_int_equal(config->upstream.breaker_failures, 5);
    assert_int_equal(config->upstream.breaker_open_ms, 10000);
    assert_int_equal(config->upstream.hedge_percent, 0);
    assert_int_equal(config->upstream.dns_refresh_s, 30);
    assert_int_equal(config->chat.resume_window_s, 120);
    assert_int_equal(config->chat.resume_bytes_max, 33554432);
    assert_int_equal(config->chat.log_bytes_max, 268435456);
    assert_true(config->upstream.temperature_max > 1.99 && config->upstream.temperature_max < 2.01);
    assert_string_equal(config->jwt.secret, SECRET);
    assert_int_equal(config->jwt.leeway_s, 30);
    assert_string_equal(config->journal.dir, "/var/lib/sluice/journal");
    assert_int_equal(config->writer.queue_max_bytes, 201326592);
    assert_null(config->ops.listen);
    assert_int_equal(config->shutdown.drain_timeout_s, 10);
    gw_config_destroy(config);
}

static void test_file_then_environment(void **state)
{
    (void)state;
    (void)setenv("SLUICE_UPSTREAM_IDLE_TIMEOUT_MS", "7", 1);
    (void)setenv("SLUICE_UPSTREAM_MODELS", " tiny ,, large", 1);
    (void)setenv("SLUICE_LOG", "debug", 1);
    (void)setenv("SLUICE_LOG_LEVEL", "nonsense", 1); /* not the name of this key */
    (void)setenv("SLUICE_LISTEN", "", 1);            /* empty: not set */
    struct gw_config *config = load("listen: '[::1]:9000'\n"
                                    "threads: 3\n"
                                    "upstream:\n"
                                    "  url: http://model:8000/v1///\n"
                                    "  idle_timeout_ms: 9\n"
                                    "  total_timeout_ms: 11\n"
                                    "  models: [a, b, c]\n"
                                    "  allow_private_addresses: true\n"
                                    "  temperature_max: 1.5\n"
                                    "jwt: {secret: " SECRET ", issuer: null, audience: ''}\n"
                                    "redis:\n"
                                    "http:\n"
                                    "  cors_origins: ['*', 'https://app.example:8443']\n"
                                    "chat:\n"
                                    "  history_messages: 0\n"
                                    "  system_prompt: |\n"
                                    "    Be kind.\n"
                                    "    {{profile}}\n");

    assert_string_equal(config->listen, "[::1]:9000");
    assert_int_equal(config->threads, 3);
    assert_string_equal(config->log_level, "debug");
    assert_string_equal(config->upstream.url, "http://model:8000/v1");
    assert_int_equal(config->upstream.idle_timeout_ms, 7);
    assert_int_equal(config->upstream.total_timeout_ms, 11);
    assert_true(config->upstream.allow_private_addresses);
    assert_int_equal(config->upstream.models_count, 2);
    assert_string_equal(config->upstream.models[0], "tiny");
    assert_string_equal(config->upstream.models[1], "large");
    assert_true(config->upstream.temperature_max > 1.49 && config->upstream.temperature_max < 1.51);
    assert_null(config->jwt.issuer);
    assert_null(config->jwt.audience);
    assert_int_equal(config->redis.timeout_ms, 50);
    assert_int_equal(config->http.cors_origins_count, 2);
    assert_string_equal(config->http.cors_origins[1], "https://app.example:8443");
    assert_int_equal(config->chat.history_messages, 0);
    assert_string_equal(config->chat.system_prompt, "Be kind.\n{{profile}}\n");
    gw_config_destroy(config);
    (void)unsetenv("SLUICE_LOG_LEVEL");
}

/* ------------------------------------------------------------------ refusals */

static void test_the_file_must_fit_the_table(void **state)
{
    (void)state;
    assert_starts(refused(NEEDED "lisen: a\n"), "lisen: unknown key (near line ");
    assert_starts(refused(NO_URL "upstream:\n  urll: x\n"),
                  "upstream.urll: unknown key (near line 3 of ");
    assert_starts(refused("\"li\\nsten\\e[1m\": a\n"), "li?sten?[1m: unknown key");
    assert_starts(refused(NEEDED "listen: a\nlisten: b\n"), "listen: given twice");
    assert_starts(refused("upstream:\n  url: a\n  url: b\n"), "upstream.url: given twice");
    assert_starts(refused(NEEDED "redis: 3\n"), "redis: must be a section");
    assert_starts(refused(NEEDED "listen: [a]\n"), "listen: must be a numeric address");
    assert_starts(refused("upstream:\n  models: hello\n"), "upstream.models: must be a list");
    assert_starts(refused("upstream:\n  models: [a, [b]]\n"), "upstream.models: must be a list");
    assert_contains(refused("- a\n"), "a.yaml: must be a mapping");
    assert_contains(refused("? [a]\n: b\n"), "a.yaml: ");
    assert_contains(refused(NEEDED "listen: \t@x\n"), "a.yaml: not valid YAML");
    assert_contains(refused(NEEDED "---\nlisten: x\n"), "one YAML document");
    assert_contains(refused("listen: &x a\nlog_level: *x\n"), "aliases");
    assert_contains(refused("\xff\xfe\n"), "a.yaml: ");
    assert_starts(refused(""), "upstream.url: required (or SLUICE_UPSTREAM_URL): must be http://");
    assert_starts(refused(NO_URL), "upstream.url: required");
    assert_contains(refused(NO_URL), "; or upstreams");
    assert_starts(refused(NO_JWT), "jwt.secret: required (or SLUICE_JWT_SECRET)");
    assert_starts(refused(NO_JWT "jwt: {secret: " SECRET ", jwks_file: /x}\n"), "jwt.jwks_file: ");
}

static void test_files_that_cannot_be_read(void **state)
{
    (void)state;
    char error[GW_CONFIG_ERROR_SIZE];
    struct gw_config *config = NULL;

    assert_int_equal(gw_config_load(in_directory("absent"), error, &config), SL_E_INVALID_VALUE);
    assert_contains(error, "absent: cannot be read: No such file");
    assert_int_equal(gw_config_load(directory, error, &config), SL_E_INVALID_VALUE);
    assert_contains(error, "cannot be read: ");
    assert_int_equal(gw_config_load("two\nlines", error, &config), SL_E_INVALID_VALUE);
    assert_null(strchr(error, '\n'));
    char *large = malloc(1024 * 1024 + 1);
    assert_non_null(large);
    memset(large, '#', 1024 * 1024 + 1);
    assert_int_equal(gw_config_load(write_bytes("large", large, 1024 * 1024 + 1), error, &config),
                     SL_E_INVALID_VALUE);
    assert_contains(error, "larger than");
    free(large);
    assert_null(config);
}

/* ------------------------------------------------------------------ secrets */

static void test_secrets_from_files(void **state)
{
    (void)state;
    char yaml[1024], key[256], *text;

    (void)snprintf(key, sizeof(key), "%s", write_file("key", "sk-from-file\n"));
    (void)snprintf(yaml, sizeof(yaml),
                   "upstream: {url: 'http://m/v1', api_key_file: '%s'}\njwt: {secret_file: '%s'}\n",
                   key, write_file("jwt", SECRET "\n\n"));
    struct gw_config *config = load(yaml);
    assert_string_equal(config->upstream.api_key, "sk-from-file");
    assert_string_equal(config->jwt.secret, SECRET "\n"); /* one line feed is dropped, not two */

    text = printed(config);
    assert_lacks(text, "sk-from-file");
    assert_lacks(text, SECRET);
    struct gw_config *again = load(text); /* complete: the secrets are where the files are */
    assert_string_equal(again->upstream.api_key, "sk-from-file");
    gw_config_destroy(again);
    free(text);
    gw_config_destroy(config);

    (void)setenv("SLUICE_JWT_SECRET", SECRET, 1);
    assert_string_equal(refused(yaml), "jwt.secret_file: set this or jwt.secret, not both");
    (void)unsetenv("SLUICE_JWT_SECRET");
}

static void test_bad_secret_files(void **state)
{
    (void)state;
    char yaml[1024], big[4098];

    (void)snprintf(yaml, sizeof(yaml), NO_JWT "jwt: {secret_file: '%s'}\n", in_directory("jwt"));
    (void)write_file("jwt", "tooshortasecret\n");
    assert_starts(refused(yaml), "jwt.secret_file: the content of the file");
    assert_lacks(refused(yaml), "tooshortasecret");
    (void)write_bytes("jwt", SECRET "\0" SECRET, 65);
    assert_starts(refused(yaml), "jwt.secret_file: the content of the file");
    memset(big, 'k', sizeof(big));
    (void)write_bytes("jwt", big, 4097);
    assert_starts(refused(yaml), "jwt.secret_file: the content of the file");
    (void)write_bytes("jwt", big, 4096);
    gw_config_destroy(load(yaml));
    assert_int_equal(unlink(in_directory("jwt")), 0);
    assert_starts(refused(yaml), "jwt.secret_file: the file cannot be read: No such file");
}

static void test_no_secret_in_an_error(void **state)
{
    (void)state;
    static const char *const names[] = {"SLUICE_JWT_SECRET", "SLUICE_UPSTREAM_API_KEY",
                                        "SLUICE_REDIS_URL", "SLUICE_UPSTREAM_URL",
                                        "SLUICE_DATABASE_URL"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)setenv(names[i], "hunter2 \x01", 1);
        const char *error = refused(i == 0 ? NO_JWT : NEEDED);
        assert_contains(error, names[i]);
        assert_lacks(error, "hunter2");
        (void)unsetenv(names[i]);
    }
    assert_lacks(refused(NO_JWT "jwt: {secret: [hunter2]}\n"), "hunter2");
    assert_lacks(refused(NO_JWT "jwt:\n  secret: \"hunter2\n  listen: x\n"), "hunter2");
}

/* ------------------------------------------------------------------ printing, changes */

static void test_print_loads_again(void **state)
{
    (void)state;
    size_t count;
    const struct gw_config_key *keys = gw_config_keys(&count);
    struct gw_config *config =
        load("listen: '[::1]:1'\nthreads: 2\n"
             "upstream: {url: 'http://m/v1', models: ['a b', \"q\\\"uote\", '#x', 'true'], "
             "temperature_max: 0.7, allow_private_addresses: true, provider: anthropic}\n"
             "jwt: {secret: " SECRET ", issuer: 'a: b', audience: \"\\u4e2d\\U0001f600\"}\n"
             "http: {cors_origins: ['*']}\n"
             "chat: {system_prompt: \"- \\\\ {{profile}}\\n\\tx: 'y'\\n\"}\n"
             "ops: {listen: '127.0.0.1:0'}\n");
    char *text = printed(config);

    assert_lacks(text, SECRET);
    assert_contains(text, "  secret: \"***\"\n");
    assert_contains(text, "  temperature_max: 0.7\n");
    assert_contains(text, "  api_key: null\n");
    char *mask = strstr(text, "\"***\"");
    assert_non_null(mask);
    memcpy(mask, "null ", 5);
    (void)setenv("SLUICE_JWT_SECRET", SECRET, 1);
    struct gw_config *again = load(text);
    for (size_t i = 0; i < count; i++) {
        if (!gw_config_value_equal(config, again, &keys[i])) {
            fail_msg("%s came back different", keys[i].name);
        }
    }
    gw_config_destroy(again);
    gw_config_destroy(config);
    free(text);
}

static void test_passwords_are_masked(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value, *shown;
    } cases[] = {
        {"SLUICE_REDIS_URL", "redis://:hunter2@cache:6379/1", "\"redis://:***@cache:6379/1\""},
        {"SLUICE_REDIS_URL", "redis://me:hunter2/@x@cache", "\"redis://me:***@cache\""},
        {"SLUICE_REDIS_URL", "redis://cache:6379/1", "\"redis://cache:6379/1\""},
        {"SLUICE_DATABASE_URL", "postgresql://me:hunter2@db:5432/x",
         "\"postgresql://me:***@db:5432/x\""},
        {"SLUICE_DATABASE_URL", "postgresql://db:5432/x", "\"postgresql://db:5432/x\""},
        {"SLUICE_DATABASE_URL", "postgresql://me@db:5432/x", "\"postgresql://me@db:5432/x\""},
        {"SLUICE_DATABASE_URL", "postgresql://db/x?password=hunter2&user=me",
         "\"postgresql://db/x?password=***&user=me\""},
        {"SLUICE_DATABASE_URL", "host=db password = 'hunter2 \\' hunter2' user=me",
         "\"host=db password=*** user=me\""},
        {"SLUICE_DATABASE_URL", "host=db PASSWORD=a://b:c@hunter2 sslpassword=hunter2",
         "\"host=db password=*** sslpassword=***\""},
        {"SLUICE_UPSTREAM_URL", "https://me:hunter2@h/v1", "\"https://me:***@h/v1\""},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)setenv(cases[i].key, cases[i].value, 1);
        struct gw_config *config = load(NEEDED);
        char *text = printed(config);
        assert_contains(text, cases[i].shown);
        assert_lacks(text, "hunter2");
        free(text);
        gw_config_destroy(config);
        (void)unsetenv(cases[i].key);
    }
}

static void test_changes_that_need_a_restart(void **state)
{
    (void)state;
    char names[64] = "x";
    struct gw_config *now = load(NEEDED);
    struct gw_config *next =
        load(NO_JWT "jwt: {secret: " SECRET SECRET "}\nlisten: '127.0.0.1:1'\n"
                    "journal: {dir: /x}\nhttp: {cors_origins: ['*']}\nlog_level: error\n");

    assert_int_equal(gw_config_fixed_changes(now, now, names, sizeof(names)), 0);
    assert_string_equal(names, "");
    assert_int_equal(gw_config_fixed_changes(now, next, names, sizeof(names)), 2);
    assert_string_equal(names, "listen,journal.dir");
    assert_int_equal(gw_config_fixed_changes(now, next, names, 18), 2);
    assert_string_equal(names, "listen"); /* half a name would be none */
    assert_int_equal(gw_config_fixed_changes(now, next, NULL, 0), 2);
    assert_int_equal(gw_config_changes(now, now, names, sizeof(names)), 0);
    assert_string_equal(names, "");
    assert_int_equal(gw_config_changes(now, next, names, sizeof(names)), 5);
    assert_string_equal(names, "listen,log_level,jwt.secret,journal.dir,http.cors_origins");
    gw_config_destroy(now);
    gw_config_destroy(next);
}

/* The example in deploy/ has every key, and each at its default. */
static void test_the_example_is_the_defaults(void **state)
{
    (void)state;
    char error[GW_CONFIG_ERROR_SIZE] = "", pattern[80];
    size_t count, len;
    const struct gw_config_key *keys = gw_config_keys(&count);
    struct gw_config *example = NULL;
    char path[512] = __FILE__; /* tests/unit/gateway/... */
    (void)snprintf(strrchr(path, '/'), 64, "/../../../deploy/sluice.yaml");
    FILE *stream = fopen(path, "r");
    char *text = calloc(1, 64 * 1024);

    assert_non_null(stream);
    assert_non_null(text);
    len = fread(text, 1, 64 * 1024 - 1, stream);
    (void)fclose(stream);
    assert_true(len > 0);
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(pattern, sizeof(pattern), "\n%s%s:", keys[i].section[0] != '\0' ? "  " : "",
                       keys[i].leaf);
        assert_contains(text, pattern);
    }
    free(text);
    (void)setenv("SLUICE_UPSTREAM_URL", "http://m/v1", 1);
    (void)setenv("SLUICE_JWT_SECRET", SECRET, 1);
    if (gw_config_load(path, error, &example) != 0) {
        fail_msg("%s", error);
    }
    struct gw_config *defaults = load(NULL);
    for (size_t i = 0; i < count; i++) {
        if (!gw_config_value_equal(example, defaults, &keys[i])) {
            fail_msg("%s differs from its default", keys[i].name);
        }
    }
    gw_config_destroy(example);
    gw_config_destroy(defaults);
}

static void test_destroy_accepts_null(void **state)
{
    (void)state;
    gw_config_destroy(NULL);
}

static void the_stores_need_no_upstream(void **state)
{
    char error[GW_CONFIG_ERROR_SIZE];
    struct gw_config *config;

    (void)state;
    assert_int_equal(gw_config_load_stores(NULL, error, &config), 0);
    assert_string_equal(config->database.url, "postgresql:///sluice");
    assert_null(config->upstream.url);
    gw_config_destroy(config);
    assert_int_equal(gw_config_load(NULL, error, &config), SL_E_INVALID_VALUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stores_need_no_upstream),
        cmocka_unit_test_setup(test_defaults, clear_environment),
        cmocka_unit_test_setup(test_file_then_environment, clear_environment),
        cmocka_unit_test_setup(test_the_file_must_fit_the_table, clear_environment),
        cmocka_unit_test_setup(test_files_that_cannot_be_read, clear_environment),
        cmocka_unit_test_setup(test_secrets_from_files, clear_environment),
        cmocka_unit_test_setup(test_bad_secret_files, clear_environment),
        cmocka_unit_test_setup(test_no_secret_in_an_error, clear_environment),
        cmocka_unit_test_setup(test_print_loads_again, clear_environment),
        cmocka_unit_test_setup(test_passwords_are_masked, clear_environment),
        cmocka_unit_test_setup(test_changes_that_need_a_restart, clear_environment),
        cmocka_unit_test_setup(test_the_example_is_the_defaults, clear_environment),
        cmocka_unit_test_setup(test_destroy_accepts_null, clear_environment),
    };

    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
