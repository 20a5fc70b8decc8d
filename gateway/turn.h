/**
 * A turn: one question and its answer, apart from the HTTP responses that show it.
 *
 * Thread: the loop that it was born on. Ownership: a turn owns itself. It is born by gw_turn_start,
 * lives until its answer is saved and its last follower has left, and then frees itself; everybody
 * else only follows.
 */
#pragma once

#include "auth.h"
#include "chat_request.h"
#include "sluice/loop.h"
#include "sluice/store.h"
#include "turn_log.h"

struct gw_config;
struct gw_stats;
struct gw_turn;
struct gw_turns;
struct gw_upstream;

/** What reads a turn's log: an HTTP response. Embedded in its owner. */
struct gw_follower {
    /** New events are in the log (or it has ended). Called from the loop's drain, never from inside gw_turn_follow. */
    void (*wake)(struct gw_follower *follower);
    /* private */
    struct gw_turn *turn;
    struct gw_follower *next, **prev_next;
};

enum { GW_TURNS_USER_BUCKETS = 1024 };

/** The world of the turns of one loop. */
struct gw_turns {
    struct sl_loop *loop;
    const struct gw_config *config;
    struct store_client *store;
    struct gw_upstream *upstream;
    struct gw_stats *stats;
    /** Takes one finished log line without its newline. */
    void (*log_line)(void *context, const char *line, size_t len);
    void (*on_end)(void *context);  /* a turn is done (it may still be followed) */
    void (*on_idle)(void *context); /* the last turn has been freed */
    void *context;
    /* read-only; zeroed at the start */
    size_t running; /* turns that are not done yet */
    struct gw_turn *first;
    struct gw_turn *by_user[GW_TURNS_USER_BUCKETS]; /* running turns by a hash of their user */
};

/**
 * Starts a turn: its log is opened with `session_id`. Nothing else has been done when it returns, no
 * store and no model touched, so that a follower can send that event first; the rest begins in the
 * drain of the same turn of the loop. The request's content moves into the turn; `request_id` is for
 * the log line; `received_us` is the loop's clock when the request arrived. The caller has asked
 * store_admission. 0 or SL_E_NO_MEMORY: then there is no turn.
 */
SL_MUST_CHECK int gw_turn_start(struct gw_turns *turns, const struct gw_user *user,
                                struct gw_chat_request *request, const char *request_id,
                                uint64_t received_us, struct gw_turn **ret_turn);

const char *gw_turn_id(const struct gw_turn *turn);
const char *gw_turn_session_id(const struct gw_turn *turn);
const struct gw_turn_log *gw_turn_log(const struct gw_turn *turn);

/** How it ended: 0 or the error of its `error` event. Only once its log has ended. */
int gw_turn_error(const struct gw_turn *turn);

/** Begins and ends following. The turn stays valid while it is followed. Unfollow is idempotent. */
void gw_turn_follow(struct gw_turn *turn, struct gw_follower *follower);
void gw_turn_unfollow(struct gw_follower *follower);

/** The first token has just been written to a client's socket. Only the first call counts. */
void gw_turn_token_delivered(struct gw_turn *turn);

/** The client of `follower` has gone: unfollows, and `on_disconnect` decides what becomes of the turn. */
void gw_turn_client_gone(struct gw_follower *follower, int reason);

/** Ends every running turn of the loop with `reason`; their answers are saved as interrupted. */
void gw_turns_end_all(struct gw_turns *turns, int reason);

/** How many turns of this user are running on this loop. */
size_t gw_turns_of_user(const struct gw_turns *turns, const char *user, size_t user_len);
