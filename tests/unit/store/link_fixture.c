/* What the tests of the link share. See link_fixture.h. */
#include "link_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "connector_forget.h"

static void on_up(void *context);
static void on_done(struct sl_op *op, int status);
static void say_script(struct fake_redis *peer, const struct fake_redis_command *command);

struct sl_loop *loop;
struct store_client_stats stats;
struct store_redis_link *test_link;
struct answer answers[COMMANDS_MAX];
unsigned ups, finished;
uint64_t test_clock_us;

/* ------------------------------------------------------------------ the fake connector */

struct store_resolve *resolving;
unsigned resolves, forgets;
int resolve_error;

int store_connector_resolve(struct store_connector *connector, struct sl_loop *on_loop,
                            struct store_resolve *resolve)
{
    (void)connector;
    assert_ptr_equal(on_loop, loop);
    resolves++;
    if (resolve_error != 0) {
        return resolve_error;
    }
    assert_null(resolving);
    sl_op_start(&resolve->op);
    resolving = resolve;
    return 0;
}

void store_connector_forget(struct store_connector *connector, struct sl_loop *on_loop)
{
    (void)connector;
    (void)on_loop;
    forgets++;
    resolving = NULL;
}

void finish_resolving(const char *address, int status)
{
    struct store_resolve *resolve = resolving;

    assert_non_null(resolve);
    resolving = NULL;
    (void)snprintf(resolve->address, sizeof(resolve->address), "%s", address);
    sl_op_finish(&resolve->op, status);
}

/* ------------------------------------------------------------------ scaffolding */

int set_up(void **state)
{
    (void)state;
    memset(&stats, 0, sizeof(stats));
    memset(answers, 0, sizeof(answers));
    ups = finished = resolves = forgets = 0;
    resolve_error = 0;
    resolving = NULL;
    return sl_loop_create(&loop);
}

int tear_down(void **state)
{
    (void)state;
    store_redis_link_destroy(test_link);
    test_link = NULL;
    sl_loop_destroy(loop);
    return 0;
}

static void on_up(void *context)
{
    assert_ptr_equal(context, &ups);
    ups++;
}

void make_link(const char *url, unsigned timeout_ms)
{
    struct store_redis_link_config config = {
        .timeout_ms = timeout_ms, .up = on_up, .context = &ups};

    assert_int_equal(store_redis_url_parse(url, &config.url), 0);
    assert_int_equal(store_redis_link_create(loop, NULL, &config, &stats, &test_link), 0);
}

static void on_done(struct sl_op *op, int status)
{
    struct answer *answer = SL_CONTAINER_OF(op, struct answer, command.op);
    const struct redisReply *reply = answer->command.reply;

    answer->times++;
    answer->status = status;
    answer->type = store_redis_reply_type(reply);
    answer->integer = store_redis_reply_integer(reply);
    answer->count = store_redis_reply_count(reply);
    if (answer->type == STORE_REDIS_ARRAY) {
        for (size_t i = 0; i < answer->count; i++) {
            struct store_text text = store_redis_reply_text(store_redis_reply_element(reply, i));
            answer->text_len += (size_t)snprintf(
                answer->text + answer->text_len, sizeof(answer->text) - answer->text_len, "%s%.*s",
                i > 0 ? "," : "", (int)text.len, text.base != NULL ? text.base : "");
        }
    } else {
        struct store_text text = store_redis_reply_text(reply);
        answer->text_len = text.len;
        if (text.len > 0) {
            memcpy(answer->text, text.base,
                   text.len < sizeof(answer->text) ? text.len : sizeof(answer->text));
        }
    }
    finished++;
}

int send_args(unsigned i, const struct store_text *args, size_t count)
{
    memset(&answers[i], 0, sizeof(answers[i]));
    answers[i].command.op.done = on_done;
    return store_redis_link_send(test_link, &answers[i].command, args, count);
}

/* Sends the words of `line`. */
int send_line(unsigned i, const char *line)
{
    struct store_text args[16];
    size_t count = 0;

    while (*line != '\0') {
        size_t len = strcspn(line, " ");
        args[count++] = (struct store_text){line, len};
        line += line[len] == ' ' ? len + 1 : len;
    }
    return send_args(i, args, count);
}

bool is_up(void)
{
    return store_redis_link_status(test_link) == STORE_LINK_UP;
}

void run_turns(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        sl_loop_run_once(loop, 0);
    }
}

void stop_the_clock(void)
{
    test_clock_us = sl_loop_now_us(loop);
    sl_loop_set_test_clock(loop, &test_clock_us);
}

/* Moves the stopped clock past every backoff until the link is up (again). */
void run_until_up(void)
{
    for (int i = 0; i < 200 && !is_up(); i++) {
        test_clock_us += 100 * 1000;
        run_turns(5);
    }
    assert_true(is_up());
}

/* ------------------------------------------------------------------ the scripted server */

struct fake_redis fake;
const char *script; /* what the fake says to the next command, NULL: nothing */
bool hang_up_after;

static void say_script(struct fake_redis *peer, const struct fake_redis_command *command)
{
    (void)command;
    if (script != NULL) {
        fake_redis_say(peer, script);
    }
    if (hang_up_after) {
        fake_redis_hang_up(peer);
    }
}

void start_fake(unsigned timeout_ms)
{
    script = NULL;
    hang_up_after = false;
    fake_redis_start(&fake, loop, false);
    fake.answer = say_script;
    make_link(fake.url, timeout_ms);
    RUN_UNTIL(loop, is_up());
}

void answer_by_script(void)
{
    fake.answer = say_script;
}
