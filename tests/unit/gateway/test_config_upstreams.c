/*
 * The list of upstreams: from a file and the environment, what is refused, keys from elsewhere, printing,
 * which of them serves a model.
 */
#include "config_files.h"

#define KEY_VARIABLE "SLUICE_TEST_UPSTREAM_KEY"
#define TWO                                                                                        \
    "upstreams:\n"                                                                                 \
    "  - name: main\n"                                                                             \
    "    url: https://me:hunter2@api.example/v1//\n"                                               \
    "    api_key: sk-hunter2\n"                                                                    \
    "    models: [default, large=vendor/large]\n"                                                  \
    "    weight: 3\n"                                                                              \
    "  - {name: spare_2, provider: anthropic, url: 'http://[::1]:1/v1', priority: 1,\n"            \
    "     canary_percent: 5}\n"

static int clear(void **state)
{
    (void)unsetenv(KEY_VARIABLE);
    return clear_environment(state);
}

static void assert_two(const struct gw_config *config)
{
    const struct gw_upstream_config *first = &config->upstreams[0], *spare = &config->upstreams[1];

    assert_int_equal(config->upstreams_count, 2);
    assert_string_equal(first->name, "main");
    assert_string_equal(first->provider, "openai");
    assert_string_equal(first->url, "https://me:hunter2@api.example/v1");
    assert_string_equal(first->api_key, "sk-hunter2");
    assert_int_equal(first->models_count, 2);
    assert_int_equal(first->weight, 3);
    assert_int_equal(first->priority, 0);
    assert_string_equal(spare->name, "spare_2");
    assert_string_equal(spare->provider, "anthropic");
    assert_null(spare->api_key);
    assert_int_equal(spare->models_count, 0);
    assert_int_equal(spare->weight, 1);
    assert_int_equal(spare->priority, 1);
    assert_int_equal(spare->canary_percent, 5);
    assert_null(config->upstream.url);
}

static void test_a_file(void **state)
{
    (void)state;
    struct gw_config *config = load(NO_URL TWO);

    assert_two(config);
    gw_config_destroy(config);
}

static void test_the_environment_replaces_the_list(void **state)
{
    (void)state;
    (void)setenv("SLUICE_UPSTREAMS",
                 "[{\"name\":\"main\",\"url\":\"https://me:hunter2@api.example/v1\","
                 "\"api_key\":\"sk-hunter2\",\"models\":[\"default\",\"large=vendor/large\"],"
                 "\"weight\":3,\"priority\":null},\n {name: spare_2, provider: anthropic, # YAML\n"
                 "url: 'http://[::1]:1/v1', priority: 1, canary_percent: 5}] # done",
                 1);
    struct gw_config *config =
        load(NO_URL "upstreams: [{name: a, url: 'http://a/v1'}, {name: b, url: 'http://b/v1'},"
                    "{name: c, url: 'http://c/v1'}]\n");
    assert_two(config);
    gw_config_destroy(config);

    (void)setenv("SLUICE_UPSTREAMS", "[]", 1);
    assert_starts(refused(NO_URL TWO), "upstream.url: required");
    (void)setenv("SLUICE_UPSTREAMS", "", 1);
    config = load(NO_URL TWO);
    assert_two(config);
    gw_config_destroy(config);
}

static void test_without_a_list_there_is_one(void **state)
{
    (void)state;
    struct gw_config *config = load(
        NO_URL "upstreams:\nupstream: {url: 'http://m/v1/', provider: anthropic, api_key: sk-1,"
               "models: [a, b=c], model: d}\n");
    const struct gw_upstream_config *only = config->upstreams;

    assert_int_equal(config->upstreams_count, 1);
    assert_string_equal(only->name, "default");
    assert_string_equal(only->provider, "anthropic");
    assert_string_equal(only->url, "http://m/v1");
    assert_string_equal(only->api_key, "sk-1");
    assert_int_equal(only->weight, 1);
    assert_int_equal(only->priority, 0);
    assert_int_equal(only->canary_percent, 0);
    assert_string_equal(gw_config_upstream_model(only, config, "a"), "a");
    assert_string_equal(gw_config_upstream_model(only, config, "b"), "c");
    assert_string_equal(gw_config_upstream_model(only, config, "d"), "d");
    assert_null(gw_config_upstream_model(only, config, "c"));
    assert_string_equal(config->upstream.url, "http://m/v1");
    gw_config_destroy(config);
}

static void test_models(void **state)
{
    (void)state;
    struct gw_config *config = load(NO_URL TWO);
    const struct gw_upstream_config *first = &config->upstreams[0], *spare = &config->upstreams[1];

    assert_string_equal(gw_config_upstream_model(first, config, "default"), "default");
    assert_string_equal(gw_config_upstream_model(first, config, "large"), "vendor/large");
    assert_null(gw_config_upstream_model(first, config, "vendor/large"));
    assert_null(gw_config_upstream_model(first, config, "larg"));
    assert_null(gw_config_upstream_model(first, config, "large=vendor/large"));
    assert_null(gw_config_upstream_model(first, config, ""));
    assert_string_equal(gw_config_upstream_model(spare, config, "default"), "default");
    assert_null(gw_config_upstream_model(spare, config, "large"));
    gw_config_destroy(config);

    /* the default model under another name there; nobody needs to be told twice */
    config = load(NO_URL "upstream: {url: 'http://m/v1', models: ['default=x', y]}\n");
    assert_int_equal(config->upstreams->models_count, 2);
    assert_string_equal(gw_config_upstream_model(config->upstreams, config, "default"), "x");
    gw_config_destroy(config);

    assert_starts(refused(NO_URL "upstreams: [{name: a, url: 'http://a/v1', models: [x, y]}]\n"),
                  "upstream.model: must be a model that one of the upstreams serves");
    gw_config_destroy(load(NO_URL
                           "upstream: {model: y}\n"
                           "upstreams: [{name: a, url: 'http://a/v1', models: [x, y=z]}]\n"));
}

/* ------------------------------------------------------------------ refusals */

static void test_each_key_is_checked(void **state)
{
    (void)state;
    static const struct {
        const char *entry, *error;
    } cases[] = {
        {"{url: 'http://a/v1'}", "upstreams[1].name: required: must be 1 to 32 letters, digits"},
        {"{name: 'a b', url: 'http://a/v1'}", "upstreams[1].name: must be 1 to 32 letters"},
        {"{name: abcdefghijklmnopqrstuvwxyz0123456, url: 'http://a/v1'}",
         "upstreams[1].name: must"},
        {"{name: zero, url: 'http://a/v1'}",
         "upstreams[1].name: must be another than upstreams[0].name"},
        {"{name: a}", "upstreams[1].url: required: must be http:// or https://"},
        {"{name: a, url: 'ftp://hunter2/v1'}", "upstreams[1].url: must be http:// or https://"},
        {"{name: a, url: 'http://a/v1', provider: hunter2}",
         "upstreams[1].provider: must be openai or anthropic (set in "},
        {"{name: a, url: 'http://a/v1', api_key: 'hunter2 '}", "upstreams[1].api_key: must be"},
        {"{name: a, url: 'http://a/v1', api_key_env: '$hunter2'}",
         "upstreams[1].api_key_env: must be the name of an environment variable"},
        {"{name: a, url: 'http://a/v1', models: ['=hunter2']}",
         "upstreams[1].models: must be a list of at most 64 entries, each a name or name=name"},
        {"{name: a, url: 'http://a/v1', models: hunter2}", "upstreams[1].models: must be a list"},
        {"{name: a, url: 'http://a/v1', models: [x, [hunter2]]}", "upstreams[1].models"},
        {"{name: a, url: 'http://a/v1', weight: 0}",
         "upstreams[1].weight: must be a whole number from 1 to 1000"},
        {"{name: a, url: 'http://a/v1', priority: 101}", "upstreams[1].priority: must be"},
        {"{name: a, url: 'http://a/v1', canary_percent: 101}",
         "upstreams[1].canary_percent: must be"},
        {"{name: a, urll: hunter2}", "upstreams[1].urll: unknown key (near line "},
        {"{name: a, name: hunter2}", "upstreams[1].name: given twice"},
        {"{name: a, url: {hunter2: x}}", "upstreams[1].url: must be http://"},
        {"hunter2", "upstreams: must be a list of at most 16 mappings"},
        {"[hunter2]", "upstreams: must be a list of at most 16 mappings"},
    };
    char yaml[640], list[512];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)snprintf(list, sizeof(list), "[{name: zero, url: 'http://z/v1'}, %s]",
                       cases[i].entry);
        (void)snprintf(yaml, sizeof(yaml), NO_URL "upstreams: %s\n", list);
        assert_starts(refused(yaml), cases[i].error);
        assert_lacks(refused(yaml), "hunter2");
        (void)setenv("SLUICE_UPSTREAMS", list, 1);
        const char *in = strstr(cases[i].error, " (set in");
        const char *error = refused(NO_URL);
        assert_true(strncmp(error, cases[i].error,
                            in != NULL ? (size_t)(in - cases[i].error) : strlen(cases[i].error)) ==
                    0);
        assert_lacks(error, "hunter2");
        (void)unsetenv("SLUICE_UPSTREAMS");
    }
}

static void test_the_environment_holds_the_list_and_nothing_else(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"hunter2", "upstreams: must be a list"},
        {"{name: hunter2}", "upstreams: must be a list"},
        {"[{name: hunter2", "SLUICE_UPSTREAMS: not valid YAML"},
        {"[], listen: hunter2", "listen: unknown key (near line 1 of SLUICE_UPSTREAMS)"},
        {"[]}\n---\n{hunter2: 1", "SLUICE_UPSTREAMS: must hold one YAML document"},
        {"[&hunter2 {name: a}, *hunter2]", "upstreams"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)setenv("SLUICE_UPSTREAMS", cases[i].text, 1);
        assert_starts(refused(NEEDED), cases[i].error);
        assert_lacks(refused(NEEDED), "hunter2");
    }
}

static void test_sixteen_at_most(void **state)
{
    (void)state;
    char yaml[2048] = NO_URL "upstreams:\n", line[64];

    for (unsigned i = 0; i <= GW_UPSTREAMS_MAX; i++) {
        if (i == GW_UPSTREAMS_MAX) {
            struct gw_config *config = load(yaml);
            assert_int_equal(config->upstreams_count, GW_UPSTREAMS_MAX);
            gw_config_destroy(config);
        }
        (void)snprintf(line, sizeof(line), "  - {name: n%u, url: 'http://h/v1'}\n", i);
        strcat(yaml, line);
    }
    assert_starts(refused(yaml), "upstreams: must be a list of at most 16 mappings");
}

static void test_a_list_or_one(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *error;
    } cases[] = {
        {"SLUICE_UPSTREAM_URL", "http://m/v1", "upstreams: set this or upstream.url, not both"},
        {"SLUICE_UPSTREAM_PROVIDER", "anthropic",
         "upstreams: set this or upstream.provider, not both"},
        {"SLUICE_UPSTREAM_API_KEY", "hunter2", "upstreams: set this or upstream.api_key, not both"},
        {"SLUICE_UPSTREAM_MODELS", "a", "upstreams: set this or upstream.models, not both"},
        {"SLUICE_UPSTREAM_PROVIDER", "openai", NULL}, /* the default is no contradiction */
        {"SLUICE_UPSTREAM_MODEL", "default", NULL},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)setenv(cases[i].name, cases[i].value, 1);
        if (cases[i].error == NULL) {
            gw_config_destroy(load(NO_URL TWO));
        } else {
            assert_string_equal(refused(NO_URL TWO), cases[i].error);
        }
        (void)unsetenv(cases[i].name);
    }
    (void)setenv("SLUICE_UPSTREAM_API_KEY_FILE", write_file("key", "sk-1"), 1);
    assert_contains(refused(NO_URL TWO), "upstreams: set this or upstream.api_key");
}

/* ------------------------------------------------------------------ keys from elsewhere, printing */

static void test_keys_from_elsewhere(void **state)
{
    (void)state;
    char yaml[1024];
    const char *by_env = NO_URL "upstreams: [{name: z, url: 'http://z/v1'}, "
                                "{name: a, url: 'http://a/v1', api_key_env: " KEY_VARIABLE "}]\n";

    (void)snprintf(yaml, sizeof(yaml),
                   NO_URL "upstreams: [{name: a, url: 'http://a/v1', api_key_file: '%s'}]\n",
                   write_file("key", "sk-hunter2\n"));
    struct gw_config *config = load(yaml);
    assert_string_equal(config->upstreams[0].api_key, "sk-hunter2");
    gw_config_destroy(config);
    (void)write_file("key", "hunter2 hunter2");
    assert_starts(refused(yaml), "upstreams[0].api_key_file: the content of the file");
    assert_lacks(refused(yaml), "hunter2");
    assert_int_equal(unlink(in_directory("key")), 0);
    assert_starts(refused(yaml), "upstreams[0].api_key_file: the file cannot be read: ");

    assert_string_equal(refused(by_env),
                        "upstreams[1].api_key_env: the environment variable it names is not set");
    (void)setenv(KEY_VARIABLE, "", 1);
    assert_starts(refused(by_env), "upstreams[1].api_key_env: ");
    (void)setenv(KEY_VARIABLE, "hunter2 hunter2", 1);
    assert_starts(refused(by_env), "upstreams[1].api_key_env: the content of the variable must be");
    assert_lacks(refused(by_env), "hunter2");
    (void)setenv(KEY_VARIABLE, "sk-hunter2", 1);
    config = load(by_env);
    assert_null(config->upstreams[0].api_key);
    assert_string_equal(config->upstreams[1].api_key, "sk-hunter2");
    gw_config_destroy(config);

    assert_string_equal(refused(NO_URL
                                "upstreams: [{name: a, url: 'http://a/v1', api_key: hunter2, "
                                "api_key_env: " KEY_VARIABLE "}]\n"),
                        "upstreams[0].api_key_env: set this or upstreams[0].api_key, not both");
    assert_string_equal(
        refused(NO_URL "upstreams: [{name: a, url: 'http://a/v1', "
                       "api_key_file: /x, api_key_env: " KEY_VARIABLE "}]\n"),
        "upstreams[0].api_key_env: set this or upstreams[0].api_key_file, not both");
}

static void test_print_loads_again(void **state)
{
    (void)state;
    (void)setenv("SLUICE_JWT_SECRET", SECRET, 1);
    (void)setenv(KEY_VARIABLE, "sk-hunter2", 1);
    struct gw_config *config =
        load("upstreams:\n"
             "  - {name: a, url: 'http://a/v1', api_key_env: " KEY_VARIABLE ", weight: 7}\n"
             "  - {name: b, url: 'http://b/v1', provider: anthropic, priority: 2,\n"
             "     canary_percent: 50, models: [x, 'y=a \"b\": c']}\n");
    char *text = printed(config);

    assert_contains(text, "\nupstreams:\n  - name: \"a\"\n    provider: \"openai\"\n");
    assert_contains(text, "    api_key: null\n");
    assert_lacks(text, "hunter2");
    memcpy(strstr(text, "\"***\""), "null ", 5); /* jwt.secret */
    struct gw_config *again = load(text);
    assert_true(gw_config_upstreams_equal(config, again));
    gw_config_destroy(again);
    gw_config_destroy(config);
    free(text);

    config = load(TWO);
    text = printed(config);
    assert_contains(text, "    url: \"https://me:***@api.example/v1\"\n    api_key: \"***\"\n");
    assert_lacks(text, "hunter2");
    free(text);
    gw_config_destroy(config);

    config = load("upstream: {url: 'http://m/v1', models: [a]}\n");
    text = printed(config);
    assert_contains(text, "\nupstreams: []\n");
    free(text);
    gw_config_destroy(config);
}

static void test_equal_in_every_field(void **state)
{
    (void)state;
    static const char *const others[] = {
        "{name: b, url: 'http://a/v1'}",
        "{name: a, url: 'http://b/v1'}",
        "{name: a, url: 'http://a/v1', provider: anthropic}",
        "{name: a, url: 'http://a/v1', api_key: k}",
        "{name: a, url: 'http://a/v1', models: [default]}",
        "{name: a, url: 'http://a/v1', weight: 2}",
        "{name: a, url: 'http://a/v1', priority: 2}",
        "{name: a, url: 'http://a/v1', canary_percent: 2}",
        "{name: a, url: 'http://a/v1'}, {name: b, url: 'http://a/v1'}",
    };
    char yaml[256];
    struct gw_config *config = load(NO_URL "upstreams: [{name: a, url: 'http://a/v1/'}]\n");
    struct gw_config *other =
        load(NO_URL "upstreams: [{name: a, url: 'http://a/v1', weight: 1}]\n");

    assert_true(gw_config_upstreams_equal(config, other));
    gw_config_destroy(other);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        (void)snprintf(yaml, sizeof(yaml), NO_URL "upstreams: [%s]\n", others[i]);
        other = load(yaml);
        assert_false(gw_config_upstreams_equal(config, other));
        assert_int_equal(gw_config_fixed_changes(config, other, NULL, 0), 0);
        gw_config_destroy(other);
    }
    gw_config_destroy(config);
}

/* What an operator is told of a reload, and whether the breakers outlive it. */
static void test_changes_of_entries_have_names(void **state)
{
    (void)state;
    static const struct {
        const char *next, *names;
        bool same;
    } cases[] = {
        {NO_URL "upstreams: [{name: a, url: 'http://a/v1'}, {name: b, url: 'http://b/v1'}]\n", "",
         true},
        {NO_URL
         "upstreams: [{name: a, url: 'http://a/v1', weight: 2}, {name: b, url: 'http://b/v1', "
         "priority: 1, canary_percent: 5, models: [default]}]\n",
         "upstreams[0].weight,upstreams[1].models,upstreams[1].priority,upstreams[1].canary_"
         "percent",
         true},
        {NO_URL
         "upstreams: [{name: a, url: 'http://a/v1', api_key: sk}, {name: c, url: 'http://b/v1'}]\n",
         "upstreams[0].api_key,upstreams[1].name", false},
        {NO_URL "upstreams: [{name: a, url: 'http://a/v1'}]\n", "upstreams", false},
        {NO_URL "upstream: {url: 'http://a/v1', hedge_percent: 1}\n",
         "upstream.url,upstream.hedge_percent,upstreams", false},
    };
    char names[256];
    struct gw_config *now = load(cases[0].next);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct gw_config *next = load(cases[i].next);
        (void)gw_config_changes(now, next, names, sizeof(names));
        assert_string_equal(names, cases[i].names);
        assert_int_equal(gw_config_upstreams_same(now, next), cases[i].same);
        gw_config_destroy(next);
    }
    gw_config_destroy(now);
    /* what follows from upstream.url is not told twice */
    now = load(NO_URL "upstream: {url: 'http://a/v1'}\n");
    struct gw_config *next = load(NO_URL "upstream: {url: 'http://b/v1', models: [x]}\n");
    assert_int_equal(gw_config_changes(now, next, names, sizeof(names)), 2);
    assert_string_equal(names, "upstream.url,upstream.models");
    gw_config_destroy(now);
    gw_config_destroy(next);
}

static void test_the_stores_need_no_keys(void **state)
{
    (void)state;
    char error[GW_CONFIG_ERROR_SIZE] = "";
    struct gw_config *config = NULL;

    (void)setenv("SLUICE_UPSTREAMS", "[{name: a, api_key_env: " KEY_VARIABLE "}]", 1);
    assert_int_equal(gw_config_load_stores(NULL, error, &config), 0);
    gw_config_destroy(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_file, clear),
        cmocka_unit_test_setup(test_the_environment_replaces_the_list, clear),
        cmocka_unit_test_setup(test_without_a_list_there_is_one, clear),
        cmocka_unit_test_setup(test_models, clear),
        cmocka_unit_test_setup(test_each_key_is_checked, clear),
        cmocka_unit_test_setup(test_the_environment_holds_the_list_and_nothing_else, clear),
        cmocka_unit_test_setup(test_sixteen_at_most, clear),
        cmocka_unit_test_setup(test_a_list_or_one, clear),
        cmocka_unit_test_setup(test_keys_from_elsewhere, clear),
        cmocka_unit_test_setup(test_print_loads_again, clear),
        cmocka_unit_test_setup(test_equal_in_every_field, clear),
        cmocka_unit_test_setup(test_changes_of_entries_have_names, clear),
        cmocka_unit_test_setup(test_the_stores_need_no_keys, clear),
    };

    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
