/*
 * What can be read from a Redis reply: the only view of hiredis' object that leaves the redis files.
 * Pure. Thread and ownership: redis_command.h.
 */
#include <hiredis/hiredis.h>
#include <string.h>

#include "redis_command.h"

enum store_redis_type store_redis_reply_type(const struct redisReply *reply)
{
    switch (reply != NULL ? reply->type : REDIS_REPLY_NIL) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
        return STORE_REDIS_TEXT;
    case REDIS_REPLY_INTEGER:
        return STORE_REDIS_INTEGER;
    case REDIS_REPLY_ARRAY:
        return STORE_REDIS_ARRAY;
    case REDIS_REPLY_ERROR:
        return STORE_REDIS_ERROR;
    default:
        return STORE_REDIS_NIL;
    }
}

struct store_text store_redis_reply_text(const struct redisReply *reply)
{
    enum store_redis_type type = store_redis_reply_type(reply);

    if (type != STORE_REDIS_TEXT && type != STORE_REDIS_ERROR) {
        return (struct store_text){NULL, 0};
    }
    return (struct store_text){reply->str, reply->len};
}

long long store_redis_reply_integer(const struct redisReply *reply)
{
    return store_redis_reply_type(reply) == STORE_REDIS_INTEGER ? reply->integer : 0;
}

size_t store_redis_reply_count(const struct redisReply *reply)
{
    return store_redis_reply_type(reply) == STORE_REDIS_ARRAY ? reply->elements : 0;
}

const struct redisReply *store_redis_reply_element(const struct redisReply *reply, size_t i)
{
    return i < store_redis_reply_count(reply) ? reply->element[i] : NULL;
}

bool store_redis_reply_is_error(const struct redisReply *reply, const char *code)
{
    size_t code_len = strlen(code);

    if (store_redis_reply_type(reply) != STORE_REDIS_ERROR) {
        return false;
    }
    struct store_text text = store_redis_reply_text(reply);
    return text.len >= code_len && memcmp(text.base, code, code_len) == 0 &&
           (text.len == code_len || text.base[code_len] == ' ');
}
