/**
 * Turns that live on another loop: following one, stopping one.
 *
 * The other loop sends every new event here, where a copy of the turn's log grows that is followed like
 * the turn itself: one copy, however many follow. Thread: the asking loop's. Ownership: a copy belongs to
 * this file and goes when its last follower has left; the operation is embedded in its caller.
 */
#pragma once

#include "auth.h"
#include "feed.h"
#include "sluice/op.h"
#include "turns.h"

enum gw_relay_wish { GW_RELAY_FOLLOW, GW_RELAY_STOP };

struct gw_relay {
    struct sl_op op;
    /* inputs; they must stay valid only until the start has returned */
    enum gw_relay_wish wish;
    struct gw_turns *turns; /* of the asking loop */
    struct sl_uuid turn_id;
    const struct gw_user *user;
    /* output of FOLLOW: follow it before the callback returns, or it is gone */
    struct gw_feed *feed;
    /* private */
    struct sl_task finish;
    struct visit *visit; /* on its way for us; NULL: nothing any more */
};

/**
 * Done with 0; SL_E_NOT_FOUND when this user has no such turn in memory; SL_E_CANCELLED.
 * gw_turns_of(turn_id) is another loop's.
 */
void gw_relay_start(struct gw_relay *relay);
void gw_relay_cancel(struct gw_relay *relay);
