/**
 * A turn: one question and its answer, apart from the HTTP responses that show it.
 *
 * Thread: the loop that it was born on. Ownership: a turn owns itself. It is born by gw_turn_start,
 * lives until its answer is saved, then as long as late readers may want it (turns.h), and frees itself;
 * everybody else only follows its feed.
 */
#pragma once

#include "auth.h"
#include "chat_request.h"
#include "feed.h"
#include "turns.h"

/**
 * Starts a turn: its log is opened with `session_id`. Nothing else has been done when it returns, no
 * store and no model touched, so that a follower can send that event first; the rest begins in the
 * drain of the same turn of the loop. The request's content moves into the turn. `id` is from
 * gw_turns_new_id; `user_ticket` is from gw_user_turns_enter;
 * `request_id` is for the log line; `received_us` is the loop's clock when the request arrived. The
 * caller has asked store_admission. 0 or SL_E_NO_MEMORY: then there is no turn.
 */
SL_MUST_CHECK int gw_turn_start(struct gw_turns *turns, const struct sl_uuid *id,
                                const struct gw_user *user, struct gw_chat_request *request,
                                uint32_t user_ticket, const char *request_id, uint64_t received_us,
                                struct gw_turn **ret_turn);

/** What there is to follow. */
struct gw_feed *gw_turn_feed(struct gw_turn *turn);

/** Its user wants no more: the upstream is closed, what there is of the answer is kept. Idempotent. */
void gw_turn_stop(struct gw_turn *turn);
