/**
 * The cache rules of design.md section 6: profile and history, Redis first, then Postgres.
 *
 * Keys carry the user (`sl:{<user>}:p`, `sl:{<user>}:h:<session>`: the last `}` divides, so no two
 * (user, kind, session) share a key); values carry a version and the user id again, and whatever does
 * not parse or does not match is a miss. Thread: its loop's.
 */
#pragma once

#include "sluice/store.h"

struct store_cache;
struct store_connector;
struct store_pg_reader;
struct store_local_profiles;

SL_MUST_CHECK int store_cache_create(struct sl_loop *loop, struct store_connector *connector,
                                     const struct store_config *config,
                                     struct store_local_profiles *local,
                                     struct store_pg_reader *reader,
                                     struct store_client_stats *stats,
                                     struct store_cache **ret_cache);
void store_cache_destroy(struct store_cache *cache);

/** PROFILE or HISTORY. Errors: store_read_start. */
SL_MUST_CHECK int store_cache_read(struct store_cache *cache, struct store_read *read);
void store_cache_cancel(struct store_cache *cache, struct store_read *read);

/** See store_history_append. */
void store_cache_append(struct store_cache *cache, const char *user, size_t user_len,
                        const struct sl_uuid *session, const struct store_message *added,
                        size_t added_count, const struct store_message *window,
                        size_t window_count);

/** The session has no uncommitted message left: the history list may now expire (history_ttl_s). */
void store_cache_committed(struct store_cache *cache, const char *user, size_t user_len,
                           const struct sl_uuid *session);

/** Drops a profile or a history from Redis and from the in-process cache. */
void store_cache_drop_profile(struct store_cache *cache, const char *user, size_t user_len);
void store_cache_drop_history(struct store_cache *cache, const char *user, size_t user_len,
                              const struct sl_uuid *session);

enum store_link store_cache_link(const struct store_cache *cache); /* any thread */
