/*
 * The player: the steps of a reply, each with its time.
 *
 *   OPEN --(refused, dropped)--------------------------------------> final
 *    | \--> WHOLE (one JSON object) -------------------------------> END
 *    v
 *   BEGIN -> REASONING.. -> BIGLINE -> CONTENT.. -> FINISH -> DONE -> END
 *                                        |  stall: stays here for ever
 *                                        '- fin, rst, error: leaves early
 *
 * Happy path: run plays every step whose time has come, then names the time of the next one.
 * Failure: none of its own; breaking things on demand is its job.
 * Thread: one at a time. Ownership: see stub_player.h.
 */
#include "stub_player.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "stub_http.h"

enum { BURST_BYTES = 64 * 1024 };

void stub_player_start(struct stub_player *player, const struct stub_player_ask *ask,
                       struct lt_buffer *out, uint64_t now_us)
{
    *player = (struct stub_player){
        .dialect = ask->dialect,
        .out = out,
        .random = {ask->number},
        .step = STUB_STEP_OPEN,
        .stream = ask->chat->stream,
        .keep_alive = ask->keep_alive,
        .http_1_0 = ask->http_1_0,
        .due_us = now_us + (uint64_t)ask->script->delay_us,
    };
    struct stub_reply *reply = &player->reply;
    reply->script = *ask->script;
    reply->created_s = ask->created_s;
    reply->include_usage = ask->chat->include_usage;
    reply->prompt_tokens = ask->request_bytes / 4; /* the usual rough guess */
    strcpy(reply->model, ask->chat->model[0] != 0 ? ask->chat->model : "stub");
    if (reply->script.id[0] != 0) {
        strcpy(reply->id, reply->script.id);
    } else {
        snprintf(reply->id, sizeof(reply->id), "%s%" PRIu64, ask->dialect->id_prefix, ask->number);
    }
    stub_answer_init(&player->answer, ask->script, ask->chat);
    reply->script.text = NULL; /* the message will be gone */
    stub_frame_init(&reply->frame, &reply->script, out, !ask->http_1_0);
    player->dialect->prepare(reply);
}

/** Gap and jitter of one delta. */
static uint64_t next_gap_us(struct stub_player *player)
{
    const struct stub_script *script = &player->reply.script;
    int64_t gap_us = script->gap_us;
    if (script->jitter_us > 0) {
        uint64_t width = 2 * (uint64_t)script->jitter_us + 1;
        gap_us += (int64_t)lt_random_below(&player->random, width) - script->jitter_us;
    }
    return gap_us > 0 ? (uint64_t)gap_us : 0;
}

/* --- OPEN: everything that can happen instead of a stream --- */

/** Needless headers of `head_bytes` in all, in lines of a length that no client minds. */
static void append_padding(struct lt_buffer *headers, const struct stub_script *script)
{
    static const char name[] = "X-Padding: ";
    enum { FRAME = sizeof(name) - 1 + 2, LINE = 1000 };
    for (int64_t left = script->head_bytes; left > 0;) {
        int64_t line = left < 2 * LINE ? left : LINE; /* the last one takes the rest along */
        size_t value_len = line > FRAME ? (size_t)line - FRAME : 0;
        lt_buffer_append_str(headers, name);
        memset(lt_buffer_reserve(headers, value_len), 'x', value_len);
        headers->len += value_len;
        lt_buffer_append_str(headers, "\r\n");
        left -= line;
    }
}

/** A reply that is no stream, with the headers that the script adds. */
static void respond(struct stub_player *player, int status, const char *type,
                    const struct lt_buffer *body)
{
    struct lt_buffer headers = {0};
    append_padding(&headers, &player->reply.script);
    if (status >= 400 && player->reply.script.retry_after_s >= 0) {
        lt_buffer_appendf(&headers, "Retry-After: %" PRId64 "\r\n",
                          player->reply.script.retry_after_s);
    }
    lt_buffer_append(&headers, "", 1);
    stub_http_respond(player->out, status, type, headers.base, body->base, body->len,
                      player->keep_alive);
    lt_buffer_free(&headers);
    player->status = status;
    player->outcome = STUB_PLAY_END;
}

static void refuse(struct stub_player *player, int status)
{
    const struct stub_script *script = &player->reply.script;
    const char *type = "application/json";
    player->text.len = 0;
    if (script->html) {
        type = "text/html";
        lt_buffer_appendf(&player->text,
                          "<html><head><title>%d</title></head><body><center><h1>%d %s</h1>"
                          "</center><hr><center>proxy</center></body></html>\n",
                          status, status, stub_http_reason(status));
    } else if (script->empty) {
        type = NULL;
    } else if (script->quota) {
        player->dialect->quota(&player->text);
    } else {
        player->dialect->refusal(status, "scripted refusal", &player->text);
    }
    respond(player, status, type, &player->text);
}

/** Without a stream all the pauses come before the head. */
static void open_whole(struct stub_player *player)
{
    const struct stub_script *script = &player->reply.script;
    if (script->rst_after >= 0 || script->fin_after >= 0) {
        player->outcome = script->rst_after >= 0 ? STUB_PLAY_RST : STUB_PLAY_FIN;
        return;
    }
    if (script->error_after >= 0) {
        refuse(player, 500);
        return;
    }
    uint64_t wait_us = (uint64_t)script->first_us + (uint64_t)script->role_then_us;
    player->text.len = 0;
    while (player->text.len < STUB_SCRIPT_BYTES_MAX &&
           stub_answer_next(&player->answer, &player->text)) {
        player->reply.completion_tokens++;
        wait_us += next_gap_us(player);
    }
    player->due_us = script->stall_after >= 0 ? LT_NEVER_US : player->due_us + wait_us;
    player->step = STUB_STEP_WHOLE;
}

static void play_whole(struct stub_player *player)
{
    struct lt_buffer body = {0};
    player->dialect->whole(&player->reply, &player->text, &body);
    respond(player, 200, "application/json", &body);
    lt_buffer_free(&body);
}

static void play_open(struct stub_player *player)
{
    const struct stub_script *script = &player->reply.script;
    if (script->drop != STUB_CUT_NONE) {
        player->outcome = script->drop == STUB_CUT_RST ? STUB_PLAY_RST : STUB_PLAY_FIN;
        return;
    }
    if (script->status >= 0 || script->html || script->empty || script->quota) {
        refuse(player, script->status >= 0 ? (int)script->status : script->quota ? 429 : 502);
        return;
    }
    if (!player->stream || script->json) {
        open_whole(player);
        return;
    }
    lt_buffer_append_str(player->out, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                                      "Cache-Control: no-cache\r\n");
    append_padding(player->out, script);
    if (!player->http_1_0) {
        lt_buffer_append_str(player->out, "Transfer-Encoding: chunked\r\n");
    }
    lt_buffer_append_str(player->out, player->keep_alive ? "\r\n" : "Connection: close\r\n\r\n");
    player->status = 200;
    player->head_sent = true;
    player->due_us += (uint64_t)script->first_us;
    player->step = STUB_STEP_BEGIN;
}

/* --- the stream --- */

static void play_begin(struct stub_player *player)
{
    player->dialect->begin(&player->reply);
    player->due_us += (uint64_t)player->reply.script.role_then_us;
    player->step = STUB_STEP_REASONING;
}

static void play_reasoning(struct stub_player *player)
{
    struct stub_reply *reply = &player->reply;
    if ((int64_t)reply->completion_tokens >= reply->script.reasoning) {
        player->step = STUB_STEP_BIGLINE;
        return;
    }
    player->text.len = 0;
    lt_buffer_appendf(&player->text, "%sthink%" PRIu64, reply->completion_tokens == 0 ? "" : " ",
                      reply->completion_tokens);
    reply->completion_tokens++;
    player->dialect->reasoning(reply, &player->text);
    player->due_us += next_gap_us(player);
}

static void play_bigline(struct stub_player *player)
{
    int64_t bytes = player->reply.script.bigline_bytes;
    player->step = STUB_STEP_CONTENT;
    if (bytes < 0) {
        return;
    }
    player->text.len = 0;
    memset(lt_buffer_reserve(&player->text, (size_t)bytes), 'x', (size_t)bytes);
    player->text.len = (size_t)bytes;
    player->reply.completion_tokens++;
    player->dialect->content(&player->reply, &player->text);
    player->due_us += next_gap_us(player);
}

static void say_noise(struct stub_player *player)
{
    if (player->reply.script.comments_us >= 0) {
        stub_frame_comment(&player->reply.frame, "keep-alive");
    }
    if (player->reply.script.pings_us >= 0) {
        static const char ping[] = "{\"type\":\"ping\"}";
        stub_frame_event(&player->reply.frame, "ping", ping, sizeof(ping) - 1);
    }
}

static void end_stream(struct stub_player *player)
{
    stub_frame_end(&player->reply.frame);
    player->outcome = STUB_PLAY_END;
}

/** What breaks after `sent` deltas. True: the step is over. */
static bool strike(struct stub_player *player)
{
    struct stub_script *script = &player->reply.script;
    if (script->malformed_after == player->sent) {
        script->malformed_after = -1; /* once */
        player->dialect->malformed(&player->reply);
    }
    if (script->stall_after == player->sent) {
        player->due_us = LT_NEVER_US;
    } else if (script->fin_after == player->sent) {
        player->outcome = STUB_PLAY_FIN;
    } else if (script->rst_after == player->sent) {
        player->outcome = STUB_PLAY_RST;
    } else if (script->error_after == player->sent) {
        player->dialect->error(&player->reply);
        end_stream(player);
    } else {
        return false;
    }
    return true;
}

static void play_content(struct stub_player *player)
{
    struct stub_reply *reply = &player->reply;
    if (strike(player)) {
        return;
    }
    player->text.len = 0;
    if (!stub_answer_next(&player->answer, &player->text)) {
        player->step = STUB_STEP_FINISH;
        return;
    }
    say_noise(player);
    player->sent++;
    reply->completion_tokens++;
    player->dialect->content(reply, &player->text);
    player->due_us += next_gap_us(player); /* the end, too, is one more step of a model */
}

static void play_finish(struct stub_player *player)
{
    if (player->reply.script.tool_calls) {
        player->dialect->tool_call(&player->reply);
    }
    player->dialect->finish(&player->reply);
    player->step = STUB_STEP_DONE;
}

static void play_done(struct stub_player *player)
{
    if (!player->reply.script.no_done) {
        player->dialect->done(&player->reply);
    }
    end_stream(player);
}

static void play_step(struct stub_player *player)
{
    switch (player->step) {
    case STUB_STEP_OPEN:
        play_open(player);
        break;
    case STUB_STEP_WHOLE:
        play_whole(player);
        break;
    case STUB_STEP_BEGIN:
        play_begin(player);
        break;
    case STUB_STEP_REASONING:
        play_reasoning(player);
        break;
    case STUB_STEP_BIGLINE:
        play_bigline(player);
        break;
    case STUB_STEP_CONTENT:
        play_content(player);
        break;
    case STUB_STEP_FINISH:
        play_finish(player);
        break;
    case STUB_STEP_DONE:
        play_done(player);
        break;
    }
}

/** Comments and pings of a long silence; sets the time to come back. */
static void play_silence(struct stub_player *player, uint64_t now_us)
{
    const struct stub_script *script = &player->reply.script;
    int64_t beat_us = script->comments_us > 0 ? script->comments_us : script->pings_us;
    player->wake_us = player->due_us;
    if (beat_us <= 0 || !player->head_sent) {
        return;
    }
    if (player->beat_due_us == 0) {
        player->beat_due_us = now_us + (uint64_t)beat_us;
    } else if (player->beat_due_us <= now_us) {
        say_noise(player);
        player->beat_due_us = now_us + (uint64_t)beat_us;
    }
    if (player->beat_due_us < player->wake_us) {
        player->wake_us = player->beat_due_us;
    }
}

enum stub_play stub_player_run(struct stub_player *player, uint64_t now_us)
{
    size_t burst_end = player->out->len + BURST_BYTES;
    while (player->outcome == STUB_PLAY_MORE) {
        if (player->due_us > now_us) {
            play_silence(player, now_us);
            stub_frame_flush(&player->reply.frame);
            return STUB_PLAY_WAIT;
        }
        if (player->out->len >= burst_end) {
            return STUB_PLAY_MORE;
        }
        player->beat_due_us = 0;
        play_step(player);
    }
    stub_frame_flush(&player->reply.frame);
    return player->outcome;
}

void stub_player_finish(struct stub_player *player)
{
    stub_answer_finish(&player->answer);
    stub_frame_finish(&player->reply.frame);
    lt_buffer_free(&player->reply.opening);
    lt_buffer_free(&player->reply.json);
    lt_buffer_free(&player->text);
}
