/**
 * The Lua scripts of the cache, and running one.
 *
 * Each touches one key. They run by their SHA-1 (EVALSHA); when Redis has forgotten a script
 * (NOSCRIPT: a restart, SCRIPT FLUSH) the same call goes out once more with the text (EVAL). All are
 * loaded as soon as a connection is up, so that this second try, which would overtake commands sent
 * in between, stays the exception. Thread: the link's loop.
 */
#pragma once

#include "redis_link.h"

struct store_cache_script {
    const char *text;
    const char *sha1; /* of the text, lower-case hex */
};

/** Writes a list that is not there: ttl in ms, elements. Answers 1, or 0 when the key exists. */
extern const struct store_cache_script store_cache_script_fill;

/**
 * Adds to a list: newest elements to keep, ttl in ms, number of window elements (-1: no window), the
 * window's elements, the new ones. When the key exists only the new ones are added; otherwise both,
 * or nothing without a window. Window and new ones are each given in the order of (time, id); so is the
 * list afterwards. Answers 1, or 0 when there was nothing to add to.
 */
extern const struct store_cache_script store_cache_script_append;

/** Makes a key expire in at most this many ms. Answers 1 when that changed something. */
extern const struct store_cache_script store_cache_script_shorten;

/** One run of a script: made, given its arguments, then sent. It frees itself after `done`. */
struct store_cache_call {
    struct store_redis_command command;
    struct store_redis_link *link;
    const struct store_cache_script *script;
    /** Set by the caller; `status` as store_redis_command. */
    void (*done)(struct store_cache_call *call, int status);
    void *context;
    struct sl_buffer bytes; /* the key, then the arguments, one after the other */
    size_t count, count_max;
    size_t ends[]; /* where each of them ends in `bytes` */
};

/** A call with room for `args_max` arguments; NULL when there is no memory. */
struct store_cache_call *store_cache_call_create(const struct store_cache_script *script,
                                                 const char *key, size_t key_len, size_t args_max);

/** Adds a number. Errors: sl_buffer_append. */
SL_MUST_CHECK int store_cache_call_add_number(struct store_cache_call *call, long long number);

/** Says that what was appended to `call->bytes` since the last argument is the next one. */
void store_cache_call_end_argument(struct store_cache_call *call);

/** The key of the call. */
struct store_text store_cache_call_key(const struct store_cache_call *call);

/** Sends it. On an error the call is still the caller's. Errors: store_redis_link_send. */
SL_MUST_CHECK int store_cache_call_send(struct store_cache_call *call,
                                        struct store_redis_link *link);

/** Frees a call that was not sent. NULL is accepted. */
void store_cache_call_destroy(struct store_cache_call *call);

/** Loads all scripts into Redis. Nobody waits for it, and a failure only costs the NOSCRIPT detour. */
void store_cache_script_load_all(struct store_redis_link *link);
