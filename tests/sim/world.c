/* The simulated world: fakes of the store and the upstream under their production names. See world.h. */
#include "world.h"

#include <assert.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

struct world world;

static void on_log_line(void *context, const char *line, size_t len);
static void on_trace(void *context, struct gw_trace_record *record);
static void on_end(void *context);
static void on_quiet(void *context);
static void on_wake(struct gw_follower *follower);
static void finish_cancelled_read(struct sl_task *task);
static void finish_cancelled_save(struct sl_task *task);
static void finish_cancelled_call(struct sl_task *task);

static struct sl_task call_cancels[WORLD_CALLS];
static char *no_models[1];

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
    world.config.upstream.model = (char *)(uintptr_t) "demo";
    world.config.upstream.breaker_open_ms = 10000;
    world.config.cache.history_ttl_s = 60;
    world.config.writer.save_timeout_ms = 5000;
    world.config.tracing.sample_percent = 100;
    world.config.upstreams = world.upstream_configs;
    world.upstreams = (struct gw_upstreams){
        .loop = world.loop,
        .config = &world.config,
        .shared = &world.shared,
        .stats = &world.stats,
    };
    world_add_upstream("first", 0);
    gw_retry_budget_init(&world.upstreams.retries, GW_RETRY_RESERVE);
    gw_retry_budget_init(&world.upstreams.hedges, 1);
    world.shared.config = &world.config;
    assert_int_equal(gw_user_turns_create(16, &world.user_turns), 0);
    world.peers[0] = &world.turns;
    world.turns = (struct gw_turns){
        .loop = world.loop,
        .config = &world.config,
        .stats = &world.stats,
        .upstreams = &world.upstreams,
        .user_turns = world.user_turns,
        .peers = world.peers,
        .peers_count = 1,
        .kept_max_bytes = 1 << 20,
        .log_line = on_log_line,
        .take_trace = on_trace,
        .on_end = on_end,
        .on_quiet = on_quiet,
    };
    gw_turns_init(&world.turns);
}

void world_add_upstream(const char *name, unsigned priority)
{
    unsigned index = world.config.upstreams_count++;

    assert_true(index < WORLD_UPSTREAMS);
    world.upstream_configs[index] = (struct gw_upstream_config){
        .name = (char *)(uintptr_t)name,
        .provider = (char *)(uintptr_t) "openai",
        .models = no_models,
        .weight = 1,
        .priority = priority,
    };
    world.upstreams.of[index].provider = gw_provider_find("openai");
    world.upstreams.of[index].endpoint = (struct gw_upstream *)(uintptr_t)(index + 1);
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

    struct sl_uuid id = gw_turns_new_id(&world.turns);
    uint32_t ticket;
    assert_true(gw_user_turns_enter(world.user_turns, user.id, user.id_len, 16, &ticket));
    assert_int_equal(gw_turn_start(&world.turns, &id, &user, &request, ticket, "req-1",
                                   world.now_us, &world.turn),
                     0);
    world.feed = gw_turn_feed(world.turn);
    world.follower_offset = 0;
    world.events_count = 0;
    world.follower.wake = on_wake;
    gw_feed_follow(world.feed, &world.follower);
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
    uint32_t ticket;

    world_run();
    assert_null(world.profile);
    assert_null(world.history);
    assert_null(world.saves[0]);
    assert_null(world.saves[1]);
    for (unsigned i = 0; i < WORLD_CALLS; i++) {
        assert_null(world.calls[i]);
    }
    assert_int_equal(world.turns.running, 0);
    assert_int_equal(world.turns.away, 0);
    assert_true(sl_list_is_empty(&world.turns.all));
    assert_int_equal(sl_counter_get(&world.stats.log_bytes), 0);
    assert_true(gw_user_turns_enter(world.user_turns, "ada", 3, 1, &ticket)); /* none is counted */
    assert_int_equal(sl_loop_wait_ms(world.loop, 12345), 12345); /* no timer was left behind */
    gw_turns_finish(&world.turns);
    gw_user_turns_destroy(world.user_turns);
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
    unsigned which = 0;

    (void)body;
    if (world.upstream_start_status != 0) {
        return world.upstream_start_status;
    }
    while (world.calls[which] != NULL) {
        which++;
        assert_true(which < WORLD_CALLS);
    }
    sl_op_start(&call->op);
    world.calls[which] = call;
    world.called[which] = (unsigned)(uintptr_t)upstream - 1;
    world.calls_started++;
    call_cancels[which] = (struct sl_task){.run = finish_cancelled_call};
    return 0;
}

void gw_upstream_cancel(struct gw_upstream_call *call)
{
    for (unsigned i = 0; i < WORLD_CALLS; i++) {
        if (call->op.running && world.calls[i] == call) {
            sl_loop_defer(world.loop, &call_cancels[i]);
        }
    }
}

static void finish_cancelled_call(struct sl_task *task)
{
    world_finish_call((unsigned)(task - call_cancels), SL_E_CANCELLED, NULL);
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
    world_connect_call(0);
}

void world_connect_call(unsigned which)
{
    assert_non_null(world.calls[which]);
    world.calls[which]->connected = true;
    world.calls[which]->connected_us = world.now_us;
    world_run();
}

void world_send_delta(const char *content)
{
    world_send_delta_from(0, content);
}

void world_send_delta_from(unsigned which, const char *content)
{
    struct gw_delta delta = {.content = content, .content_len = strlen(content)};

    assert_non_null(world.calls[which]);
    int err = world.calls[which]->events->on_delta(world.calls[which], &delta);
    if (err != 0) {
        world_finish_call(which, err, NULL);
    }
    world_run();
}

void world_finish_upstream(int status, const char *finish_reason)
{
    world_finish_call(0, status, finish_reason);
}

void world_finish_call(unsigned which, int status, const char *finish_reason)
{
    struct gw_upstream_call *call = world.calls[which];

    assert_non_null(call);
    world.calls[which] = NULL;
    sl_loop_undefer(world.loop, &call_cancels[which]);
    if (finish_reason != NULL) {
        call->has_finish = true;
        (void)snprintf(call->finish_reason, sizeof(call->finish_reason), "%s", finish_reason);
    }
    sl_op_finish(&call->op, status);
    world_run();
}

void world_complete(void)
{
    world_run();
    if (world.profile != NULL) {
        world_finish_profile(0, NULL);
    }
    if (world.history != NULL) {
        world_finish_history(0);
    }
    for (unsigned i = 0; i < WORLD_CALLS; i++) {
        if (world.calls[i] != NULL) {
            world_connect_call(i);
            world_send_delta_from(i, "!");
            world_finish_call(i, 0, "stop");
        }
    }
    for (unsigned i = 0; i < WORLD_SAVES; i++) {
        if (world.saves[i] != NULL) {
            world_finish_save(i, 0);
        }
    }
    world_run();
}

/* ---------------------------------------------------------------- what can be seen */

static void on_wake(struct gw_follower *follower)
{
    struct gw_event event;

    while (gw_turn_log_read(&follower->feed->log, &world.follower_offset, &event)) {
        assert_true(world.events_count < 64);
        assert_int_equal(event.seq, world.events_count + 1);
        world.events[world.events_count].type = event.type;
        (void)snprintf(world.events[world.events_count].payload, 512, "%.*s",
                       (int)event.payload_len, event.payload);
        world.events_count++;
        if (event.type == SL_EVENT_TOKEN) {
            gw_feed_token_delivered(follower->feed);
        }
    }
    if (follower->feed->log.ended) {
        gw_feed_leave(follower, 0);
    }
}

static void on_log_line(void *context, const char *line, size_t len)
{
    (void)context;
    world.log_lines++;
    (void)snprintf(world.last_log_line, sizeof(world.last_log_line), "%.*s", (int)len, line);
}

/* However a turn ended: its stages are the whole of it, and its calls lie within the asking. */
static void on_trace(void *context, struct gw_trace_record *record)
{
    const struct gw_trace_stage *turn = &record->turn, *ask = &record->ask, *save = &record->save;
    unsigned answered = 0;

    (void)context;
    world.traces++;
    assert_true(record->context_stage.from_us == turn->from_us && save->to_us == turn->to_us);
    if (ask->to_us != 0) {
        assert_true(record->context_stage.to_us == ask->from_us && ask->to_us == save->from_us);
    } else {
        assert_true(record->context_stage.to_us == save->from_us);
        assert_int_equal(record->calls_count, 0);
    }
    for (size_t i = 0; i < record->calls_count; i++) {
        const struct gw_trace_call *call = &record->calls[i];
        assert_true(ask->from_us <= call->stage.from_us);
        assert_true(call->stage.from_us <= call->stage.to_us && call->stage.to_us <= ask->to_us);
        assert_false(call->called_off && call->stage.error != NULL);
        answered += call->answered;
    }
    assert_true(answered <= 1);
    assert_true(answered == 1 || record->stream.to_us == 0);
    free(record);
}

static void on_end(void *context)
{
    (void)context;
    world.ends++;
    assert_int_equal(world.traces, world.ends);
}

static void on_quiet(void *context)
{
    (void)context;
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
