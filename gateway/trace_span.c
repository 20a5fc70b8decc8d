/*
 * A turn's spans as OTLP JSON.
 *
 * Ids are 64 bits made from the turn's span id, so that a record needs no more random numbers than one.
 * Names of attributes are those of OpenTelemetry's semantic conventions for generative AI where there is
 * one, and `sluice.` otherwise. Failure modes: the buffer's. Thread and ownership: see the header.
 */
#include "trace_span.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sluice/hash.h"
#include "sluice/random.h"
#include "sluice/text.h"

enum span_kind { INTERNAL = 1, SERVER = 2, CLIENT = 3 };

/* What ids are made from, beside the turn's. */
enum span_number { CONTEXT = 1, PROFILE, HISTORY, ASK, STREAM, SAVE, FIRST_CALL };

/* One JSON document under way; after the first failure nothing is added. */
struct writer {
    struct sl_buffer *json;
    const struct gw_trace_record *record;
    int err;
    bool needs_comma; /* between attributes */
};

static void write_turn(struct writer *writer);
static void write_call(struct writer *writer, const struct gw_trace_call *call);
static void write_stage(struct writer *writer, const char *name, enum span_number number,
                        uint64_t parent, const struct gw_trace_stage *stage, const char *source);
static void begin_span(struct writer *writer, const char *name, const char *of, uint64_t id,
                       uint64_t parent, enum span_kind kind, const struct gw_trace_stage *stage);
static void end_span(struct writer *writer, const struct gw_trace_stage *stage);
static void add_key(struct writer *writer, const char *key);
static void add_text(struct writer *writer, const char *key, const char *value);
static void add_quoted(struct writer *writer, const char *key, const char *open, const char *value,
                       const char *close);
static void add_number(struct writer *writer, const char *key, uint64_t value);
static void add_ms(struct writer *writer, const char *key, uint64_t from_us, uint64_t to_us);
static void add_flag(struct writer *writer, const char *key, bool value);
static uint64_t id_of(const struct gw_trace_record *record, unsigned number);

/* ---------------------------------------------------------------- the record */

struct gw_trace_record *gw_trace_record_create(const struct gw_trace_context *context,
                                               int64_t unix_from_us)
{
    struct gw_trace_record *record = calloc(1, sizeof(*record));

    if (record != NULL) {
        record->context = *context;
        record->root = sl_random_u64() | 1; /* 0 is no id */
        record->unix_from_us = unix_from_us;
    }
    return record;
}

struct gw_trace_call *gw_trace_record_call(struct gw_trace_record *record)
{
    return record->calls_count < GW_TRACE_CALLS_MAX ? &record->calls[record->calls_count++] : NULL;
}

uint64_t gw_trace_record_call_id(const struct gw_trace_record *record,
                                 const struct gw_trace_call *call)
{
    return call == NULL ? record->root
                        : id_of(record, FIRST_CALL + (unsigned)(call - record->calls));
}

static uint64_t id_of(const struct gw_trace_record *record, unsigned number)
{
    uint64_t id = sl_hash_mix(record->root + number);

    return id != 0 ? id : 1;
}

size_t gw_trace_record_spans(const struct gw_trace_record *record)
{
    return 1U + record->calls_count + (record->context_stage.to_us != 0) +
           (record->profile.to_us != 0) + (record->history.to_us != 0) + (record->ask.to_us != 0) +
           (record->stream.to_us != 0) + (record->save.to_us != 0);
}

/* ---------------------------------------------------------------- the document */

int gw_trace_json_begin(struct sl_buffer *json)
{
    return sl_buffer_append_str(
        json, "{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\","
              "\"value\":{\"stringValue\":\"sluice\"}}]},\"scopeSpans\":[{\"scope\":{\"name\":"
              "\"sluice\"},\"spans\":[");
}

int gw_trace_json_end(struct sl_buffer *json)
{
    return sl_buffer_append_str(json, "]}]}]}");
}

int gw_trace_json_add(struct sl_buffer *json, const struct gw_trace_record *record)
{
    struct writer writer = {.json = json, .record = record};
    const size_t len_before = json->len;
    const uint64_t context = id_of(record, CONTEXT), ask = id_of(record, ASK);

    write_turn(&writer);
    write_stage(&writer, "context", CONTEXT, record->root, &record->context_stage, NULL);
    write_stage(&writer, "profile", PROFILE, context, &record->profile, record->profile_source);
    write_stage(&writer, "history", HISTORY, context, &record->history, record->history_source);
    write_stage(&writer, "ask", ASK, record->root, &record->ask, NULL);
    for (size_t i = 0; i < record->calls_count; i++) {
        write_call(&writer, &record->calls[i]);
    }
    write_stage(&writer, "stream", STREAM, ask, &record->stream, NULL);
    write_stage(&writer, "save", SAVE, record->root, &record->save, NULL);
    if (writer.err != 0) {
        json->len = len_before;
    }
    return writer.err;
}

static void write_turn(struct writer *writer)
{
    const struct gw_trace_record *record = writer->record;
    char user_hash[17];

    (void)snprintf(user_hash, sizeof(user_hash), "%016" PRIx64, record->user_hash);
    begin_span(writer, "turn", NULL, record->root, record->context.parent, SERVER, &record->turn);
    add_text(writer, "sluice.turn.id", record->turn_id);
    add_text(writer, "sluice.session.id", record->session_id);
    add_text(writer, "sluice.request.id", record->request_id);
    add_text(writer, "sluice.user.hash", user_hash);
    add_text(writer, "sluice.status", record->status);
    add_number(writer, "sluice.message.bytes", record->message_bytes);
    add_number(writer, "sluice.answer.bytes", record->answer_bytes);
    add_number(writer, "sluice.retries", record->retries);
    add_number(writer, "sluice.failovers", record->failovers);
    add_flag(writer, "sluice.hedged", record->hedged);
    end_span(writer, &record->turn);
}

static void write_call(struct writer *writer, const struct gw_trace_call *call)
{
    const struct gw_trace_record *record = writer->record;

    begin_span(writer, "chat", call->model, gw_trace_record_call_id(record, call),
               id_of(record, ASK), CLIENT, &call->stage);
    add_text(writer, "gen_ai.operation.name", "chat");
    add_text(writer, "gen_ai.provider.name", call->provider);
    add_text(writer, "gen_ai.request.model", call->model);
    add_text(writer, "gen_ai.conversation.id", record->session_id);
    add_text(writer, "sluice.upstream", call->upstream);
    if (call->http_status != 0) {
        add_number(writer, "http.response.status_code", (uint64_t)call->http_status);
    }
    add_ms(writer, "sluice.connect_ms", call->stage.from_us, call->connected_us);
    add_ms(writer, "sluice.first_byte_ms", call->stage.from_us, call->first_byte_us);
    if (call->called_off) {
        add_flag(writer, "sluice.called_off", true);
    }
    if (call->answered) {
        add_number(writer, "gen_ai.usage.input_tokens", (uint64_t)record->prompt_tokens);
        add_number(writer, "gen_ai.usage.output_tokens", (uint64_t)record->completion_tokens);
        if (record->finish_reason[0] != '\0') {
            add_quoted(writer, "gen_ai.response.finish_reasons",
                       "{\"arrayValue\":{\"values\":[{\"stringValue\":", record->finish_reason,
                       "}]}}}");
        }
    }
    end_span(writer, &call->stage);
}

/* `source`: where it was read from, or NULL. */
static void write_stage(struct writer *writer, const char *name, enum span_number number,
                        uint64_t parent, const struct gw_trace_stage *stage, const char *source)
{
    if (stage->to_us == 0) {
        return;
    }
    begin_span(writer, name, NULL, id_of(writer->record, number), parent, INTERNAL, stage);
    if (source != NULL) {
        add_text(writer, "sluice.source", source);
    }
    end_span(writer, stage);
}

/* ---------------------------------------------------------------- spans and attributes */

/* Its name is `name`, or "name of". Everything up to its attributes. */
static void begin_span(struct writer *writer, const char *name, const char *of, uint64_t id,
                       uint64_t parent, enum span_kind kind, const struct gw_trace_stage *stage)
{
    const struct gw_trace_record *record = writer->record;
    struct sl_buffer *json = writer->json;
    char whole[300];

    (void)snprintf(whole, sizeof(whole), "%s%s%s", name, of != NULL ? " " : "",
                   of != NULL ? of : "");
    if (writer->err == 0) {
        writer->err = sl_buffer_appendf(
            json, "%s{\"traceId\":\"%016" PRIx64 "%016" PRIx64 "\",\"spanId\":\"%016" PRIx64 "\",",
            json->len > 0 && json->base[json->len - 1] == '}' ? "," : "", record->context.id_high,
            record->context.id_low, id);
    }
    if (writer->err == 0 && parent != 0) {
        writer->err = sl_buffer_appendf(json, "\"parentSpanId\":\"%016" PRIx64 "\",", parent);
    }
    if (writer->err == 0) {
        writer->err = sl_buffer_append_str(json, "\"name\":");
    }
    if (writer->err == 0) {
        writer->err = sl_json_append_string(json, whole, strlen(whole));
    }
    if (writer->err == 0) {
        writer->err =
            sl_buffer_appendf(json,
                              ",\"kind\":%d,\"startTimeUnixNano\":\"%" PRId64
                              "000\",\"endTimeUnixNano\":\"%" PRId64 "000\",\"attributes\":[",
                              kind, (int64_t)stage->from_us + record->unix_from_us,
                              (int64_t)stage->to_us + record->unix_from_us);
    }
    writer->needs_comma = false;
}

/* The error is the last attribute, and makes the span a failed one (2: STATUS_CODE_ERROR). */
static void end_span(struct writer *writer, const struct gw_trace_stage *stage)
{
    if (stage->error != NULL) {
        add_text(writer, "error.type", stage->error);
    }
    if (writer->err == 0) {
        writer->err = sl_buffer_append_str(
            writer->json, stage->error != NULL ? "],\"status\":{\"code\":2}}" : "],\"status\":{}}");
    }
}

/* Opens an attribute; its value closes it. */
static void add_key(struct writer *writer, const char *key)
{
    if (writer->err == 0) {
        writer->err = sl_buffer_appendf(
            writer->json, "%s{\"key\":\"%s\",\"value\":", writer->needs_comma ? "," : "", key);
    }
    writer->needs_comma = true;
}

static void add_text(struct writer *writer, const char *key, const char *value)
{
    add_quoted(writer, key, "{\"stringValue\":", value, "}}");
}

/* A text between the JSON that opens and closes what it stands in. */
static void add_quoted(struct writer *writer, const char *key, const char *open, const char *value,
                       const char *close)
{
    add_key(writer, key);
    if (writer->err == 0) {
        writer->err = sl_buffer_append_str(writer->json, open);
    }
    if (writer->err == 0) {
        writer->err = sl_json_append_string(writer->json, value, strlen(value));
    }
    if (writer->err == 0) {
        writer->err = sl_buffer_append_str(writer->json, close);
    }
}

/* 64-bit numbers are strings in protobuf's JSON. */
static void add_number(struct writer *writer, const char *key, uint64_t value)
{
    add_key(writer, key);
    if (writer->err == 0) {
        writer->err = sl_buffer_appendf(writer->json, "{\"intValue\":\"%" PRIu64 "\"}}", value);
    }
}

static void add_ms(struct writer *writer, const char *key, uint64_t from_us, uint64_t to_us)
{
    if (to_us == 0) {
        return;
    }
    add_key(writer, key);
    if (writer->err == 0) {
        writer->err = sl_buffer_appendf(writer->json, "{\"doubleValue\":%.3f}}",
                                        (double)(to_us - from_us) / 1000);
    }
}

static void add_flag(struct writer *writer, const char *key, bool value)
{
    add_key(writer, key);
    if (writer->err == 0) {
        writer->err =
            sl_buffer_appendf(writer->json, "{\"boolValue\":%s}}", value ? "true" : "false");
    }
}
