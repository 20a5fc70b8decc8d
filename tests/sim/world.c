/* The simulated world: fakes of the store and the upstream under their production names. See world.h. */
#include "world.h"

#include <assert.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

struct world world;

static void on_log_line(void *context, const char *line, size_t len);
static void on_end(void *context);
static void on_idle(void *context);
static void on_wake(struct gw_follower *follower);
static void finish_cancelled_read(struct sl_task *task);
static void finish_cancelled_save(struct sl_task *task);
static void finish_cancelled_call(struct sl_task *task);

static struct sl_task call_cancel;

void world_open(void)
{
    memset(&world, 0, sizeof(world));
    world.now_us = 1000000;
    assert_int_equal(sl_loop_create(&world.loop), 0);
    sl_loop_set_test_clock(world.loop, &world.now_us);
    world.config.log_level = (char *)(uintptr_t) "info";
    world.config.chat.system_prompt = (char *)(uintptr_t) "Be kind. {{profile}}";
    world.config.chat.history_messages = 10;
    world.config.chat.history_tokens = 1000;
    world.config.chat.disconnect_grace_s = 5;
    world.config.upstream.connect_timeout_ms = 2000;
    world.config.upstream.first_token_timeout_ms = 30000;
    world.config.upstream.idle_timeout_ms = 20000;
    world.config.upstream.total_timeout_ms = 600000;
    world.config.upstream.answer_max_bytes = 4096;
    world.config.writer.save_timeout_ms = 5000;
    world.turns = (struct gw_turns){
        .loop = world.loop,
        .config = &world.config,
        .stats = &world.stats,
        .log_line = on_log_line,
        .on_end = on_end,
        .on_idle = on_idle,
    };
    call_cancel = (struct sl_task){.run = finish_cancelled_call};
}

void world_start_turn(const char *message, bool has_session, enum gw_on_disconnect on_disconnect)
{
    struct gw_user user = {.id = "ada", .id_len = 3};
    struct gw_chat_request request = {
        .message = strdup(message),
        .message_len = strlen(message),
        .has_session = has_session,
        .session = sl_uuid_v7(),
        .model = strdup("demo"),
        .on_disconnect = on_disconnect,
        .stream = true,
    };

    assert_int_equal(
        gw_turn_start(&world.turns, &user, &request, "req-1", world.now_us, &world.turn), 0);
    world.follower.wake = on_wake;
    gw_turn_follow(world.turn, &world.follower);
    on_wake(&world.follower); /* a subscriber sends what is there when it starts */
}

void world_run(void)
{
    static bool running; /* a fake that finishes something inside a drain leaves the rest to it */

    if (running) {
        return;
    }
    running = true;
    while (sl_loop_has_tasks(world.loop)) {
        sl_loop_drain(world.loop);
    }
    running = false;
}

void world_advance_ms(uint64_t ms)
{
    world_run();
    world.now_us += ms * 1000;
    while (sl_loop_run_timers(world.loop) > 0) {
        world_run();
    }
    world_run();
}

void world_close(void)
{
    world_run();
    assert_null(world.profile);
    assert_null(world.history);
    assert_null(world.saves[0]);
    assert_null(world.saves[1]);
    assert_null(world.call);
    assert_null(world.turn);
    assert_null(world.turns.first);
    assert_int_equal(world.turns.running, 0);
    assert_int_equal(gw_turns_of_user(&world.turns, "ada", 3), 0);
    assert_int_equal(sl_loop_wait_ms(world.loop, 12345), 12345); /* no timer was left behind */
    sl_loop_destroy(world.loop);
}

/* ---------------------------------------------------------------- what the turn calls */

int store_save_message(struct store_client *client, struct store_save *save, const char *user,
                       size_t user_len, const struct sl_uuid *session,
                       const struct store_message *message)
{
    unsigned which = message->role == STORE_ROLE_USER ? 0 : 1;

    (void)client, (void)session;
    assert_int_equal(user_len, 3);
    assert_memory_equal(user, "ada", 3);
    if (world.save_start_status != 0) {
        return world.save_start_status;
    }
    if (which == 1) {
        world.answer_status = message->status;
        (void)snprintf(world.answer_text, sizeof(world.answer_text), "%.*s",
                       (int)message->content.len, message->content.base);
    }
    assert_null(world.saves[which]);
    sl_op_start(&save->op);
    save->finish = (struct sl_task){.run = finish_cancelled_save};
    world.saves[which] = save;
    world.saves_started++;
    return 0;
}

void store_save_cancel(struct store_save *save)
{
    if (save->op.running) {
        sl_loop_defer(world.loop, &save->finish);
    }
}

static void finish_cancelled_save(struct sl_task *task)
{
    struct store_save *save = SL_CONTAINER_OF(task, struct store_save, finish);

    world_finish_save(world.saves[0] == save ? 0 : 1, SL_E_CANCELLED);
}

int store_read_start(struct store_client *client, struct store_read *read)
{
    (void)client;
    sl_op_start(&read->op);
    read->finish = (struct sl_task){.run = finish_cancelled_read};
    if (read->kind == STORE_READ_PROFILE) {
        world.profile = read;
    } else {
        world.history = read;
    }
    return 0;
}

void store_read_cancel(struct store_read *read)
{
    if (read->op.running) {
        sl_loop_defer(world.loop, &read->finish);
    }
}

static void finish_cancelled_read(struct sl_task *task)
{
    struct store_read *read = SL_CONTAINER_OF(task, struct store_read, finish);

    if (read == world.profile) {
        world_finish_profile(SL_E_CANCELLED, NULL);
    } else {
        world_finish_history(SL_E_CANCELLED);
    }
}

void store_history_append(struct store_client *client, const char *user, size_t user_len,
                          const struct sl_uuid *session, const struct store_message *added,
                          size_t added_count, const struct store_message *window,
                          size_t window_count)
{
    (void)client, (void)user, (void)user_len, (void)session, (void)added;
    assert_int_equal(added_count, 2);
    world.appends++;
    world.window_known = window != NULL;
    world.window_count = window_count;
}

int gw_upstream_start(struct gw_upstream *upstream, struct gw_upstream_call *call,
                      struct sl_buffer *body)
{
    (void)upstream, (void)body;
    if (world.upstream_start_status != 0) {
        return world.upstream_start_status;
    }
    sl_op_start(&call->op);
    world.call = call;
    return 0;
}

void gw_upstream_cancel(struct gw_upstream_call *call)
{
    if (call->op.running) {
        sl_loop_defer(world.loop, &call_cancel);
    }
}

static void finish_cancelled_call(struct sl_task *task)
{
    (void)task;
    world_finish_upstream(SL_E_CANCELLED, NULL);
}

/* ---------------------------------------------------------------- what the test makes happen */

void world_finish_profile(int status, const char *json)
{
    struct store_read *read = world.profile;

    assert_non_null(read);
    world.profile = NULL;
    sl_loop_undefer(world.loop, &read->finish);
    sl_buffer_init(&read->text, 16384);
    if (json != NULL) {
        read->found = true;
        assert_int_equal(sl_buffer_append_str(&read->text, json), 0);
    }
    sl_op_finish(&read->op, status);
    world_run();
}

void world_finish_history(int status)
{
    struct store_read *read = world.history;

    assert_non_null(read);
    world.history = NULL;
    sl_loop_undefer(world.loop, &read->finish);
    sl_op_finish(&read->op, status);
    world_run();
}

void world_finish_save(unsigned which, int status)
{
    struct store_save *save = world.saves[which];

    assert_non_null(save);
    world.saves[which] = NULL;
    sl_loop_undefer(world.loop, &save->finish);
    sl_op_finish(&save->op, status);
    world_run();
}

void world_connect_upstream(void)
{
    assert_non_null(world.call);
    world.call->connected = true;
    world.call->connected_us = world.now_us;
    world.call->events->on_progress(world.call);
    world_run();
}

void world_send_delta(const char *content)
{
    struct gw_delta delta = {.content = content, .content_len = strlen(content)};

    assert_non_null(world.call);
    if (world.call->events->on_delta(world.call, &delta) != 0) {
        world_finish_upstream(SL_E_ANSWER_TOO_LONG, NULL);
    }
    world_run();
}

void world_finish_upstream(int status, const char *finish_reason)
{
    struct gw_upstream_call *call = world.call;

    assert_non_null(call);
    world.call = NULL;
    sl_loop_undefer(world.loop, &call_cancel);
    if (finish_reason != NULL) {
        call->has_finish = true;
        (void)snprintf(call->finish_reason, sizeof(call->finish_reason), "%s", finish_reason);
    }
    sl_op_finish(&call->op, status);
    world_run();
}

/* ---------------------------------------------------------------- what can be seen */

static void on_wake(struct gw_follower *follower)
{
    struct gw_event event;

    while (gw_turn_log_read(gw_turn_log(follower->turn), &world.follower_offset, &event)) {
        assert_true(world.events_count < 64);
        assert_int_equal(event.seq, world.events_count + 1);
        world.events[world.events_count].type = event.type;
        (void)snprintf(world.events[world.events_count].payload, 512, "%.*s",
                       (int)event.payload_len, event.payload);
        world.events_count++;
        if (event.type == SL_EVENT_TOKEN) {
            gw_turn_token_delivered(follower->turn);
        }
    }
    if (gw_turn_log(follower->turn)->ended) {
        gw_turn_unfollow(follower);
    }
}

static void on_log_line(void *context, const char *line, size_t len)
{
    (void)context;
    world.log_lines++;
    (void)snprintf(world.last_log_line, sizeof(world.last_log_line), "%.*s", (int)len, line);
}

static void on_end(void *context)
{
    (void)context;
    world.ends++;
}

static void on_idle(void *context)
{
    (void)context;
    world.turn = NULL;
}

bool world_saw(enum sl_event_type type, const char *text)
{
    for (unsigned i = 0; i < world.events_count; i++) {
        if (world.events[i].type == type &&
            (text == NULL || strstr(world.events[i].payload, text) != NULL)) {
            return true;
        }
    }
    return false;
}

unsigned world_count(enum sl_event_type type)
{
    unsigned count = 0;

    for (unsigned i = 0; i < world.events_count; i++) {
        count += world.events[i].type == type;
    }
    return count;
}
