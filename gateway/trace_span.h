/**
 * What is kept of a recorded turn for its trace, and its spans as OTLP JSON.
 *
 *   turn ------------------------------------------- SERVER, its parent is the caller's span
 *     context            profile, history            INTERNAL
 *     ask                chat MODEL (one per call)   CLIENT: its id is what the model server is told
 *                        stream
 *     save
 *
 * Ids, times and figures only: never a message, an answer, a user or a key.
 * Thread: one at a time; a record moves from its turn's loop to the exporter. Ownership: whoever holds the
 * record frees it with free(); the texts that it points to are the configuration's or constants.
 */
#pragma once

#include "delta.h"
#include "sluice/uuid.h"
#include "trace_context.h"

enum {
    GW_TRACE_CALLS_MAX = 8, /* more than that are in the turn's figures only */
    GW_TRACE_REQUEST_ID_SIZE = 64,
};

/* The loop's clock; to_us 0: it did not happen. */
struct gw_trace_stage {
    uint64_t from_us, to_us;
    const char *error; /* a code of the error table; NULL: none */
};

struct gw_trace_call {
    struct gw_trace_stage stage;
    const char *upstream, *provider, *model;
    int http_status; /* 0: none came */
    uint64_t connected_us, first_byte_us;
    bool called_off; /* another call was faster, or nobody wanted the answer any more */
    bool answered;   /* the turn's usage and finish reason are this call's */
};

struct gw_trace_record {
    struct gw_trace_record *next; /* while it waits for the exporter */
    struct gw_trace_context context;
    uint64_t root;        /* the turn's span */
    int64_t unix_from_us; /* what has to be added to the loop's clock to get Unix time */
    char turn_id[SL_UUID_TEXT_SIZE], session_id[SL_UUID_TEXT_SIZE];
    char request_id[GW_TRACE_REQUEST_ID_SIZE];
    uint64_t user_hash;
    const char *status; /* of the turn, as in its log line */
    const char *profile_source, *history_source;
    struct gw_trace_stage turn, context_stage, profile, history, ask, stream, save;
    struct gw_trace_call calls[GW_TRACE_CALLS_MAX];
    size_t calls_count;
    unsigned retries, failovers;
    bool hedged;
    size_t message_bytes, answer_bytes;
    int32_t prompt_tokens, completion_tokens;
    char finish_reason[GW_FINISH_REASON_SIZE]; /* "": none */
};

/** A new record of a trace, its memory zeroed but for ids and `unix_from_us`. NULL: no memory. */
struct gw_trace_record *gw_trace_record_create(const struct gw_trace_context *context,
                                               int64_t unix_from_us);

/** A call begins: where to note how it goes, or NULL when there are too many. */
struct gw_trace_call *gw_trace_record_call(struct gw_trace_record *record);

/** The id of a call's span; `call` NULL: that of the turn. */
uint64_t gw_trace_record_call_id(const struct gw_trace_record *record,
                                 const struct gw_trace_call *call);

/** How many spans it makes. */
size_t gw_trace_record_spans(const struct gw_trace_record *record);

/*
 * One OTLP/HTTP request in JSON (opentelemetry-proto, trace/v1; "OTLP Specification 1.x", section JSON
 * Protobuf Encoding): begin, any number of records, end. Errors as sl_buffer_append; a record that failed
 * has added nothing.
 */
SL_MUST_CHECK int gw_trace_json_begin(struct sl_buffer *json);
SL_MUST_CHECK int gw_trace_json_add(struct sl_buffer *json, const struct gw_trace_record *record);
SL_MUST_CHECK int gw_trace_json_end(struct sl_buffer *json);
