/*
 * Anthropic's messages as events and as one object.
 *
 * Happy path: message_start, for each block (thinking, text, tool_use) content_block_start, its
 * deltas and content_block_stop, then message_delta with reason and counts, message_stop.
 * A block is opened by its first delta and closed by whatever comes after it.
 * Source of the shapes: docs.claude.com/en/api/messages-streaming and .../errors. The counts of
 * message_delta are cumulative there, so `usage_each` sends one more of them after each delta.
 * Failure: none. Thread: one at a time. Ownership: writes into the reply's buffers only.
 */
#include <inttypes.h>
#include <string.h>

#include "stub_dialect.h"

/** What the service checks first, in its order; a gateway that sends this has a bug. */
static const char *objection(const struct stub_request *request, const struct stub_chat *chat)
{
    if (!request->has_anthropic_version) {
        return "anthropic-version: header is required";
    }
    if (chat->max_tokens == 0) {
        return "max_tokens: Field required";
    }
    if (chat->has_system_message) {
        return "messages: Unexpected role \"system\". The Messages API accepts a top-level "
               "`system` "
               "parameter, not \"system\" as an input message role.";
    }
    if (!chat->starts_with_user) {
        return "messages: first message must use the \"user\" role";
    }
    return chat->has_empty_text ? "messages: text content blocks must be non-empty" : NULL;
}

static void prepare(struct stub_reply *reply)
{
    reply->opening.len = 0; /* written when a block is opened */
}

static void send_json(struct stub_reply *reply, const char *event)
{
    stub_frame_event(&reply->frame, event, reply->json.base, reply->json.len);
}

static void append_usage(struct lt_buffer *out, const struct stub_reply *reply, uint64_t output)
{
    lt_buffer_appendf(out,
                      ",\"usage\":{\"input_tokens\":%" PRIu64 ",\"output_tokens\":%" PRIu64 "}",
                      reply->prompt_tokens, output);
}

static void append_identity(struct lt_buffer *out, const struct stub_reply *reply)
{
    lt_buffer_append_str(out, "{\"id\":");
    lt_buffer_append_quoted(out, reply->id);
    lt_buffer_append_str(out, ",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
    lt_buffer_append_quoted(out, reply->model);
    lt_buffer_append_str(out, ",\"content\":[");
}

static void begin(struct stub_reply *reply)
{
    struct lt_buffer *json = &reply->json;
    json->len = 0;
    lt_buffer_append_str(json, "{\"type\":\"message_start\",\"message\":");
    append_identity(json, reply);
    lt_buffer_append_str(json, "],\"stop_reason\":null,\"stop_sequence\":null");
    if (!reply->script.no_usage) {
        append_usage(json, reply, 1); /* so the service begins */
    }
    lt_buffer_append_str(json, "}}");
    send_json(reply, "message_start");
}

/* --- blocks --- */

struct block_kind {
    const char *type;
    const char *start;       /* members of content_block_start beside its type */
    const char *delta_start; /* of a delta, up to its text */
};

static const struct block_kind THINKING = {
    "thinking",
    "\"thinking\":\"\",\"signature\":\"\"",
    "\"type\":\"thinking_delta\",\"thinking\":\"",
};
static const struct block_kind TEXT = {
    "text",
    "\"text\":\"\"",
    "\"type\":\"text_delta\",\"text\":\"",
};
static const struct block_kind TOOL_USE = {
    "tool_use",
    "\"id\":\"toolu_1\",\"name\":\"get_weather\",\"input\":{}",
    "\"type\":\"input_json_delta\",\"partial_json\":\"",
};

/** One delta into the open block; `text` is the inside of a JSON string. */
static void send_delta(struct stub_reply *reply, const char *text, size_t len)
{
    struct lt_buffer *json = &reply->json;
    json->len = 0;
    lt_buffer_append(json, reply->opening.base, reply->opening.len);
    lt_buffer_append(json, text, len);
    lt_buffer_append(json, "\"}}", 3);
    send_json(reply, "content_block_delta");
}

static void close_block(struct stub_reply *reply)
{
    struct lt_buffer *json = &reply->json;
    if (reply->block_kind == NULL) {
        return;
    }
    if (reply->block_kind == &THINKING) {
        json->len = 0;
        lt_buffer_appendf(json,
                          "{\"type\":\"content_block_delta\",\"index\":%d,\"delta\":"
                          "{\"type\":\"signature_delta\",\"signature\":\"c3R1Yg==\"}}",
                          reply->block);
        send_json(reply, "content_block_delta");
    }
    json->len = 0;
    lt_buffer_appendf(json, "{\"type\":\"content_block_stop\",\"index\":%d}", reply->block);
    send_json(reply, "content_block_stop");
    reply->block_kind = NULL;
    reply->block++;
}

static void open_block(struct stub_reply *reply, const struct block_kind *kind)
{
    struct lt_buffer *json = &reply->json;
    if (reply->block_kind == kind) {
        return;
    }
    close_block(reply);
    reply->block_kind = kind;
    json->len = reply->opening.len = 0;
    lt_buffer_appendf(json,
                      "{\"type\":\"content_block_start\",\"index\":%d,\"content_block\":"
                      "{\"type\":\"%s\",%s}}",
                      reply->block, kind->type, kind->start);
    send_json(reply, "content_block_start");
    lt_buffer_appendf(&reply->opening,
                      "{\"type\":\"content_block_delta\",\"index\":%d,\"delta\":{%s", reply->block,
                      kind->delta_start);
}

/** `reason` NULL: the answer goes on, or ends without saying why. */
static void send_message_delta(struct stub_reply *reply, const char *reason)
{
    struct lt_buffer *json = &reply->json;
    json->len = 0;
    lt_buffer_append_str(json, "{\"type\":\"message_delta\",\"delta\":{");
    if (reason != NULL) {
        lt_buffer_append_str(json, "\"stop_reason\":");
        lt_buffer_append_quoted(json, reason);
        lt_buffer_append_str(json, ",");
    }
    lt_buffer_append_str(json, "\"stop_sequence\":null}");
    if (!reply->script.no_usage) {
        append_usage(json, reply, reply->completion_tokens);
    }
    lt_buffer_append_str(json, "}");
    send_json(reply, "message_delta");
}

static void send_text(struct stub_reply *reply, const struct block_kind *kind,
                      const struct lt_buffer *text)
{
    open_block(reply, kind);
    send_delta(reply, text->base, text->len);
    if (reply->script.usage_each) {
        send_message_delta(reply, NULL);
    }
}

static void content(struct stub_reply *reply, const struct lt_buffer *text)
{
    send_text(reply, &TEXT, text);
}

static void reasoning(struct stub_reply *reply, const struct lt_buffer *text)
{
    send_text(reply, &THINKING, text);
}

static void tool_call(struct stub_reply *reply)
{
    static const char *const pieces[] = {"", "{\\\"city\\\":", " \\\"Bern\\\"}"};
    open_block(reply, &TOOL_USE);
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        send_delta(reply, pieces[i], strlen(pieces[i]));
    }
}

/* --- the end --- */

static const char *stop_reason(const struct stub_reply *reply)
{
    if (reply->script.finish[0] != 0) {
        return reply->script.finish;
    }
    return reply->script.tool_calls ? "tool_use" : "end_turn";
}

static void finish(struct stub_reply *reply)
{
    close_block(reply);
    send_message_delta(reply, reply->script.no_finish ? NULL : stop_reason(reply));
}

static void done(struct stub_reply *reply)
{
    static const char json[] = "{\"type\":\"message_stop\"}";
    stub_frame_event(&reply->frame, "message_stop", json, sizeof(json) - 1);
}

static void malformed(struct stub_reply *reply)
{
    static const char torn[] =
        "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"to";
    stub_frame_event(&reply->frame, "content_block_delta", torn, sizeof(torn) - 1);
}

static void append_error(struct lt_buffer *body, const char *type, const char *message)
{
    lt_buffer_appendf(body, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", type);
    lt_buffer_append_quoted(body, message);
    lt_buffer_append_str(body, "}}");
}

static void refusal(int status, const char *message, struct lt_buffer *body)
{
    static const struct {
        int status;
        const char *type;
    } rows[] = {
        {401, "authentication_error"}, {402, "billing_error"},     {403, "permission_error"},
        {404, "not_found_error"},      {413, "request_too_large"}, {429, "rate_limit_error"},
        {504, "timeout_error"},        {529, "overloaded_error"},
    };
    const char *type = status < 500 ? "invalid_request_error" : "api_error";
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].status == status) {
            type = rows[i].type;
        }
    }
    append_error(body, type, message);
}

static void quota(struct lt_buffer *body)
{
    append_error(body, "billing_error", "You have reached your specified API usage limits.");
}

/** The service sends nothing after it, message_stop neither. */
static void error(struct stub_reply *reply)
{
    reply->json.len = 0;
    append_error(&reply->json, "overloaded_error", "Overloaded");
    send_json(reply, "error");
}

static void whole(struct stub_reply *reply, const struct lt_buffer *text, struct lt_buffer *body)
{
    append_identity(body, reply);
    if (text->len != 0) {
        lt_buffer_append_str(body, "{\"type\":\"text\",\"text\":\"");
        lt_buffer_append(body, text->base, text->len);
        lt_buffer_append_str(body, reply->script.tool_calls ? "\"}," : "\"}");
    }
    if (reply->script.tool_calls) {
        lt_buffer_append_str(body, "{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":"
                                   "\"get_weather\",\"input\":{\"city\":\"Bern\"}}");
    }
    lt_buffer_append_str(body, "],\"stop_reason\":");
    lt_buffer_append_quoted(body, stop_reason(reply));
    lt_buffer_append_str(body, ",\"stop_sequence\":null");
    if (!reply->script.no_usage) {
        append_usage(body, reply, reply->completion_tokens);
    }
    lt_buffer_append_str(body, "}");
}

const struct stub_dialect stub_anthropic = {
    .id_prefix = "msg_",
    .objection = objection,
    .prepare = prepare,
    .begin = begin,
    .content = content,
    .reasoning = reasoning,
    .tool_call = tool_call,
    .finish = finish,
    .done = done,
    .malformed = malformed,
    .error = error,
    .whole = whole,
    .refusal = refusal,
    .quota = quota,
};
