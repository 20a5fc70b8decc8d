/*
 * The cache rules: profile and history, Redis first, then Postgres.
 *
 * One read, from top to bottom:
 *
 *   store_cache_read ── key not believed: miss ────────────────┐
 *        │ GET or LRANGE ── link down ──> fall_back            │
 *        v                                  │ profile known    │
 *   on_answer ── error, late ─────────────> │ in this process  │
 *        │  ├── nothing there ─── miss ─────│───────────────── load: join the flight of this key
 *        │  └── does not read ── stale, drop │────────────────>│
 *        v hit                              v                  v
 *   finish (CACHE)              finish_soon (LOCAL)    on_landed: fill the caches, then
 *                                                      finish every waiter (DATABASE)
 *
 * Each read counts exactly once, as hit, miss, stale or fallback of its kind.
 *
 * Failure modes: nothing that Redis does is an error for the caller. What Postgres says is. A waiter
 * whose copy finds no memory fails alone. The key of a value that does not read is dropped, and so is
 * what was written by another version. A message that is in a list twice (a fill from Postgres may
 * already hold what an append then adds) is read once.
 *
 * Thread: its loop's, except store_cache_link. Ownership: a read under way is in exactly one place,
 * told by its private fields: a lookup (attachment, no list), a flight (attachment and list), or its
 * finish task. A lookup lives until Redis has answered and survives its read's cancellation.
 */
#include "cache.h"

#include <stdio.h>
#include <stdlib.h>

#include "cache_key.h"
#include "cache_rows.h"
#include "cache_writes.h"
#include "local_profiles.h"
#include "pg_reader.h"
#include "redis_link.h"
#include "rows.h"
#include "single_flight.h"

enum { TEXT_BYTES_MAX = 64 * 1024 * 1024, NUMBER_SIZE = 24 };

struct store_cache {
    struct sl_loop *loop;
    struct store_local_profiles *local;
    struct store_client_stats *stats;
    struct store_redis_link *link;
    struct store_cache_writes writes;
    struct store_flights flights;
    unsigned history_messages;
};

/* A question to Redis. */
struct lookup {
    struct store_redis_command command;
    struct store_cache *cache;
    struct store_read *read; /* NULL: cancelled */
    struct store_cache_key key;
};

/* What became of a read, for the counters. */
enum outcome { HIT, MISS, STALE, FALLBACK };

static void prepare(struct store_read *read);
static int ask_redis(struct store_cache *cache, struct store_read *read,
                     const struct store_cache_key *key);
static void on_answer(struct sl_op *op, int status);
static int fall_back(struct store_cache *cache, struct store_read *read,
                     const struct store_cache_key *key);
static int load(struct store_cache *cache, struct store_read *read,
                const struct store_cache_key *key);
static void on_landed(struct store_flights *flights, struct store_flight *flight, int status);
static void fill_caches(struct store_cache *cache, const struct store_flight *flight);
static void finish_soon(struct store_cache *cache, struct store_read *read, int status);
static void on_finish(struct sl_task *task);
static void make_key(const struct store_read *read, struct store_cache_key *ret_key);
static unsigned limit_of(const struct store_cache *cache, const struct store_read *read);
static void count(struct store_cache *cache, const struct store_read *read, enum outcome outcome);
static void on_link_up(void *context);

int store_cache_create(struct sl_loop *loop, struct store_connector *connector,
                       const struct store_config *config, struct store_local_profiles *local,
                       struct store_pg_reader *reader, struct store_client_stats *stats,
                       struct store_cache **ret_cache)
{
    struct store_redis_link_config link = {.timeout_ms = config->redis_timeout_ms,
                                           .up = on_link_up};
    struct store_cache *cache = calloc(1, sizeof(*cache));
    int err = cache != NULL ? store_redis_url_parse(config->redis_url, &link.url) : SL_E_NO_MEMORY;

    if (err != 0) {
        free(cache);
        return err;
    }
    cache->loop = loop;
    cache->local = local;
    cache->stats = stats;
    cache->history_messages = config->history_messages;
    cache->flights.reader = reader;
    cache->flights.history_messages = config->history_messages;
    cache->flights.landed = on_landed;
    store_flights_init(&cache->flights);
    store_cache_writes_init(&cache->writes, loop, config);
    link.context = cache;
    err = store_redis_link_create(loop, connector, &link, stats, &cache->link);
    if (err != 0) {
        store_cache_writes_dispose(&cache->writes);
        store_flights_dispose(&cache->flights);
        free(cache);
        return err;
    }
    cache->writes.link = cache->link;
    *ret_cache = cache;
    return 0;
}

static void on_link_up(void *context)
{
    struct store_cache *cache = context;

    store_cache_writes_link_up(&cache->writes);
}

/* ---- Redis ---- */

int store_cache_read(struct store_cache *cache, struct store_read *read)
{
    struct store_cache_key key;
    int err;

    if ((read->kind != STORE_READ_PROFILE && read->kind != STORE_READ_HISTORY) ||
        read->user == NULL || read->user_len == 0 || read->user_len > STORE_USER_ID_MAX) {
        return SL_E_INVALID_VALUE;
    }
    prepare(read);
    make_key(read, &key);
    if (store_cache_link(cache) == STORE_LINK_UP &&
        !store_cache_writes_trusts(&cache->writes, &key)) {
        count(cache, read, MISS);
        err = load(cache, read, &key);
    } else if (ask_redis(cache, read, &key) == 0) {
        err = 0;
    } else {
        err = fall_back(cache, read, &key);
    }
    if (err == 0) {
        sl_op_start(&read->op);
    }
    return err;
}

static void prepare(struct store_read *read)
{
    read->source = STORE_SOURCE_NONE;
    read->found = false;
    read->partial = false;
    sl_buffer_init(&read->text, TEXT_BYTES_MAX);
    read->messages = NULL;
    read->sessions = NULL;
    read->count = 0;
    read->more = false;
    read->finish = (struct sl_task){.run = on_finish};
    read->next = NULL;
    read->prev_next = NULL;
    read->attachment = NULL;
}

static int ask_redis(struct store_cache *cache, struct store_read *read,
                     const struct store_cache_key *key)
{
    struct lookup *lookup = calloc(1, sizeof(*lookup));
    char first[NUMBER_SIZE];

    if (lookup == NULL) {
        return SL_E_NO_MEMORY;
    }
    lookup->command.op.done = on_answer;
    lookup->cache = cache;
    lookup->read = read;
    lookup->key = *key;
    struct store_text get[] = {{"GET", 3}, {key->bytes, key->len}};
    struct store_text range[] = {{"LRANGE", 6}, {key->bytes, key->len}, {first, 0}, {"-1", 2}};
    range[2].len = (size_t)snprintf(first, sizeof(first), "-%u", limit_of(cache, read));
    int err = read->kind == STORE_READ_PROFILE
                  ? store_redis_link_send(cache->link, &lookup->command, get, 2)
                  : store_redis_link_send(cache->link, &lookup->command, range, 4);
    if (err != 0) {
        free(lookup);
        return err;
    }
    read->attachment = lookup;
    return 0;
}

static void on_answer(struct sl_op *op, int status)
{
    struct lookup *lookup = SL_CONTAINER_OF(op, struct lookup, command.op);
    struct store_cache *cache = lookup->cache;
    struct store_read *read = lookup->read;
    struct store_cache_key key = lookup->key;
    const struct redisReply *reply = lookup->command.reply;
    int err = 0;

    free(lookup);
    if (read == NULL) {
        return;
    }
    read->attachment = NULL;
    if (status != 0 && !store_redis_reply_is_error(reply, "WRONGTYPE")) {
        err = fall_back(cache, read, &key);
    } else {
        switch (store_cache_rows_take(read, reply)) {
        case 0:
            count(cache, read, HIT);
            store_rows_leave_out_turn(read);
            read->source = STORE_SOURCE_CACHE;
            sl_op_finish(&read->op, 0);
            return;
        case SL_E_NOT_FOUND:
            count(cache, read, MISS);
            break;
        default:
            count(cache, read, STALE);
            store_read_dispose(read);
            store_cache_writes_drop(&cache->writes, &key);
            break;
        }
        err = load(cache, read, &key);
    }
    if (err != 0) {
        sl_op_finish(&read->op, err);
    }
}

/* ---- without Redis ---- */

static int fall_back(struct store_cache *cache, struct store_read *read,
                     const struct store_cache_key *key)
{
    count(cache, read, FALLBACK);
    if (read->kind == STORE_READ_PROFILE &&
        store_local_profiles_get(cache->local, read->user, read->user_len,
                                 sl_loop_now_us(cache->loop), &read->found, &read->text)) {
        read->source = STORE_SOURCE_LOCAL;
        finish_soon(cache, read, 0);
        return 0;
    }
    return load(cache, read, key);
}

/* ---- Postgres ---- */

static int load(struct store_cache *cache, struct store_read *read,
                const struct store_cache_key *key)
{
    return store_flights_join(&cache->flights, key, read);
}

static void on_landed(struct store_flights *flights, struct store_flight *flight, int status)
{
    struct store_cache *cache = SL_CONTAINER_OF(flights, struct store_cache, flights);
    struct store_read *source = &flight->source;
    struct store_read *read;

    store_rows_leave_out_turn(source);
    if (status == 0 && !flight->outdated && !source->partial) {
        fill_caches(cache, flight);
    }
    while ((read = store_flight_take_waiter(flight)) != NULL) {
        int err = status;
        if (err == 0) {
            err = store_cache_rows_copy(read, source, limit_of(cache, read));
        }
        if (err == 0) {
            store_rows_leave_out_turn(read);
            read->partial = source->partial;
            read->source = STORE_SOURCE_DATABASE;
        } else {
            store_read_dispose(read);
        }
        sl_op_finish(&read->op, err);
    }
}

static void fill_caches(struct store_cache *cache, const struct store_flight *flight)
{
    const struct store_read *source = &flight->source;
    const struct store_cache_writes *writes = &cache->writes;

    if (source->kind == STORE_READ_HISTORY) {
        size_t surplus =
            source->count > cache->history_messages ? source->count - cache->history_messages : 0;
        store_cache_writes_fill_history(&cache->writes, &flight->key, source->user,
                                        source->user_len, source->messages + surplus,
                                        source->count - surplus);
        return;
    }
    uint64_t ttl_ms = source->found ? writes->profile_ttl_ms : writes->absent_profile_ttl_ms;
    struct store_text json = {source->text.base, source->found ? source->text.len : 0};
    store_local_profiles_put(cache->local, source->user, source->user_len, source->found, json.base,
                             json.len, sl_loop_now_us(cache->loop), ttl_ms * 1000);
    store_cache_writes_fill_profile(&cache->writes, &flight->key, source->user, source->user_len,
                                    source->found, json);
}

/* ---- the end of a read ---- */

static void finish_soon(struct store_cache *cache, struct store_read *read, int status)
{
    read->status = status;
    sl_loop_defer(cache->loop, &read->finish);
}

static void on_finish(struct sl_task *task)
{
    struct store_read *read = SL_CONTAINER_OF(task, struct store_read, finish);

    sl_op_finish(&read->op, read->status);
}

void store_cache_cancel(struct store_cache *cache, struct store_read *read)
{
    if (!read->op.running || read->attachment == NULL) {
        return; /* idle, or its result is on its way */
    }
    if (read->prev_next != NULL) {
        store_flights_leave(read);
    } else {
        struct lookup *lookup = read->attachment;
        lookup->read = NULL;
        read->attachment = NULL;
    }
    finish_soon(cache, read, SL_E_CANCELLED);
}

/* ---- writes ---- */

void store_cache_append(struct store_cache *cache, const char *user, size_t user_len,
                        const struct sl_uuid *session, const struct store_message *added,
                        size_t added_count, const struct store_message *window, size_t window_count)
{
    struct store_cache_key key;

    store_cache_key_history(user, user_len, session, &key);
    store_flights_outdate(&cache->flights, &key); /* its rows may lack this turn: fill nothing */
    store_cache_writes_append(&cache->writes, &key, user, user_len, added, added_count, window,
                              window_count);
}

void store_cache_committed(struct store_cache *cache, const char *user, size_t user_len,
                           const struct sl_uuid *session)
{
    struct store_cache_key key;

    store_cache_key_history(user, user_len, session, &key);
    store_cache_writes_shorten(&cache->writes, &key);
}

void store_cache_drop_profile(struct store_cache *cache, const char *user, size_t user_len)
{
    struct store_cache_key key;

    store_cache_key_profile(user, user_len, &key);
    store_local_profiles_drop(cache->local, user, user_len);
    store_flights_outdate(&cache->flights, &key);
    store_cache_writes_drop(&cache->writes, &key);
}

void store_cache_drop_history(struct store_cache *cache, const char *user, size_t user_len,
                              const struct sl_uuid *session)
{
    struct store_cache_key key;

    store_cache_key_history(user, user_len, session, &key);
    store_flights_outdate(&cache->flights, &key);
    store_cache_writes_drop(&cache->writes, &key);
}

/* ---- the rest ---- */

static void make_key(const struct store_read *read, struct store_cache_key *ret_key)
{
    if (read->kind == STORE_READ_PROFILE) {
        store_cache_key_profile(read->user, read->user_len, ret_key);
    } else {
        store_cache_key_history(read->user, read->user_len, &read->session, ret_key);
    }
}

/* 0 stands for "as many as there may be". */
static unsigned limit_of(const struct store_cache *cache, const struct store_read *read)
{
    bool bounded = read->limit > 0 && read->limit < cache->history_messages;

    return bounded ? read->limit : cache->history_messages;
}

static void count(struct store_cache *cache, const struct store_read *read, enum outcome outcome)
{
    bool is_profile = read->kind == STORE_READ_PROFILE;
    struct store_client_stats *stats = cache->stats;
    sl_counter *counters[] = {
        [HIT] = is_profile ? &stats->profile.hits : &stats->history.hits,
        [MISS] = is_profile ? &stats->profile.misses : &stats->history.misses,
        [STALE] = is_profile ? &stats->profile.stale : &stats->history.stale,
        [FALLBACK] = is_profile ? &stats->profile.fallbacks : &stats->history.fallbacks,
    };

    sl_counter_add(counters[outcome], 1);
}

enum store_link store_cache_link(const struct store_cache *cache)
{
    return store_redis_link_status(cache->link);
}

void store_cache_destroy(struct store_cache *cache)
{
    if (cache == NULL) {
        return;
    }
    store_cache_writes_close(&cache->writes);
    store_flights_dispose(&cache->flights);
    store_redis_link_destroy(cache->link); /* finishes the lookups of cancelled reads */
    store_cache_writes_dispose(&cache->writes);
    free(cache);
}
