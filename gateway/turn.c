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
 *   6. DONE: `done` or `error`; the turn stays for late readers, then frees itself.
 *
 * Failure modes: everything that can go wrong calls gw_turn_end(), which keeps the first error; the tick then
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

#include "claims.h"
#include "config.h"
#include "sluice/text.h"
#include "stats.h"
#include "turn_state.h"
#include "user_turns.h"

enum { EVENT_TEXT_MAX = 16384 /* bytes of text in one event */ };

static void tick(struct sl_task *task);
static void move(struct gw_turn *turn, enum gw_turn_state next);
static void load_context(struct gw_turn *turn);
static void announce_question(struct gw_turn *turn);
static bool context_is_loading(struct gw_turn *turn);
static void warn_of_missing_context(struct gw_turn *turn);
static void ask(struct gw_turn *turn);
static void save(struct gw_turn *turn);
static bool knows_window(const struct gw_turn *turn);
static bool is_saving(const struct gw_turn *turn);
static struct store_message question_of(const struct gw_turn *turn);
static enum store_status status_of(int error);
static void finish(struct gw_turn *turn);
static void shed(struct gw_turn *turn);
static void publish(struct gw_turn *turn);
static void arm_deadline(struct gw_turn *turn);
static void on_deadline(struct sl_timer *timer);
static void on_profile(struct sl_op *op, int status);
static void on_history(struct sl_op *op, int status);
static int on_delta(struct gw_ask *ask, const struct gw_delta *delta);
static void on_move(struct gw_ask *ask, enum gw_ask_move move, const char *upstream, int error);
static void on_answer(struct sl_op *op, int status);
static void on_question_saved(struct sl_op *op, int status);
static void on_answer_saved(struct sl_op *op, int status);
static int append_text(struct gw_turn *turn, enum sl_event_type type, const char *text, size_t len);
static void on_left(struct gw_feed *feed, int reason);
static void on_token_delivered(struct gw_feed *feed);
static int64_t unix_now_us(void);

static const struct gw_feed_owner feed_owner = {on_left, on_token_delivered};

/* ---------------------------------------------------------------- birth */

int gw_turn_start(struct gw_turns *turns, const struct sl_uuid *id, const struct gw_user *user,
                  struct gw_chat_request *request, uint32_t user_ticket, const char *request_id,
                  uint64_t received_us, struct gw_turn **ret_turn)
{
    struct gw_turn *turn = calloc(1, sizeof(*turn));

    if (turn == NULL) {
        return SL_E_NO_MEMORY;
    }
    turn->turns = turns;
    turn->config = turns->config;
    turn->tick.run = tick;
    turn->timer.expired = on_deadline;
    turn->ask.upstreams =
        turns->upstreams; /* like the configuration: a reload is for later turns */
    turn->received_us = received_us;
    turn->born_us = sl_loop_now_us(turns->loop);
    turn->question_at_us = unix_now_us();
    turn->id = *id;
    turn->question_id = sl_uuid_v7();
    turn->answer_id = sl_uuid_v7();
    turn->session = request->has_session ? request->session : sl_uuid_v7();
    (void)strncpy(turn->request_id, request_id, sizeof(turn->request_id) - 1);
    turn->user = *user;
    turn->user_ticket = user_ticket;
    turn->request = *request;
    memset(request, 0, sizeof(*request));
    sl_buffer_init(&turn->answer, turn->config->upstream.answer_max_bytes);
    gw_turn_span_begin(turn);
    gw_turns_add(turns, turn);
    gw_feed_init(&turn->feed, &feed_owner, &turn->id, &turn->session,
                 4 * turn->config->upstream.answer_max_bytes + 65536);
    gw_turn_say_session(turn);
    gw_turns_account(turns, turn);
    sl_loop_defer(turns->loop, &turn->tick);
    *ret_turn = turn;
    return 0;
}

/* The question to the store, profile and history asked for: in parallel, none of it waited for. */
static void load_context(struct gw_turn *turn)
{
    struct gw_turns *turns = turn->turns;
    const struct store_message question = question_of(turn);

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
        gw_turn_end(turn,
                    turn->question_save_status); /* refused since admission: no model is asked */
    }
}

static struct store_message question_of(const struct gw_turn *turn)
{
    return (struct store_message){
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
                ask(turn);
            }
            move(turn, turn->error == 0 ? GW_TURN_ASK : GW_TURN_SAVE);
            continue;

        case GW_TURN_ASK:
            if (turn->error == 0 && turn->feed.log.token_count > 0) {
                move(turn, GW_TURN_STREAM);
                continue;
            }
            __attribute__((
                fallthrough)); /* what ends a stream can also strike before its first token */
        case GW_TURN_STREAM:
            if (turn->ask.op.running) {
                if (turn->error != 0) {
                    gw_ask_cancel(&turn->ask, turn->error);
                }
                goto suspend;
            }
            if (turn->ask_status != 0) {
                gw_turn_end(turn, turn->ask_status);
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
            if (!sl_link_is_listed(&turn->kept_link) && sl_list_is_empty(&turn->feed.followers)) {
                gw_turn_destroy(turn);
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
    if (turn->question_announced || turn->question_save.op.running || turn->feed.log.ended ||
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
        if (turn->config->chat.rag) {
            gw_turn_say_warning(turn, "rag_unavailable",
                                "Document search is not available on this server.");
        } else {
            gw_turn_say_warning(turn, "rag_disabled", "Document search is switched off.");
        }
    }
}

/* ASK */

static void ask(struct gw_turn *turn)
{
    const struct gw_config *config = turn->config;

    turn->asked_us = sl_loop_now_us(turn->turns->loop);
    turn->ask.op.done = on_answer;
    turn->ask.on_delta = on_delta;
    turn->ask.on_move = on_move;
    turn->ask.model = turn->request.model;
    turn->ask.user = turn->user.id;
    turn->ask.user_len = turn->user.id_len;
    turn->ask.trace = &turn->request.trace;
    turn->ask.trace_state = turn->request.trace_state;
    turn->ask.record = turn->record;
    turn->ask.deadline_us = turn->asked_us + 1000UL * config->upstream.first_token_timeout_ms;
    turn->ask.prompt = (struct gw_prompt){
        .system_template = config->chat.system_prompt,
        .history = turn->history.messages,
        .history_count = turn->history_status == 0 ? turn->history.count : 0,
        .history_tokens = config->chat.history_tokens,
        .message = {turn->request.message, turn->request.message_len},
        .has_temperature = turn->request.has_temperature,
        .temperature = turn->request.temperature,
        .has_max_tokens = turn->request.has_max_tokens,
        .max_tokens = turn->request.max_tokens,
    };
    if (turn->profile_status == 0 && turn->profile.found) {
        turn->ask.prompt.profile =
            (struct store_text){turn->profile.text.base, turn->profile.text.len};
    }
    turn->ask_status = gw_ask_start(&turn->ask);
}

/* STREAM: on_delta and append_text below do the work as the bytes come in */

/* SAVE */

static void save(struct gw_turn *turn)
{
    struct gw_turns *turns = turn->turns;
    int32_t prompt_tokens, completion_tokens;

    turn->answered_us = sl_loop_now_us(turns->loop);
    turn->status = status_of(turn->error);
    gw_turn_usage(turn, &prompt_tokens, &completion_tokens);
    turn->answer_save_status = gw_turn_log_text(&turn->feed.log, SL_EVENT_TOKEN, &turn->answer);
    if (turn->answer_save_status != 0) {
        return;
    }
    const char *finish_reason = gw_turn_finish_reason(turn);
    const struct store_message answer = {
        .id = turn->answer_id,
        .turn_id = turn->id,
        .role = STORE_ROLE_ASSISTANT,
        .status = turn->status,
        .created_at_us = unix_now_us(),
        .content = {turn->answer.len > 0 ? turn->answer.base : "", turn->answer.len},
        .model = {turn->request.model, strlen(turn->request.model)},
        .finish_reason = {finish_reason, finish_reason != NULL ? strlen(finish_reason) : 0},
        .prompt_tokens = prompt_tokens,
        .completion_tokens = completion_tokens,
        .ttft_ms = gw_turn_ttft_ms(turn),
    };
    turn->answer_save.op.done = on_answer_saved;
    turn->answer_save_status = store_save_message(turns->store, &turn->answer_save, turn->user.id,
                                                  turn->user.id_len, &turn->session, &answer);
    /* The next turn of this session must see this one at once, from any instance. */
    const struct store_message added[2] = {question_of(turn), answer};
    bool window_known = knows_window(turn);
    static const struct store_message nothing[1];
    store_history_append(turns->store, turn->user.id, turn->user.id_len, &turn->session, added, 2,
                         !window_known              ? NULL
                         : turn->history.count == 0 ? nothing
                                                    : turn->history.messages,
                         window_known ? turn->history.count : 0);
}

/*
 * Whether what this turn read is still all that came before it. Other turns of the session may have
 * ended meanwhile; what they wrote into the cache is there for at least history_ttl_s, so only a longer
 * turn may find no list although there was one.
 */
static bool knows_window(const struct gw_turn *turn)
{
    uint64_t age_us = turn->answered_us - turn->received_us;

    return (!turn->request.has_session || (turn->history_status == 0 && !turn->history.partial)) &&
           age_us < 1000000UL * turn->config->cache.history_ttl_s;
}

static enum store_status status_of(int error)
{
    switch (error) {
    case 0:
        return STORE_STATUS_COMPLETE;
    case SL_E_STOPPED:
        return STORE_STATUS_STOPPED;
    case SL_E_CLIENT_GONE:
        return STORE_STATUS_CANCELLED;
    case SL_E_SHUTTING_DOWN:
        return STORE_STATUS_INTERRUPTED;
    default:
        return STORE_STATUS_FAILED;
    }
}

static bool is_saving(const struct gw_turn *turn)
{
    return turn->question_save.op.running || turn->answer_save.op.running;
}

/* DONE */

static void finish(struct gw_turn *turn)
{
    struct gw_turns *turns = turn->turns;

    turn->saved_us = sl_loop_now_us(turns->loop);
    turn->saved = turn->question_save_status == 0 && turn->answer_save_status == 0;
    if (!turn->saved && (turn->error == 0 || turn->error == SL_E_STOPPED)) {
        turn->error = SL_E_STORAGE_UNAVAILABLE;
        turn->error_state = GW_TURN_SAVE;
        turn->status = STORE_STATUS_FAILED; /* for the figures: the client was told so */
    }
    if (turn->error == 0 || turn->error == SL_E_STOPPED) {
        gw_turn_say_done(turn);
    } else {
        gw_turn_say_error(turn);
        turn->feed.error = turn->error;
    }
    gw_turn_report(turn);
    gw_turn_span_end(turn);
    shed(turn);
    gw_user_turns_leave(turns->user_turns, turn->user_ticket);
    gw_turns_keep(turns, turn);
    turns->on_end(turns->context);
}

/* A turn that is kept for late readers needs its log and its names only. */
static void shed(struct gw_turn *turn)
{
    sl_loop_disarm(turn->turns->loop, &turn->timer);
    store_read_dispose(&turn->profile);
    store_read_dispose(&turn->history);
    sl_buffer_dispose(&turn->answer);
    gw_chat_request_dispose(&turn->request);
    sl_buffer_trim(&turn->feed.log.bytes);
    gw_turns_account(turn->turns, turn);
}

void gw_turn_destroy(struct gw_turn *turn)
{
    struct gw_turns *turns = turn->turns;

    if (turn->request.client_message_id[0] != '\0') {
        gw_claims_release(turns, &turn->user, turn->request.client_message_id, &turn->id);
    }
    sl_loop_undefer(turns->loop, &turn->tick);
    gw_turns_remove(turns, turn);
    gw_feed_dispose(&turn->feed);
    free(turn);
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

void gw_turn_end(struct gw_turn *turn, int error)
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
        {turn->state == GW_TURN_ASK, turn->asked_us, config->upstream.first_token_timeout_ms,
         SL_E_UPSTREAM_FIRST_TOKEN_TIMEOUT},
        {turn->state == GW_TURN_STREAM, turn->last_delta_us, config->upstream.idle_timeout_ms,
         SL_E_UPSTREAM_IDLE_TIMEOUT},
        {turn->state == GW_TURN_ASK || turn->state == GW_TURN_STREAM, turn->asked_us,
         config->upstream.total_timeout_ms, SL_E_UPSTREAM_TOTAL_TIMEOUT},
        {turn->state == GW_TURN_SAVE, turn->answered_us, config->writer.save_timeout_ms,
         SL_E_STORAGE_UNAVAILABLE},
        {turn->state < GW_TURN_SAVE && turn->gone_us != 0 &&
             sl_list_is_empty(&turn->feed.followers),
         turn->gone_us, 1000UL * config->chat.disconnect_grace_s, SL_E_CLIENT_GONE},
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
        gw_turn_end(turn, error);
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

static int on_delta(struct gw_ask *ask, const struct gw_delta *delta)
{
    struct gw_turn *turn = SL_CONTAINER_OF(ask, struct gw_turn, ask);

    if (turn->error != 0) {
        return SL_E_CANCELLED;
    }
    int err = append_text(turn, SL_EVENT_REASONING, delta->reasoning, delta->reasoning_len);
    if (err == 0) {
        err = append_text(turn, SL_EVENT_TOKEN, delta->content, delta->content_len);
    }
    if (err != 0) {
        return SL_E_ANSWER_TOO_LONG;
    }
    uint64_t now_us = sl_loop_now_us(turn->turns->loop);
    if (turn->first_delta_us == 0) {
        turn->first_delta_us = now_us;
    } else {
        sl_histogram_count(&turn->turns->stats->token_gap, now_us - turn->last_delta_us);
    }
    turn->last_delta_us = now_us;
    if (turn->first_token_us == 0 && delta->content_len > 0) {
        turn->first_token_us = turn->last_delta_us;
    }
    sl_loop_defer(turn->turns->loop, &turn->tick);
    return 0;
}

static void on_move(struct gw_ask *ask, enum gw_ask_move move, const char *upstream, int error)
{
    gw_turn_trace_ask(SL_CONTAINER_OF(ask, struct gw_turn, ask), move, upstream, error);
}

static int append_text(struct gw_turn *turn, enum sl_event_type type, const char *text, size_t len)
{
    size_t so_far = turn->feed.log.token_bytes + turn->feed.log.reasoning_bytes;

    if (so_far + len > turn->config->upstream.answer_max_bytes) {
        return SL_E_LIMIT;
    }
    while (len > 0) {
        size_t n = sl_utf8_cut(text, len, EVENT_TEXT_MAX);
        int err = gw_turn_log_append(&turn->feed.log, type, text, n);
        if (err != 0) {
            return err;
        }
        text += n;
        len -= n;
    }
    return 0;
}

static void on_answer(struct sl_op *op, int status)
{
    struct gw_turn *turn = SL_CONTAINER_OF(op, struct gw_turn, ask.op);

    turn->ask_status = status;
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
    gw_turns_account(turn->turns, turn);
    gw_feed_publish(&turn->feed);
}

/*
 * A reader that was cut because it was slow has not said that it does not want the answer, nor is it
 * bound by what somebody said who left before it.
 */
static void on_left(struct gw_feed *feed, int reason)
{
    struct gw_turn *turn = SL_CONTAINER_OF(feed, struct gw_turn, feed);

    if (turn->state == GW_TURN_DONE) {
        sl_loop_defer(turn->turns->loop, &turn->tick); /* to free itself, if its time is over */
        return;
    }
    if (!sl_list_is_empty(&feed->followers) || turn->state >= GW_TURN_SAVE ||
        turn->request.on_disconnect == GW_DISCONNECT_CONTINUE) {
        return;
    }
    turn->gone_us = reason == SL_E_CLIENT_GONE ? sl_loop_now_us(turn->turns->loop) : 0;
    arm_deadline(turn);
}

static void on_token_delivered(struct gw_feed *feed)
{
    struct gw_turn *turn = SL_CONTAINER_OF(feed, struct gw_turn, feed);

    if (turn->token_delivered_us != 0) {
        return;
    }
    turn->token_delivered_us = sl_loop_now_us(turn->turns->loop);
    sl_histogram_record(&turn->turns->stats->ttft, turn->token_delivered_us - turn->received_us);
    sl_histogram_record(&turn->turns->stats->added,
                        turn->token_delivered_us - turn->first_token_us);
}

/* ---------------------------------------------------------------- what others may ask of it */

struct gw_feed *gw_turn_feed(struct gw_turn *turn)
{
    return &turn->feed;
}

void gw_turn_stop(struct gw_turn *turn)
{
    gw_turn_end(turn, SL_E_STOPPED);
}

static int64_t unix_now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
