/*
 * What is counted and logged of a turn: once, at its end, in one JSON line.
 *
 * `term` says who ended it and in which state, in HAProxy's manner: first letter C client, U upstream,
 * R Redis, D database, L our limit, I bug, - fine (lower case: a timeout); second letter the state:
 * B born, C context, A ask, S stream, V save, D done. Lengths only: never a message, an answer, a token or a key.
 * Thread: the turn's loop.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "config.h"
#include "sluice/hash.h"
#include "sluice/text.h"
#include "stats.h"
#include "turn_state.h"

enum { LINE_MAX_BYTES = 4096 };

static const char state_letters[] = GW_STATS_TERM_STATES; /* by enum gw_turn_state */

static void count(const struct gw_turn *turn);
static void count_tokens(const struct gw_turn *turn);
static char term_who(const struct gw_turn *turn);
static char term_state(const struct gw_turn *turn);
static int append_line(const struct gw_turn *turn, struct sl_buffer *line);
static int append_ms(struct sl_buffer *line, const char *name, uint64_t from_us, uint64_t to_us);

void gw_turn_report(const struct gw_turn *turn)
{
    struct sl_buffer line;

    count(turn);
    sl_buffer_init(&line, LINE_MAX_BYTES);
    if (append_line(turn, &line) == 0) {
        turn->turns->log_line(turn->turns->context, line.base, line.len);
    }
    sl_buffer_dispose(&line);
}

static void record(struct sl_histogram *histogram, uint64_t from_us, uint64_t to_us)
{
    if (to_us != 0) {
        sl_histogram_record(histogram, to_us - from_us);
    }
}

static void count(const struct gw_turn *turn)
{
    struct gw_stats *stats = turn->turns->stats;

    sl_counter_add(&stats->turns[turn->status], 1);
    sl_counter_add(&stats->turns_by_term[gw_stats_term_slot(term_who(turn), term_state(turn))], 1);
    if (turn->error != 0 && turn->error != SL_E_STOPPED) {
        sl_counter_add(&stats->turn_errors[gw_stats_error_slot(turn->error)], 1);
    }
    count_tokens(turn);
    record(&stats->profile, turn->received_us, turn->profile_done_us);
    record(&stats->history, turn->received_us, turn->history_done_us);
    record(&stats->context, turn->received_us, turn->context_done_us);
    record(&stats->connect, turn->asked_us, gw_turn_call(turn)->connected_us);
    record(&stats->upstream_first_byte, turn->asked_us, gw_turn_call(turn)->first_byte_us);
    record(&stats->upstream_first_token, turn->asked_us, turn->first_delta_us);
    record(&stats->save, turn->answered_us, turn->saved_us);
    record(&stats->total, turn->received_us, turn->saved_us);
}

static void count_tokens(const struct gw_turn *turn)
{
    struct gw_stats *stats = turn->turns->stats;
    uint64_t streamed_us = turn->last_delta_us - turn->first_delta_us;
    int32_t prompt_tokens, completion_tokens;

    gw_turn_usage(turn, &prompt_tokens, &completion_tokens);
    sl_counter_add(&stats->deltas, turn->feed.log.token_count);
    sl_counter_add(&stats->token_gap.sum_us, streamed_us); /* its buckets were counted on the way */
    if (turn->asked_us == 0) {
        return;
    }
    sl_counter_add(&stats->tokens_prompt, (uint64_t)prompt_tokens);
    sl_counter_add(&stats->tokens_completion, (uint64_t)completion_tokens);
    gw_stats_tokens_record(&stats->tokens_input, (uint64_t)prompt_tokens);
    gw_stats_tokens_record(&stats->tokens_output, (uint64_t)completion_tokens);
    if (turn->status != STORE_STATUS_COMPLETE) {
        return;
    }
    record(&stats->complete_ttft, turn->received_us, turn->token_delivered_us);
    if (completion_tokens > 1) {
        sl_histogram_record(&stats->per_output_token,
                            streamed_us / (uint64_t)(completion_tokens - 1));
    }
}

static char term_who(const struct gw_turn *turn)
{
    return turn->error != 0 ? sl_error_info(turn->error)->term : '-';
}

static char term_state(const struct gw_turn *turn)
{
    return state_letters[turn->error != 0 ? turn->error_state : GW_TURN_DONE];
}

static int append_line(const struct gw_turn *turn, struct sl_buffer *line)
{
    const struct sl_error_info *info = turn->error != 0 ? sl_error_info(turn->error) : NULL;
    struct timespec now;
    struct tm utc;
    char when[32];
    int32_t prompt_tokens, completion_tokens;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &utc);
    (void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &utc);
    gw_turn_usage(turn, &prompt_tokens, &completion_tokens);
    int err = sl_buffer_appendf(
        line, "{\"time\":\"%s.%03ldZ\",\"level\":\"info\",\"event\":\"turn\",\"request_id\":", when,
        now.tv_nsec / 1000000);
    if (err == 0) {
        err = sl_json_append_string(line, turn->request_id, strlen(turn->request_id));
    }
    if (err == 0) {
        err = sl_buffer_appendf(
            line,
            ",\"turn_id\":\"%s\",\"session_id\":\"%s\",\"user_hash\":\"%016llx\",\"status\":\"%s\","
            "\"term\":\"%c%c\",\"error\":%s%s%s,\"saved\":%s,\"upstream_status\":%d,"
            "\"message_bytes\":%zu,\"answer_bytes\":%zu,\"reasoning_bytes\":%zu,\"events\":%u,"
            "\"history_messages\":%zu,\"prompt_tokens\":%d,\"completion_tokens\":%d,"
            "\"profile_source\":\"%s\",\"history_source\":\"%s\","
            "\"upstream\":\"%s\",\"retries\":%u,\"failovers\":%u,\"hedged\":%s",
            turn->feed.turn_id, turn->feed.session_id, (unsigned long long)gw_turn_user_hash(turn),
            store_status_name(turn->status), term_who(turn), term_state(turn),
            info != NULL ? "\"" : "", info != NULL ? info->code : "null", info != NULL ? "\"" : "",
            turn->saved ? "true" : "false", gw_turn_call(turn)->http_status,
            turn->request.message_len, turn->feed.log.token_bytes, turn->feed.log.reasoning_bytes,
            turn->feed.log.last_seq, turn->ask.history_used, prompt_tokens, completion_tokens,
            gw_turn_source_name(&turn->profile, turn->profile_status),
            gw_turn_source_name(&turn->history, turn->history_status),
            turn->ask.upstream_name != NULL ? turn->ask.upstream_name : "", turn->ask.retries,
            turn->ask.failovers, turn->ask.is_hedged ? "true" : "false");
    }
    if (err == 0 && gw_trace_context_is_set(&turn->request.trace)) {
        err = sl_buffer_appendf(line, ",\"trace_id\":\"%016" PRIx64 "%016" PRIx64 "\"",
                                turn->request.trace.id_high, turn->request.trace.id_low);
    }
    struct {
        const char *name;
        uint64_t from_us, to_us;
    } const stages[] = {
        {"profile_ms", turn->received_us, turn->profile_done_us},
        {"history_ms", turn->received_us, turn->history_done_us},
        {"context_ms", turn->received_us, turn->context_done_us},
        {"connect_ms", turn->asked_us, gw_turn_call(turn)->connected_us},
        {"upstream_first_byte_ms", turn->asked_us, gw_turn_call(turn)->first_byte_us},
        {"upstream_first_token_ms", turn->asked_us, turn->first_delta_us},
        {"ttft_ms", turn->received_us, turn->token_delivered_us},
        {"saved_ms", turn->answered_us, turn->saved_us},
        {"total_ms", turn->received_us, turn->saved_us},
    };
    for (size_t i = 0; err == 0 && i < sizeof(stages) / sizeof(stages[0]); i++) {
        err = append_ms(line, stages[i].name, stages[i].from_us, stages[i].to_us);
    }
    return err != 0 ? err : sl_buffer_append(line, "}", 1);
}

static int append_ms(struct sl_buffer *line, const char *name, uint64_t from_us, uint64_t to_us)
{
    if (to_us == 0) {
        return 0;
    }
    return sl_buffer_appendf(line, ",\"%s\":%.3f", name, (double)(to_us - from_us) / 1000);
}

const char *gw_turn_source_name(const struct store_read *read, int status)
{
    static const char *const names[] = {"none", "cache", "local", "database"};

    return status != 0 ? "failed" : names[read->source];
}

uint64_t gw_turn_user_hash(const struct gw_turn *turn)
{
    return sl_hash_mix(sl_hash_add(SL_HASH_START, turn->user.id, turn->user.id_len));
}
