/*
 * What a turn leaves for its trace (trace_span.h).
 *
 * With traces off only the caller's own headers are passed on, and nothing is kept. The times are the
 * turn's marks; one offset, taken at its birth, makes Unix time of them all. A turn whose record cannot be
 * had goes on without one. Thread: the turn's loop. Ownership: the record is the turn's until it is handed
 * over.
 */
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "sluice/random.h"
#include "turn_state.h"

static struct gw_trace_stage stage(uint64_t from_us, uint64_t to_us, int error);

void gw_turn_span_begin(struct gw_turn *turn)
{
    struct gw_trace_context *trace = &turn->request.trace;

    if (turn->turns->take_trace == NULL) {
        return;
    }
    bool is_ours = !gw_trace_context_is_set(trace);
    if (is_ours) {
        *trace = gw_trace_context_begin(turn->config->tracing.sample_percent);
    }
    if (trace->sampled) {
        turn->record = gw_trace_record_create(
            trace, turn->question_at_us - (int64_t)sl_loop_now_us(turn->turns->loop));
    }
    if (is_ours && turn->record == NULL) {
        trace->parent = sl_random_u64() | 1; /* the model server shall not record it either */
    }
}

void gw_turn_span_end(struct gw_turn *turn)
{
    struct gw_trace_record *record = turn->record;
    const char *finish_reason = gw_turn_finish_reason(turn);

    if (record == NULL) {
        return;
    }
    turn->record = turn->ask.record = NULL;
    memcpy(record->turn_id, turn->feed.turn_id, sizeof(record->turn_id));
    memcpy(record->session_id, turn->feed.session_id, sizeof(record->session_id));
    (void)snprintf(record->request_id, sizeof(record->request_id), "%s", turn->request_id);
    record->user_hash = gw_turn_user_hash(turn);
    record->status = store_status_name(turn->status);
    record->profile_source = gw_turn_source_name(&turn->profile, turn->profile_status);
    record->history_source = gw_turn_source_name(&turn->history, turn->history_status);
    record->turn =
        stage(turn->received_us, turn->saved_us, turn->error != SL_E_STOPPED ? turn->error : 0);
    record->context_stage = stage(turn->received_us, turn->context_done_us, 0);
    record->profile = stage(turn->received_us, turn->profile_done_us, turn->profile_status);
    record->history = stage(turn->received_us, turn->history_done_us, turn->history_status);
    if (turn->asked_us != 0) {
        record->ask = stage(turn->asked_us, turn->answered_us, 0);
    }
    if (turn->first_delta_us != 0) {
        record->stream = stage(turn->first_delta_us, turn->answered_us, 0);
    }
    record->save =
        stage(turn->answered_us, turn->saved_us, turn->saved ? 0 : SL_E_STORAGE_UNAVAILABLE);
    record->retries = turn->ask.retries;
    record->failovers = turn->ask.failovers;
    record->hedged = turn->ask.is_hedged;
    record->message_bytes = turn->request.message_len;
    record->answer_bytes = turn->feed.log.token_bytes;
    gw_turn_usage(turn, &record->prompt_tokens, &record->completion_tokens);
    (void)snprintf(record->finish_reason, sizeof(record->finish_reason), "%s",
                   finish_reason != NULL ? finish_reason : "");
    turn->turns->take_trace(turn->turns->context, record);
}

static struct gw_trace_stage stage(uint64_t from_us, uint64_t to_us, int error)
{
    return (struct gw_trace_stage){from_us, to_us, error != 0 ? sl_error_info(error)->code : NULL};
}
