/*
 * Who is asking: an Authorization header becomes a user.
 *
 * Happy path: the token's SHA-256 is looked up among the tokens verified before; a new one has its
 * header checked, its signature verified with the one key that the header leads to, its claims read,
 * and is remembered. Either way the clock is looked at last.
 *
 * The cache has a fixed number of places in sets of WAYS: a token can only be in one set, so looking,
 * remembering and forgetting cost the same however large it is. In a full set the place that was
 * used longest ago is taken. Failed checks are not remembered: whoever sends garbage pays with
 * garbage and displaces nobody.
 *
 * Failure modes: one, SL_E_INVALID_TOKEN, whatever the reason.
 * Thread: one loop. Ownership: the cache belongs to struct gw_auth, the keys to somebody who lives longer.
 */
#include "auth.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "auth_keys.h"
#include "auth_token.h"

enum { WAYS = 8, DIGEST_LEN = 32 };

struct place {
    uint8_t digest[DIGEST_LEN];
    uint64_t used; /* by the count of checks; 0: the place is free */
    struct gw_auth_claims claims;
};

struct gw_auth {
    const struct gw_auth_keys *keys;
    EVP_MD *sha256;
    EVP_MD_CTX *hash;
    struct place *places; /* `sets` times WAYS */
    size_t sets;          /* 0: nothing is remembered */
    uint64_t checks, verified, cached;
};

static struct place *set_of(const struct gw_auth *auth, const uint8_t digest[DIGEST_LEN]);
static struct place *find(const struct gw_auth *auth, const uint8_t digest[DIGEST_LEN]);
static int verify(struct gw_auth *auth, const char *token, size_t len,
                  struct gw_auth_claims *ret_claims);
static void remember(struct gw_auth *auth, const uint8_t digest[DIGEST_LEN],
                     const struct gw_auth_claims *claims, int64_t now_unix_s);

int gw_auth_create(const struct gw_auth_keys *keys, struct gw_auth **ret_auth)
{
    struct gw_auth *auth = calloc(1, sizeof(*auth));

    if (auth == NULL) {
        return SL_E_NO_MEMORY;
    }
    auth->keys = keys;
    auth->sets = ((size_t)keys->cache_entries + WAYS - 1) / WAYS;
    auth->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    auth->hash = EVP_MD_CTX_new();
    if (auth->sets > 0) {
        auth->places = calloc(auth->sets * WAYS, sizeof(*auth->places));
    }
    if (auth->sha256 == NULL || auth->hash == NULL || (auth->sets > 0 && auth->places == NULL)) {
        gw_auth_destroy(auth);
        return SL_E_NO_MEMORY;
    }
    *ret_auth = auth;
    return 0;
}

int gw_auth_check(struct gw_auth *auth, const char *header, size_t header_len, int64_t now_unix_s,
                  struct gw_user *ret_user)
{
    uint8_t digest[DIGEST_LEN];
    struct gw_auth_claims claims;
    size_t len = 0;
    const char *token = gw_auth_token_find(header, header_len, &len);

    if (token == NULL || EVP_DigestInit_ex2(auth->hash, auth->sha256, NULL) != 1 ||
        EVP_DigestUpdate(auth->hash, token, len) != 1 ||
        EVP_DigestFinal_ex(auth->hash, digest, NULL) != 1) {
        return SL_E_INVALID_TOKEN;
    }
    auth->checks++;
    struct place *place = find(auth, digest);
    if (place != NULL) {
        auth->cached++;
        place->used = auth->checks;
        if (!gw_auth_token_is_current(&place->claims, auth->keys->leeway_s, now_unix_s)) {
            return SL_E_INVALID_TOKEN;
        }
        *ret_user = place->claims.user;
        return 0;
    }
    int err = verify(auth, token, len, &claims);
    if (err == 0 && !gw_auth_token_is_current(&claims, auth->keys->leeway_s, now_unix_s)) {
        err = SL_E_INVALID_TOKEN;
    }
    if (err != 0) {
        return err;
    }
    remember(auth, digest, &claims, now_unix_s);
    *ret_user = claims.user;
    return 0;
}

/* The digest's first bytes are as good as random, also for whoever makes tokens. */
static struct place *set_of(const struct gw_auth *auth, const uint8_t digest[DIGEST_LEN])
{
    uint64_t number;

    memcpy(&number, digest, sizeof(number));
    return &auth->places[(number % auth->sets) * WAYS];
}

static struct place *find(const struct gw_auth *auth, const uint8_t digest[DIGEST_LEN])
{
    if (auth->sets == 0) {
        return NULL;
    }
    struct place *set = set_of(auth, digest);
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].used != 0 && CRYPTO_memcmp(set[i].digest, digest, DIGEST_LEN) == 0) {
            return &set[i];
        }
    }
    return NULL;
}

/* cjose verifies with the algorithm that the token names; by now that is the key's own. */
static int verify(struct gw_auth *auth, const char *token, size_t len,
                  struct gw_auth_claims *ret_claims)
{
    const struct gw_auth_key *key = gw_auth_token_key(auth->keys, token, len);
    uint8_t *payload = NULL;
    size_t payload_len = 0;
    int err = SL_E_INVALID_TOKEN;

    if (key == NULL) {
        return err;
    }
    auth->verified++;
    cjose_jws_t *jws = cjose_jws_import(token, len, NULL);
    if (jws != NULL && cjose_jws_verify(jws, key->jwk, NULL) &&
        cjose_jws_get_plaintext(jws, &payload, &payload_len, NULL)) {
        err = gw_auth_token_claims(auth->keys, payload, payload_len, ret_claims);
    }
    cjose_jws_release(jws);
    if (err != 0) {
        ERR_clear_error(); /* OpenSSL's queue is this thread's, and libcurl looks into it */
    }
    return err;
}

/* Into a free place of the set, or an expired one, or the one that was used longest ago. */
static void remember(struct gw_auth *auth, const uint8_t digest[DIGEST_LEN],
                     const struct gw_auth_claims *claims, int64_t now_unix_s)
{
    if (auth->sets == 0) {
        return;
    }
    struct place *set = set_of(auth, digest), *to = set;
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].used == 0 || now_unix_s >= set[i].claims.expires_unix_s + auth->keys->leeway_s) {
            to = &set[i];
            break;
        }
        if (set[i].used < to->used) {
            to = &set[i];
        }
    }
    memcpy(to->digest, digest, DIGEST_LEN);
    to->used = auth->checks;
    to->claims = *claims;
}

void gw_auth_counts(const struct gw_auth *auth, uint64_t *ret_verified, uint64_t *ret_cached)
{
    *ret_verified = auth->verified;
    *ret_cached = auth->cached;
}

void gw_auth_destroy(struct gw_auth *auth)
{
    if (auth == NULL) {
        return;
    }
    EVP_MD_CTX_free(auth->hash);
    EVP_MD_free(auth->sha256);
    free(auth->places);
    free(auth);
}
