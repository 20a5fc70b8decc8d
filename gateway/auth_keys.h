/**
 * The keys that tokens are verified with, and the rules for their claims.
 *
 * Thread: made by main, then read-only and shared. Ownership: everything belongs to struct gw_auth_keys.
 */
#pragma once

#include <cjose/cjose.h>
#include <stdbool.h>
#include <stddef.h>

#include "auth.h"

enum {
    GW_AUTH_KEYS_MAX = 32,
    GW_AUTH_KEY_FILE_MAX = 64 * 1024,  /* bytes */
    GW_AUTH_RSA_MIN_BITS = 2048,       /* RFC 7518 section 3.3 */
    GW_AUTH_RSA_MAX_BITS = 8192,       /* beyond it, one forged token costs too much time */
    GW_AUTH_SHARED_KEY_MIN_BYTES = 32, /* RFC 7518 section 3.2 */
};

struct gw_auth_key {
    cjose_jwk_t *jwk;
    const char *alg;      /* the only algorithm it is used with; static */
    size_t signature_len; /* bytes of a signature */
    char *kid;            /* NULL: it has none */
};

struct gw_auth_keys {
    struct gw_auth_key keys[GW_AUTH_KEYS_MAX];
    size_t count;
    bool shared_secret; /* the one key is jwt.secret, which no `kid` can name */
    char *issuer;       /* NULL: not checked */
    char *audience;     /* NULL: not checked */
    unsigned leeway_s;
    unsigned cache_entries;
};

/**
 * The key for a token whose header has this `alg` and `kid` (NULL: none), or NULL. A token without a
 * `kid` is served when there is exactly one key.
 */
const struct gw_auth_key *gw_auth_keys_find(const struct gw_auth_keys *keys, const char *alg,
                                            const char *kid);
