/**
 * The commands under way on one connection: sending, deadlines, and finishing them from the drain.
 *
 * Redis answers in order and hiredis has no timeouts (redisAsyncSetTimeout came with 1.0), so a
 * command that is late is finished here and leaves a tombstone which takes its reply when it comes.
 * Thread: its loop's. Ownership: commands are the callers'; what hiredis points at while it waits for
 * a reply (`struct store_redis_sent`) is the pipeline's own and lives until hiredis has called back,
 * which it does exactly once, with NULL when the connection ends.
 */
#pragma once

#include "redis_command.h"
#include "sluice/loop.h"

struct redisAsyncContext;

struct store_redis_pipeline {
    struct sl_loop *loop;             /* these three: set by the owner before init */
    struct store_client_stats *stats; /* redis_commands, redis_errors, redis_timeouts, redis_us */
    /** The connection is of no more use: silent, late three times in a row, or refused by Redis.
     *  Runs from a timer or a task, never inside hiredis. */
    void (*distrust)(struct store_redis_pipeline *pipeline);
    uint64_t silence_us;       /* longest wait for any reply while one is due */
    uint64_t answered_in_time; /* readable: replies since the beginning */
    /* private */
    unsigned in_flight; /* with tombstones */
    size_t bytes_in_flight;
    unsigned late_in_a_row;
    struct sl_timer silence;
    struct sl_task finish;
    struct store_redis_command *completed, **completed_tail;
    struct store_redis_sent *spare;
};

void store_redis_pipeline_init(struct store_redis_pipeline *pipeline);

/** Finishes what is completed, at once, and frees the rest. The connection must be gone. */
void store_redis_pipeline_finish(struct store_redis_pipeline *pipeline);

/**
 * Sends a command; `args` (the first is its name) are copied. 0, SL_E_LIMIT (over 64 MiB) or
 * SL_E_REDIS_UNAVAILABLE (too much under way, or hiredis refused).
 */
SL_MUST_CHECK int store_redis_pipeline_send(struct store_redis_pipeline *pipeline,
                                            struct redisAsyncContext *context,
                                            struct store_redis_command *command,
                                            const struct store_text *args, size_t count,
                                            uint64_t timeout_us);
