/**
 * The inside of a turn, for the files that make it up: turn.c (the story), turn_events.c (what it
 * says), turn_report.c (what is counted and logged). Nobody else includes this.
 */
#pragma once

#include "turn.h"
#include "upstream.h"

/*
 *            start
 *              |
 *            BORN
 *              |
 *          CONTEXT -------- profile, history: done, late or failed --------+
 *              |                                                           |
 *             ASK --------- no token before the deadline, upstream error --+
 *              |  first token                                              | fail()
 *            STREAM ------- silence, cut, too long, client gone, stop ----+
 *              |  answer complete                                          |
 *              +-------------------> SAVE <--------------------------------+
 *                                     |  durable, or given up
 *                                    DONE  last event; freed when the last follower has left
 */
enum gw_turn_state {
    GW_TURN_BORN, /* waits for: the end of the request's handler, so that the head leaves first */
    GW_TURN_CONTEXT, /* waits for: profile and history reads */
    GW_TURN_ASK,     /* waits for: the upstream's first token */
    GW_TURN_STREAM,  /* waits for: more tokens, the end of the answer */
    GW_TURN_SAVE,    /* waits for: both messages to become durable */
    GW_TURN_DONE,    /* waits for: followers to leave */
};

enum { GW_TURN_STATES = GW_TURN_DONE + 1 };

enum { GW_REQUEST_ID_SIZE = 64 };

struct gw_turn {
    struct gw_turns *turns;
    struct gw_turn *next, **prev_next;           /* all turns of the loop */
    struct gw_turn *user_next, **user_prev_next; /* running turns in this user's bucket */
    const struct gw_config *config;              /* the one in force at birth */
    enum gw_turn_state state;
    struct sl_task tick;
    struct sl_timer timer;

    struct sl_uuid id, session, question_id, answer_id;
    char id_text[SL_UUID_TEXT_SIZE], session_text[SL_UUID_TEXT_SIZE];
    char request_id[GW_REQUEST_ID_SIZE];
    struct gw_user user;
    struct gw_chat_request request;
    int64_t question_at_us; /* Unix time */

    struct gw_turn_log log;
    uint32_t published_seq; /* followers have been told of this event */
    struct gw_follower *followers;

    struct store_read profile, history;
    int profile_status, history_status;
    struct gw_upstream_call call;
    int call_status;
    size_t history_used;
    unsigned prompt_tokens_estimate;
    struct store_save question_save, answer_save;
    int question_save_status, answer_save_status;
    struct sl_buffer answer; /* the text, once it is saved */
    bool question_announced, ops_cancelled;

    int error; /* the first one; 0: fine so far */
    enum gw_turn_state error_state;
    enum store_status status;
    bool saved;

    /* the loop's clock; 0: did not happen */
    uint64_t received_us, profile_done_us, history_done_us, context_done_us, asked_us;
    uint64_t first_delta_us, first_token_us, last_delta_us, token_delivered_us;
    uint64_t answered_us, saved_us, gone_us;
};

/* turn_events.c: appends one event each. These events are small and the log keeps a reserve for them
 * (GW_TURN_LOG_RESERVE), so they abort where memory itself is gone. */
void gw_turn_say_session(struct gw_turn *turn);
void gw_turn_say_accepted(struct gw_turn *turn);
void gw_turn_say_warning(struct gw_turn *turn, const char *code, const char *message);
void gw_turn_say_done(struct gw_turn *turn);
void gw_turn_say_error(struct gw_turn *turn);

/** The usage to report: the upstream's figures, or counted where it gave none. */
void gw_turn_usage(const struct gw_turn *turn, int32_t *ret_prompt, int32_t *ret_completion);

/** Milliseconds from the request's arrival to the first token; negative: there was none. */
double gw_turn_ttft_ms(const struct gw_turn *turn);

/** turn_report.c: counts the finished turn and writes its log line. */
void gw_turn_report(const struct gw_turn *turn);

/** turn_report.c, for SLUICE_LOG=debug: one line per state move. */
void gw_turn_trace(const struct gw_turn *turn, enum gw_turn_state next);
