/**
 * Joins one hiredis context to a loop: its six event hooks on one side, a watch on the other.
 *
 * Also keeps replies that nobody asked for away from hiredis 0.14.1, which aborts the process on
 * them (async.c:478). Thread: its loop's. Ownership: hiredis owns the context and its descriptor and
 * frees both by itself when a connection fails; `gone` tells the adapter's owner, in every case
 * exactly once, after the last reply callback.
 */
#pragma once

#include <stdbool.h>

#include "sluice/loop.h"

struct redisAsyncContext;

struct store_redis_adapter {
    struct sl_loop *loop;              /* set by the owner */
    struct redisAsyncContext *context; /* read-only; NULL: there is none */
    /** Set by the owner. Runs inside hiredis: it may only take a note. */
    void (*gone)(struct store_redis_adapter *adapter);
    /* private */
    struct sl_watch watch;
    struct sl_task flush;
    unsigned wanted;
    bool in_write, refused;
};

/** Takes a fresh context without hooks. Call it before redisAsyncSetConnectCallback. */
void store_redis_adapter_attach(struct store_redis_adapter *adapter,
                                struct redisAsyncContext *context);

/** Frees the context, if there is one: pending callbacks get NULL, then `gone` runs. Not for callbacks of hiredis. */
void store_redis_adapter_drop(struct store_redis_adapter *adapter);

/**
 * For reply callbacks: when the reply in hand was the last one expected and bytes are left behind it,
 * asks hiredis to free the context as soon as the callback has returned.
 */
void store_redis_adapter_refuse_surplus(struct redisAsyncContext *context);
