/**
 * Who is asking: bearer tokens, verified by libcjose and remembered for a while.
 *
 * The algorithm follows from the key, never from the token (RFC 8725 section 3.1): a shared secret
 * means HS256; a JWKS key means the one its `alg` names, or RS256 for RSA and ES256/384/512 for the
 * EC curve. `kid` is only looked up among the loaded keys; jku, x5u, jwk and crit are refused or ignored.
 *
 * Thread: `gw_auth_keys` is read-only and shared; `gw_auth` (the cache) is one per loop.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "sluice/error.h"
#include "sluice/store.h" /* STORE_USER_ID_MAX */

struct gw_config;
struct gw_auth_keys;
struct gw_auth;

enum { GW_TOKEN_MAX = 8192 /* bytes */, GW_AUTH_ERROR_SIZE = 256 };

struct gw_user {
    char id[STORE_USER_ID_MAX + 1]; /* `sub`: valid UTF-8, no control characters, NUL-terminated */
    size_t id_len;
};

/** Loads the keys that the configuration names. `error` gets one line naming the key at fault. */
SL_MUST_CHECK int gw_auth_keys_load(const struct gw_config *config, char error[GW_AUTH_ERROR_SIZE],
                                    struct gw_auth_keys **ret_keys);
void gw_auth_keys_destroy(struct gw_auth_keys *keys);

/** Makes a cache over keys that outlive it. */
SL_MUST_CHECK int gw_auth_create(const struct gw_auth_keys *keys, struct gw_auth **ret_auth);
void gw_auth_destroy(struct gw_auth *auth);

/**
 * Checks the value of an Authorization header (NULL: there was none) at `now_unix_s`. 0 and the user,
 * or SL_E_INVALID_TOKEN for every reason alike. A token seen before costs a hash and a comparison;
 * its `exp` and `nbf` are still checked against `now_unix_s`.
 */
SL_MUST_CHECK int gw_auth_check(struct gw_auth *auth, const char *header, size_t header_len,
                                int64_t now_unix_s, struct gw_user *ret_user);

/** Cache figures: verifications that cost crypto, and those that did not. */
void gw_auth_counts(const struct gw_auth *auth, uint64_t *ret_verified, uint64_t *ret_cached);
