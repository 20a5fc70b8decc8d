/*
 * Everything that changes Redis.
 *
 * Happy path of a fill: the key is believed, so SET with its expiry, or the fill script. Of an
 * append: the append script. Of a drop: the key becomes stale, a DEL goes out in the same turn of the
 * loop, Redis confirms, the key is believed again.
 *
 * Order is what makes this right: commands of one connection run in the order they were sent, so a
 * DEL that follows an append whose answer is late also removes what that append does in the end.
 * An append to a key that is not believed is preceded by its DEL, so that it meets no wrong list.
 *
 * Failure modes: redis_link.h. A failed DEL waits for RETRY_US, or for the link. At most
 * DROPS_AT_ONCE of them are under way, as a long outage leaves thousands. What this process cannot
 * repair: keys left wrong in Redis when it ends before Redis is back. They expire by themselves.
 *
 * Thread and ownership: cache_writes.h. Each command is on the heap and frees itself.
 */
#include "cache_writes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache_script.h"
#include "cache_value.h"
#include "sluice/random.h"

enum {
    RETRY_US = 100 * 1000,
    DROPS_AT_ONCE = 64,
    TTL_SPREAD_PERCENT = 10, /* so that what was filled together does not expire together */
    VALUE_BYTES_MAX = 16 * 1024 * 1024,
    NUMBER_SIZE = 24,
};

/* A DEL, or a SET that nobody asks about. */
struct simple_write {
    struct store_redis_command command;
    struct store_cache_writes *writes;
    struct store_cache_key key;
};

static int send_simple(struct store_cache_writes *writes, const struct store_cache_key *key,
                       sl_op_done_fn done, const struct store_text *args, size_t count);
static void on_simple_done(struct sl_op *op, int status);
static void on_script_done(struct store_cache_call *call, int status);
static int add_messages(struct store_cache_call *call, const char *user, size_t user_len,
                        const struct store_message *messages, size_t count);
static int add_append(struct store_cache_writes *writes, struct store_cache_call *call,
                      const char *user, size_t user_len, const struct store_message *added,
                      size_t added_count, const struct store_message *window, size_t window_count);
static void on_append_done(struct store_cache_call *call, int status);
static void drop_waiting(struct store_cache_writes *writes);
static int send_drop(struct store_cache_writes *writes, const char *key, size_t key_len);
static void on_drop_done(struct sl_op *op, int status);
static void on_retry(struct sl_timer *timer);
static bool is_up(const struct store_cache_writes *writes);
static uint64_t longest_ttl_us(const struct store_cache_writes *writes);
static struct store_text word(const char *text);
static struct store_text key_text(const struct store_cache_key *key);

void store_cache_writes_init(struct store_cache_writes *writes, struct sl_loop *loop,
                             const struct store_config *config)
{
    *writes = (struct store_cache_writes){
        .loop = loop,
        .profile_ttl_ms = (uint64_t)config->profile_ttl_s * 1000,
        .absent_profile_ttl_ms = (uint64_t)config->absent_profile_ttl_s * 1000,
        .history_ttl_ms = (uint64_t)config->history_ttl_s * 1000,
        .history_pending_ttl_ms = (uint64_t)config->history_pending_ttl_s * 1000,
        .history_messages = config->history_messages,
        .retry.expired = on_retry,
    };
    store_stale_keys_init(&writes->stale, STORE_CACHE_STALE_KEYS_MAX, longest_ttl_us(writes));
}

void store_cache_writes_link_up(struct store_cache_writes *writes)
{
    store_cache_script_load_all(writes->link);
    drop_waiting(writes);
}

bool store_cache_writes_trusts(const struct store_cache_writes *writes,
                               const struct store_cache_key *key)
{
    return !store_stale_keys_has(&writes->stale, key->bytes, key->len,
                                 sl_loop_now_us(writes->loop));
}

/* ---- filling after a miss ---- */

void store_cache_writes_fill_profile(struct store_cache_writes *writes,
                                     const struct store_cache_key *key, const char *user,
                                     size_t user_len, bool found, struct store_text json)
{
    uint64_t ttl_ms = found ? writes->profile_ttl_ms : writes->absent_profile_ttl_ms;
    char expiry[NUMBER_SIZE];
    struct sl_buffer value;

    if (ttl_ms == 0 || !is_up(writes) || !store_cache_writes_trusts(writes, key)) {
        return;
    }
    sl_buffer_init(&value, VALUE_BYTES_MAX);
    if (store_cache_value_write_profile(&value, user, user_len, found, json) == 0) {
        (void)snprintf(expiry, sizeof(expiry), "%" PRIu64,
                       sl_random_spread(ttl_ms, TTL_SPREAD_PERCENT));
        struct store_text args[] = {
            word("SET"), key_text(key), {value.base, value.len}, word("PX"), word(expiry)};
        /* not sent: not cached */
        (void)!send_simple(writes, key, on_simple_done, args, sizeof(args) / sizeof(args[0]));
    }
    sl_buffer_dispose(&value);
}

void store_cache_writes_fill_history(struct store_cache_writes *writes,
                                     const struct store_cache_key *key, const char *user,
                                     size_t user_len, const struct store_message *messages,
                                     size_t count)
{
    if (count == 0 || writes->history_ttl_ms == 0 || !is_up(writes) ||
        !store_cache_writes_trusts(writes, key)) {
        return; /* Redis has no empty lists: an empty history stays a miss */
    }
    struct store_cache_call *call =
        store_cache_call_create(&store_cache_script_fill, key->bytes, key->len, 1 + count);
    if (call == NULL) {
        return;
    }
    call->done = on_script_done;
    int err = store_cache_call_add_number(call, (long long)writes->history_ttl_ms);
    if (err == 0) {
        err = add_messages(call, user, user_len, messages, count);
    }
    if (err == 0) {
        err = store_cache_call_send(call, writes->link);
    }
    if (err != 0) {
        store_cache_call_destroy(call);
    }
}

static int add_messages(struct store_cache_call *call, const char *user, size_t user_len,
                        const struct store_message *messages, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int err = store_cache_value_write_message(&call->bytes, user, user_len, &messages[i]);
        if (err != 0) {
            return err;
        }
        store_cache_call_end_argument(call);
    }
    return 0;
}

static void on_script_done(struct store_cache_call *call, int status)
{
    (void)call;
    (void)status;
}

/* ---- a finished turn ---- */

void store_cache_writes_append(struct store_cache_writes *writes, const struct store_cache_key *key,
                               const char *user, size_t user_len, const struct store_message *added,
                               size_t added_count, const struct store_message *window,
                               size_t window_count)
{
    int err = SL_E_NO_MEMORY;

    if (added_count == 0) {
        return;
    }
    if (!is_up(writes) || !store_cache_writes_trusts(writes, key)) {
        store_cache_writes_drop(writes, key);
    }
    if (!is_up(writes)) {
        return; /* without the work of encoding it all */
    }
    struct store_cache_call *call = store_cache_call_create(
        &store_cache_script_append, key->bytes, key->len, 3 + added_count + window_count);
    if (call != NULL) {
        call->done = on_append_done;
        call->context = writes;
        err = add_append(writes, call, user, user_len, added, added_count, window, window_count);
    }
    if (err == 0) {
        err = store_cache_call_send(call, writes->link);
    }
    if (err != 0) {
        store_cache_call_destroy(call);
        store_cache_writes_drop(writes, key);
    }
}

static int add_append(struct store_cache_writes *writes, struct store_cache_call *call,
                      const char *user, size_t user_len, const struct store_message *added,
                      size_t added_count, const struct store_message *window, size_t window_count)
{
    int err = store_cache_call_add_number(call, writes->history_messages);

    if (err == 0) {
        err = store_cache_call_add_number(call, (long long)writes->history_pending_ttl_ms);
    }
    if (err == 0) {
        err = store_cache_call_add_number(call, window != NULL ? (long long)window_count : -1);
    }
    if (err == 0 && window != NULL) {
        err = add_messages(call, user, user_len, window, window_count);
    }
    return err != 0 ? err : add_messages(call, user, user_len, added, added_count);
}

static void on_append_done(struct store_cache_call *call, int status)
{
    struct store_cache_writes *writes = call->context;
    struct store_text text = store_cache_call_key(call);
    struct store_cache_key key = {.len = text.len};

    if (status != 0 && !writes->closing) {
        memcpy(key.bytes, text.base, text.len);
        store_cache_writes_drop(writes, &key); /* it may lack this turn, or get it late */
    }
}

void store_cache_writes_shorten(struct store_cache_writes *writes,
                                const struct store_cache_key *key)
{
    struct store_cache_call *call =
        store_cache_call_create(&store_cache_script_shorten, key->bytes, key->len, 1);

    if (call == NULL) {
        return; /* it lives longer than need be */
    }
    call->done = on_script_done;
    if (store_cache_call_add_number(call, (long long)writes->history_ttl_ms) != 0 ||
        store_cache_call_send(call, writes->link) != 0) {
        store_cache_call_destroy(call);
    }
}

/* ---- dropping ---- */

void store_cache_writes_drop(struct store_cache_writes *writes, const struct store_cache_key *key)
{
    store_stale_keys_mark(&writes->stale, key->bytes, key->len, sl_loop_now_us(writes->loop));
    drop_waiting(writes);
    if (!store_cache_writes_trusts(writes, key) &&
        store_key_table_find(&writes->stale.table, key->bytes, key->len) == NULL) {
        (void)!send_drop(writes, key->bytes, key->len); /* no room to remember it: try once */
    }
}

static void drop_waiting(struct store_cache_writes *writes)
{
    while (writes->drops_under_way < DROPS_AT_ONCE) {
        struct store_stale_key *entry = store_stale_keys_take(&writes->stale);
        if (entry == NULL) {
            return;
        }
        const char *key = entry->node.key;
        size_t key_len = entry->node.key_len;
        if (send_drop(writes, key, key_len) != 0) {
            store_stale_keys_dropped(&writes->stale, key, key_len, false);
            sl_loop_arm(writes->loop, &writes->retry, RETRY_US);
            return;
        }
    }
}

static int send_drop(struct store_cache_writes *writes, const char *key, size_t key_len)
{
    struct store_cache_key copy = {.len = key_len};

    memcpy(copy.bytes, key, key_len);
    struct store_text args[] = {word("DEL"), key_text(&copy)};
    int err = send_simple(writes, &copy, on_drop_done, args, 2);
    if (err == 0) {
        writes->drops_under_way++;
    }
    return err;
}

static void on_drop_done(struct sl_op *op, int status)
{
    struct simple_write *write = SL_CONTAINER_OF(op, struct simple_write, command.op);
    struct store_cache_writes *writes = write->writes;

    writes->drops_under_way--;
    if (!writes->closing) {
        store_stale_keys_dropped(&writes->stale, write->key.bytes, write->key.len, status == 0);
        if (status == 0) {
            drop_waiting(writes);
        } else {
            sl_loop_arm(writes->loop, &writes->retry, RETRY_US);
        }
    }
    free(write);
}

static void on_retry(struct sl_timer *timer)
{
    struct store_cache_writes *writes = SL_CONTAINER_OF(timer, struct store_cache_writes, retry);

    if (is_up(writes)) {
        drop_waiting(writes); /* otherwise link_up does it */
    }
}

/* ---- sending ---- */

static int send_simple(struct store_cache_writes *writes, const struct store_cache_key *key,
                       sl_op_done_fn done, const struct store_text *args, size_t count)
{
    struct simple_write *write = calloc(1, sizeof(*write));

    if (write == NULL) {
        return SL_E_NO_MEMORY;
    }
    write->writes = writes;
    write->key = *key;
    write->command.op.done = done;
    int err = store_redis_link_send(writes->link, &write->command, args, count);
    if (err != 0) {
        free(write);
    }
    return err;
}

static void on_simple_done(struct sl_op *op, int status)
{
    (void)status;
    free(SL_CONTAINER_OF(op, struct simple_write, command.op));
}

static bool is_up(const struct store_cache_writes *writes)
{
    return store_redis_link_status(writes->link) == STORE_LINK_UP;
}

/* ---- the end ---- */

void store_cache_writes_close(struct store_cache_writes *writes)
{
    writes->closing = true;
    sl_loop_disarm(writes->loop, &writes->retry);
}

void store_cache_writes_dispose(struct store_cache_writes *writes)
{
    store_stale_keys_dispose(&writes->stale);
}

/* Whatever is in Redis now has expired after this time. */
static uint64_t longest_ttl_us(const struct store_cache_writes *writes)
{
    uint64_t longest_ms = writes->profile_ttl_ms * (100 + TTL_SPREAD_PERCENT) / 100 + 1;

    if (longest_ms < writes->history_pending_ttl_ms) {
        longest_ms = writes->history_pending_ttl_ms;
    }
    if (longest_ms < writes->history_ttl_ms) {
        longest_ms = writes->history_ttl_ms;
    }
    return longest_ms * 1000;
}

static struct store_text word(const char *text)
{
    return (struct store_text){text, strlen(text)};
}

static struct store_text key_text(const struct store_cache_key *key)
{
    return (struct store_text){key->bytes, key->len};
}
