/**
 * What a token says: its shape, its header and its claims (RFC 7515, RFC 7519).
 *
 * Pure: no clock, no state; the signature is checked in between, by the caller. Thread: any.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth.h"

struct gw_auth_key;
struct gw_auth_keys;

/** What is left of a token once it is verified. */
struct gw_auth_claims {
    struct gw_user user;
    int64_t expires_unix_s;    /* not valid from here on, but for the leeway */
    int64_t not_before_unix_s; /* not valid before, but for the leeway: the later of nbf and iat */
};

/**
 * The token in the value of an Authorization header (RFC 6750 section 2.1): "Bearer", spaces, the
 * token, nothing else. NULL when there is none of an acceptable size.
 */
const char *gw_auth_token_find(const char *header, size_t header_len, size_t *ret_len);

/**
 * The key that the signature of a token must be checked with, or NULL: the token has not the form of
 * a signed one, or its header asks for something else than a key we have with its own algorithm.
 */
const struct gw_auth_key *gw_auth_token_key(const struct gw_auth_keys *keys, const char *token,
                                            size_t len);

/** Reads the payload of a token with a good signature. 0 or SL_E_INVALID_TOKEN; times are only read. */
SL_MUST_CHECK int gw_auth_token_claims(const struct gw_auth_keys *keys, const void *payload,
                                       size_t len, struct gw_auth_claims *ret_claims);

bool gw_auth_token_is_current(const struct gw_auth_claims *claims, unsigned leeway_s,
                              int64_t now_unix_s);
