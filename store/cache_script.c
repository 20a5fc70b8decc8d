/*
 * The Lua scripts of the cache, and running one.
 *
 * Happy path: create, add arguments, send EVALSHA sha 1 key args; done. Failure modes: NOSCRIPT is
 * answered by one EVAL; any other error is the caller's. Redis checks its memory limit before a
 * script's first write and lets it finish after that, so a list is not left without its expiry.
 * The elements are pushed one by one: Lua's unpack() fails on some thousands.
 *
 * A list is in the order of (time, id), as Postgres has it. A turn that began before one that ended
 * earlier belongs before the end of the list, which is then sorted as a whole. Time and id are found
 * by pattern: within a JSON string each quote has a backslash before it, so nobody's text matches.
 * What a fill from Postgres has already brought is taken out first, so that it takes no place twice.
 *
 * Thread: the link's loop. Ownership: a call that was sent frees itself; what it sends is in its own
 * buffer until then, because the second try needs it again.
 */
#include "cache_script.h"

#include <stdlib.h>
#include <string.h>

enum { CALL_BYTES_MAX = 32 * 1024 * 1024, WORDS_BEFORE_KEY = 3 };

const struct store_cache_script store_cache_script_fill = {
    .text = "if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end\n"
            "for i = 2, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end\n"
            "redis.call('PEXPIRE', KEYS[1], ARGV[1])\n"
            "return 1\n",
    .sha1 = "4403a1b33e0106ee7a93718e8afd37e0673d0d69",
};

const struct store_cache_script store_cache_script_append = {
    .text = "local function place(value)\n"
            "  local id, time = string.match(value, '\"i\":\"([^\"]*)\".-\"t\":(%d+),\"c\":')\n"
            "  return tonumber(time) or 0, id or ''\n"
            "end\n"
            "local function is_older(a, b)\n"
            "  local a_time, a_id = place(a)\n"
            "  local b_time, b_id = place(b)\n"
            "  if a_time ~= b_time then return a_time < b_time end\n"
            "  return a_id < b_id\n"
            "end\n"
            "local window = tonumber(ARGV[3])\n"
            "local added = 4 + math.max(window, 0)\n"
            "if redis.call('EXISTS', KEYS[1]) == 0 then\n"
            "  if window < 0 then return 0 end\n"
            "  for i = 4, added - 1 do redis.call('RPUSH', KEYS[1], ARGV[i]) end\n"
            "end\n"
            "for i = added, #ARGV do redis.call('LREM', KEYS[1], 0, ARGV[i]) end\n"
            "local last = redis.call('LINDEX', KEYS[1], -1)\n"
            "for i = added, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end\n"
            "if last and is_older(ARGV[added], last) then\n"
            "  local list = redis.call('LRANGE', KEYS[1], 0, -1)\n"
            "  table.sort(list, is_older)\n"
            "  redis.call('DEL', KEYS[1])\n"
            "  for i = 1, #list do redis.call('RPUSH', KEYS[1], list[i]) end\n"
            "end\n"
            "redis.call('LTRIM', KEYS[1], -tonumber(ARGV[1]), -1)\n"
            "redis.call('PEXPIRE', KEYS[1], ARGV[2])\n"
            "return 1\n",
    .sha1 = "4b22bcd90c7a2b8e81596dbd454fbcee71dfdbbd",
};

const struct store_cache_script store_cache_script_shorten = {
    .text = "local left = redis.call('PTTL', KEYS[1])\n"
            "if left == -2 or (left >= 0 and left <= tonumber(ARGV[1])) then return 0 end\n"
            "return redis.call('PEXPIRE', KEYS[1], ARGV[1])\n",
    .sha1 = "31d355070a6b4f35dec6327cecc39c0308b6b31a",
};

static int send_with(struct store_cache_call *call, const char *verb, const char *script);
static void on_done(struct sl_op *op, int status);
static void on_loaded(struct sl_op *op, int status);
static struct store_text word(const char *text);

struct store_cache_call *store_cache_call_create(const struct store_cache_script *script,
                                                 const char *key, size_t key_len, size_t args_max)
{
    struct store_cache_call *call = calloc(1, sizeof(*call) + (args_max + 1) * sizeof(size_t));

    if (call == NULL) {
        return NULL;
    }
    call->script = script;
    call->count_max = args_max + 1;
    call->command.op.done = on_done;
    sl_buffer_init(&call->bytes, CALL_BYTES_MAX);
    if (sl_buffer_append(&call->bytes, key, key_len) != 0) {
        store_cache_call_destroy(call);
        return NULL;
    }
    store_cache_call_end_argument(call);
    return call;
}

int store_cache_call_add_number(struct store_cache_call *call, long long number)
{
    int err = sl_buffer_appendf(&call->bytes, "%lld", number);

    if (err == 0) {
        store_cache_call_end_argument(call);
    }
    return err;
}

void store_cache_call_end_argument(struct store_cache_call *call)
{
    assert(call->count < call->count_max);
    call->ends[call->count++] = call->bytes.len;
}

struct store_text store_cache_call_key(const struct store_cache_call *call)
{
    return (struct store_text){call->bytes.base, call->ends[0]};
}

int store_cache_call_send(struct store_cache_call *call, struct store_redis_link *link)
{
    call->link = link;
    return send_with(call, "EVALSHA", call->script->sha1);
}

static int send_with(struct store_cache_call *call, const char *verb, const char *script)
{
    size_t count = WORDS_BEFORE_KEY + call->count, start = 0;
    struct store_text *args = calloc(count, sizeof(*args));

    if (args == NULL) {
        return SL_E_NO_MEMORY;
    }
    args[0] = word(verb);
    args[1] = word(script);
    args[2] = word("1");
    for (size_t i = 0; i < call->count; i++) {
        args[WORDS_BEFORE_KEY + i] =
            (struct store_text){call->bytes.base + start, call->ends[i] - start};
        start = call->ends[i];
    }
    int err = store_redis_link_send(call->link, &call->command, args, count);
    free(args);
    return err;
}

static void on_done(struct sl_op *op, int status)
{
    struct store_cache_call *call = SL_CONTAINER_OF(op, struct store_cache_call, command.op);

    if (store_redis_reply_is_error(call->command.reply, "NOSCRIPT")) {
        status = send_with(call, "EVAL", call->script->text);
        if (status == 0) {
            return;
        }
    }
    call->done(call, status);
    store_cache_call_destroy(call);
}

void store_cache_call_destroy(struct store_cache_call *call)
{
    if (call != NULL) {
        sl_buffer_dispose(&call->bytes);
        free(call);
    }
}

/* ---- loading ---- */

void store_cache_script_load_all(struct store_redis_link *link)
{
    const struct store_cache_script *scripts[] = {
        &store_cache_script_fill, &store_cache_script_append, &store_cache_script_shorten};

    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        struct store_text args[] = {word("SCRIPT"), word("LOAD"), word(scripts[i]->text)};
        struct store_redis_command *command = calloc(1, sizeof(*command));
        if (command == NULL) {
            return;
        }
        command->op.done = on_loaded;
        if (store_redis_link_send(link, command, args, 3) != 0) {
            free(command);
            return;
        }
    }
}

static void on_loaded(struct sl_op *op, int status)
{
    (void)status;
    free(SL_CONTAINER_OF(op, struct store_redis_command, op));
}

static struct store_text word(const char *text)
{
    return (struct store_text){text, strlen(text)};
}
