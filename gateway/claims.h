/**
 * Which turn answers a client's own message id (`client_message_id`, `Idempotency-Key`).
 *
 * A key belongs to one loop, chosen by its hash; claiming it is an operation that goes there as a
 * message and comes back, so that of any number of equal requests, on whichever loops they arrive, one
 * starts a turn and the others find out which. The key lasts as long as its turn is in memory.
 *
 * Thread: each loop's own. Ownership: the table belongs to its loop; operations are embedded in their
 * callers, what travels between loops is allocated and freed here.
 */
#pragma once

#include "auth.h"
#include "chat_request.h"
#include "sluice/list.h"
#include "sluice/loop.h"
#include "sluice/op.h"

struct gw_turns;

enum { GW_CLAIMS_BUCKETS = 4096 };

/** One loop's share of all keys. */
struct gw_claims {
    /* private */
    struct sl_link buckets[GW_CLAIMS_BUCKETS];
};

/** What one request wants to know. */
struct gw_claim {
    struct sl_op op;
    /* inputs */
    struct gw_turns *turns; /* of the asking loop */
    const struct gw_user *user;
    const char *key;
    uint64_t content_hash; /* equal requests have equal ones */
    struct sl_uuid
        turn_id; /* of the turn that would be started; output: of the one that has the key */
    /* output */
    bool is_new; /* the key is ours now: start the turn, or release it */
    /* private */
    struct sl_task finish;
    struct errand *errand; /* what is on its way for us; NULL: nothing any more */
};

void gw_claims_init(struct gw_claims *claims);
/** Forgets all keys; nothing is under way any more. */
void gw_claims_finish(struct gw_claims *claims);

/**
 * Done with 0, with SL_E_UNPROCESSABLE when the key is taken by a request with other content, or with
 * SL_E_CANCELLED. A claim that is cancelled is released by itself.
 */
void gw_claim_start(struct gw_claim *claim);
void gw_claim_cancel(struct gw_claim *claim);

/** Gives a key back if this turn has it. Inputs are copied; nobody waits. */
void gw_claims_release(struct gw_turns *turns, const struct gw_user *user, const char *key,
                       const struct sl_uuid *turn_id);
