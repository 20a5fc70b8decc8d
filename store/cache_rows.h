/**
 * Filling a read's outputs: from Redis' reply, or from the rows that another read got.
 *
 * Pure but for memory: no I/O, no clock. Thread: any. Ownership: everything is copied into the read;
 * after a failure its outputs are to be disposed of.
 */
#pragma once

#include "redis_command.h"
#include "sluice/store.h"

/**
 * Takes the reply of GET (PROFILE) or LRANGE (HISTORY). 0; SL_E_NOT_FOUND: nothing is cached; anything
 * else: it does not read as this user's.
 */
SL_MUST_CHECK int store_cache_rows_take(struct store_read *read, const struct redisReply *reply);

/** Copies the outputs of a read of the same kind; of a history its newest `limit` messages. 0 or SL_E_NO_MEMORY, SL_E_LIMIT. */
SL_MUST_CHECK int store_cache_rows_copy(struct store_read *read, const struct store_read *source,
                                        size_t limit);
