/**
 * Something that has to be done on another loop, and its way back.
 *
 * The one way in which loops talk about turns: a message that returns to its sender, so that whoever
 * allocated it frees it and knows that nothing of it is left behind (a loop is only stopped when all its
 * errands are back). Thread: sent and back on the sender's loop, run on the other one.
 * Ownership: the sender's, embedded in what it allocates.
 */
#pragma once

#include "sluice/loop.h"

struct gw_turns;

struct gw_errand {
    struct gw_turns *from, *to;             /* set by gw_errand_send */
    void (*run)(struct gw_errand *errand);  /* on the loop of `to` */
    void (*back)(struct gw_errand *errand); /* on the loop of `from`, later; may free the errand */
    /* private */
    struct sl_message message;
};

/** Sends it. To one's own loop it runs at once, but comes back later all the same. */
void gw_errand_send(struct gw_errand *errand, struct gw_turns *from, struct gw_turns *to);
