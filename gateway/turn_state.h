/**
 * The inside of a turn, for the files that make it up: turn.c (the story), turn_events.c (what it
 * says), turn_debug.c (what developers are told), turn_report.c (what is counted and logged),
 * turn_span.c (what its trace shows). Nobody else includes this.
 */
#pragma once

#include "ask.h"
#include "feed.h"
#include "turn.h"
#include "turns.h"

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
 *                                    DONE  last event; kept for late readers, then freed
 */
enum gw_turn_state {
    GW_TURN_BORN, /* waits for: the end of the request's handler, so that the head leaves first */
    GW_TURN_CONTEXT, /* waits for: profile and history reads */
    GW_TURN_ASK,     /* waits for: the upstream's first token */
    GW_TURN_STREAM,  /* waits for: more tokens, the end of the answer */
    GW_TURN_SAVE,    /* waits for: both messages to become durable */
    GW_TURN_DONE,    /* waits for: the end of its time as a kept turn, followers to leave */
};

enum { GW_TURN_STATES = GW_TURN_DONE + 1 };

enum { GW_REQUEST_ID_SIZE = 64 };

struct gw_turn {
    struct gw_turns *turns;
    struct sl_link link, id_link;   /* all turns of the loop, and by their id */
    struct sl_link kept_link;       /* finished ones, until kept_until_us */
    const struct gw_config *config; /* the one in force at birth */
    enum gw_turn_state state;
    struct sl_task tick;
    struct sl_timer timer;

    struct sl_uuid id, session, question_id, answer_id;
    char request_id[GW_REQUEST_ID_SIZE];
    struct gw_user user;
    struct gw_chat_request request;
    int64_t question_at_us; /* Unix time */

    struct gw_feed feed;
    size_t counted_bytes; /* of memory, in the loop's figure */
    uint32_t user_ticket; /* among the running turns of its user */

    struct store_read profile, history;
    int profile_status, history_status;
    struct gw_ask ask;
    int ask_status;
    struct store_save question_save, answer_save;
    int question_save_status, answer_save_status;
    struct sl_buffer answer; /* the text, once it is saved */
    bool question_announced, ops_cancelled;

    struct gw_trace_record *record; /* for its trace; NULL: it is not recorded */

    int error; /* the first one; 0: fine so far */
    enum gw_turn_state error_state;
    enum store_status status;
    bool saved;

    /* the loop's clock; 0: did not happen */
    uint64_t received_us, born_us, profile_done_us, history_done_us, context_done_us, asked_us;
    uint64_t first_delta_us, first_token_us, last_delta_us, token_delivered_us;
    uint64_t answered_us, saved_us, gone_us, kept_until_us;
};

/** turn.c, for turns.c: keeps the first error; the turn's own task takes it from there. */
void gw_turn_end(struct gw_turn *turn, int error);

/** turn.c, for turns.c: frees a turn that is done and has no followers. */
void gw_turn_destroy(struct gw_turn *turn);

/* turn_events.c: appends one event each. These events are small and the log keeps a reserve for them
 * (GW_TURN_LOG_RESERVE), so they abort where memory itself is gone. */
void gw_turn_say_session(struct gw_turn *turn);
void gw_turn_say_accepted(struct gw_turn *turn);
void gw_turn_say_warning(struct gw_turn *turn, const char *code, const char *message);
void gw_turn_say_done(struct gw_turn *turn);
void gw_turn_say_error(struct gw_turn *turn);

/** The call whose answer it is, or the last one that failed; an empty one when none was made. */
const struct gw_upstream_call *gw_turn_call(const struct gw_turn *turn);

/** Why the answer ended, or NULL when nobody said. */
const char *gw_turn_finish_reason(const struct gw_turn *turn);

/** The usage to report: the upstream's figures, or counted where it gave none. */
void gw_turn_usage(const struct gw_turn *turn, int32_t *ret_prompt, int32_t *ret_completion);

/** Milliseconds from the request's arrival to the first token; negative: there was none. */
double gw_turn_ttft_ms(const struct gw_turn *turn);

/**
 * turn_debug.c: appends `,"debug":{…}` if this turn was asked for it. The answer has been saved, or that
 * was given up. Errors as sl_buffer_append.
 */
SL_MUST_CHECK int gw_turn_debug_append(const struct gw_turn *turn, struct sl_buffer *payload);

/** turn_debug.c, for SLUICE_LOG=debug: one line per state move, and per move of what asks the models. */
void gw_turn_trace(const struct gw_turn *turn, enum gw_turn_state next);
void gw_turn_trace_ask(const struct gw_turn *turn, enum gw_ask_move move, const char *upstream,
                       int error);

/** turn_report.c: counts the finished turn and writes its log line. */
void gw_turn_report(const struct gw_turn *turn);

/** turn_report.c: tells users apart without naming them. */
uint64_t gw_turn_user_hash(const struct gw_turn *turn);

/** turn_span.c: at birth; joins the caller's trace or begins one, and decides whether it is recorded. */
void gw_turn_span_begin(struct gw_turn *turn);

/** turn_span.c: at the end; completes the record, if there is one, and hands it over. */
void gw_turn_span_end(struct gw_turn *turn);

/** turn_report.c: where a part of the context came from: "cache", "failed" and the like. */
const char *gw_turn_source_name(const struct store_read *read, int status);
