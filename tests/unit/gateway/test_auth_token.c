/* What a token says: its shape, its header and its claims, each taken as far as it may go and one step further. */
#include "signing.h"

#include "auth_token.h"

static int check_secret(char *token)
{
    struct gw_config config = secret_config();
    struct gw_auth_keys *keys = load_keys(&config);
    int err = check_once(keys, token, NOW);

    gw_auth_keys_destroy(keys);
    return err;
}

static bool accepts_payload(const char *payload)
{
    return check_secret(sign_hs256(HS256, payload)) == 0;
}

static bool accepts_header(const char *header)
{
    return check_secret(sign_hs256(header, ALICE)) == 0;
}

static void test_hs256(void **state)
{
    (void)state;
    assert_int_equal(check_secret(sign_hs256(HS256, ALICE)), 0);
    assert_int_equal(check_secret(sign_hmac(EVP_sha256(), OTHER_SECRET, 32, HS256, ALICE)),
                     SL_E_INVALID_TOKEN);
    /* also one byte short, so a key that is compared by prefix would show */
    assert_int_equal(check_secret(sign_hmac(EVP_sha256(), SECRET, 31, HS256, ALICE)),
                     SL_E_INVALID_TOKEN);
}

static void test_the_algorithm_is_the_keys(void **state)
{
    (void)state;
    char *none = unsigned_token("{\"alg\":\"none\"}", ALICE);

    strcat(none, ".");
    assert_int_equal(check_secret(none), SL_E_INVALID_TOKEN);
    assert_false(accepts_header("{\"alg\":\"none\"}"));
    assert_false(accepts_header("{\"alg\":\"None\"}"));
    assert_false(accepts_header("{\"alg\":\"hs256\"}"));
    assert_false(accepts_header("{\"alg\":\"RS256\"}"));
    assert_false(accepts_header("{\"alg\":[\"HS256\"]}"));
    assert_false(accepts_header("{\"alg\":null}"));
    assert_false(accepts_header("{\"typ\":\"JWT\"}"));
    assert_int_equal(
        check_secret(sign_hmac(EVP_sha512(), SECRET, 32, "{\"alg\":\"HS512\"}", ALICE)),
        SL_E_INVALID_TOKEN);
}

static void test_the_header(void **state)
{
    (void)state;
    assert_true(accepts_header("{\"alg\":\"HS256\"}"));
    assert_true(accepts_header("{\"alg\":\"HS256\",\"typ\":\"at+jwt\"}"));
    assert_true(accepts_header("{\"alg\":\"HS256\",\"typ\":\"application/JWT\"}"));
    assert_true(accepts_header("{\"alg\":\"HS256\",\"kid\":\"any: a secret has no name\"}"));
    assert_true(accepts_header("{\"alg\":\"HS256\",\"jku\":\"http://evil/\",\"x5u\":\"x\"}"));
    assert_false(accepts_header("{\"alg\":\"HS256\",\"typ\":\"logout+jwt\"}"));
    assert_false(accepts_header("{\"alg\":\"HS256\",\"typ\":1}"));
    assert_false(accepts_header("{\"alg\":\"HS256\",\"kid\":1}"));
    assert_false(accepts_header("{\"alg\":\"HS256\",\"crit\":[\"exp\"],\"exp\":1}"));
    assert_false(accepts_header("{\"alg\":\"HS256\",\"crit\":[\"alg\"]}"));
    assert_false(accepts_header("{\"alg\":\"HS256\",\"crit\":[]}"));
    assert_false(accepts_header("{\"alg\":\"HS256\",\"alg\":\"HS256\"}"));
    assert_false(accepts_header("{\"alg\":\"none\",\"alg\":\"HS256\"}"));
    assert_false(accepts_header("{\"alg\":\"HS256\"} x"));
    assert_false(accepts_header("[\"HS256\"]"));
    assert_false(accepts_header("\"HS256\""));
    assert_false(accepts_header("{"));
}

static void test_times(void **state)
{
    (void)state;
    assert_true(accepts_payload("{\"sub\":\"alice\",\"exp\":971}")); /* now - leeway + 1 */
    assert_false(accepts_payload("{\"sub\":\"alice\",\"exp\":970}"));
    assert_false(accepts_payload("{\"sub\":\"alice\",\"exp\":1}"));
    assert_false(accepts_payload("{\"sub\":\"alice\",\"exp\":970.9}"));
    assert_true(accepts_payload("{\"sub\":\"alice\",\"exp\":971.1}"));
    assert_true(accepts_payload("{\"sub\":\"alice\",\"exp\":2e3}"));
    assert_true(accepts_payload("{\"sub\":\"alice\",\"exp\":2000,\"nbf\":1030}"));
    assert_false(accepts_payload("{\"sub\":\"alice\",\"exp\":2000,\"nbf\":1031}"));
    assert_false(accepts_payload("{\"sub\":\"alice\",\"exp\":2000,\"nbf\":1030.5}"));
    assert_false(accepts_payload("{\"sub\":\"alice\",\"exp\":2000,\"nbf\":\"1\"}"));
    assert_true(accepts_payload("{\"sub\":\"alice\",\"exp\":2000,\"iat\":1030}"));
    assert_false(accepts_payload("{\"sub\":\"alice\",\"exp\":2000,\"iat\":1031}"));
    assert_false(accepts_payload("{\"sub\":\"alice\",\"exp\":2000,\"iat\":null}"));
    assert_false(accepts_payload("{\"sub\":\"alice\",\"exp\":2000,\"iat\":1031,\"nbf\":1}"));
    assert_false(accepts_payload("{\"sub\":\"alice\"}"));
    assert_false(accepts_payload("{\"sub\":\"alice\",\"exp\":\"2000\"}"));
    assert_false(accepts_payload("{\"sub\":\"alice\",\"exp\":null}"));
    assert_false(accepts_payload("{\"sub\":\"alice\",\"exp\":true}"));
    assert_false(accepts_payload("{\"sub\":\"alice\",\"exp\":1e300}"));
    assert_false(accepts_payload("{\"sub\":\"alice\",\"exp\":1e400}"));
    assert_false(accepts_payload("{\"sub\":\"alice\",\"exp\":9223372036854775807}"));
    assert_false(accepts_payload("{\"sub\":\"alice\",\"exp\":99999999999999999999}"));
    assert_false(accepts_payload("{\"sub\":\"alice\",\"exp\":-9223372036854775808}"));
    assert_false(accepts_payload("{\"sub\":\"alice\",\"exp\":2000,\"nbf\":-1e300}"));
}

static void test_subject(void **state)
{
    (void)state;
    char payload[1024];
    struct gw_config config = secret_config();
    struct gw_auth_keys *keys = load_keys(&config);
    struct gw_auth_claims claims;
    static const char *const bad[] = {
        "{\"exp\":2000}",
        "{\"sub\":\"\",\"exp\":2000}",
        "{\"sub\":7,\"exp\":2000}",
        "{\"sub\":null,\"exp\":2000}",
        "{\"sub\":[\"alice\"],\"exp\":2000}",
        "{\"sub\":\"al\\u0000ice\",\"exp\":2000}",
        "{\"sub\":\"al\\nice\",\"exp\":2000}",
        "{\"sub\":\"al\\u001fice\",\"exp\":2000}",
        "{\"sub\":\"al\\u007fice\",\"exp\":2000}",
        "{\"sub\":\"al\\ud800ice\",\"exp\":2000}",
        "{\"sub\":\"al\xff\",\"exp\":2000}",
        "{\"sub\":\"al\xc0\xaf\",\"exp\":2000}",
        "{\"sub\":\"alice\",\"sub\":\"bob\",\"exp\":2000}",
        "{\"sub\":\"alice\",\"exp\":1,\"exp\":2000}",
        "{\"sub\":\"alice\",\"exp\":2000,\"x\":{\"a\":1,\"a\":2}}",
        "{\"sub\":\"alice\",\"exp\":2000} x",
        "{\"sub\":\"alice\",\"exp\":2000",
        "[{\"sub\":\"alice\",\"exp\":2000}]",
        "\"alice\"",
        "",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (bad[i][0] != '\0' && accepts_payload(bad[i])) {
            fail_msg("accepted: %s", bad[i]);
        }
        assert_int_equal(gw_auth_token_claims(keys, bad[i], strlen(bad[i]), &claims),
                         SL_E_INVALID_TOKEN);
    }
    for (int len = STORE_USER_ID_MAX; len <= STORE_USER_ID_MAX + 1; len++) {
        (void)snprintf(payload, sizeof(payload), "{\"exp\":1,\"sub\":\"%0*d\"}", len, 7);
        assert_int_equal(gw_auth_token_claims(keys, payload, strlen(payload), &claims),
                         len == STORE_USER_ID_MAX ? 0 : SL_E_INVALID_TOKEN);
    }
    assert_int_equal(claims.user.id_len, STORE_USER_ID_MAX);
    static const char unicode[] = "{\"exp\":1,\"sub\":\"\\u00e9\xe4\xb8\xad|x@y\"}";
    assert_int_equal(gw_auth_token_claims(keys, unicode, strlen(unicode), &claims), 0);
    assert_string_equal(claims.user.id, "\xc3\xa9\xe4\xb8\xad|x@y");
    gw_auth_keys_destroy(keys);
}

static void test_issuer_and_audience(void **state)
{
    (void)state;
    struct gw_config config = secret_config();
    static const struct {
        const char *claims;
        bool good;
    } cases[] = {
        {"\"iss\":\"https://i/\",\"aud\":\"chat\"", true},
        {"\"iss\":\"https://i/\",\"aud\":[\"x\",\"chat\"]", true},
        {"\"iss\":\"https://i/\",\"aud\":[\"chat\"]", true},
        {"\"iss\":\"https://i\",\"aud\":\"chat\"", false},
        {"\"iss\":\"https://I/\",\"aud\":\"chat\"", false},
        {"\"iss\":[\"https://i/\"],\"aud\":\"chat\"", false},
        {"\"aud\":\"chat\"", false},
        {"\"iss\":\"https://i/\"", false},
        {"\"iss\":\"https://i/\",\"aud\":\"chats\"", false},
        {"\"iss\":\"https://i/\",\"aud\":\"cha\"", false},
        {"\"iss\":\"https://i/\",\"aud\":[]", false},
        {"\"iss\":\"https://i/\",\"aud\":[\"x\",7]", false},
        {"\"iss\":\"https://i/\",\"aud\":[[\"chat\"]]", false},
        {"\"iss\":\"https://i/\",\"aud\":{\"chat\":1}", false},
    };

    config.jwt.issuer = (char *)"https://i/";
    config.jwt.audience = (char *)"chat";
    struct gw_auth_keys *keys = load_keys(&config);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char payload[256];
        (void)snprintf(payload, sizeof(payload), "{\"sub\":\"alice\",\"exp\":2000,%s}",
                       cases[i].claims);
        if ((check_once(keys, sign_hs256(HS256, payload), NOW) == 0) != cases[i].good) {
            fail_msg("wrong: %s", cases[i].claims);
        }
    }
    gw_auth_keys_destroy(keys);
}

/* ------------------------------------------------------------------ shapes */

static void test_every_character_counts(void **state)
{
    (void)state;
    struct gw_config config = secret_config();
    struct gw_auth_keys *keys = load_keys(&config);
    struct gw_auth *auth = NULL;
    struct gw_user user;
    char *token = sign_hs256(HS256, ALICE);
    size_t len = strlen(token);
    assert_int_equal(gw_auth_create(keys, &auth), 0);
    for (size_t i = 0; i < len; i++) {
        char was = token[i];
        for (int c = 1; c < 256; c++) {
            token[i] = (char)c;
            if (token[i] != was && check_at(auth, token, NOW, &user) == 0) {
                fail_msg("accepted with %#x at %zu", (unsigned)c, i);
            }
        }
        token[i] = '\0'; /* cut here */
        assert_int_equal(check_at(auth, token, NOW, &user), SL_E_INVALID_TOKEN);
        token[i] = was;
    }
    assert_int_equal(check_at(auth, token, NOW, &user), 0);
    free(token);
    gw_auth_destroy(auth);
    gw_auth_keys_destroy(keys);
}

static void test_parts(void **state)
{
    (void)state;
    static const char *const ends[] = {".", ".x", ".AAAA", "=",  "==", "=.AAAA",
                                       "A", "AA", " ",     "\n", " x", ",Bearer x"};
    static const char *const garbage[] = {"",
                                          ".",
                                          "..",
                                          "...",
                                          "a",
                                          "a.b",
                                          "a.b.c",
                                          "a.b.c.d",
                                          "eyJhbGciOiJIUzI1NiJ9..",
                                          "{}.{}.{}",
                                          "\xff.\xff.\xff",
                                          "eyJhbGciOiJIUzI1NiJ9.e30."};

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        char *token = sign_hs256(HS256, ALICE);
        strcat(token, ends[i]);
        assert_int_equal(check_secret(token), SL_E_INVALID_TOKEN);
    }
    for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
        char *token = calloc(1, 256);
        assert_non_null(token);
        strcpy(token, garbage[i]);
        assert_int_equal(check_secret(token), SL_E_INVALID_TOKEN);
    }
    char *two = unsigned_token(HS256, ALICE);
    assert_int_equal(check_secret(two), SL_E_INVALID_TOKEN);
}

/* A token of `len` bytes, by a claim that fills it up. */
static char *token_of_length(size_t len)
{
    char *payload = calloc(1, TOKEN_SIZE / 2);
    char *token = NULL;

    assert_non_null(payload);
    for (size_t fill = len / 2; fill < len; fill++) {
        (void)snprintf(payload, TOKEN_SIZE / 2, "{\"sub\":\"alice\",\"exp\":2000,\"x\":\"%0*d\"}",
                       (int)fill, 0);
        token = sign_hs256(HS256, payload);
        if (strlen(token) >= len) {
            break;
        }
        free(token);
    }
    free(payload);
    return token;
}

static void test_the_largest_token(void **state)
{
    (void)state;
    char *largest = token_of_length(GW_TOKEN_MAX - 1), *beyond = token_of_length(GW_TOKEN_MAX + 1);

    assert_in_range(strlen(largest), GW_TOKEN_MAX - 1, GW_TOKEN_MAX);
    assert_in_range(strlen(beyond), GW_TOKEN_MAX + 1, GW_TOKEN_MAX + 2);
    assert_int_equal(check_secret(largest), 0);
    assert_int_equal(check_secret(beyond), SL_E_INVALID_TOKEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hs256),
        cmocka_unit_test(test_the_algorithm_is_the_keys),
        cmocka_unit_test(test_the_header),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_subject),
        cmocka_unit_test(test_issuer_and_audience),
        cmocka_unit_test(test_every_character_counts),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_the_largest_token),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
