/*
 * Key sets: which keys are taken over, what each may be used for, and which token leads to which.
 *
 * The key pairs are made once for the whole program.
 */
#include "signing.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <unistd.h>

static EVP_PKEY *rsa_key, *other_rsa_key, *ec_key, *ec384_key, *ec521_key;
static char jwks_path[] = "/tmp/sluice-jwks-XXXXXX";

/* ------------------------------------------------------------------ making keys and sets */

static void number_base64url(const EVP_PKEY *key, const char *param, size_t width, char *to)
{
    BIGNUM *number = NULL;
    unsigned char bytes[1024];

    assert_int_equal(EVP_PKEY_get_bn_param(key, param, &number), 1);
    if (width == 0) {
        width = (size_t)BN_num_bytes(number);
    }
    assert_true(BN_bn2binpad(number, bytes, (int)width) > 0);
    base64url(bytes, width, to);
    BN_free(number);
}

static char *sign_rsa(EVP_PKEY *key, bool pss, const char *header, const char *payload)
{
    unsigned char signature[1024];
    size_t len = sizeof(signature);
    char *token = unsigned_token(header, payload);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *options = NULL;

    assert_int_equal(EVP_DigestSignInit(ctx, &options, EVP_sha256(), NULL, key), 1);
    if (pss) {
        assert_true(EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) > 0);
        assert_true(EVP_PKEY_CTX_set_rsa_pss_saltlen(options, RSA_PSS_SALTLEN_DIGEST) > 0);
    }
    assert_int_equal(EVP_DigestSign(ctx, signature, &len, (unsigned char *)token, strlen(token)),
                     1);
    EVP_MD_CTX_free(ctx);
    add_signature(token, signature, len);
    return token;
}

/* r and s side by side, `width` bytes each (RFC 7518 section 3.4) */
static char *sign_ec(EVP_PKEY *key, const EVP_MD *md, size_t width, const char *header,
                     const char *payload)
{
    unsigned char der[256], flat[132];
    const unsigned char *at = der;
    size_t len = sizeof(der);
    char *token = unsigned_token(header, payload);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    assert_int_equal(EVP_DigestSignInit(ctx, NULL, md, NULL, key), 1);
    assert_int_equal(EVP_DigestSign(ctx, der, &len, (unsigned char *)token, strlen(token)), 1);
    EVP_MD_CTX_free(ctx);
    ECDSA_SIG *parts = d2i_ECDSA_SIG(NULL, &at, (long)len);
    assert_non_null(parts);
    assert_true(BN_bn2binpad(ECDSA_SIG_get0_r(parts), flat, (int)width) > 0);
    assert_true(BN_bn2binpad(ECDSA_SIG_get0_s(parts), flat + width, (int)width) > 0);
    ECDSA_SIG_free(parts);
    add_signature(token, flat, 2 * width);
    return token;
}

static void rsa_jwk(const EVP_PKEY *key, const char *more, char *to, size_t size)
{
    char n[1400], e[32];

    number_base64url(key, OSSL_PKEY_PARAM_RSA_N, 0, n);
    number_base64url(key, OSSL_PKEY_PARAM_RSA_E, 0, e);
    (void)snprintf(to, size, "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"%s}", n, e, more);
}

static void ec_jwk(const EVP_PKEY *key, const char *curve, size_t width, const char *more, char *to,
                   size_t size)
{
    char x[128], y[128];

    number_base64url(key, OSSL_PKEY_PARAM_EC_PUB_X, width, x);
    number_base64url(key, OSSL_PKEY_PARAM_EC_PUB_Y, width, y);
    (void)snprintf(to, size, "{\"kty\":\"EC\",\"crv\":\"%s\",\"x\":\"%s\",\"y\":\"%s\"%s}", curve,
                   x, y, more);
}

static void write_jwks(const char *text)
{
    FILE *stream = fopen(jwks_path, "w");

    assert_non_null(stream);
    assert_true(fputs(text, stream) >= 0);
    assert_int_equal(fclose(stream), 0);
}

static struct gw_auth_keys *load_jwks(const char *text)
{
    struct gw_config config = {
        .jwt = {.jwks_file = jwks_path, .leeway_s = LEEWAY, .cache_entries = 64}};

    write_jwks(text);
    return load_keys(&config);
}

static void assert_jwks_refused(const char *text, const char *why)
{
    struct gw_config config = {.jwt = {.jwks_file = jwks_path}};
    char error[GW_AUTH_ERROR_SIZE] = "";
    struct gw_auth_keys *keys = NULL;

    write_jwks(text);
    assert_int_equal(gw_auth_keys_load(&config, error, &keys), SL_E_INVALID_VALUE);
    assert_null(keys);
    assert_memory_equal(error, "jwt.jwks_file: ", 15);
    if (strstr(error, why) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", error, why);
    }
}

/* ------------------------------------------------------------------ tests */

static void test_rsa(void **state)
{
    (void)state;
    static const char rs256[] = "{\"alg\":\"RS256\",\"kid\":\"r1\"}";
    static const char ps256[] = "{\"alg\":\"PS256\",\"kid\":\"r1\"}";
    char jwk[2048], set[2200];

    rsa_jwk(rsa_key, ",\"kid\":\"r1\",\"use\":\"sig\",\"key_ops\":[\"verify\"]", jwk, sizeof(jwk));
    (void)snprintf(set, sizeof(set), "{\"keys\":[%s]}", jwk);
    struct gw_auth_keys *keys = load_jwks(set);
    assert_int_equal(check_once(keys, sign_rsa(rsa_key, false, rs256, ALICE), NOW), 0);
    assert_int_equal(check_once(keys, sign_rsa(rsa_key, false, "{\"alg\":\"RS256\"}", ALICE), NOW),
                     0);
    assert_int_equal(check_once(keys, sign_rsa(other_rsa_key, false, rs256, ALICE), NOW),
                     SL_E_INVALID_TOKEN);
    assert_int_equal(check_once(keys, sign_rsa(rsa_key, true, ps256, ALICE), NOW),
                     SL_E_INVALID_TOKEN);
    assert_int_equal(check_once(keys, sign_rsa(rsa_key, true, rs256, ALICE), NOW),
                     SL_E_INVALID_TOKEN);
    /* the one key there is, but not its algorithm */
    assert_int_equal(check_once(keys, sign_rsa(rsa_key, true, "{\"alg\":\"PS256\"}", ALICE), NOW),
                     SL_E_INVALID_TOKEN);
    gw_auth_keys_destroy(keys);

    rsa_jwk(rsa_key, ",\"kid\":\"r1\",\"alg\":\"PS256\"", jwk, sizeof(jwk));
    (void)snprintf(set, sizeof(set), "{\"keys\":[%s]}", jwk);
    keys = load_jwks(set);
    assert_int_equal(check_once(keys, sign_rsa(rsa_key, true, ps256, ALICE), NOW), 0);
    assert_int_equal(check_once(keys, sign_rsa(rsa_key, false, rs256, ALICE), NOW),
                     SL_E_INVALID_TOKEN);
    gw_auth_keys_destroy(keys);
}

/* The classic: the public key, which everybody has, used as a shared secret. */
static void test_a_public_key_is_no_secret(void **state)
{
    (void)state;
    char jwk[2048], set[2200], *pem = NULL;
    BIO *bio = BIO_new(BIO_s_mem());

    rsa_jwk(rsa_key, ",\"kid\":\"r1\"", jwk, sizeof(jwk));
    (void)snprintf(set, sizeof(set), "{\"keys\":[%s]}", jwk);
    struct gw_auth_keys *keys = load_jwks(set);
    assert_int_equal(PEM_write_bio_PUBKEY(bio, rsa_key), 1);
    long pem_len = BIO_get_mem_data(bio, &pem);
    static const char *const headers[] = {"{\"alg\":\"HS256\",\"kid\":\"r1\"}",
                                          "{\"alg\":\"HS256\"}"};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(
            check_once(keys, sign_hmac(EVP_sha256(), pem, (size_t)pem_len, headers[i], ALICE), NOW),
            SL_E_INVALID_TOKEN);
        assert_int_equal(
            check_once(keys, sign_hmac(EVP_sha256(), jwk, strlen(jwk), headers[i], ALICE), NOW),
            SL_E_INVALID_TOKEN);
    }
    BIO_free(bio);
    gw_auth_keys_destroy(keys);
}

static void test_ec(void **state)
{
    (void)state;
    const struct {
        EVP_PKEY *key;
        const char *curve, *header;
        const EVP_MD *md;
        size_t width;
    } cases[] = {
        {ec_key, "P-256", "{\"alg\":\"ES256\"}", EVP_sha256(), 32},
        {ec384_key, "P-384", "{\"alg\":\"ES384\"}", EVP_sha384(), 48},
        {ec521_key, "P-521", "{\"alg\":\"ES512\"}", EVP_sha512(), 66},
    };

    for (size_t i = 0; i < 3; i++) {
        char jwk[512], set[600];
        ec_jwk(cases[i].key, cases[i].curve, cases[i].width, "", jwk, sizeof(jwk));
        (void)snprintf(set, sizeof(set), "{\"keys\":[%s]}", jwk);
        struct gw_auth_keys *keys = load_jwks(set);
        for (size_t j = 0; j < 3; j++) {
            char *token =
                sign_ec(cases[j].key, cases[j].md, cases[j].width, cases[j].header, ALICE);
            assert_int_equal(check_once(keys, token, NOW), i == j ? 0 : SL_E_INVALID_TOKEN);
        }
        /* right key and hash, another name */
        char *token =
            sign_ec(cases[i].key, cases[i].md, cases[i].width, cases[(i + 1) % 3].header, ALICE);
        assert_int_equal(check_once(keys, token, NOW), SL_E_INVALID_TOKEN);
        /* no signature to speak of */
        token = unsigned_token(cases[i].header, ALICE);
        unsigned char zero[132] = {0};
        add_signature(token, zero, 2 * cases[i].width);
        assert_int_equal(check_once(keys, token, NOW), SL_E_INVALID_TOKEN);
        token = unsigned_token(cases[i].header, ALICE);
        add_signature(token, zero, 1);
        assert_int_equal(check_once(keys, token, NOW), SL_E_INVALID_TOKEN);
        gw_auth_keys_destroy(keys);
    }
}

/* The same signature with zeros in front of both halves: same numbers, not the same token. */
static void test_ec_signatures_have_one_length(void **state)
{
    (void)state;
    unsigned char flat[66] = {0}, decoded[72];
    char jwk[512], set[600], padded[128];
    char *token = sign_ec(ec_key, EVP_sha256(), 32, "{\"alg\":\"ES256\"}", ALICE);
    char *dot = strrchr(token, '.');

    ec_jwk(ec_key, "P-256", 32, "", jwk, sizeof(jwk));
    (void)snprintf(set, sizeof(set), "{\"keys\":[%s]}", jwk);
    struct gw_auth_keys *keys = load_jwks(set);
    (void)snprintf(padded, sizeof(padded), "%s==", dot + 1);
    for (char *at = padded; *at != '\0'; at++) {
        *at = (char)(*at == '-' ? '+' : *at == '_' ? '/' : *at);
    }
    assert_true(EVP_DecodeBlock(decoded, (unsigned char *)padded, 88) >= 64);
    memcpy(flat + 1, decoded, 32);
    memcpy(flat + 34, decoded + 32, 32);
    *dot = '\0';
    add_signature(token, flat, sizeof(flat));
    assert_int_equal(check_once(keys, token, NOW), SL_E_INVALID_TOKEN);
    gw_auth_keys_destroy(keys);
}

static void test_kid_chooses(void **state)
{
    (void)state;
    char one[2048], two[2048], three[512], set[8192];
    static const char oct[] = "{\"kty\":\"oct\",\"kid\":\"h1\",\"k\":"
                              "\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\"}"; /* SECRET */

    rsa_jwk(rsa_key, ",\"kid\":\"r1\"", one, sizeof(one));
    rsa_jwk(other_rsa_key, ",\"kid\":\"r2\"", two, sizeof(two));
    ec_jwk(ec_key, "P-256", 32, ",\"kid\":\"e1\",\"alg\":\"ES256\"", three, sizeof(three));
    (void)snprintf(set, sizeof(set),
                   "{\"keys\":[%s,%s,%s,%s,"
                   "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AA\",\"kid\":\"o1\"},"
                   "{\"kty\":\"oct\",\"use\":\"enc\",\"kid\":\"x1\",\"k\":\"AA\"},"
                   "{\"kty\":\"RSA\",\"alg\":\"RSA-OAEP\",\"kid\":\"x2\"},"
                   "{\"kty\":\"EC\",\"crv\":\"secp256k1\",\"kid\":\"x3\"},"
                   "{\"kty\":\"RSA\",\"key_ops\":[\"encrypt\"],\"kid\":\"x4\"}],\"more\":1}",
                   one, two, three, oct);
    struct gw_auth_keys *keys = load_jwks(set);
    assert_int_equal(keys->count, 4);
#define CHECK(token) check_once(keys, (token), NOW)
    assert_int_equal(CHECK(sign_rsa(rsa_key, false, "{\"alg\":\"RS256\",\"kid\":\"r1\"}", ALICE)),
                     0);
    assert_int_equal(
        CHECK(sign_rsa(other_rsa_key, false, "{\"alg\":\"RS256\",\"kid\":\"r2\"}", ALICE)), 0);
    assert_int_equal(
        CHECK(sign_ec(ec_key, EVP_sha256(), 32, "{\"alg\":\"ES256\",\"kid\":\"e1\"}", ALICE)), 0);
    assert_int_equal(CHECK(sign_hs256("{\"alg\":\"HS256\",\"kid\":\"h1\"}", ALICE)), 0);
    static const char *const bad[] = {
        "{\"alg\":\"RS256\",\"kid\":\"r2\"}",   "{\"alg\":\"RS256\",\"kid\":\"r3\"}",
        "{\"alg\":\"RS256\",\"kid\":\"\"}",     "{\"alg\":\"RS256\"}",
        "{\"alg\":\"RS256\",\"kid\":\"e1\"}",   "{\"alg\":\"RS256\",\"kid\":\"../r1\"}",
        "{\"alg\":\"RS256\",\"kid\":[\"r1\"]}",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(CHECK(sign_rsa(rsa_key, false, bad[i], ALICE)), SL_E_INVALID_TOKEN);
    }
    assert_int_equal(CHECK(sign_hs256("{\"alg\":\"HS256\",\"kid\":\"r1\"}", ALICE)),
                     SL_E_INVALID_TOKEN);
#undef CHECK
    gw_auth_keys_destroy(keys);
}

static void test_key_files_that_are_refused(void **state)
{
    (void)state;
    char jwk[2048], set[8192], error[GW_AUTH_ERROR_SIZE];
    struct gw_config config = {.jwt = {.jwks_file = (char *)"/nowhere/jwks.json"}};
    struct gw_auth_keys *keys = NULL;

    assert_int_equal(gw_auth_keys_load(&config, error, &keys), SL_E_INVALID_VALUE);
    assert_string_equal(error, "jwt.jwks_file: the file cannot be read: No such file or directory");
    assert_jwks_refused("", "not valid JSON");
    assert_jwks_refused("{\"keys\":[]} x", "not valid JSON");
    assert_jwks_refused("{\"keys\":[],\"keys\":[]}", "not valid JSON");
    assert_jwks_refused("[]", "an array \"keys\"");
    assert_jwks_refused("{\"keys\":{}}", "an array \"keys\"");
    assert_jwks_refused("{\"keys\":[]}", "holds no key");
    assert_jwks_refused("{\"keys\":[{\"kty\":\"OKP\"}]}", "holds no key");
    assert_jwks_refused("{\"keys\":[7]}", "key 1: must be an object");
    assert_jwks_refused("{\"keys\":[{}]}", "key 1: must be an object");
    assert_jwks_refused("{\"keys\":[{\"kty\":\"oct\",\"kid\":7}]}", "key 1: \"kid\"");
    assert_jwks_refused("{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}", "at least 32 bytes");
    assert_jwks_refused("{\"keys\":[{\"kty\":\"oct\"}]}", "at least 32 bytes");
    assert_jwks_refused("{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}", "2048");
    assert_jwks_refused("{\"keys\":[{\"kty\":\"RSA\"}]}", "2048");
    assert_jwks_refused("{\"keys\":[{\"kty\":\"RSA\",\"n\":\"!\",\"e\":\"AQAB\"}]}", "2048");
    assert_jwks_refused("{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\"}]}", "point on the curve");
    assert_jwks_refused("{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\","
                        "\"x\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE\","
                        "\"y\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE\"}]}",
                        "point on the curve");
    rsa_jwk(rsa_key, ",\"kid\":\"r1\"", jwk, sizeof(jwk));
    (void)snprintf(set, sizeof(set), "{\"keys\":[%s,%s]}", jwk, jwk);
    assert_jwks_refused(set, "key 2: its \"kid\" stands twice");
    rsa_jwk(rsa_key, "", jwk, sizeof(jwk));
    (void)snprintf(set, sizeof(set), "{\"keys\":[%s,%s]}", jwk, jwk);
    assert_jwks_refused(set, "needs a \"kid\"");

    strcpy(set, "{\"keys\":[");
    for (int i = 0; i < GW_AUTH_KEYS_MAX + 1; i++) {
        strcat(set, i > 0 ? ",{\"kty\":\"OKP\"}" : "{\"kty\":\"OKP\"}");
    }
    strcat(set, "]}");
    assert_jwks_refused(set, "more than 32 keys");
    char *huge = malloc(GW_AUTH_KEY_FILE_MAX + 2);
    assert_non_null(huge);
    memset(huge, ' ', GW_AUTH_KEY_FILE_MAX + 1);
    huge[GW_AUTH_KEY_FILE_MAX + 1] = '\0';
    assert_jwks_refused(huge, "larger than 65536 bytes");
    free(huge);

    config = (struct gw_config){.jwt = {.secret = (char *)"hunter2"}};
    assert_int_equal(gw_auth_keys_load(&config, error, &keys), SL_E_INVALID_VALUE);
    assert_string_equal(error, "jwt.secret: must be a secret of at least 32 bytes");
    config = (struct gw_config){.jwt = {.leeway_s = 1}};
    assert_int_equal(gw_auth_keys_load(&config, error, &keys), SL_E_INVALID_VALUE);
    assert_null(keys);
}

static int make_keys(void **state)
{
    (void)state;
    int fd = mkstemp(jwks_path);

    if (fd < 0 || close(fd) != 0) {
        return -1;
    }
    rsa_key = EVP_RSA_gen(2048);
    other_rsa_key = EVP_RSA_gen(2048);
    ec_key = EVP_EC_gen("P-256");
    ec384_key = EVP_EC_gen("P-384");
    ec521_key = EVP_EC_gen("P-521");
    return rsa_key != NULL && other_rsa_key != NULL && ec_key != NULL && ec384_key != NULL &&
                   ec521_key != NULL
               ? 0
               : -1;
}

static int free_keys(void **state)
{
    (void)state;
    EVP_PKEY_free(rsa_key);
    EVP_PKEY_free(other_rsa_key);
    EVP_PKEY_free(ec_key);
    EVP_PKEY_free(ec384_key);
    EVP_PKEY_free(ec521_key);
    return unlink(jwks_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rsa),         cmocka_unit_test(test_a_public_key_is_no_secret),
        cmocka_unit_test(test_ec),          cmocka_unit_test(test_ec_signatures_have_one_length),
        cmocka_unit_test(test_kid_chooses), cmocka_unit_test(test_key_files_that_are_refused),
    };

    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
