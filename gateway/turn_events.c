/*
 * What a turn says: the payloads of its events, as wire.md section 1 defines them.
 *
 * Every payload is the inside of a JSON object without braces; ids are our own, so nothing in them
 * needs escaping except the upstream's finish reason. Thread: the turn's loop.
 */
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "prompt.h"
#include "sluice/text.h"
#include "turn_state.h"

enum { PAYLOAD_MAX = 4096 };

static void say(struct gw_turn *turn, enum sl_event_type type, struct sl_buffer *payload, int err);
static int append_timings(const struct gw_turn *turn, struct sl_buffer *payload);
static int append_ms(struct sl_buffer *payload, const char *name, uint64_t from_us, uint64_t to_us);

void gw_turn_say_session(struct gw_turn *turn)
{
    struct sl_buffer payload;

    sl_buffer_init(&payload, PAYLOAD_MAX);
    int err = sl_buffer_appendf(&payload, "\"session_id\":\"%s\",\"turn_id\":\"%s\"",
                                turn->feed.session_id, turn->feed.turn_id);
    say(turn, SL_EVENT_SESSION_ID, &payload, err);
}

void gw_turn_say_accepted(struct gw_turn *turn)
{
    struct sl_buffer payload;
    char id[SL_UUID_TEXT_SIZE];

    sl_uuid_format(&turn->question_id, id);
    sl_buffer_init(&payload, PAYLOAD_MAX);
    int err = sl_buffer_appendf(&payload, "\"message_id\":\"%s\"", id);
    say(turn, SL_EVENT_ACCEPTED, &payload, err);
}

void gw_turn_say_warning(struct gw_turn *turn, const char *code, const char *message)
{
    struct sl_buffer payload;

    sl_buffer_init(&payload, PAYLOAD_MAX);
    int err = sl_buffer_appendf(&payload, "\"code\":\"%s\",\"message\":\"%s\"", code, message);
    say(turn, SL_EVENT_WARNING, &payload, err);
}

void gw_turn_say_done(struct gw_turn *turn)
{
    struct sl_buffer payload;
    char id[SL_UUID_TEXT_SIZE];
    int32_t prompt_tokens, completion_tokens;
    const char *reason = gw_turn_finish_reason(turn);

    sl_uuid_format(&turn->answer_id, id);
    gw_turn_usage(turn, &prompt_tokens, &completion_tokens);
    sl_buffer_init(&payload, PAYLOAD_MAX);
    int err = sl_buffer_appendf(&payload, "\"message_id\":\"%s\",\"finish_reason\":", id);
    if (err == 0) {
        reason = reason != NULL ? reason : "stop";
        err = sl_json_append_string(&payload, reason, strlen(reason));
    }
    if (err == 0) {
        err = sl_buffer_appendf(&payload,
                                ",\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":%d},",
                                prompt_tokens, completion_tokens);
    }
    if (err == 0) {
        err = append_timings(turn, &payload);
    }
    if (err == 0) {
        err = gw_turn_debug_append(turn, &payload);
    }
    say(turn, SL_EVENT_DONE, &payload, err);
}

void gw_turn_say_error(struct gw_turn *turn)
{
    const struct sl_error_info *info = sl_error_info(turn->error);
    struct sl_buffer payload;

    sl_buffer_init(&payload, PAYLOAD_MAX);
    int err = sl_buffer_appendf(
        &payload, "\"code\":\"%s\",\"message\":\"%s\",\"retryable\":%s,\"saved\":%s", info->code,
        info->text, info->retryable ? "true" : "false", turn->saved ? "true" : "false");
    if (err == 0) {
        err = gw_turn_debug_append(turn, &payload);
    }
    say(turn, SL_EVENT_ERROR, &payload, err);
}

const struct gw_upstream_call *gw_turn_call(const struct gw_turn *turn)
{
    static const struct gw_upstream_call none;

    return turn->ask.call != NULL ? turn->ask.call : &none;
}

const char *gw_turn_finish_reason(const struct gw_turn *turn)
{
    const struct gw_upstream_call *call = gw_turn_call(turn);

    if (turn->error == SL_E_STOPPED) {
        return "stopped";
    }
    return call->has_finish ? call->finish_reason : NULL;
}

void gw_turn_usage(const struct gw_turn *turn, int32_t *ret_prompt, int32_t *ret_completion)
{
    const struct gw_upstream_call *call = gw_turn_call(turn);

    *ret_prompt = call->has_usage ? call->prompt_tokens : (int32_t)turn->ask.prompt_tokens;
    *ret_completion =
        call->has_usage ? call->completion_tokens : (int32_t)turn->feed.log.token_count;
}

double gw_turn_ttft_ms(const struct gw_turn *turn)
{
    uint64_t at_us =
        turn->token_delivered_us != 0 ? turn->token_delivered_us : turn->first_token_us;

    return at_us == 0 ? -1 : (double)(at_us - turn->received_us) / 1000;
}

static int append_timings(const struct gw_turn *turn, struct sl_buffer *payload)
{
    uint64_t start_us = turn->received_us;
    int err = sl_buffer_append_str(payload, "\"timings\":{");

    if (err == 0) {
        err = append_ms(payload, "profile_ms", start_us, turn->profile_done_us);
    }
    if (err == 0) {
        err = append_ms(payload, "history_ms", start_us, turn->history_done_us);
    }
    if (err == 0) {
        err = append_ms(payload, "context_ms", start_us, turn->context_done_us);
    }
    if (err == 0) {
        err = append_ms(payload, "connect_ms", turn->asked_us, gw_turn_call(turn)->connected_us);
    }
    if (err == 0) {
        err = append_ms(payload, "upstream_first_byte_ms", turn->asked_us,
                        gw_turn_call(turn)->first_byte_us);
    }
    if (err == 0 && gw_turn_ttft_ms(turn) >= 0) {
        err = sl_buffer_appendf(payload, "\"ttft_ms\":%.3f,", gw_turn_ttft_ms(turn));
    }
    if (err == 0) {
        err = append_ms(payload, "saved_ms", turn->answered_us, turn->saved_us);
    }
    if (err == 0) {
        err = sl_buffer_appendf(payload, "\"total_ms\":%.3f}",
                                (double)(turn->saved_us - start_us) / 1000);
    }
    return err;
}

/* A stage that did not happen is left out. */
static int append_ms(struct sl_buffer *payload, const char *name, uint64_t from_us, uint64_t to_us)
{
    if (to_us == 0) {
        return 0;
    }
    return sl_buffer_appendf(payload, "\"%s\":%.3f,", name, (double)(to_us - from_us) / 1000);
}

static void say(struct gw_turn *turn, enum sl_event_type type, struct sl_buffer *payload, int err)
{
    if (err == 0) {
        err = gw_turn_log_append(&turn->feed.log, type, payload->base, payload->len);
    }
    if (err != 0) {
        abort(); /* a few hundred bytes could not be had */
    }
    sl_buffer_dispose(payload);
}
