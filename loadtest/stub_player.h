/**
 * Plays one script: says what is due at a given time and when to come back.
 *
 * No I/O and no clock of its own. Thread: one at a time. Ownership: embedded in its connection;
 * `out` is the connection's. Start, run until the outcome is final, finish.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "stub_answer.h"
#include "stub_dialect.h"

enum stub_play {
    STUB_PLAY_MORE = 0, /* the burst is full: send it, then run again */
    STUB_PLAY_WAIT,     /* run again at `wake_us` (maybe never) */
    STUB_PLAY_END,      /* the reply is complete */
    STUB_PLAY_FIN,      /* cut: send what there is, then close */
    STUB_PLAY_RST,      /* cut: send what there is, then reset */
};

enum stub_step {
    STUB_STEP_OPEN,
    STUB_STEP_WHOLE,
    STUB_STEP_BEGIN,
    STUB_STEP_REASONING,
    STUB_STEP_BIGLINE,
    STUB_STEP_CONTENT,
    STUB_STEP_FINISH,
    STUB_STEP_DONE,
};

struct stub_player {
    const struct stub_dialect *dialect;
    struct stub_reply reply;
    struct stub_answer answer;
    struct lt_buffer *out;
    struct lt_buffer text; /* the delta under construction; all of the answer in STEP_WHOLE */
    struct lt_random random;
    enum stub_step step;
    enum stub_play outcome; /* MORE until it is final */
    bool stream;            /* as the client asked */
    bool keep_alive;
    bool http_1_0;
    bool head_sent;  /* of a stream: comments may go out */
    int status;      /* of the reply, 0 before its head */
    int64_t sent;    /* content deltas */
    uint64_t due_us; /* of the next step; steps keep to their plan, not to when they were played */
    uint64_t beat_due_us;
    uint64_t wake_us;
};

struct stub_player_ask {
    const struct stub_dialect *dialect;
    const struct stub_script *script;
    const struct stub_chat *chat;
    uint64_t number; /* of the request; becomes the id and the seed of the jitter */
    int64_t created_s;
    size_t request_bytes;
    bool keep_alive, http_1_0;
};

void stub_player_start(struct stub_player *player, const struct stub_player_ask *ask,
                       struct lt_buffer *out, uint64_t now_us);
enum stub_play stub_player_run(struct stub_player *player, uint64_t now_us);
void stub_player_finish(struct stub_player *player);
