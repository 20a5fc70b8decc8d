/*
 * The life of a turn, in time order.
 *
 * Happy path:
 *   1. start: the log is opened with `session_id`. Whoever follows sends it before anything else is
 *      done: no store, no other thread and no model has been touched yet.
 *   2. BORN: the first tick, still in the same turn of the loop, asks for profile and history and hands
 *      the question to the store. CONTEXT: both reads come back (or are late: then a `warning` names
 *      what is missing).
 *   3. ASK: the prompt is built and sent; the question becomes durable on the side (`accepted`).
 *   4. STREAM: deltas become `token` events; followers send what is new.
 *   5. SAVE: the answer goes to the store; when both messages are durable the history cache gets them.
 *   6. DONE: `done` or `error`; the turn frees itself when nobody follows it any more.
 *
 * Failure modes: everything that can go wrong calls fail(), which keeps the first error; the tick then
 * takes back what is under way and walks on to SAVE, so that success, failure, a client that left, a
 * deadline and a shutdown all leave by the same door.
 *
 * Library callbacks (on_read, on_delta, on_answer, on_saved) record a result and queue the tick; the
 * tick alone moves the state. Thread: the loop of birth. Ownership: the turn owns itself.
 */
#include "turn.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config.h"
#include "provider.h"
#include "sluice/text.h"
#include "stats.h"
#include "turn_state.h"

enum { PROMPT_MAX_BYTES = 8 << 20, EVENT_TEXT_MAX = 16384 /* bytes of text in one event */ };

static void tick(struct sl_task *task);
static void move(struct gw_turn *turn, enum gw_turn_state next);
static void fail(struct gw_turn *turn, int error);
static void load_context(struct gw_turn *turn);
static void announce_question(struct gw_turn *turn);
static bool context_is_loading(struct gw_turn *turn);
static void warn_of_missing_context(struct gw_turn *turn);
static int ask(struct gw_turn *turn);
static void save(struct gw_turn *turn);
static bool is_saving(const struct gw_turn *turn);
static void finish(struct gw_turn *turn);
static void publish(struct gw_turn *turn);
static void arm_deadline(struct gw_turn *turn);
static void on_deadline(struct sl_timer *timer);
static void on_profile(struct sl_op *op, int status);
static void on_history(struct sl_op *op, int status);
static int on_delta(struct gw_upstream_call *call, const struct gw_delta *delta);
static void on_progress(struct gw_upstream_call *call);
static void on_answer(struct sl_op *op, int status);
static void on_question_saved(struct sl_op *op, int status);
static void on_answer_saved(struct sl_op *op, int status);
static int append_text(struct gw_turn *turn, enum sl_event_type type, const char *text, size_t len);
static void unlink_turn(struct gw_turn *turn);
static void destroy(struct gw_turn *turn);
static struct gw_turn **user_bucket(struct gw_turns *turns, const char *user, size_t len);
static int64_t unix_now_us(void);

static const struct gw_upstream_events upstream_events = {on_delta, on_progress};

/* ---------------------------------------------------------------- birth */

int gw_turn_start(struct gw_turns *turns, const struct gw_user *user,
                  struct gw_chat_request *request, const char *request_id, uint64_t received_us,
                  struct gw_turn **ret_turn)
{
    struct gw_turn *turn = calloc(1, sizeof(*turn));

    if (turn == NULL) {
        return SL_E_NO_MEMORY;
    }
    turn->turns = turns;
    turn->config = turns->config;
    turn->tick.run = tick;
    turn->timer.expired = on_deadline;
    turn->received_us = received_us;
    turn->question_at_us = unix_now_us();
    turn->id = sl_uuid_v7();
    turn->question_id = sl_uuid_v7();
    turn->answer_id = sl_uuid_v7();
    turn->session = request->has_session ? request->session : sl_uuid_v7();
    sl_uuid_format(&turn->id, turn->id_text);
    sl_uuid_format(&turn->session, turn->session_text);
    (void)strncpy(turn->request_id, request_id, sizeof(turn->request_id) - 1);
    turn->user = *user;
    turn->request = *request;
    gw_turn_log_init(&turn->log, 4 * turn->config->upstream.answer_max_bytes + 65536);
    sl_buffer_init(&turn->answer, turn->config->upstream.answer_max_bytes);

    gw_turn_say_session(turn);
    memset(request, 0, sizeof(*request));
    turn->published_seq = turn->log.last_seq;

    turn->next = turns->first;
    turn->prev_next = &turns->first;
    if (turn->next != NULL) {
        turn->next->prev_next = &turn->next;
    }
    turns->first = turn;
    struct gw_turn **bucket = user_bucket(turns, user->id, user->id_len);
    turn->user_next = *bucket;
    turn->user_prev_next = bucket;
    if (turn->user_next != NULL) {
        turn->user_next->user_prev_next = &turn->user_next;
    }
    *bucket = turn;
    turns->running++;
    sl_counter_add(&turns->stats->turns_started, 1);
    sl_loop_defer(turns->loop, &turn->tick);
    *ret_turn = turn;
    return 0;
}

/* The question to the store, profile and history asked for: in parallel, none of it waited for. */
static void load_context(struct gw_turn *turn)
{
    struct gw_turns *turns = turn->turns;
    const struct store_message question = {
        .id = turn->question_id,
        .turn_id = turn->id,
        .role = STORE_ROLE_USER,
        .status = STORE_STATUS_COMPLETE,
        .created_at_us = turn->question_at_us,
        .content = {turn->request.message, turn->request.message_len},
        .prompt_tokens = -1,
        .completion_tokens = -1,
        .ttft_ms = -1,
    };

    turn->profile.op.done = on_profile;
    turn->profile.kind = STORE_READ_PROFILE;
    turn->profile.user = turn->user.id;
    turn->profile.user_len = turn->user.id_len;
    turn->profile_status = store_read_start(turns->store, &turn->profile);
    /* A session that was made just now has no history to ask for. */
    if (turn->request.has_session && turn->config->chat.history_messages > 0) {
        turn->history.op.done = on_history;
        turn->history.kind = STORE_READ_HISTORY;
        turn->history.user = turn->user.id;
        turn->history.user_len = turn->user.id_len;
        turn->history.session = turn->session;
        turn->history.limit = turn->config->chat.history_messages;
        turn->history.without_turn = turn->id;
        turn->history_status = store_read_start(turns->store, &turn->history);
    }
    turn->question_save.op.done = on_question_saved;
    turn->question_save_status =
        store_save_message(turns->store, &turn->question_save, turn->user.id, turn->user.id_len,
                           &turn->session, &question);
    if (turn->question_save_status != 0) {
        fail(turn,
             turn->question_save_status); /* refused since admission: the model is not asked */
    }
}

/* ---------------------------------------------------------------- the story */

static void tick(struct sl_task *task)
{
    struct gw_turn *turn = SL_CONTAINER_OF(task, struct gw_turn, tick);

    announce_question(turn);
    for (;;) {
        switch (turn->state) {
        case GW_TURN_BORN:
            load_context(turn);
            move(turn, GW_TURN_CONTEXT);
            continue;

        case GW_TURN_CONTEXT:
            if (context_is_loading(turn)) {
                goto suspend;
            }
            turn->context_done_us = sl_loop_now_us(turn->turns->loop);
            warn_of_missing_context(turn);
            if (turn->error == 0) {
                int err = ask(turn);
                if (err != 0) {
                    fail(turn, err);
                }
            }
            move(turn, turn->error == 0 ? GW_TURN_ASK : GW_TURN_SAVE);
            continue;

        case GW_TURN_ASK:
            if (turn->error == 0 && turn->log.token_count > 0) {
                move(turn, GW_TURN_STREAM);
                continue;
            }
            __attribute__((
                fallthrough)); /* what ends a stream can also strike before its first token */
        case GW_TURN_STREAM:
            if (turn->call.op.running) {
                if (turn->error != 0) {
                    gw_upstream_cancel(&turn->call);
                }
                goto suspend;
            }
            if (turn->call_status != 0) {
                fail(turn, turn->call_status);
            }
            move(turn, GW_TURN_SAVE);
            continue;

        case GW_TURN_SAVE:
            if (turn->answered_us == 0) {
                save(turn);
            }
            if (is_saving(turn)) {
                goto suspend;
            }
            announce_question(turn);
            finish(turn);
            move(turn, GW_TURN_DONE);
            continue;

        case GW_TURN_DONE:
            publish(turn);
            if (turn->followers == NULL) {
                destroy(turn);
            }
            return;
        }
    }
suspend:
    publish(turn);
    arm_deadline(turn);
}

/* CONTEXT */

static void announce_question(struct gw_turn *turn)
{
    if (turn->question_announced || turn->question_save.op.running || turn->log.ended ||
        turn->state == GW_TURN_BORN) {
        return;
    }
    turn->question_announced = true;
    if (turn->question_save_status == 0) {
        gw_turn_say_accepted(turn);
    }
}

static bool context_is_loading(struct gw_turn *turn)
{
    if (!turn->profile.op.running && !turn->history.op.running) {
        return false;
    }
    if (turn->error != 0 && !turn->ops_cancelled) {
        turn->ops_cancelled = true;
        store_read_cancel(&turn->profile);
        store_read_cancel(&turn->history);
    }
    return true;
}

static void warn_of_missing_context(struct gw_turn *turn)
{
    if (turn->error != 0) {
        return;
    }
    if (turn->profile_status != 0) {
        sl_counter_add(&turn->turns->stats->warnings_profile, 1);
        gw_turn_say_warning(turn, "profile_unavailable",
                            "Your profile could not be loaded in time.");
    }
    if (turn->history_status != 0 || turn->history.partial) {
        sl_counter_add(&turn->turns->stats->warnings_history, 1);
        gw_turn_say_warning(turn, "history_unavailable",
                            "Earlier messages could not be loaded in time.");
    }
    if (turn->request.use_rag) {
        sl_counter_add(&turn->turns->stats->warnings_rag, 1);
        gw_turn_say_warning(turn, "rag_unavailable",
                            "Document search is not available on this server.");
    }
}

/* ASK */

static int ask(struct gw_turn *turn)
{
    struct sl_buffer body;
    struct gw_prompt prompt = {
        .system_template = turn->config->chat.system_prompt,
        .history = turn->history.messages,
        .history_count = turn->history_status == 0 ? turn->history.count : 0,
        .history_tokens = turn->config->chat.history_tokens,
        .message = {turn->request.message, turn->request.message_len},
        .model = {turn->request.model, strlen(turn->request.model)},
        .has_temperature = turn->request.has_temperature,
        .temperature = turn->request.temperature,
        .has_max_tokens = turn->request.has_max_tokens,
        .max_tokens = turn->request.max_tokens,
    };

    if (turn->profile_status == 0 && turn->profile.found) {
        prompt.profile = (struct store_text){turn->profile.text.base, turn->profile.text.len};
    }
    sl_buffer_init(&body, PROMPT_MAX_BYTES);
    int err = gw_provider_find("openai")->build(&prompt, &body, &turn->history_used,
                                                &turn->prompt_tokens_estimate);
    if (err == 0) {
        turn->asked_us = sl_loop_now_us(turn->turns->loop);
        turn->call.op.done = on_answer;
        turn->call.events = &upstream_events;
        turn->call.prompt_tokens = turn->call.completion_tokens = -1;
        err = gw_upstream_start(turn->turns->upstream, &turn->call, &body);
    }
    sl_buffer_dispose(&body);
    return err;
}

/* STREAM: on_delta and append_text below do the work as the bytes come in */

/* SAVE */

static void save(struct gw_turn *turn)
{
    struct gw_turns *turns = turn->turns;
    int32_t prompt_tokens, completion_tokens;

    turn->answered_us = sl_loop_now_us(turns->loop);
    turn->status = turn->error == 0                    ? STORE_STATUS_COMPLETE
                   : turn->error == SL_E_CLIENT_GONE   ? STORE_STATUS_CANCELLED
                   : turn->error == SL_E_SHUTTING_DOWN ? STORE_STATUS_INTERRUPTED
                                                       : STORE_STATUS_FAILED;
    gw_turn_usage(turn, &prompt_tokens, &completion_tokens);
    turn->answer_save_status = gw_turn_log_text(&turn->log, SL_EVENT_TOKEN, &turn->answer);
    if (turn->answer_save_status != 0) {
        return;
    }
    const struct store_message answer = {
        .id = turn->answer_id,
        .turn_id = turn->id,
        .role = STORE_ROLE_ASSISTANT,
        .status = turn->status,
        .created_at_us = unix_now_us(),
        .content = {turn->answer.len > 0 ? turn->answer.base : "", turn->answer.len},
        .model = {turn->request.model, strlen(turn->request.model)},
        .finish_reason = {turn->call.has_finish ? turn->call.finish_reason : NULL,
                          strlen(turn->call.finish_reason)},
        .prompt_tokens = prompt_tokens,
        .completion_tokens = completion_tokens,
        .ttft_ms = gw_turn_ttft_ms(turn),
    };
    turn->answer_save.op.done = on_answer_saved;
    turn->answer_save_status = store_save_message(turns->store, &turn->answer_save, turn->user.id,
                                                  turn->user.id_len, &turn->session, &answer);
    /* The next turn of this session must see this one at once, from any instance. */
    const struct store_message added[2] = {
        {.id = turn->question_id,
         .turn_id = turn->id,
         .role = STORE_ROLE_USER,
         .status = STORE_STATUS_COMPLETE,
         .created_at_us = turn->question_at_us,
         .content = {turn->request.message, turn->request.message_len}},
        answer,
    };
    bool window_known =
        !turn->request.has_session || (turn->history_status == 0 && !turn->history.partial);
    static const struct store_message nothing[1];
    store_history_append(turns->store, turn->user.id, turn->user.id_len, &turn->session, added, 2,
                         !window_known              ? NULL
                         : turn->history.count == 0 ? nothing
                                                    : turn->history.messages,
                         window_known ? turn->history.count : 0);
}

static bool is_saving(const struct gw_turn *turn)
{
    return turn->question_save.op.running || turn->answer_save.op.running;
}

/* DONE */

static void finish(struct gw_turn *turn)
{
    turn->saved_us = sl_loop_now_us(turn->turns->loop);
    turn->saved = turn->question_save_status == 0 && turn->answer_save_status == 0;
    if (!turn->saved && turn->error == 0) {
        turn->error = SL_E_STORAGE_UNAVAILABLE;
        turn->error_state = GW_TURN_SAVE;
    }
    if (turn->error == 0) {
        gw_turn_say_done(turn);
    } else {
        gw_turn_say_error(turn);
    }
    turn->turns->running--;
    sl_counter_add(&turn->turns->stats->turns_ended, 1);
    *turn->user_prev_next = turn->user_next;
    if (turn->user_next != NULL) {
        turn->user_next->user_prev_next = turn->user_prev_next;
    }
    gw_turn_report(turn);
    turn->turns->on_end(turn->turns->context);
}

static void destroy(struct gw_turn *turn)
{
    struct gw_turns *turns = turn->turns;

    sl_loop_undefer(turns->loop, &turn->tick);
    sl_loop_disarm(turns->loop, &turn->timer);
    store_read_dispose(&turn->profile);
    store_read_dispose(&turn->history);
    gw_turn_log_dispose(&turn->log);
    sl_buffer_dispose(&turn->answer);
    gw_chat_request_dispose(&turn->request);
    bool was_linked = turn->prev_next != NULL;
    unlink_turn(turn);
    free(turn);
    if (was_linked && turns->first == NULL) {
        turns->on_idle(turns->context);
    }
}

static void unlink_turn(struct gw_turn *turn)
{
    if (turn->prev_next == NULL) {
        return;
    }
    *turn->prev_next = turn->next;
    if (turn->next != NULL) {
        turn->next->prev_next = turn->prev_next;
    }
}

/* ---------------------------------------------------------------- moves, errors, deadlines */

static void move(struct gw_turn *turn, enum gw_turn_state next)
{
    /* Rows: from. The only way back is none: a turn moves forward, or skips ahead to SAVE. */
    static const bool allowed[GW_TURN_STATES][GW_TURN_STATES] = {
        [GW_TURN_BORN] = {[GW_TURN_CONTEXT] = true},
        [GW_TURN_CONTEXT] = {[GW_TURN_ASK] = true, [GW_TURN_SAVE] = true},
        [GW_TURN_ASK] = {[GW_TURN_STREAM] = true, [GW_TURN_SAVE] = true},
        [GW_TURN_STREAM] = {[GW_TURN_SAVE] = true},
        [GW_TURN_SAVE] = {[GW_TURN_DONE] = true},
    };

    assert(allowed[turn->state][next]);
    gw_turn_trace(turn, next);
    turn->state = next;
}

/* Keeps the first error and where it struck; the tick takes it from there. */
static void fail(struct gw_turn *turn, int error)
{
    if (turn->error != 0 || turn->state >= GW_TURN_SAVE) {
        return;
    }
    turn->error = error;
    turn->error_state = turn->state;
    sl_loop_defer(turn->turns->loop, &turn->tick);
}

/* The next moment at which time alone changes something, and the error that it brings. */
static uint64_t next_deadline_us(const struct gw_turn *turn, int *ret_error)
{
    const struct gw_config *config = turn->config;
    struct {
        bool applies;
        uint64_t from_us;
        uint64_t ms;
        int error;
    } const rows[] = {
        {turn->state == GW_TURN_ASK && !turn->call.connected, turn->asked_us,
         config->upstream.connect_timeout_ms, SL_E_UPSTREAM_CONNECT_TIMEOUT},
        {turn->state == GW_TURN_ASK, turn->asked_us, config->upstream.first_token_timeout_ms,
         SL_E_UPSTREAM_FIRST_TOKEN_TIMEOUT},
        {turn->state == GW_TURN_STREAM, turn->last_delta_us, config->upstream.idle_timeout_ms,
         SL_E_UPSTREAM_IDLE_TIMEOUT},
        {turn->state == GW_TURN_ASK || turn->state == GW_TURN_STREAM, turn->asked_us,
         config->upstream.total_timeout_ms, SL_E_UPSTREAM_TOTAL_TIMEOUT},
        {turn->state == GW_TURN_SAVE, turn->answered_us, config->writer.save_timeout_ms,
         SL_E_STORAGE_UNAVAILABLE},
        {turn->state < GW_TURN_SAVE && turn->gone_us != 0, turn->gone_us,
         1000UL * config->chat.disconnect_grace_s, SL_E_CLIENT_GONE},
    };
    uint64_t first_us = UINT64_MAX;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t due_us = rows[i].from_us + rows[i].ms * 1000;
        if (rows[i].applies && due_us < first_us) {
            first_us = due_us;
            *ret_error = rows[i].error;
        }
    }
    return first_us;
}

/*
 * One timer per turn. A deadline that moves away (each token moves the one for silence) does not touch
 * the timer: it expires early, finds nothing due, and is armed for the rest.
 */
static void arm_deadline(struct gw_turn *turn)
{
    int error = 0;
    uint64_t due_us = next_deadline_us(turn, &error);
    uint64_t now_us = sl_loop_now_us(turn->turns->loop);

    if (due_us == UINT64_MAX) {
        return;
    }
    if (turn->timer.heap_index != 0 && turn->timer.due_us <= due_us) {
        return;
    }
    sl_loop_arm(turn->turns->loop, &turn->timer, due_us > now_us ? due_us - now_us : 0);
}

static void on_deadline(struct sl_timer *timer)
{
    struct gw_turn *turn = SL_CONTAINER_OF(timer, struct gw_turn, timer);
    int error = 0;

    if (next_deadline_us(turn, &error) <= sl_loop_now_us(turn->turns->loop)) {
        if (turn->state == GW_TURN_SAVE) {
            store_save_cancel(&turn->question_save);
            store_save_cancel(&turn->answer_save);
            return;
        }
        fail(turn, error);
        return;
    }
    arm_deadline(turn);
}

/* ---------------------------------------------------------------- callbacks: record and wake */

static void on_profile(struct sl_op *op, int status)
{
    struct gw_turn *turn = SL_CONTAINER_OF(op, struct gw_turn, profile.op);

    turn->profile_status = status;
    turn->profile_done_us = sl_loop_now_us(turn->turns->loop);
    sl_loop_defer(turn->turns->loop, &turn->tick);
}

static void on_history(struct sl_op *op, int status)
{
    struct gw_turn *turn = SL_CONTAINER_OF(op, struct gw_turn, history.op);

    turn->history_status = status;
    turn->history_done_us = sl_loop_now_us(turn->turns->loop);
    sl_loop_defer(turn->turns->loop, &turn->tick);
}

static int on_delta(struct gw_upstream_call *call, const struct gw_delta *delta)
{
    struct gw_turn *turn = SL_CONTAINER_OF(call, struct gw_turn, call);

    if (turn->error != 0) {
        return SL_E_CANCELLED;
    }
    if (delta->content_len + delta->reasoning_len == 0) {
        return 0; /* role chunks and pings reset no timer */
    }
    int err = append_text(turn, SL_EVENT_REASONING, delta->reasoning, delta->reasoning_len);
    if (err == 0) {
        err = append_text(turn, SL_EVENT_TOKEN, delta->content, delta->content_len);
    }
    if (err != 0) {
        return SL_E_ANSWER_TOO_LONG;
    }
    turn->last_delta_us = sl_loop_now_us(turn->turns->loop);
    if (turn->first_delta_us == 0) {
        turn->first_delta_us = turn->last_delta_us;
    }
    if (turn->first_token_us == 0 && delta->content_len > 0) {
        turn->first_token_us = turn->last_delta_us;
    }
    sl_loop_defer(turn->turns->loop, &turn->tick);
    return 0;
}

static int append_text(struct gw_turn *turn, enum sl_event_type type, const char *text, size_t len)
{
    size_t so_far = turn->log.token_bytes + turn->log.reasoning_bytes;

    if (so_far + len > turn->config->upstream.answer_max_bytes) {
        return SL_E_LIMIT;
    }
    while (len > 0) {
        size_t n = sl_utf8_cut(text, len, EVENT_TEXT_MAX);
        int err = gw_turn_log_append(&turn->log, type, text, n);
        if (err != 0) {
            return err;
        }
        text += n;
        len -= n;
    }
    return 0;
}

static void on_progress(struct gw_upstream_call *call)
{
    struct gw_turn *turn = SL_CONTAINER_OF(call, struct gw_turn, call);

    sl_loop_defer(turn->turns->loop, &turn->tick);
}

static void on_answer(struct sl_op *op, int status)
{
    struct gw_turn *turn = SL_CONTAINER_OF(op, struct gw_turn, call.op);

    turn->call_status = status;
    sl_loop_defer(turn->turns->loop, &turn->tick);
}

static void on_question_saved(struct sl_op *op, int status)
{
    struct gw_turn *turn = SL_CONTAINER_OF(op, struct gw_turn, question_save.op);

    turn->question_save_status = status;
    sl_loop_defer(turn->turns->loop, &turn->tick);
}

static void on_answer_saved(struct sl_op *op, int status)
{
    struct gw_turn *turn = SL_CONTAINER_OF(op, struct gw_turn, answer_save.op);

    turn->answer_save_status = status;
    sl_loop_defer(turn->turns->loop, &turn->tick);
}

/* ---------------------------------------------------------------- followers */

static void publish(struct gw_turn *turn)
{
    if (turn->published_seq == turn->log.last_seq) {
        return;
    }
    turn->published_seq = turn->log.last_seq;
    for (struct gw_follower *follower = turn->followers, *next; follower != NULL; follower = next) {
        next = follower->next; /* a follower that is done unfollows inside wake */
        follower->wake(follower);
    }
}

void gw_turn_follow(struct gw_turn *turn, struct gw_follower *follower)
{
    follower->turn = turn;
    follower->next = turn->followers;
    follower->prev_next = &turn->followers;
    if (follower->next != NULL) {
        follower->next->prev_next = &follower->next;
    }
    turn->followers = follower;
    turn->gone_us = 0;
}

void gw_turn_unfollow(struct gw_follower *follower)
{
    struct gw_turn *turn = follower->turn;

    if (turn == NULL) {
        return;
    }
    *follower->prev_next = follower->next;
    if (follower->next != NULL) {
        follower->next->prev_next = follower->prev_next;
    }
    follower->turn = NULL;
    if (turn->state == GW_TURN_DONE) {
        sl_loop_defer(turn->turns->loop, &turn->tick); /* to free itself */
    }
}

void gw_turn_client_gone(struct gw_follower *follower, int reason)
{
    struct gw_turn *turn = follower->turn;

    if (turn == NULL) {
        return;
    }
    gw_turn_unfollow(follower);
    if (turn->followers != NULL || turn->state >= GW_TURN_SAVE ||
        turn->request.on_disconnect == GW_DISCONNECT_CONTINUE || reason == SL_E_SLOW_READER) {
        return;
    }
    turn->gone_us = sl_loop_now_us(turn->turns->loop);
    arm_deadline(turn);
}

void gw_turn_token_delivered(struct gw_turn *turn)
{
    if (turn->token_delivered_us != 0) {
        return;
    }
    turn->token_delivered_us = sl_loop_now_us(turn->turns->loop);
    sl_histogram_record(&turn->turns->stats->ttft, turn->token_delivered_us - turn->received_us);
    sl_histogram_record(&turn->turns->stats->added,
                        turn->token_delivered_us - turn->first_token_us);
}

/* ---------------------------------------------------------------- all turns of a loop */

void gw_turns_end_all(struct gw_turns *turns, int reason)
{
    for (struct gw_turn *turn = turns->first; turn != NULL; turn = turn->next) {
        fail(turn, reason);
    }
}

size_t gw_turns_of_user(const struct gw_turns *turns, const char *user, size_t user_len)
{
    size_t count = 0;

    for (const struct gw_turn *turn =
             *user_bucket((struct gw_turns *)(uintptr_t)turns, user, user_len);
         turn != NULL; turn = turn->user_next) {
        count += turn->user.id_len == user_len && memcmp(turn->user.id, user, user_len) == 0;
    }
    return count;
}

/* FNV-1a: users are authenticated, so nobody can choose ids that collide. */
static struct gw_turn **user_bucket(struct gw_turns *turns, const char *user, size_t len)
{
    uint32_t hash = 2166136261U;

    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ (unsigned char)user[i]) * 16777619U;
    }
    return &turns->by_user[hash % GW_TURNS_USER_BUCKETS];
}

/* ---------------------------------------------------------------- looks inside */

const char *gw_turn_id(const struct gw_turn *turn)
{
    return turn->id_text;
}

const char *gw_turn_session_id(const struct gw_turn *turn)
{
    return turn->session_text;
}

const struct gw_turn_log *gw_turn_log(const struct gw_turn *turn)
{
    return &turn->log;
}

int gw_turn_error(const struct gw_turn *turn)
{
    return turn->error;
}

static int64_t unix_now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
