/*
 * What developers are told of a turn: where its time went, and its moves as they happen.
 *
 * The breakdown goes out with the last event, and only when the request or the configuration asks for
 * it. The stages of asking are those of the call whose answer it is, or of the last one that failed; what
 * earlier calls and pauses took is in `choose`. Names and times only, never a text. Thread: the turn's loop.
 */
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "turn_state.h"

enum { LINE_MAX_BYTES = 512 };

struct stage {
    const char *name;
    uint64_t from_us, to_us; /* 0: did not happen */
    const char *source;      /* NULL: has none */
};

static int append_stage(const struct gw_turn *turn, const struct stage *stage, bool is_first,
                        struct sl_buffer *payload);
static bool is_debugging(const struct gw_turn *turn);
static double after_ms(const struct gw_turn *turn);

/* ---------------------------------------------------------------- where the time went */

int gw_turn_debug_append(const struct gw_turn *turn, struct sl_buffer *payload)
{
    const struct gw_upstream_call *call = gw_turn_call(turn);
    const struct gw_ask *ask = &turn->ask;
    bool was_read = turn->history_done_us != 0;
    const struct stage stages[] = {
        {"parse", turn->received_us, turn->born_us, NULL},
        {"context", turn->born_us, turn->context_done_us, NULL},
        {"profile", turn->born_us, turn->profile_done_us,
         gw_turn_source_name(&turn->profile, turn->profile_status)},
        {"history", was_read ? turn->born_us : 0, turn->history_done_us,
         gw_turn_source_name(&turn->history, turn->history_status)},
        {"choose", turn->asked_us, ask->called_us, NULL},
        {"connect", ask->called_us, call->connected_us, NULL},
        {"upstream_first_byte", call->connected_us, call->first_byte_us, NULL},
        {"first_token", call->first_byte_us, turn->first_delta_us, NULL},
        {"stream", turn->first_delta_us, turn->answered_us, NULL},
        {"save", turn->answered_us, turn->saved_us, NULL},
    };

    if (!turn->request.debug_timings && !turn->config->chat.debug_timings) {
        return 0;
    }
    int err = sl_buffer_append_str(payload, ",\"debug\":{\"stages\":[");
    for (size_t i = 0; err == 0 && i < sizeof(stages) / sizeof(stages[0]); i++) {
        err = stages[i].from_us != 0 ? append_stage(turn, &stages[i], i == 0, payload) : 0;
    }
    if (err == 0) {
        err = sl_buffer_appendf(payload,
                                "],\"upstream\":%s%s%s,\"retries\":%u,\"failovers\":%u,"
                                "\"hedged\":%s,\"loop\":%u,\"deltas\":%u}",
                                ask->upstream_name != NULL ? "\"" : "",
                                ask->upstream_name != NULL ? ask->upstream_name : "null",
                                ask->upstream_name != NULL ? "\"" : "", ask->retries,
                                ask->failovers, ask->is_hedged ? "true" : "false",
                                turn->turns->index, turn->feed.log.token_count);
    }
    return err;
}

/* A stage that was never finished lasted until the turn gave up, and says so. */
static int append_stage(const struct gw_turn *turn, const struct stage *stage, bool is_first,
                        struct sl_buffer *payload)
{
    bool is_cut = stage->to_us == 0;
    uint64_t to_us = is_cut ? turn->answered_us : stage->to_us;
    int err = sl_buffer_appendf(payload, "%s{\"stage\":\"%s\",\"start_ms\":%.3f,\"ms\":%.3f",
                                is_first ? "" : ",", stage->name,
                                (double)(stage->from_us - turn->received_us) / 1000,
                                (double)(to_us - stage->from_us) / 1000);

    if (err == 0 && stage->source != NULL) {
        err = sl_buffer_appendf(payload, ",\"source\":\"%s\"", stage->source);
    }
    return err != 0 ? err : sl_buffer_append_str(payload, is_cut ? ",\"cut\":true}" : "}");
}

/* ---------------------------------------------------------------- its moves, as they happen */

void gw_turn_trace(const struct gw_turn *turn, enum gw_turn_state next)
{
    static const char *const names[] = {"born", "context", "ask", "stream", "save", "done"};
    char line[LINE_MAX_BYTES];

    if (!is_debugging(turn)) {
        return;
    }
    int n =
        snprintf(line, sizeof(line),
                 "{\"level\":\"debug\",\"event\":\"turn_state\",\"turn_id\":\"%s\",\"from\":\"%s\","
                 "\"to\":\"%s\",\"after_ms\":%.3f}",
                 turn->feed.turn_id, names[turn->state], names[next], after_ms(turn));
    turn->turns->log_line(turn->turns->context, line, (size_t)n);
}

void gw_turn_trace_ask(const struct gw_turn *turn, enum gw_ask_move move, const char *upstream,
                       int error)
{
    static const char *const names[] = {"call",     "failed", "retry_planned",
                                        "failover", "hedge",  "first_delta"};
    char line[LINE_MAX_BYTES];

    if (!is_debugging(turn)) {
        return;
    }
    int n = snprintf(
        line, sizeof(line),
        "{\"level\":\"debug\",\"event\":\"turn_ask\",\"turn_id\":\"%s\",\"move\":\"%s\","
        "\"upstream\":\"%s\",\"error\":%s%s%s,\"after_ms\":%.3f}",
        turn->feed.turn_id, names[move], upstream, error != 0 ? "\"" : "",
        error != 0 ? sl_error_info(error)->code : "null", error != 0 ? "\"" : "", after_ms(turn));
    turn->turns->log_line(turn->turns->context, line, (size_t)n);
}

static bool is_debugging(const struct gw_turn *turn)
{
    return strcmp(turn->config->log_level, "debug") == 0;
}

static double after_ms(const struct gw_turn *turn)
{
    return (double)(sl_loop_now_us(turn->turns->loop) - turn->received_us) / 1000;
}
