/**
 * Everything that changes Redis: filling after a miss, appending a turn, shortening, dropping.
 *
 * Nobody waits for a write. What can make a key wrong when it fails (an append, a drop) makes the key
 * stale in the meaning of stale_keys.h: it is not read any more until a DEL of it has been confirmed,
 * and that DEL is sent at once, again after a moment, and again whenever the link comes up. A fill
 * that fails is simply not there.
 *
 * Thread: its loop's. Ownership: embedded in the cache; inputs are copied.
 */
#pragma once

#include "cache_key.h"
#include "redis_link.h"
#include "stale_keys.h"

enum { STORE_CACHE_STALE_KEYS_MAX = 10000 };

struct store_cache_writes {
    struct sl_loop *loop;
    struct store_redis_link *link; /* set by the owner as soon as it exists */
    struct store_stale_keys stale;
    struct sl_timer retry;
    unsigned drops_under_way;
    bool closing;
    uint64_t profile_ttl_ms, absent_profile_ttl_ms, history_ttl_ms, history_pending_ttl_ms;
    unsigned history_messages;
};

void store_cache_writes_init(struct store_cache_writes *writes, struct sl_loop *loop,
                             const struct store_config *config);

/** No writes any more: commands that end from now on are only freed. Before the link is destroyed. */
void store_cache_writes_close(struct store_cache_writes *writes);

/** After the link was destroyed. */
void store_cache_writes_dispose(struct store_cache_writes *writes);

/** To be called when the link has come up, before it is used. */
void store_cache_writes_link_up(struct store_cache_writes *writes);

/** True when what Redis has under this key may be believed. */
bool store_cache_writes_trusts(const struct store_cache_writes *writes,
                               const struct store_cache_key *key);

/** Drops a key. It is not believed until that is confirmed. */
void store_cache_writes_drop(struct store_cache_writes *writes, const struct store_cache_key *key);

void store_cache_writes_fill_profile(struct store_cache_writes *writes,
                                     const struct store_cache_key *key, const char *user,
                                     size_t user_len, bool found, struct store_text json);

/** Writes a list that is not there yet; one that is there is newer and stays. */
void store_cache_writes_fill_history(struct store_cache_writes *writes,
                                     const struct store_cache_key *key, const char *user,
                                     size_t user_len, const struct store_message *messages,
                                     size_t count);

/** See store_history_append. */
void store_cache_writes_append(struct store_cache_writes *writes, const struct store_cache_key *key,
                               const char *user, size_t user_len, const struct store_message *added,
                               size_t added_count, const struct store_message *window,
                               size_t window_count);

/** Lets a history expire within history_ttl. */
void store_cache_writes_shorten(struct store_cache_writes *writes,
                                const struct store_cache_key *key);
