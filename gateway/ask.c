/*
 * Asking the models.
 *
 * Happy path:
 *   1. start: the best upstream that serves the model and is usable gets the request.
 *   2. Its first delta makes it the answering one; a hedge beside it is called off.
 *   3. It ends with 0: done.
 *
 *            start
 *              |
 *   +-----> CALLING --first delta--> ANSWERING --end--> over
 *   |       |     \--late: a hedge runs beside it, whoever is first answers
 *   |       |failed
 *   |       +-- another usable upstream --------------> CALLING, at once
 *   |       +-- none, but one is worth a second try --> WAITING (full jitter, Retry-After)
 *   |       '-- none ---------------------------------> over
 *   '--due-- WAITING
 *
 * Failure modes: every failure is judged once (`judge`): may the same upstream be asked again, may another
 * one, was the upstream at fault. What cost the user a whole timeout is never repeated at the same place.
 * A retry draws on a budget, so that an outage does not double the load; a failover does not, since it
 * goes where nothing has failed, and breakers end the useless first tries.
 *
 * Thread: the loop's. Policy runs in tasks and timers; on_delta, inside libcurl, only records.
 */
#include "ask.h"

#include <string.h>

#include "sluice/random.h"
#include "stats.h"
#include "upstream_choice.h"

/* What a failure says about asking again. */
struct verdict {
    bool retry, fail_over;
    enum gw_breaker_outcome outcome;
};

static void call_alone(struct gw_ask *ask, size_t upstream);
static void call(struct gw_ask *ask, struct gw_ask_attempt *attempt, size_t upstream);
static void begin_trace(struct gw_ask_attempt *attempt);
static void end_trace(struct gw_ask_attempt *attempt, int status);
static size_t choose(const struct gw_ask *ask);
static enum gw_canary canary_for(const struct gw_upstream_config *upstream,
                                 const struct gw_ask *ask);
static int on_delta(struct gw_upstream_call *call, const struct gw_delta *delta);
static void on_called(struct sl_op *op, int status);
static void after_failure(struct gw_ask *ask, int status);
static bool plan_retry(struct gw_ask *ask);
static void retry(struct gw_ask *ask);
static void plan_hedge(struct gw_ask *ask);
static void hedge(struct gw_ask *ask);
static size_t choose_for_hedge(const struct gw_ask *ask);
static struct verdict judge(const struct gw_ask_attempt *attempt, int status);
static void report(struct gw_ask_attempt *attempt, enum gw_breaker_outcome outcome);
static void note_pause(struct gw_ask_attempt *attempt, bool may_retry);
static void conclude(struct gw_ask *ask, int status);
static void finish_when_quiet(struct gw_ask *ask);
static void finish(struct sl_task *task);
static void arm(struct gw_ask *ask);
static void on_timer(struct sl_timer *timer);
static bool is_upstreams_timeout(int end_reason);
static struct gw_ask_attempt *other_of(struct gw_ask *ask, const struct gw_ask_attempt *attempt);
static void point_at(struct gw_ask *ask, const struct gw_ask_attempt *attempt);
static void tell(struct gw_ask *ask, enum gw_ask_move move, size_t upstream, int error);

static const struct gw_upstream_events events = {on_delta};

int gw_ask_start(struct gw_ask *ask)
{
    struct gw_upstreams *upstreams = ask->upstreams;

    sl_op_start(&ask->op);
    ask->timer.expired = on_timer;
    ask->finish.run = finish;
    for (size_t i = 0; i < GW_ASK_CALLS; i++) {
        ask->attempts[i].ask = ask;
    }
    gw_retry_budget_turn(&upstreams->retries, upstreams->config->upstream.retry_budget_percent);
    gw_retry_budget_turn(&upstreams->hedges, upstreams->config->upstream.hedge_percent);
    size_t upstream = choose(ask);
    if (upstream == SIZE_MAX) {
        conclude(ask, SL_E_UPSTREAM_UNAVAILABLE);
    } else {
        call_alone(ask, upstream);
    }
    arm(ask);
    return 0;
}

/* Who is asked next: never one that was tried. SIZE_MAX: nobody. */
static size_t choose(const struct gw_ask *ask)
{
    const struct gw_upstreams *upstreams = ask->upstreams;
    const struct gw_config *config = upstreams->config;
    struct gw_candidate candidates[GW_UPSTREAMS_MAX];
    uint64_t now_us = sl_loop_now_us(upstreams->loop);

    for (size_t i = 0; i < config->upstreams_count; i++) {
        const struct gw_upstream_config *upstream = &config->upstreams[i];
        candidates[i] = (struct gw_candidate){
            .weight = upstream->weight,
            .priority = upstream->priority,
            .canary = canary_for(upstream, ask),
            .excluded = (ask->tried >> i & 1) != 0 ||
                        gw_config_upstream_model(upstream, config, ask->model) == NULL ||
                        !gw_breaker_is_usable(&upstreams->shared->of[i].breaker, now_us),
            .resting = upstreams->shared->of[i].resting_until_us > now_us,
        };
    }
    /* random numbers cost a system call */
    uint32_t random = config->upstreams_count > 1 ? (uint32_t)sl_random_u64() : 0;
    return gw_upstream_choose(candidates, config->upstreams_count, random);
}

static enum gw_canary canary_for(const struct gw_upstream_config *upstream,
                                 const struct gw_ask *ask)
{
    if (upstream->canary_percent == 0) {
        return GW_CANARY_NONE;
    }
    return gw_upstream_canary_takes(upstream->name, upstream->canary_percent, ask->user,
                                    ask->user_len)
               ? GW_CANARY_TAKES
               : GW_CANARY_PASSES;
}

/* Nothing else is under way: a hedge, if there will be one, waits for this call's first token. */
static void call_alone(struct gw_ask *ask, size_t upstream)
{
    call(ask, &ask->attempts[0], upstream);
    plan_hedge(ask);
}

/* Sends the request; what fails at once is treated like what fails later. */
static void call(struct gw_ask *ask, struct gw_ask_attempt *attempt, size_t upstream)
{
    struct gw_upstreams *upstreams = ask->upstreams;
    const struct gw_upstream_config *chosen = &upstreams->config->upstreams[upstream];
    const char *model = gw_config_upstream_model(chosen, upstreams->config, ask->model);
    uint64_t now_us = sl_loop_now_us(upstreams->loop);
    struct sl_buffer body;
    uint32_t ticket;

    ask->tried |= 1U << upstream;
    /* another loop may have taken the one probe meanwhile: then this one is simply not asked */
    if (!gw_breaker_admit(&upstreams->shared->of[upstream].breaker, now_us, &ticket)) {
        after_failure(ask, ask->error != 0 ? ask->error : SL_E_UPSTREAM_UNAVAILABLE);
        return;
    }
    *attempt = (struct gw_ask_attempt){
        .ask = ask,
        .call = {.op.done = on_called, .events = &events},
        .upstream = upstream,
        .started_us = now_us,
        .ticket = ticket,
    };
    point_at(ask, attempt);
    tell(ask, GW_ASK_CALL, upstream, 0);
    ask->prompt.model = (struct store_text){model, strlen(model)};
    begin_trace(attempt);
    atomic_fetch_add_explicit(&upstreams->shared->of[upstream].requests, 1, memory_order_relaxed);
    sl_buffer_init(&body, GW_PROMPT_MAX_BYTES);
    int err = upstreams->of[upstream].provider->build(&ask->prompt, &body, &ask->history_used,
                                                      &ask->prompt_tokens);
    if (err == 0) {
        err = gw_upstream_start(upstreams->of[upstream].endpoint, &attempt->call, &body);
    }
    sl_buffer_dispose(&body);
    if (err == 0) {
        return;
    }
    report(attempt, GW_BREAKER_UNKNOWN);
    end_trace(attempt, err);
    if (other_of(ask, attempt)->call.op.running) {
        point_at(ask, other_of(ask, attempt)); /* without its hedge, then */
    } else {
        conclude(ask, err);
    }
}

/* ---------------------------------------------------------------- inside libcurl: record only */

static int on_delta(struct gw_upstream_call *call, const struct gw_delta *delta)
{
    struct gw_ask_attempt *attempt = SL_CONTAINER_OF(call, struct gw_ask_attempt, call);
    struct gw_ask *ask = attempt->ask;

    if (ask->is_over || (ask->answering != NULL && ask->answering != attempt)) {
        return SL_E_CANCELLED;
    }
    if (delta->content_len + delta->reasoning_len == 0) {
        return 0; /* role chunks and pings are no answer */
    }
    if (ask->answering == NULL) {
        uint64_t now_us = sl_loop_now_us(ask->upstreams->loop);
        ask->answering = attempt;
        point_at(ask, attempt);
        tell(ask, GW_ASK_FIRST_DELTA, attempt->upstream, 0);
        gw_recent_times_record(&ask->upstreams->of[attempt->upstream].first_tokens, now_us,
                               now_us - attempt->started_us);
        gw_upstream_cancel(&other_of(ask, attempt)->call);
        if (attempt->ticket == GW_BREAKER_PROBE) {
            report(
                attempt,
                GW_BREAKER_SUCCESS); /* an answer may last; the others need not wait for its end */
        }
        if (attempt == &ask->attempts[1]) {
            sl_counter_add(&ask->upstreams->stats->upstream_hedges_won, 1);
        }
    }
    return ask->on_delta(ask, delta);
}

/* ---------------------------------------------------------------- a call has ended */

static void on_called(struct sl_op *op, int status)
{
    struct gw_ask_attempt *attempt = SL_CONTAINER_OF(op, struct gw_ask_attempt, call.op);
    struct gw_ask *ask = attempt->ask;
    const struct gw_ask_attempt *other = other_of(ask, attempt);
    bool is_alone = !other->call.op.running;

    if (attempt->connect_expired && status == SL_E_CANCELLED) {
        status = SL_E_UPSTREAM_CONNECT_TIMEOUT;
    }
    end_trace(attempt, status);
    if (ask->is_over || (ask->answering != NULL && ask->answering != attempt)) {
        report(attempt,
               is_upstreams_timeout(ask->end_reason) ? GW_BREAKER_FAILURE : GW_BREAKER_UNKNOWN);
        finish_when_quiet(ask);
        return;
    }
    point_at(ask, attempt); /* an answer without text has chosen no call by a delta */
    if (status != 0) {
        tell(ask, GW_ASK_FAILED, attempt->upstream, status);
    }
    struct verdict verdict = judge(attempt, status);
    report(attempt, verdict.outcome);
    note_pause(attempt, verdict.retry);
    if (status == 0 || ask->answering == attempt || (!verdict.fail_over && is_alone)) {
        conclude(ask, status); /* or the request itself is at fault, or we are */
    } else {
        if (!is_alone) {
            point_at(ask, other);
        }
        after_failure(ask, status);
        arm(ask);
    }
}

static struct verdict judge(const struct gw_ask_attempt *attempt, int status)
{
    const struct gw_upstream_call *call = &attempt->call;

    switch (status) {
    case SL_E_UPSTREAM_UNREACHABLE:
    case SL_E_UPSTREAM_FAILED:
    case SL_E_UPSTREAM_TRUNCATED:
    case SL_E_UPSTREAM_MALFORMED:
        return (struct verdict){.retry = true, .fail_over = true, .outcome = GW_BREAKER_FAILURE};
    case SL_E_UPSTREAM_CONNECT_TIMEOUT:
    case SL_E_UPSTREAM_ADDRESS_REFUSED:
        return (struct verdict){.fail_over = true, .outcome = GW_BREAKER_FAILURE};
    case SL_E_UPSTREAM_RATE_LIMITED: /* it is alive; a spent quota does not come back by asking */
        return (struct verdict){
            .retry = !call->is_spent, .fail_over = true, .outcome = GW_BREAKER_SUCCESS};
    case SL_E_UPSTREAM_REJECTED: {
        /* key, account, path: another upstream has its own. Else the request is at fault everywhere */
        bool may_differ = call->http_status >= 401 && call->http_status <= 404;
        /* a question that is forbidden or a model that is missing takes the upstream from nobody else */
        bool is_locked = call->http_status == 401 || call->http_status == 402;
        return (struct verdict){.fail_over = may_differ,
                                .outcome = is_locked ? GW_BREAKER_FAILURE : GW_BREAKER_SUCCESS};
    }
    case 0:
    case SL_E_ANSWER_TOO_LONG:
        return (struct verdict){.outcome = GW_BREAKER_SUCCESS};
    default:
        return (struct verdict){.outcome = GW_BREAKER_UNKNOWN};
    }
}

static void report(struct gw_ask_attempt *attempt, enum gw_breaker_outcome outcome)
{
    struct gw_upstreams *upstreams = attempt->ask->upstreams;
    const struct gw_breaker_limits limits = {
        .failures = upstreams->config->upstream.breaker_failures,
        .open_us = 1000UL * upstreams->config->upstream.breaker_open_ms,
    };

    if (attempt->reported) {
        return;
    }
    attempt->reported = true;
    gw_breaker_report(&upstreams->shared->of[attempt->upstream].breaker, &limits,
                      sl_loop_now_us(upstreams->loop),
                      limits.failures == 0 ? GW_BREAKER_UNKNOWN : outcome, attempt->ticket);
    if (outcome == GW_BREAKER_FAILURE) {
        atomic_fetch_add_explicit(&upstreams->shared->of[attempt->upstream].failures, 1,
                                  memory_order_relaxed);
    }
}

/* From when on the upstream may be asked again, by this turn and, if it said so, by the others. */
static void note_pause(struct gw_ask_attempt *attempt, bool may_retry)
{
    struct gw_ask *ask = attempt->ask;
    uint64_t from_us = sl_loop_now_us(ask->upstreams->loop) + attempt->call.retry_after_us;

    if (may_retry) {
        ask->may_retry |= 1U << attempt->upstream;
        ask->retry_from_us[attempt->upstream] = from_us;
    }
    if (attempt->call.retry_after_us > 0) {
        ask->upstreams->shared->of[attempt->upstream].resting_until_us = from_us;
    }
}

/* ---------------------------------------------------------------- what next */

static void after_failure(struct gw_ask *ask, int status)
{
    ask->error = status;
    for (size_t i = 0; i < GW_ASK_CALLS; i++) {
        if (ask->attempts[i].call.op.running) {
            return; /* it may still answer */
        }
    }
    size_t upstream = choose(ask);
    if (upstream != SIZE_MAX) {
        ask->failovers++;
        sl_counter_add(&ask->upstreams->stats->upstream_failovers, 1);
        tell(ask, GW_ASK_FAILOVER, upstream, 0);
        call_alone(ask, upstream);
    } else if (!plan_retry(ask)) {
        conclude(ask, status);
    }
}

/* The one that may be asked again soonest; full jitter, so that many turns do not come back together. */
static bool plan_retry(struct gw_ask *ask)
{
    struct gw_upstreams *upstreams = ask->upstreams;
    uint64_t now_us = sl_loop_now_us(upstreams->loop), due_us = UINT64_MAX;

    for (size_t i = 0; i < upstreams->config->upstreams_count; i++) {
        bool is_open = (ask->may_retry & ~ask->retried) >> i & 1;
        if (is_open && ask->retry_from_us[i] < due_us &&
            gw_breaker_is_usable(&upstreams->shared->of[i].breaker, now_us)) {
            due_us = ask->retry_from_us[i];
            ask->retry_upstream = i;
        }
    }
    if (due_us == UINT64_MAX) {
        return false;
    }
    uint64_t backoff_us = 1000UL * upstreams->config->upstream.retry_backoff_ms;
    due_us = (due_us > now_us ? due_us : now_us) + sl_random_backoff_us(0, backoff_us, backoff_us);
    if (due_us >= ask->deadline_us || !gw_retry_budget_take(&upstreams->retries)) {
        return false;
    }
    ask->retry_due_us = due_us;
    tell(ask, GW_ASK_RETRY_PLANNED, ask->retry_upstream, 0);
    return true;
}

static void retry(struct gw_ask *ask)
{
    ask->retry_due_us = 0;
    ask->retried |= 1U << ask->retry_upstream;
    ask->retries++;
    sl_counter_add(&ask->upstreams->stats->upstream_retries, 1);
    call_alone(ask, ask->retry_upstream);
}

/* The call at hand is late when its first token takes longer than that upstream's usually do. */
static void plan_hedge(struct gw_ask *ask)
{
    struct gw_upstreams *upstreams = ask->upstreams;
    const struct gw_ask_attempt *first = &ask->attempts[0];
    uint64_t late_us;

    ask->hedge_due_us = 0;
    if (upstreams->config->upstream.hedge_percent > 0 && !ask->is_hedged &&
        first->call.op.running &&
        gw_recent_times_quantile(&upstreams->of[first->upstream].first_tokens, first->started_us,
                                 0.95, &late_us)) {
        ask->hedge_due_us = first->started_us + late_us;
    }
}

/* The first token is later than usual: a second upstream, or the same one, gets the question too. */
static void hedge(struct gw_ask *ask)
{
    ask->hedge_due_us = 0;
    if (ask->answering != NULL || !ask->attempts[0].call.op.running) {
        return;
    }
    size_t upstream = choose_for_hedge(ask);
    if (upstream == SIZE_MAX || !gw_retry_budget_take(&ask->upstreams->hedges)) {
        return;
    }
    ask->is_hedged = true;
    sl_counter_add(&ask->upstreams->stats->upstream_hedges, 1);
    tell(ask, GW_ASK_HEDGE, upstream, 0);
    call(ask, &ask->attempts[1], upstream);
}

/* Nobody needs a hedge: it goes to no upstream that asked for a pause, or that is being probed. */
static size_t choose_for_hedge(const struct gw_ask *ask)
{
    const struct gw_upstreams *upstreams = ask->upstreams;
    uint64_t now_us = sl_loop_now_us(upstreams->loop);
    size_t upstream = choose(ask);

    if (upstream == SIZE_MAX || upstreams->shared->of[upstream].resting_until_us > now_us) {
        upstream = ask->attempts[0].upstream;
    }
    return gw_breaker_is_usable(&upstreams->shared->of[upstream].breaker, now_us) ? upstream
                                                                                  : SIZE_MAX;
}

/* ---------------------------------------------------------------- time */

static uint64_t connect_due_us(const struct gw_ask_attempt *attempt)
{
    bool is_waiting =
        attempt->call.op.running && !attempt->call.connected && !attempt->connect_expired;

    return is_waiting ? attempt->started_us +
                            1000UL * attempt->ask->upstreams->config->upstream.connect_timeout_ms
                      : UINT64_MAX;
}

static void arm(struct gw_ask *ask)
{
    struct sl_loop *loop = ask->upstreams->loop;
    uint64_t now_us = sl_loop_now_us(loop), due_us = UINT64_MAX;

    if (ask->is_over) {
        return;
    }
    for (size_t i = 0; i < GW_ASK_CALLS; i++) {
        uint64_t connect_us = connect_due_us(&ask->attempts[i]);
        due_us = connect_us < due_us ? connect_us : due_us;
    }
    due_us = ask->retry_due_us != 0 && ask->retry_due_us < due_us ? ask->retry_due_us : due_us;
    due_us = ask->hedge_due_us != 0 && ask->hedge_due_us < due_us ? ask->hedge_due_us : due_us;
    if (due_us != UINT64_MAX) {
        sl_loop_arm(loop, &ask->timer, due_us > now_us ? due_us - now_us : 0);
    }
}

static void on_timer(struct sl_timer *timer)
{
    struct gw_ask *ask = SL_CONTAINER_OF(timer, struct gw_ask, timer);
    uint64_t now_us = sl_loop_now_us(ask->upstreams->loop);

    for (size_t i = 0; i < GW_ASK_CALLS; i++) {
        if (connect_due_us(&ask->attempts[i]) <= now_us) {
            ask->attempts[i].connect_expired = true;
            gw_upstream_cancel(&ask->attempts[i].call);
        }
    }
    if (ask->retry_due_us != 0 && ask->retry_due_us <= now_us) {
        retry(ask);
    }
    if (ask->hedge_due_us != 0 && ask->hedge_due_us <= now_us) {
        hedge(ask);
    }
    arm(ask);
}

/* ---------------------------------------------------------------- the end */

void gw_ask_cancel(struct gw_ask *ask, int reason)
{
    if (ask->op.running && !ask->is_over) {
        ask->end_reason = reason;
        conclude(ask, SL_E_CANCELLED);
    }
}

static void conclude(struct gw_ask *ask, int status)
{
    ask->is_over = true;
    ask->status = status;
    sl_loop_disarm(ask->upstreams->loop, &ask->timer);
    for (size_t i = 0; i < GW_ASK_CALLS; i++) {
        gw_upstream_cancel(&ask->attempts[i].call);
    }
    finish_when_quiet(ask);
}

/* Both calls must have been handed back before the caller may free us. */
static void finish_when_quiet(struct gw_ask *ask)
{
    bool is_quiet = true;

    for (size_t i = 0; i < GW_ASK_CALLS; i++) {
        is_quiet = is_quiet && !ask->attempts[i].call.op.running;
    }
    if (ask->is_over && is_quiet) {
        sl_loop_defer(ask->upstreams->loop, &ask->finish);
    }
}

static void finish(struct sl_task *task)
{
    struct gw_ask *ask = SL_CONTAINER_OF(task, struct gw_ask, finish);

    sl_op_finish(&ask->op, ask->status);
}

/* ---------------------------------------------------------------- its trace */

/* The request names the span that makes it: the call's own, or, where none is recorded, the caller's. */
static void begin_trace(struct gw_ask_attempt *attempt)
{
    struct gw_ask *ask = attempt->ask;
    const struct gw_upstream_config *upstream =
        &ask->upstreams->config->upstreams[attempt->upstream];
    uint64_t parent;

    if (ask->trace == NULL || !gw_trace_context_is_set(ask->trace)) {
        return;
    }
    parent = ask->trace->parent;
    if (ask->record != NULL) {
        attempt->span = gw_trace_record_call(ask->record);
        parent = gw_trace_record_call_id(ask->record, attempt->span);
    }
    if (attempt->span != NULL) {
        *attempt->span = (struct gw_trace_call){
            .stage.from_us = attempt->started_us,
            .upstream = upstream->name,
            .provider = upstream->provider,
            .model = ask->prompt.model.base,
        };
    }
    gw_trace_context_format(ask->trace, parent, attempt->call.traceparent);
    attempt->call.trace_state = ask->trace_state;
}

static void end_trace(struct gw_ask_attempt *attempt, int status)
{
    const struct gw_ask *ask = attempt->ask;
    struct gw_trace_call *span = attempt->span;

    if (span == NULL) {
        return;
    }
    if (status == SL_E_CANCELLED && is_upstreams_timeout(ask->end_reason)) {
        status = ask->end_reason;
    }
    span->stage.to_us = sl_loop_now_us(ask->upstreams->loop);
    span->stage.error =
        status != 0 && status != SL_E_CANCELLED ? sl_error_info(status)->code : NULL;
    span->called_off = status == SL_E_CANCELLED;
    span->answered = ask->answering == attempt || (ask->answering == NULL && status == 0);
    span->http_status = attempt->call.http_status;
    span->connected_us = attempt->call.connected_us;
    span->first_byte_us = attempt->call.first_byte_us;
}

/* ---------------------------------------------------------------- parts */

/* The turn gave it up because it was too slow. */
static bool is_upstreams_timeout(int end_reason)
{
    return end_reason == SL_E_UPSTREAM_FIRST_TOKEN_TIMEOUT ||
           end_reason == SL_E_UPSTREAM_IDLE_TIMEOUT;
}

static struct gw_ask_attempt *other_of(struct gw_ask *ask, const struct gw_ask_attempt *attempt)
{
    return &ask->attempts[attempt == &ask->attempts[0]];
}

/* Whose figures the caller sees. */
static void point_at(struct gw_ask *ask, const struct gw_ask_attempt *attempt)
{
    ask->call = &attempt->call;
    ask->called_us = attempt->started_us;
    ask->upstream_name = ask->upstreams->config->upstreams[attempt->upstream].name;
}

static void tell(struct gw_ask *ask, enum gw_ask_move move, size_t upstream, int error)
{
    if (ask->on_move != NULL) {
        ask->on_move(ask, move, ask->upstreams->config->upstreams[upstream].name, error);
    }
}
