/*
 * Making tokens and asking about them, for the tests of bearer tokens.
 *
 * Tokens are signed with OpenSSL, not with the library that verifies them. Time is a number that the
 * tests choose. Everything returned belongs to the caller; failures end the test.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "auth.h"
#include "auth_keys.h"
#include "config.h"

#define SECRET "0123456789abcdef0123456789abcdef"
#define OTHER_SECRET "0123456789abcdef0123456789abcdeF"
#define HS256 "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define ALICE "{\"sub\":\"alice\",\"exp\":2000}"

enum { NOW = 1000, LEEWAY = 30, TOKEN_SIZE = 24 * 1024 };

static inline void base64url(const void *bytes, size_t len, char *to)
{
    (void)EVP_EncodeBlock((unsigned char *)to, bytes, (int)len);
    for (; *to != '\0' && *to != '='; to++) {
        *to = (char)(*to == '+' ? '-' : *to == '/' ? '_' : *to);
    }
    *to = '\0';
}

/* The first two parts; the third is the signer's. */
static inline char *unsigned_token(const char *header, const char *payload)
{
    char *token = calloc(1, TOKEN_SIZE);

    assert_non_null(token);
    base64url(header, strlen(header), token);
    strcat(token, ".");
    base64url(payload, strlen(payload), token + strlen(token));
    return token;
}

static inline void add_signature(char *token, const void *signature, size_t len)
{
    strcat(token, ".");
    base64url(signature, len, token + strlen(token));
}

static inline char *sign_hmac(const EVP_MD *md, const void *key, size_t key_len, const char *header,
                              const char *payload)
{
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned mac_len = 0;
    char *token = unsigned_token(header, payload);

    assert_non_null(
        HMAC(md, key, (int)key_len, (unsigned char *)token, strlen(token), mac, &mac_len));
    add_signature(token, mac, mac_len);
    return token;
}

static inline char *sign_hs256(const char *header, const char *payload)
{
    return sign_hmac(EVP_sha256(), SECRET, strlen(SECRET), header, payload);
}

static inline struct gw_config secret_config(void)
{
    return (struct gw_config){
        .jwt = {.secret = (char *)SECRET, .leeway_s = LEEWAY, .cache_entries = 64}};
}

static inline struct gw_auth_keys *load_keys(const struct gw_config *config)
{
    char error[GW_AUTH_ERROR_SIZE] = "";
    struct gw_auth_keys *keys = NULL;

    if (gw_auth_keys_load(config, error, &keys) != 0) {
        fail_msg("refused: %s", error);
    }
    return keys;
}

static inline int check_at(struct gw_auth *auth, const char *token, int64_t now,
                           struct gw_user *user)
{
    char *header = malloc(TOKEN_SIZE + 16);

    assert_non_null(header);
    int n = snprintf(header, TOKEN_SIZE + 16, "Bearer %s", token);
    int err = gw_auth_check(auth, header, (size_t)n, now, user);
    free(header);
    return err;
}

/* One token against fresh keys; takes the token. */
static inline int check_once(const struct gw_auth_keys *keys, char *token, int64_t now)
{
    struct gw_auth *auth = NULL;
    struct gw_user user = {.id = "untouched", .id_len = 9};

    assert_int_equal(gw_auth_create(keys, &auth), 0);
    int err = check_at(auth, token, now, &user);
    assert_true(err == 0 || err == SL_E_INVALID_TOKEN);
    assert_string_equal(user.id, err == 0 ? "alice" : "untouched");
    assert_int_equal(user.id_len, strlen(user.id));
    assert_int_equal(ERR_peek_error(), 0);
    gw_auth_destroy(auth);
    free(token);
    return err;
}
