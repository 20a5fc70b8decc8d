/**
 * One Redis command as an operation (op.h), and what can be read from its reply.
 *
 * The reply is hiredis' own object; its content is never copied. Only the redis*.c files know
 * hiredis, so everybody else reads it through the functions below. Thread: its loop's. Ownership:
 * the command is the caller's, the reply belongs to the command and is gone when `done` returns.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sluice/op.h"
#include "sluice/store.h"

struct redisReply;
struct store_redis_sent;

/**
 * Done with 0 and a reply that is not an error, SL_E_REDIS_UNAVAILABLE (the connection was lost:
 * `reply` is NULL; or Redis answered with an error: `reply` is that error) or SL_E_REDIS_TIMEOUT.
 * It cannot be cancelled: it ends by itself within its deadline.
 */
struct store_redis_command {
    struct sl_op op;
    struct redisReply *reply; /* output; only during `done` */
    /* private */
    int status;
    struct store_redis_command *next;
};

enum store_redis_type {
    STORE_REDIS_NIL,
    STORE_REDIS_TEXT, /* a bulk string or a status */
    STORE_REDIS_INTEGER,
    STORE_REDIS_ARRAY,
    STORE_REDIS_ERROR,
};

/** The reply's type; NULL counts as nil. */
enum store_redis_type store_redis_reply_type(const struct redisReply *reply);

/** The bytes of a text or an error; of anything else {NULL, 0}. */
struct store_text store_redis_reply_text(const struct redisReply *reply);

/** The value of an integer; 0 of anything else. */
long long store_redis_reply_integer(const struct redisReply *reply);

/** The elements of an array; none of anything else. */
size_t store_redis_reply_count(const struct redisReply *reply);
const struct redisReply *store_redis_reply_element(const struct redisReply *reply, size_t i);

/** True for an error reply whose first word is `code`, such as "NOSCRIPT". */
bool store_redis_reply_is_error(const struct redisReply *reply, const char *code);
