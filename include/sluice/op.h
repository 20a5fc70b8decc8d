/**
 * The one contract of everything asynchronous.
 *
 * An operation is a struct of the caller's that embeds `struct sl_op`. It obeys these rules:
 *
 *  1. `start` returns 0, or an error. After an error nothing is under way and the callback never runs.
 *  2. After 0 the callback `done` runs exactly once, later, on the loop thread that started the
 *     operation, and never before `start` has returned.
 *  3. `cancel` only asks. The callback still runs, once, later, with SL_E_CANCELLED or with the
 *     result that was already on its way. Cancelling an idle or finished operation does nothing.
 *  4. The memory of the operation belongs to the caller again once `done` has been called: the
 *     callback may reuse or free it.
 *  5. The inputs that `start` was given by pointer must stay valid until `done` unless the
 *     function's comment says that it copies them.
 *
 * Implementations call sl_op_start and sl_op_finish, which assert rules 1 and 2.
 */
#pragma once

#include <assert.h>
#include <stdbool.h>

struct sl_op;
typedef void (*sl_op_done_fn)(struct sl_op *op, int status);

struct sl_op {
    sl_op_done_fn done; /* set by the caller before start */
    bool running;       /* read-only for the caller */
};

/** For implementations: marks the operation as under way. */
static inline void sl_op_start(struct sl_op *op)
{
    assert(op->done != NULL && !op->running);
    op->running = true;
}

/** For implementations: hands the operation back to its caller. Touch nothing of it afterwards. */
static inline void sl_op_finish(struct sl_op *op, int status)
{
    assert(op->running);
    op->running = false;
    op->done(op, status);
}

/** The struct that embeds `member`. */
#define SL_CONTAINER_OF(pointer, type, member)                                                     \
    ((type *)(void *)((char *)(pointer) - __builtin_offsetof(type, member)))
