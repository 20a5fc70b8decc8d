/**
 * The names of the cache's keys: `sl:{<user>}:p` and `sl:{<user>}:h:<session>`.
 *
 * A user id may hold any byte, `:` and `}` too. What follows the last `}` is fixed in form, so no two
 * of (user, kind, session) share a key. The braces are Redis Cluster's hash tag: what belongs to one
 * user lies on one node. Pure; any thread.
 */
#pragma once

#include "sluice/store.h"
#include "sluice/uuid.h"

enum { STORE_CACHE_KEY_MAX = STORE_USER_ID_MAX + 64 };

struct store_cache_key {
    size_t len;
    char bytes[STORE_CACHE_KEY_MAX];
};

/** The key of a profile. `user_len` is at most STORE_USER_ID_MAX. */
void store_cache_key_profile(const char *user, size_t user_len, struct store_cache_key *ret_key);

/** The key of a session's history. `user_len` is at most STORE_USER_ID_MAX. */
void store_cache_key_history(const char *user, size_t user_len, const struct sl_uuid *session,
                             struct store_cache_key *ret_key);
