/*
 * Filling a read's outputs: from Redis' reply, or from the rows that another read got.
 *
 * Happy path of a history: each element is parsed, its content goes behind the others into the
 * read's buffer, and the pointers are set when all are there, because the buffer moves as it grows.
 * Failure modes: one element that does not read fails the whole list: a history with holes would be
 * worse than none. Pure; thread and ownership: cache_rows.h.
 */
#include "cache_rows.h"

#include <stdlib.h>

#include "cache_value.h"
#include "rows.h"

static int take_profile(struct store_read *read, const struct redisReply *reply);
static int take_history(struct store_read *read, const struct redisReply *reply);
static bool has_message(const struct store_read *read, const struct sl_uuid *id);
static int copy_profile(struct store_read *read, const struct store_read *source);
static int copy_history(struct store_read *read, const struct store_read *source, size_t limit);

int store_cache_rows_take(struct store_read *read, const struct redisReply *reply)
{
    return read->kind == STORE_READ_PROFILE ? take_profile(read, reply) : take_history(read, reply);
}

static int take_profile(struct store_read *read, const struct redisReply *reply)
{
    if (store_redis_reply_type(reply) == STORE_REDIS_NIL) {
        return SL_E_NOT_FOUND;
    }
    return store_cache_value_read_profile(store_redis_reply_text(reply), read->user, read->user_len,
                                          &read->found, &read->text);
}

static int take_history(struct store_read *read, const struct redisReply *reply)
{
    size_t elements = store_redis_reply_count(reply), at = 0;

    if (store_redis_reply_type(reply) != STORE_REDIS_ARRAY) {
        return SL_E_INVALID_VALUE;
    }
    if (elements == 0) {
        return SL_E_NOT_FOUND;
    }
    read->messages = calloc(elements, sizeof(*read->messages));
    if (read->messages == NULL) {
        return SL_E_NO_MEMORY;
    }
    for (size_t i = 0; i < elements; i++) {
        struct store_message *message = &read->messages[read->count];
        size_t text_len = read->text.len;
        int err = store_cache_value_read_message(
            store_redis_reply_text(store_redis_reply_element(reply, i)), read->user, read->user_len,
            message, &read->text);
        if (err == 0) {
            err = sl_buffer_append(&read->text, "", 1); /* so that "" has an address, too */
        }
        if (err != 0) {
            return err;
        }
        if (has_message(read, &message->id)) {
            read->text.len = text_len;
        } else {
            read->count++;
        }
    }
    for (size_t i = 0; i < read->count; i++) { /* the bytes do not move any more */
        read->messages[i].content.base = read->text.base + at;
        at += read->messages[i].content.len + 1;
    }
    return 0;
}

static bool has_message(const struct store_read *read, const struct sl_uuid *id)
{
    for (size_t i = 0; i < read->count; i++) {
        if (sl_uuid_equal(&read->messages[i].id, id)) {
            return true;
        }
    }
    return false;
}

int store_cache_rows_copy(struct store_read *read, const struct store_read *source, size_t limit)
{
    return read->kind == STORE_READ_PROFILE ? copy_profile(read, source)
                                            : copy_history(read, source, limit);
}

static int copy_profile(struct store_read *read, const struct store_read *source)
{
    read->found = source->found;
    return source->found ? sl_buffer_append(&read->text, source->text.base, source->text.len) : 0;
}

/* The newest `limit` of the source's messages. */
static int copy_history(struct store_read *read, const struct store_read *source, size_t limit)
{
    size_t wanted = source->count < limit ? source->count : limit;
    const struct store_message *from = source->messages + (source->count - wanted);
    size_t bytes = 0;

    if (wanted == 0) {
        return 0;
    }
    for (size_t i = 0; i < wanted; i++) {
        bytes += store_rows_text_bytes(&from[i]) + 3; /* store_rows_copy_texts ends texts by NUL */
    }
    read->messages = calloc(wanted, sizeof(*read->messages));
    if (read->messages == NULL || sl_buffer_reserve(&read->text, bytes) == NULL) {
        return SL_E_NO_MEMORY;
    }
    for (size_t i = 0; i < wanted; i++) {
        read->messages[i] = from[i];
        int err = store_rows_copy_texts(&read->text, &read->messages[i]);
        if (err != 0) {
            return err;
        }
        read->count++;
    }
    return 0;
}
