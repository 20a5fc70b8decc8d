/**
 * A small in-process cache of profiles, one per process, used while Redis does not answer.
 *
 * Bounded, least recently used first out; entries live at most as long as in Redis. Only profiles:
 * a history from another instance would be stale, so histories fall back to Postgres and the overlay.
 * Thread: any (one mutex; taken only on a write, a drop, or while Redis is down). Ownership: copies.
 */
#pragma once

#include <stdbool.h>

#include <stdint.h>

#include "sluice/buffer.h"

struct store_local_profiles;

SL_MUST_CHECK int store_local_profiles_create(unsigned entries_max,
                                              struct store_local_profiles **ret_local);
void store_local_profiles_destroy(struct store_local_profiles *local);

/** Remembers a profile (`found` false: that there is none) until `now_us + ttl_us`. */
void store_local_profiles_put(struct store_local_profiles *local, const char *user, size_t user_len,
                              bool found, const char *json, size_t json_len, uint64_t now_us,
                              uint64_t ttl_us);

/** True and the profile (appended to `ret_json`) when it is known and not too old. */
bool store_local_profiles_get(struct store_local_profiles *local, const char *user, size_t user_len,
                              uint64_t now_us, bool *ret_found, struct sl_buffer *ret_json);

void store_local_profiles_drop(struct store_local_profiles *local, const char *user,
                               size_t user_len);
