/*
 * The commands under way on one connection.
 *
 * Happy path: send hands the bytes to hiredis with a `sent` as the callback's private pointer and
 * arms its deadline; on_reply moves the reply out of hiredis' object (nothing is copied), puts the
 * command on the completed list and queues the finish task; the task calls the commands' owners.
 *
 * Failure modes: the deadline finishes the command and turns its `sent` into a tombstone. Three of
 * them in a row, or a whole second in which Redis owed a reply and sent nothing, are reported as
 * distrust; so are errors that speak of the server and not of the command. When the connection ends,
 * hiredis calls back with NULL for everything that is open.
 *
 * Thread and ownership: redis_pipeline.h.
 */
#include "redis_pipeline.h"

#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

#include "redis_adapter.h"

enum {
    LATE_IN_A_ROW_MAX = 3,
    IN_FLIGHT_MAX = 8192,
    BYTES_IN_FLIGHT_MAX = 64 * 1024 * 1024,
    ARGS_ON_STACK = 16,
};

/* One command that hiredis owes a callback. */
struct store_redis_sent {
    struct store_redis_pipeline *pipeline;
    struct store_redis_command *command; /* NULL: a tombstone */
    struct sl_timer deadline;
    uint64_t sent_us;
    size_t bytes;
    struct store_redis_sent *next_spare;
};

static int hand_to_hiredis(struct redisAsyncContext *context, struct store_redis_sent *sent,
                           const struct store_text *args, size_t count);
static void on_late(struct sl_timer *timer);
static void on_silence(struct sl_timer *timer);
static void on_reply(struct redisAsyncContext *context, void *reply, void *privdata);
static struct redisReply *take_content(struct redisReply *reply);
static void complete(struct store_redis_pipeline *pipeline, struct store_redis_command *command,
                     struct redisReply *reply, int status);
static void finish_completed(struct sl_task *task);
static bool speaks_of_server(const struct redisReply *reply);
static struct store_redis_sent *take_spare(struct store_redis_pipeline *pipeline);
static void give_back(struct store_redis_sent *sent);

void store_redis_pipeline_init(struct store_redis_pipeline *pipeline)
{
    pipeline->silence.expired = on_silence;
    pipeline->finish.run = finish_completed;
    pipeline->completed_tail = &pipeline->completed;
}

int store_redis_pipeline_send(struct store_redis_pipeline *pipeline,
                              struct redisAsyncContext *context,
                              struct store_redis_command *command, const struct store_text *args,
                              size_t count, uint64_t timeout_us)
{
    size_t bytes = 0;

    for (size_t i = 0; i < count; i++) {
        if (args[i].len > BYTES_IN_FLIGHT_MAX - bytes) {
            return SL_E_LIMIT; /* hiredis keeps the length of a command in an int */
        }
        bytes += args[i].len;
    }
    if (pipeline->in_flight >= IN_FLIGHT_MAX ||
        pipeline->bytes_in_flight > BYTES_IN_FLIGHT_MAX - bytes) {
        return SL_E_REDIS_UNAVAILABLE;
    }
    struct store_redis_sent *sent = take_spare(pipeline);
    if (sent == NULL || hand_to_hiredis(context, sent, args, count) != 0) {
        if (sent != NULL) {
            sent->next_spare = pipeline->spare;
            pipeline->spare = sent;
        }
        return SL_E_REDIS_UNAVAILABLE;
    }
    sl_op_start(&command->op);
    command->reply = NULL;
    sent->command = command;
    sent->sent_us = sl_loop_now_us(pipeline->loop);
    sent->bytes = bytes;
    sl_loop_arm(pipeline->loop, &sent->deadline, timeout_us);
    pipeline->bytes_in_flight += bytes;
    if (pipeline->in_flight++ == 0) {
        sl_loop_arm(pipeline->loop, &pipeline->silence, pipeline->silence_us);
    }
    sl_counter_add(&pipeline->stats->redis_commands, 1);
    return 0;
}

/* Lengths go along with the bytes, so no user's text is ever read as a format or a terminator. */
static int hand_to_hiredis(struct redisAsyncContext *context, struct store_redis_sent *sent,
                           const struct store_text *args, size_t count)
{
    const char *few_bases[ARGS_ON_STACK] = {0}, **bases = few_bases;
    size_t few_lens[ARGS_ON_STACK] = {0}, *lens = few_lens;
    int result = REDIS_ERR;

    if (count > ARGS_ON_STACK) {
        bases = calloc(count, sizeof(*bases));
        lens = calloc(count, sizeof(*lens));
    }
    if (bases != NULL && lens != NULL) {
        for (size_t i = 0; i < count; i++) {
            bases[i] = args[i].len > 0 ? args[i].base : "";
            lens[i] = args[i].len;
        }
        result = redisAsyncCommandArgv(context, on_reply, sent, (int)count, bases, lens);
    }
    if (count > ARGS_ON_STACK) {
        free(bases);
        free(lens);
    }
    return result == REDIS_OK ? 0 : SL_E_REDIS_UNAVAILABLE;
}

/* ---- too late ---- */

static void on_late(struct sl_timer *timer)
{
    struct store_redis_sent *sent = SL_CONTAINER_OF(timer, struct store_redis_sent, deadline);
    struct store_redis_pipeline *pipeline = sent->pipeline;
    struct store_redis_command *command = sent->command;

    sent->command = NULL;
    sl_counter_add(&pipeline->stats->redis_timeouts, 1);
    sl_histogram_record(&pipeline->stats->redis_us, sl_loop_now_us(pipeline->loop) - sent->sent_us);
    complete(pipeline, command, NULL, SL_E_REDIS_TIMEOUT);
    if (++pipeline->late_in_a_row >= LATE_IN_A_ROW_MAX) {
        pipeline->late_in_a_row = 0;
        pipeline->distrust(pipeline); /* frees `sent` */
    }
}

static void on_silence(struct sl_timer *timer)
{
    struct store_redis_pipeline *pipeline =
        SL_CONTAINER_OF(timer, struct store_redis_pipeline, silence);

    pipeline->distrust(pipeline);
}

/* ---- inside hiredis: only take notes ---- */

static void on_reply(struct redisAsyncContext *context, void *reply, void *privdata)
{
    struct store_redis_sent *sent = privdata;
    struct store_redis_pipeline *pipeline = sent->pipeline;
    struct store_redis_command *command = sent->command;
    uint64_t took_us = sl_loop_now_us(pipeline->loop) - sent->sent_us;

    give_back(sent);
    if (pipeline->in_flight == 0) {
        sl_loop_disarm(pipeline->loop, &pipeline->silence);
    } else if (reply != NULL) {
        sl_loop_arm(pipeline->loop, &pipeline->silence, pipeline->silence_us);
    }
    if (reply != NULL) {
        store_redis_adapter_refuse_surplus(context);
    }
    if (command == NULL) {
        return;
    }
    if (reply == NULL) {
        sl_counter_add(&pipeline->stats->redis_errors, 1);
        complete(pipeline, command, NULL, SL_E_REDIS_UNAVAILABLE);
        return;
    }
    pipeline->late_in_a_row = 0;
    pipeline->answered_in_time++;
    sl_histogram_record(&pipeline->stats->redis_us, took_us);
    struct redisReply *content = take_content(reply);
    bool is_error = store_redis_reply_type(content) == STORE_REDIS_ERROR;
    if (is_error && !store_redis_reply_is_error(content, "NOSCRIPT")) {
        sl_counter_add(&pipeline->stats->redis_errors, 1); /* NOSCRIPT is part of running scripts */
    }
    complete(pipeline, command, content, content == NULL || is_error ? SL_E_REDIS_UNAVAILABLE : 0);
}

/* hiredis frees `reply` after the callback: leave it an empty shell. NULL when there is no memory. */
static struct redisReply *take_content(struct redisReply *reply)
{
    struct redisReply *content = malloc(sizeof(*content));

    if (content != NULL) {
        *content = *reply;
        memset(reply, 0, sizeof(*reply));
        reply->type = REDIS_REPLY_NIL;
    }
    return content;
}

static void complete(struct store_redis_pipeline *pipeline, struct store_redis_command *command,
                     struct redisReply *reply, int status)
{
    command->reply = reply;
    command->status = status;
    command->next = NULL;
    *pipeline->completed_tail = command;
    pipeline->completed_tail = &command->next;
    sl_loop_defer(pipeline->loop, &pipeline->finish);
}

/* ---- from the drain: policy may run ---- */

static void finish_completed(struct sl_task *task)
{
    struct store_redis_pipeline *pipeline =
        SL_CONTAINER_OF(task, struct store_redis_pipeline, finish);
    bool refused = false;

    while (pipeline->completed != NULL) {
        struct store_redis_command *command = pipeline->completed;
        struct redisReply *reply = command->reply;
        pipeline->completed = command->next;
        if (pipeline->completed == NULL) {
            pipeline->completed_tail = &pipeline->completed;
        }
        refused = refused || speaks_of_server(reply);
        sl_op_finish(&command->op, command->status);
        freeReplyObject(reply); /* accepts NULL */
    }
    if (refused) {
        pipeline->distrust(pipeline);
    }
}

/* Errors that every further command would get, too: better connect again, perhaps elsewhere. */
static bool speaks_of_server(const struct redisReply *reply)
{
    return store_redis_reply_is_error(reply, "LOADING") ||
           store_redis_reply_is_error(reply, "NOAUTH") ||
           store_redis_reply_is_error(reply, "MASTERDOWN");
}

/* ---- memory ---- */

static struct store_redis_sent *take_spare(struct store_redis_pipeline *pipeline)
{
    struct store_redis_sent *sent = pipeline->spare;

    if (sent != NULL) {
        pipeline->spare = sent->next_spare;
        return sent;
    }
    sent = calloc(1, sizeof(*sent));
    if (sent != NULL) {
        sent->pipeline = pipeline;
        sent->deadline.expired = on_late;
    }
    return sent;
}

static void give_back(struct store_redis_sent *sent)
{
    struct store_redis_pipeline *pipeline = sent->pipeline;

    sl_loop_disarm(pipeline->loop, &sent->deadline);
    pipeline->in_flight--;
    pipeline->bytes_in_flight -= sent->bytes;
    sent->command = NULL;
    sent->next_spare = pipeline->spare;
    pipeline->spare = sent;
}

void store_redis_pipeline_finish(struct store_redis_pipeline *pipeline)
{
    finish_completed(&pipeline->finish);
    sl_loop_undefer(pipeline->loop, &pipeline->finish);
    sl_loop_disarm(pipeline->loop, &pipeline->silence);
    while (pipeline->spare != NULL) {
        struct store_redis_sent *sent = pipeline->spare;
        pipeline->spare = sent->next_spare;
        free(sent);
    }
}
