/* The table of keys and what each key accepts: numbers, texts, lists. */
#include "config_files.h"

/* No member of a struct of this size without a row, none with two, every default passes its check. */
static void check_table(const struct gw_config_key *keys, size_t count, void *values, size_t size)
{
    static const size_t sizes[] = {
        [GW_CONFIG_TEXT] = sizeof(char *),      [GW_CONFIG_UNSIGNED] = sizeof(unsigned),
        [GW_CONFIG_SIZE] = sizeof(size_t),      [GW_CONFIG_REAL] = sizeof(double),
        [GW_CONFIG_LIST] = sizeof(char **),     [GW_CONFIG_BOOL] = sizeof(bool),
        [GW_CONFIG_UPSTREAMS] = sizeof(void *),
    };
    unsigned char covered[sizeof(struct gw_config)] = {0};
    char accepted[GW_CONFIG_ACCEPTED_SIZE];
    size_t gap = 0;

    assert_true(size <= sizeof(covered));
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < sizes[keys[i].type]; j++) {
            assert_int_equal(covered[keys[i].offset + j]++, 0);
        }
        if (keys[i].type == GW_CONFIG_LIST || keys[i].type == GW_CONFIG_UPSTREAMS) {
            for (size_t j = 0; j < sizeof(unsigned); j++) {
                assert_int_equal(covered[keys[i].count_offset + j]++, 0);
            }
        }
        if (keys[i].fallback != NULL) {
            assert_int_equal(gw_config_value_set(values, &keys[i], keys[i].fallback), 0);
        }
        gw_config_keys_accepted(&keys[i], accepted);
        assert_true(strlen(accepted) < sizeof(accepted) - 1);
    }
    for (size_t i = 0; i < size; i++) {
        gap = covered[i] != 0 ? 0 : gap + 1;
        assert_true(gap <= 4); /* padding before a member of 8 bytes */
    }
}

static void test_tables_cover_their_structs(void **state)
{
    (void)state;
    char name[GW_CONFIG_ENV_NAME_SIZE], label[GW_CONFIG_LABEL_SIZE];
    struct gw_config *config = calloc(1, sizeof(*config));
    size_t count;
    const struct gw_config_key *keys = gw_config_keys(&count);

    assert_non_null(config);
    check_table(keys, count, config, sizeof(*config));
    for (size_t i = 0; i < count; i++) {
        assert_ptr_equal(gw_config_keys_find(keys[i].name), &keys[i]);
        gw_config_keys_env(&keys[i], name);
        assert_true(strlen(name) < sizeof(name) - 1);
    }
    config->upstreams = calloc(1, sizeof(*config->upstreams));
    assert_non_null(config->upstreams);
    config->upstreams_count = 1;
    keys = gw_config_keys_of_upstream(&count);
    check_table(keys, count, config->upstreams, sizeof(*config->upstreams));
    for (size_t i = 0; i < count; i++) {
        (void)gw_config_keys_label(keys[i].leaf, GW_UPSTREAMS_MAX - 1, label);
        assert_true(strlen(label) < sizeof(label) - 1);
    }
    gw_config_destroy(config);
}

static void test_numbers_are_checked(void **state)
{
    (void)state;
    static const char *const bad[] = {"0",
                                      "61000",
                                      "-1",
                                      "1.5",
                                      "1e3",
                                      "abc",
                                      "0x10",
                                      "010",
                                      "5 ms",
                                      "'1 '",
                                      "99999999999999999999",
                                      "!!x",
                                      "''' '''"};
    char yaml[512];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        (void)snprintf(yaml, sizeof(yaml), NEEDED "redis: {timeout_ms: %s}\n", bad[i]);
        if (strcmp(bad[i], "!!x") == 0) {
            (void)refused(yaml);
            continue;
        }
        const char *error = refused(yaml);
        assert_starts(error, "redis.timeout_ms: must be a whole number from 1 to 60000 (set in ");
    }
    (void)setenv("SLUICE_REDIS_TIMEOUT_MS", "fast", 1);
    assert_string_equal(refused(NEEDED), "redis.timeout_ms: must be a whole number from 1 to 60000 "
                                         "(set by SLUICE_REDIS_TIMEOUT_MS)");
    (void)unsetenv("SLUICE_REDIS_TIMEOUT_MS");
    assert_starts(refused("upstream: {url: 'http://m/v1', temperature_max: .inf}\n" NO_URL),
                  "upstream.temperature_max: must be a number from 0 to 100");
    assert_starts(refused("upstream: {url: 'http://m/v1', temperature_max: '1.2.3'}\n" NO_URL),
                  "upstream.temperature_max: ");
    assert_starts(refused(NO_JWT "jwt: {secret: " SECRET ", leeway_s: 61}\n"),
                  "jwt.leeway_s: must be a whole number from 0 to 60");
}

struct text_case {
    const char *key, *text;
    bool good;
};

static const struct text_case text_cases[] = {
    {"listen", "0.0.0.0:0", true},
    {"listen", "[::]:65535", true},
    {"listen", "8080", false},
    {"listen", ":8080", false},
    {"listen", "localhost:8080", false},
    {"listen", "127.0.0.1:65536", false},
    {"listen", "127.0.0.1:", false},
    {"listen", "127.0.0.1:80x", false},
    {"listen", "::1:8080", false},
    {"listen", "[127.0.0.1]:80", false},
    {"listen", "[::1]", false},
    {"ops.listen", "127.0.0.1:9100", true},
    {"ops.listen", "*:9100", false},
    {"tracing.url", "http://127.0.0.1:4318/v1/traces", true},
    {"tracing.url", "127.0.0.1:4318", false},
    {"tracing.sample_percent", "0", true},
    {"tracing.sample_percent", "101", false},
    {"log_level", "warning", false},
    {"upstream.url", "https://u:p@h.example:8443/v1", true},
    {"upstream.url", "http://[::1]:8000", true},
    {"upstream.url", "HTTP://h/v1", false},
    {"upstream.url", "ftp://h/v1", false},
    {"upstream.url", "http://", false},
    {"upstream.url", "http:///v1", false},
    {"upstream.url", "http://h:0/v1", false},
    {"upstream.url", "http://h:99999/v1", false},
    {"upstream.url", "http://h/v1?x=1", false},
    {"upstream.url", "http://h/v 1", false},
    {"upstream.url", "http://h\\r\\nx: y/", false},
    {"upstream.api_key", "sk-abc", true},
    {"upstream.api_key", "two words", false},
    {"upstream.api_key", "a\\r\\nb", false},
    {"upstream.model", "meta/llama 3.1", true},
    {"upstream.model", "a,b", false},
    {"redis.url", "redis://:pa%20ss@cache:6380/15", true},
    {"redis.url", "redis://name:pass@cache", true},
    {"redis.url", "unix:///run/redis.sock?db=2", true},
    {"redis.url", "redis://pass@cache", false},
    {"redis.url", "redis://", false},
    {"redis.url", "rediss://cache", false},
    {"redis.url", "redis://cache/one", false},
    {"redis.url", "unix://relative", false},
    {"database.url", "host=/run/postgresql dbname=x password='a b'", true},
    {"database.url", "a\\nb", false},
    {"jwt.secret", "0123456789abcdef0123456789abcde", false},
    {"jwt.issuer", "https://issuer.example/", true},
    {"jwt.issuer", "a\\u0007b", false},
    {"journal.dir", "/srv/journal", true},
    {"chat.system_prompt", "line\\n\\ttab \\u00e9", true},
    {"chat.system_prompt", "bell \\u0007", false},
    {"chat.system_prompt", "c1 \\u0085", false},
    {"http.cors_origins", "*", true},
    {"http.cors_origins", "https://a.example", true},
    {"http.cors_origins", "https://A.example", false},
    {"http.cors_origins", "https://a.example/", false},
    {"http.cors_origins", "https://u@a.example", false},
    {"http.cors_origins", "a.example", false},
    {"http.cors_origins", "null", false},
    {"upstream.models", "", false},
    {"upstream.models", "large=vendor/large:latest=1", true},
    {"upstream.models", "=large", false},
    {"upstream.models", "large=", false},
    {"upstream.provider", "anthropic", true},
    {"upstream.provider", "OpenAI", false},
    {"upstream.provider", "gemini", false},
    {"upstream.allow_private_addresses", "true", true},
    {"upstream.allow_private_addresses", "false", true},
    {"upstream.allow_private_addresses", "True", false},
    {"upstream.allow_private_addresses", "yes", false},
    {"upstream.allow_private_addresses", "1", false},
    {"upstream.hedge_percent", "2", true},
    {"upstream.hedge_percent", "3", false},
    {"upstream.retry_budget_percent", "101", false},
    {"upstream.breaker_failures", "256", false},
    {"chat.log_bytes_max", "0", false},
};

static void test_texts_are_checked(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(text_cases) / sizeof(text_cases[0]); i++) {
        const struct text_case *at = &text_cases[i];
        const struct gw_config_key *key = gw_config_keys_find(at->key);
        char value[256], yaml[1024], accepted[GW_CONFIG_ACCEPTED_SIZE];
        char error[GW_CONFIG_ERROR_SIZE] = "";
        struct gw_config *config = NULL;

        /* whatever is required and not under test comes from the environment */
        if (strcmp(at->key, "upstream.url") != 0) {
            (void)setenv("SLUICE_UPSTREAM_URL", "http://m/v1", 1);
        }
        if (strcmp(at->key, "jwt.secret") != 0) {
            (void)setenv("SLUICE_JWT_SECRET", SECRET, 1);
        }
        (void)snprintf(value, sizeof(value), key->type == GW_CONFIG_LIST ? "[\"%s\"]" : "\"%s\"",
                       at->text);
        (void)snprintf(yaml, sizeof(yaml),
                       key->section[0] == '\0' ? "%s%s: %s\n" : "%s: {%s: %s}\n", key->section,
                       key->leaf, value);
        int err = gw_config_load(write_file("a.yaml", yaml), error, &config);
        if ((err == 0) != at->good) {
            fail_msg("%s: \"%s\" was %s %s", at->key, at->text, err == 0 ? "accepted" : "refused",
                     error);
        }
        if (err != 0) {
            gw_config_keys_accepted(key, accepted);
            assert_starts(error, at->key);
            assert_contains(error, accepted);
            if (strlen(at->text) > 8 && strstr(accepted, at->text) == NULL) {
                assert_lacks(error, at->text);
            }
        }
        gw_config_destroy(config);
        (void)clear_environment(NULL);
    }
}

static void test_bad_utf8_from_the_environment(void **state)
{
    (void)state;
    (void)setenv("SLUICE_CHAT_SYSTEM_PROMPT", "\xc3(", 1);
    assert_starts(refused(NEEDED), "chat.system_prompt: must be UTF-8 text");
}

static void test_lists_are_bounded(void **state)
{
    (void)state;
    char yaml[2048] = NO_URL "upstream: {url: 'http://m/v1', models: [m", env[512] = "m";

    for (unsigned i = 1; i < GW_CONFIG_LIST_MAX; i++) {
        strcat(yaml, ",m");
        strcat(env, ",m");
    }
    strcat(yaml, "]}\n");
    struct gw_config *config = load(yaml);
    assert_int_equal(config->upstream.models_count, GW_CONFIG_LIST_MAX);
    gw_config_destroy(config);
    yaml[strlen(yaml) - 3] = '\0';
    strcat(yaml, ",m]}\n");
    assert_contains(refused(yaml), "at most 64 entries");
    strcat(env, ",m");
    (void)setenv("SLUICE_UPSTREAM_MODELS", env, 1);
    assert_starts(refused(NEEDED), "upstream.models: must be a list of at most 64 entries");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_tables_cover_their_structs, clear_environment),
        cmocka_unit_test_setup(test_numbers_are_checked, clear_environment),
        cmocka_unit_test_setup(test_texts_are_checked, clear_environment),
        cmocka_unit_test_setup(test_bad_utf8_from_the_environment, clear_environment),
        cmocka_unit_test_setup(test_lists_are_bounded, clear_environment),
    };

    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
