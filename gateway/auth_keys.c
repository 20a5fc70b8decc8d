/*
 * The keys that tokens are verified with: one shared secret, or a JWK set from a file (RFC 7517).
 *
 * Happy path: the secret becomes one HS256 key; or the file is read whole, parsed without duplicate
 * members, and each key that verifies signatures is taken over with the one algorithm it may be used
 * with: what its `alg` says, or RS256 for RSA and the curve's for EC (RFC 8725 section 3.1).
 *
 * Keys that are for something else are passed over, as RFC 7517 section 5 asks: use=enc, key_ops
 * without verify, and types, curves and algorithms that are not supported. A key that should work but
 * does not (missing members, too short, a `kid` that is missing or stands twice) fails the load with one line that
 * counts keys from 1; so does a set in which none is left.
 *
 * Thread: main; read-only afterwards. Ownership: everything belongs to struct gw_auth_keys.
 */
#include "auth_keys.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"

/* What a key may be used with: its type, its curve or NULL, and the algorithms, the default first. */
static const struct suite {
    const char *kty, *crv, *alg;
    size_t signature_len; /* 0: as long as the modulus */
} suites[] = {
    {"RSA", NULL, "RS256", 0},    {"RSA", NULL, "PS256", 0},     {"EC", "P-256", "ES256", 64},
    {"EC", "P-384", "ES384", 96}, {"EC", "P-521", "ES512", 132}, /* RFC 7518 section 3.4 */
    {"oct", NULL, "HS256", 32},
};

static int load_secret(struct gw_auth_keys *keys, const char *secret,
                       char error[GW_AUTH_ERROR_SIZE]);
static int load_file(struct gw_auth_keys *keys, const char *file, char error[GW_AUTH_ERROR_SIZE]);
static int read_whole(const char *file, char *text, size_t *ret_len,
                      char error[GW_AUTH_ERROR_SIZE]);
static int take_over_set(struct gw_auth_keys *keys, json_t *set, char error[GW_AUTH_ERROR_SIZE]);
static int take_over(struct gw_auth_keys *keys, json_t *jwk, size_t number,
                     char error[GW_AUTH_ERROR_SIZE]);
static const struct suite *suite_of(json_t *jwk);
static bool verifies_signatures(json_t *jwk);
static const char *fault_of(const struct suite *suite, json_t *jwk, const struct gw_auth_key *key);
static const char *text_of(json_t *jwk, const char *name);
static int refuse(char error[GW_AUTH_ERROR_SIZE], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

int gw_auth_keys_load(const struct gw_config *config, char error[GW_AUTH_ERROR_SIZE],
                      struct gw_auth_keys **ret_keys)
{
    struct gw_auth_keys *keys = calloc(1, sizeof(*keys));

    if (keys == NULL) {
        (void)refuse(error, "out of memory");
        return SL_E_NO_MEMORY;
    }
    json_object_seed(0); /* once, before other threads parse; later calls change nothing */
    keys->leeway_s = config->jwt.leeway_s;
    keys->cache_entries = config->jwt.cache_entries;
    keys->issuer = config->jwt.issuer == NULL ? NULL : strdup(config->jwt.issuer);
    keys->audience = config->jwt.audience == NULL ? NULL : strdup(config->jwt.audience);
    int err = 0;
    if ((config->jwt.issuer != NULL && keys->issuer == NULL) ||
        (config->jwt.audience != NULL && keys->audience == NULL)) {
        (void)refuse(error, "out of memory");
        err = SL_E_NO_MEMORY;
    } else if (config->jwt.jwks_file != NULL) {
        err = load_file(keys, config->jwt.jwks_file, error);
    } else if (config->jwt.secret != NULL) {
        err = load_secret(keys, config->jwt.secret, error);
    } else {
        err = refuse(error, "jwt.secret: required, or jwt.jwks_file");
    }
    ERR_clear_error(); /* this thread's OpenSSL errors are nobody else's business */
    if (err != 0) {
        gw_auth_keys_destroy(keys);
        return err;
    }
    *ret_keys = keys;
    return 0;
}

static int load_secret(struct gw_auth_keys *keys, const char *secret,
                       char error[GW_AUTH_ERROR_SIZE])
{
    size_t len = strlen(secret);

    if (len < GW_AUTH_SHARED_KEY_MIN_BYTES) {
        return refuse(error, "jwt.secret: must be a secret of at least %d bytes",
                      GW_AUTH_SHARED_KEY_MIN_BYTES);
    }
    cjose_jwk_t *jwk = cjose_jwk_create_oct_spec((const uint8_t *)secret, len, NULL);
    if (jwk == NULL) {
        return refuse(error, "jwt.secret: cannot be used as a key");
    }
    keys->keys[0] = (struct gw_auth_key){.jwk = jwk, .alg = "HS256", .signature_len = 32};
    keys->count = 1;
    keys->shared_secret = true;
    return 0;
}

static int load_file(struct gw_auth_keys *keys, const char *file, char error[GW_AUTH_ERROR_SIZE])
{
    char *text = malloc(GW_AUTH_KEY_FILE_MAX + 1);
    size_t len = 0;

    if (text == NULL) {
        (void)refuse(error, "jwt.jwks_file: out of memory");
        return SL_E_NO_MEMORY;
    }
    int err = read_whole(file, text, &len, error);
    if (err == 0) {
        json_error_t why;
        json_t *set = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
        /* not jansson's own words: they quote the file, which may hold a private key */
        err = set == NULL ? refuse(error, "jwt.jwks_file: not valid JSON near line %d", why.line)
                          : take_over_set(keys, set, error);
        json_decref(set);
    }
    explicit_bzero(text, GW_AUTH_KEY_FILE_MAX + 1);
    free(text);
    return err;
}

static int read_whole(const char *file, char *text, size_t *ret_len, char error[GW_AUTH_ERROR_SIZE])
{
    FILE *stream = fopen(file, "re");

    if (stream == NULL) {
        return refuse(error, "jwt.jwks_file: the file cannot be read: %s", strerror(errno));
    }
    errno = 0;
    size_t len = fread(text, 1, GW_AUTH_KEY_FILE_MAX + 1, stream);
    bool failed = ferror(stream) != 0;
    int why = errno;
    (void)fclose(stream);
    if (failed) {
        return refuse(error, "jwt.jwks_file: the file cannot be read: %s", strerror(why));
    }
    if (len > GW_AUTH_KEY_FILE_MAX) {
        return refuse(error, "jwt.jwks_file: the file is larger than %d bytes",
                      GW_AUTH_KEY_FILE_MAX);
    }
    *ret_len = len;
    return 0;
}

static int take_over_set(struct gw_auth_keys *keys, json_t *set, char error[GW_AUTH_ERROR_SIZE])
{
    json_t *members = json_object_get(set, "keys");
    json_t *jwk;
    size_t i;

    if (!json_is_array(members)) {
        return refuse(error, "jwt.jwks_file: must hold an object with an array \"keys\"");
    }
    if (json_array_size(members) > GW_AUTH_KEYS_MAX) {
        return refuse(error, "jwt.jwks_file: holds more than %d keys", GW_AUTH_KEYS_MAX);
    }
    json_array_foreach(members, i, jwk)
    {
        int err = take_over(keys, jwk, i + 1, error);
        if (err != 0) {
            return err;
        }
    }
    for (i = 0; keys->count > 1 && i < keys->count; i++) {
        if (keys->keys[i].kid == NULL) {
            return refuse(error, "jwt.jwks_file: each of several keys needs a \"kid\"");
        }
    }
    if (keys->count == 0) {
        return refuse(error, "jwt.jwks_file: holds no key for RS256, PS256, ES256, ES384, ES512 or "
                             "HS256 signatures");
    }
    return 0;
}

static int take_over(struct gw_auth_keys *keys, json_t *jwk, size_t number,
                     char error[GW_AUTH_ERROR_SIZE])
{
    struct gw_auth_key key = {0};
    const char *kid = text_of(jwk, "kid");

    if (text_of(jwk, "kty") == NULL) {
        return refuse(error, "jwt.jwks_file: key %zu: must be an object with \"kty\"", number);
    }
    if (json_object_get(jwk, "kid") != NULL && kid == NULL) {
        return refuse(error, "jwt.jwks_file: key %zu: \"kid\" must be a non-empty string", number);
    }
    const struct suite *suite = suite_of(jwk);
    if (suite == NULL || !verifies_signatures(jwk)) {
        return 0;
    }
    if (kid != NULL && gw_auth_keys_find(keys, suite->alg, kid) != NULL) {
        return refuse(error, "jwt.jwks_file: key %zu: its \"kid\" stands twice", number);
    }
    key.jwk = cjose_jwk_import_json(jwk, NULL);
    const char *fault = fault_of(suite, jwk, &key);
    if (fault != NULL) {
        (void)cjose_jwk_release(key.jwk);
        return refuse(error, "jwt.jwks_file: key %zu: %s", number, fault);
    }
    key.alg = suite->alg;
    key.signature_len = suite->signature_len != 0 ? suite->signature_len
                                                  : (cjose_jwk_get_keysize(key.jwk, NULL) + 7) / 8;
    key.kid = kid == NULL ? NULL : strdup(kid);
    if (kid != NULL && key.kid == NULL) {
        (void)cjose_jwk_release(key.jwk);
        (void)refuse(error, "jwt.jwks_file: out of memory");
        return SL_E_NO_MEMORY;
    }
    keys->keys[keys->count++] = key;
    return 0;
}

/* The row of a key, or NULL when there is none: another type, another curve, another algorithm. */
static const struct suite *suite_of(json_t *jwk)
{
    const char *kty = text_of(jwk, "kty"), *crv = text_of(jwk, "crv"), *alg = text_of(jwk, "alg");

    if (json_object_get(jwk, "alg") != NULL && alg == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++) {
        if (strcmp(suites[i].kty, kty) == 0 &&
            (suites[i].crv == NULL || (crv != NULL && strcmp(suites[i].crv, crv) == 0)) &&
            (alg == NULL || strcmp(suites[i].alg, alg) == 0)) {
            return &suites[i];
        }
    }
    return NULL;
}

/* RFC 7517 sections 4.2 and 4.3 */
static bool verifies_signatures(json_t *jwk)
{
    json_t *use = json_object_get(jwk, "use"), *operations = json_object_get(jwk, "key_ops");
    json_t *operation;
    size_t i;

    if (use != NULL && (!json_is_string(use) || strcmp(json_string_value(use), "sig") != 0)) {
        return false;
    }
    if (operations == NULL) {
        return true;
    }
    json_array_foreach(operations, i, operation)
    {
        if (json_is_string(operation) && strcmp(json_string_value(operation), "verify") == 0) {
            return true;
        }
    }
    return false;
}

/* What is wrong with a key, or NULL. cjose imports some keys that could never verify anything. */
static const char *fault_of(const struct suite *suite, json_t *jwk, const struct gw_auth_key *key)
{
    size_t bits = key->jwk == NULL ? 0 : cjose_jwk_get_keysize(key->jwk, NULL);

    if (strcmp(suite->kty, "oct") == 0) {
        return bits / 8 >= GW_AUTH_SHARED_KEY_MIN_BYTES
                   ? NULL
                   : "\"k\" must be at least 32 bytes in base64url";
    }
    if (strcmp(suite->kty, "EC") == 0) {
        return key->jwk != NULL && text_of(jwk, "x") != NULL && text_of(jwk, "y") != NULL
                   ? NULL
                   : "\"x\" and \"y\" must be a point on the curve in base64url";
    }
    return bits >= GW_AUTH_RSA_MIN_BITS && bits <= GW_AUTH_RSA_MAX_BITS && text_of(jwk, "e") != NULL
               ? NULL
               : "\"n\" and \"e\" must be an RSA key of 2048 to 8192 bits in base64url";
}

/* The value of a member that is a string and not empty, or NULL. */
static const char *text_of(json_t *jwk, const char *name)
{
    const char *text = json_string_value(json_object_get(jwk, name));

    return text == NULL || *text == '\0' ? NULL : text;
}

static int refuse(char error[GW_AUTH_ERROR_SIZE], const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(error, GW_AUTH_ERROR_SIZE, format, args);
    va_end(args);
    return SL_E_INVALID_VALUE;
}

const struct gw_auth_key *gw_auth_keys_find(const struct gw_auth_keys *keys, const char *alg,
                                            const char *kid)
{
    if (keys->shared_secret || (kid == NULL && keys->count == 1)) {
        return strcmp(keys->keys[0].alg, alg) == 0 ? &keys->keys[0] : NULL;
    }
    for (size_t i = 0; kid != NULL && i < keys->count; i++) {
        const struct gw_auth_key *key = &keys->keys[i];
        if (key->kid != NULL && strcmp(key->kid, kid) == 0 && strcmp(key->alg, alg) == 0) {
            return key;
        }
    }
    return NULL;
}

void gw_auth_keys_destroy(struct gw_auth_keys *keys)
{
    if (keys == NULL) {
        return;
    }
    for (size_t i = 0; i < keys->count; i++) {
        (void)cjose_jwk_release(keys->keys[i].jwk);
        free(keys->keys[i].kid);
    }
    free(keys->issuer);
    free(keys->audience);
    free(keys);
}
