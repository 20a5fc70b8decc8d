/*
 * Bearer tokens in a header field, and what the cache remembers of them: counts, expiry, eviction.
 */
#include "signing.h"

static void test_the_header_field(void **state)
{
    (void)state;
    struct gw_config config = secret_config();
    struct gw_auth_keys *keys = load_keys(&config);
    struct gw_auth *auth = NULL;
    struct gw_user user;
    char field[512], *token = sign_hs256(HS256, ALICE);
    static const struct {
        const char *format;
        bool good;
    } cases[] = {
        {"Bearer %s", true},    {"bearer %s", true},
        {"BEARER   %s", true},  {"Bearer%s", false},
        {"Bearer\t%s", false},  {" Bearer %s", false},
        {"Bearer %s ", false},  {"Basic %s", false},
        {"Bearer \t%s", false}, {"Bearer, %s", false},
        {"%s", false},          {"Bearer \"%s\"", false},
        {"Bearer x %s", false}, {"Bearer", false},
        {"Bearer ", false},     {"", false},
    };

    assert_int_equal(gw_auth_create(keys, &auth), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *hole = strstr(cases[i].format, "%s");
        size_t before = hole == NULL ? strlen(cases[i].format) : (size_t)(hole - cases[i].format);
        int n = snprintf(field, sizeof(field), "%.*s%s%s", (int)before, cases[i].format,
                         hole == NULL ? "" : token, hole == NULL ? "" : hole + 2);
        /* exactly as long as it says: a byte too many read is a byte outside */
        char *exact = malloc((size_t)n + 1);
        assert_non_null(exact);
        memcpy(exact, field, (size_t)n);
        exact = realloc(exact, n == 0 ? 1 : (size_t)n);
        if ((gw_auth_check(auth, exact, (size_t)n, NOW, &user) == 0) != cases[i].good) {
            fail_msg("wrong: %s", cases[i].format);
        }
        free(exact);
    }
    assert_int_equal(gw_auth_check(auth, NULL, 0, NOW, &user), SL_E_INVALID_TOKEN);
    free(token);
    gw_auth_destroy(auth);
    gw_auth_keys_destroy(keys);
}

static void assert_counts(const struct gw_auth *auth, uint64_t verified, uint64_t cached)
{
    uint64_t got_verified = 99, got_cached = 99;

    gw_auth_counts(auth, &got_verified, &got_cached);
    assert_int_equal(got_verified, verified);
    assert_int_equal(got_cached, cached);
}

static void test_cache_counts_and_expiry(void **state)
{
    (void)state;
    struct gw_config config = secret_config();
    struct gw_auth_keys *keys = load_keys(&config);
    struct gw_auth *auth = NULL;
    struct gw_user user = {0};
    char *token = sign_hs256(HS256, "{\"sub\":\"alice\",\"exp\":2000,\"nbf\":900}");
    char *bad = sign_hmac(EVP_sha256(), OTHER_SECRET, 32, HS256, ALICE);

    assert_int_equal(gw_auth_create(keys, &auth), 0);
    assert_counts(auth, 0, 0);
    /* valid later: verified, refused, not remembered */
    assert_int_equal(check_at(auth, token, 869, &user), SL_E_INVALID_TOKEN);
    assert_counts(auth, 1, 0);
    assert_int_equal(check_at(auth, token, 870, &user), 0);
    assert_counts(auth, 2, 0);
    assert_int_equal(check_at(auth, token, NOW, &user), 0);
    assert_string_equal(user.id, "alice");
    assert_int_equal(user.id_len, 5);
    assert_counts(auth, 2, 1);
    assert_int_equal(check_at(auth, token, 2029, &user), 0);
    assert_int_equal(check_at(auth, token, 2030, &user), SL_E_INVALID_TOKEN);
    assert_int_equal(check_at(auth, token, 869, &user),
                     SL_E_INVALID_TOKEN); /* the clock went back */
    assert_counts(auth, 2, 4);
    /* a failure costs crypto every time, garbage never */
    assert_int_equal(check_at(auth, bad, NOW, &user), SL_E_INVALID_TOKEN);
    assert_int_equal(check_at(auth, bad, NOW, &user), SL_E_INVALID_TOKEN);
    assert_int_equal(check_at(auth, "a.b.c", NOW, &user), SL_E_INVALID_TOKEN);
    assert_counts(auth, 4, 4);
    free(token);
    free(bad);
    gw_auth_destroy(auth);
    gw_auth_keys_destroy(keys);
}

static char *numbered_token(unsigned number, int exp)
{
    char payload[128];

    (void)snprintf(payload, sizeof(payload), "{\"sub\":\"user%u\",\"exp\":%d}", number, exp);
    return sign_hs256(HS256, payload);
}

/* Asks for one numbered user and checks that it is that one who is found. */
static void check_numbered(struct gw_auth *auth, unsigned number, int exp, int64_t now)
{
    struct gw_user user = {0};
    char expected[32], *token = numbered_token(number, exp);

    (void)snprintf(expected, sizeof(expected), "user%u", number);
    assert_int_equal(check_at(auth, token, now, &user), 0);
    assert_string_equal(user.id, expected);
    free(token);
}

/* One set of eight places: full, the one used longest ago goes; expired ones go first. */
static void test_cache_eviction(void **state)
{
    (void)state;
    struct gw_config config = secret_config();
    config.jwt.cache_entries = 8;
    struct gw_auth_keys *keys = load_keys(&config);
    struct gw_auth *auth = NULL;

    assert_int_equal(gw_auth_create(keys, &auth), 0);
    for (unsigned i = 0; i < 8; i++) {
        check_numbered(auth, i, 2000, NOW);
    }
    for (unsigned i = 0; i < 8; i++) {
        check_numbered(auth, i, 2000, NOW);
    }
    assert_counts(auth, 8, 8);
    check_numbered(auth, 0, 2000, NOW); /* so number 1 is the oldest */
    check_numbered(auth, 8, 5000, NOW);
    assert_counts(auth, 9, 9);
    check_numbered(auth, 0, 2000, NOW);
    check_numbered(auth, 8, 5000, NOW);
    assert_counts(auth, 9, 11);
    check_numbered(auth, 1, 2000, NOW); /* gone, and back in place of number 2 */
    assert_counts(auth, 10, 11);
    /* later all but number 8 have expired, and it stays though it is not the youngest */
    for (unsigned i = 10; i < 17; i++) {
        check_numbered(auth, i, 5000, 4000);
    }
    check_numbered(auth, 8, 5000, 4000);
    assert_counts(auth, 17, 12);
    gw_auth_destroy(auth);
    gw_auth_keys_destroy(keys);
}

static void test_cache_sizes(void **state)
{
    (void)state;
    static const unsigned sizes[] = {0, 1, 9, 100};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct gw_config config = secret_config();
        config.jwt.cache_entries = sizes[i];
        struct gw_auth_keys *keys = load_keys(&config);
        struct gw_auth *auth = NULL;
        assert_int_equal(gw_auth_create(keys, &auth), 0);
        for (unsigned j = 0; j < 200; j++) {
            check_numbered(auth, j, 2000, NOW);
            check_numbered(auth, j, 2000, NOW);
        }
        assert_counts(auth, sizes[i] == 0 ? 400 : 200, sizes[i] == 0 ? 0 : 200);
        gw_auth_destroy(auth);
        gw_auth_keys_destroy(keys);
    }
}

static void test_caches_do_not_share(void **state)
{
    (void)state;
    struct gw_config config = secret_config();
    struct gw_auth_keys *keys = load_keys(&config);
    struct gw_auth *one = NULL, *two = NULL;

    assert_int_equal(gw_auth_create(keys, &one), 0);
    assert_int_equal(gw_auth_create(keys, &two), 0);
    check_numbered(one, 1, 2000, NOW);
    check_numbered(two, 1, 2000, NOW);
    assert_counts(one, 1, 0);
    assert_counts(two, 1, 0);
    gw_auth_destroy(one);
    gw_auth_destroy(two);
    gw_auth_destroy(NULL);
    gw_auth_keys_destroy(keys);
    gw_auth_keys_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_header_field),    cmocka_unit_test(test_cache_counts_and_expiry),
        cmocka_unit_test(test_cache_eviction),      cmocka_unit_test(test_cache_sizes),
        cmocka_unit_test(test_caches_do_not_share),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
