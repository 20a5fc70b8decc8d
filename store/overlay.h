/**
 * The messages that are not in Postgres yet, merged into every read of a session or a turn.
 *
 * One per process: hash tables by (user, session) and by (user, turn) of the records themselves,
 * which stay in memory until they are committed, so nothing is stored twice. A read collects the
 * overlay *before* its query is sent: a message is then either in the collected set or committed
 * before the query's snapshot, and cannot be missed by both.
 *
 * Thread: any (one mutex). Ownership: records are their owners'; collected sets are copies.
 */
#pragma once

#include "rows.h"

struct store_overlay;
struct store_record;

SL_MUST_CHECK int store_overlay_create(struct store_overlay **ret_overlay);

/** The overlay must be empty. NULL is accepted. */
void store_overlay_destroy(struct store_overlay *overlay);

/** Adds a message record, before it is handed to the writer. */
void store_overlay_add(struct store_overlay *overlay, struct store_record *record);

/** Takes a record out; idempotent, and nothing for a record that was never added. */
void store_overlay_remove(struct store_overlay *overlay, struct store_record *record);

/** True while the session has a message that is not in Postgres. */
bool store_overlay_has(const struct store_overlay *overlay, const char *user, size_t user_len,
                       const struct sl_uuid *session);

/** True, and the session, if a message of the user's turn is not in Postgres. A look at one chain. */
bool store_overlay_find_turn(const struct store_overlay *overlay, const char *user, size_t user_len,
                             const struct sl_uuid *turn, struct sl_uuid *ret_session);

/**
 * Copies the newest `limit` messages of the session that are older than (before_us, before_id), or
 * simply the newest ones when `before_id` is NULL; oldest first. 0 or SL_E_NO_MEMORY.
 */
SL_MUST_CHECK int store_overlay_collect(const struct store_overlay *overlay, const char *user,
                                        size_t user_len, const struct sl_uuid *session,
                                        int64_t before_us, const struct sl_uuid *before_id,
                                        size_t limit, struct store_message_set *ret_set);
