/**
 * How many turns each user has running, over all loops.
 *
 * Thread: any, without locks. Ownership: one table per process; create allocates, nothing else
 * does.
 *
 * What is guaranteed: entries of one user that do not overlap in time are exact. While n threads
 * are inside gw_user_turns_enter for one user at the same moment, up to n - 1 turns more than `max`
 * may get in; hardly ever even then, since they mostly go for the same word, which only one can
 * change at a time. A refusal has seen `max` turns, each of which was running at some moment of the
 * call.
 *
 * Two users whose hashes agree share one count: at 4,096 running turns, the odds that any two do
 * are below one in 10^7. The hash is seeded at random, so that nobody can look for such an id.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sluice/error.h"

struct gw_user_turns;

enum { GW_USER_TURNS_MAX = 1 << 24 }; /* the largest `turns_max` */

/* The ticket of a turn that nobody counts, because its window was full of other users. */
#define GW_USER_TURNS_UNCOUNTED UINT32_MAX

/** For up to `turns_max` running turns, 32 to 64 bytes each. 0, SL_E_LIMIT or SL_E_NO_MEMORY. */
SL_MUST_CHECK int gw_user_turns_create(size_t turns_max, struct gw_user_turns **ret_turns);
/** NULL is accepted. */
void gw_user_turns_destroy(struct gw_user_turns *turns);

/**
 * Counts one more turn of this user; false: `max` (at most 65,535) are running already. The ticket
 * has to be given back by exactly one gw_user_turns_leave.
 *
 * A turn that finds its window full is admitted but not counted, since a limit for one user must
 * not refuse another. With `turns_max` turns running, all of different users, this meets about five
 * turns in a million.
 */
bool gw_user_turns_enter(struct gw_user_turns *turns, const char *user, size_t user_len,
                         unsigned max, uint32_t *ret_ticket);
void gw_user_turns_leave(struct gw_user_turns *turns, uint32_t ticket);
