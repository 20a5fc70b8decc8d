/*
 * OpenAI's chat completions as chunks and as one object.
 *
 * Happy path: role chunk, content chunks, finish chunk, usage chunk (if asked for), [DONE].
 * Source of the shapes: platform.openai.com/docs/api-reference/chat/streaming; reasoning keys as
 * DeepSeek (`reasoning_content`) and newer vLLM (`reasoning`) send them.
 * Failure: none. Thread: one at a time. Ownership: writes into the reply's buffers only.
 */
#include <inttypes.h>

#include "stub_dialect.h"

static void append_usage(struct lt_buffer *out, const struct stub_reply *reply)
{
    lt_buffer_appendf(out,
                      "\"usage\":{\"prompt_tokens\":%" PRIu64 ",\"completion_tokens\":%" PRIu64
                      ",\"total_tokens\":%" PRIu64 "}",
                      reply->prompt_tokens, reply->completion_tokens,
                      reply->prompt_tokens + reply->completion_tokens);
}

static void append_identity(struct lt_buffer *out, const struct stub_reply *reply,
                            const char *object)
{
    lt_buffer_append_str(out, "{\"id\":");
    lt_buffer_append_quoted(out, reply->id);
    lt_buffer_appendf(out, ",\"object\":\"%s\",\"created\":%" PRId64 ",\"model\":", object,
                      reply->created_s);
    lt_buffer_append_quoted(out, reply->model);
    lt_buffer_append_str(out, ",\"choices\":[");
}

static void prepare(struct stub_reply *reply)
{
    reply->opening.len = 0;
    append_identity(&reply->opening, reply, "chat.completion.chunk");
}

static void open_delta(struct stub_reply *reply)
{
    reply->json.len = 0;
    lt_buffer_append(&reply->json, reply->opening.base, reply->opening.len);
    lt_buffer_append_str(&reply->json, "{\"index\":0,\"delta\":{");
}

/** `finish` NULL: the answer goes on. */
static void send_delta(struct stub_reply *reply, const char *finish)
{
    struct lt_buffer *json = &reply->json;
    lt_buffer_append_str(json, "},\"finish_reason\":");
    if (finish != NULL) {
        lt_buffer_append_quoted(json, finish);
    } else {
        lt_buffer_append_str(json, "null");
    }
    lt_buffer_append_str(json, "}]");
    if (reply->script.usage_each) {
        lt_buffer_append_str(json, ",");
        append_usage(json, reply);
    } else if (reply->include_usage && !reply->script.no_usage) {
        lt_buffer_append_str(json, ",\"usage\":null");
    }
    lt_buffer_append_str(json, "}");
    stub_frame_event(&reply->frame, NULL, json->base, json->len);
}

static void begin(struct stub_reply *reply)
{
    open_delta(reply);
    lt_buffer_append_str(&reply->json, "\"role\":\"assistant\",\"content\":\"\"");
    send_delta(reply, NULL);
}

static void send_text(struct stub_reply *reply, const char *key, const struct lt_buffer *text)
{
    open_delta(reply);
    lt_buffer_append_quoted(&reply->json, key);
    lt_buffer_append(&reply->json, ":\"", 2);
    lt_buffer_append(&reply->json, text->base, text->len);
    lt_buffer_append(&reply->json, "\"", 1);
    send_delta(reply, NULL);
}

static void content(struct stub_reply *reply, const struct lt_buffer *text)
{
    send_text(reply, "content", text);
}

static void reasoning(struct stub_reply *reply, const struct lt_buffer *text)
{
    send_text(reply, reply->script.reasoning_key, text);
}

static void tool_call(struct stub_reply *reply)
{
    static const char *const deltas[] = {
        ("\"tool_calls\":[{\"index\":0,\"id\":\"call_1\",\"type\":\"function\","
         "\"function\":{\"name\":\"get_weather\",\"arguments\":\"\"}}]"),
        "\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"city\\\":\"}}]",
        "\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\" \\\"Bern\\\"}\"}}]",
    };
    for (size_t i = 0; i < sizeof(deltas) / sizeof(deltas[0]); i++) {
        open_delta(reply);
        lt_buffer_append_str(&reply->json, deltas[i]);
        send_delta(reply, NULL);
    }
}

static const char *finish_reason(const struct stub_reply *reply)
{
    if (reply->script.finish[0] != 0) {
        return reply->script.finish;
    }
    return reply->script.tool_calls ? "tool_calls" : "stop";
}

static void send_usage(struct stub_reply *reply)
{
    reply->json.len = 0;
    lt_buffer_append(&reply->json, reply->opening.base, reply->opening.len);
    lt_buffer_append_str(&reply->json, "],");
    append_usage(&reply->json, reply);
    lt_buffer_append_str(&reply->json, "}");
    stub_frame_event(&reply->frame, NULL, reply->json.base, reply->json.len);
}

static void finish(struct stub_reply *reply)
{
    if (!reply->script.no_finish) {
        open_delta(reply);
        send_delta(reply, finish_reason(reply));
    }
    if (reply->include_usage && !reply->script.no_usage) {
        send_usage(reply);
    }
}

static void done(struct stub_reply *reply)
{
    stub_frame_event(&reply->frame, NULL, "[DONE]", 6);
}

static void malformed(struct stub_reply *reply)
{
    static const char torn[] = "{\"id\":\"chatcmpl-0\",\"choices\":[{\"delta\":{\"content\":\"to";
    stub_frame_event(&reply->frame, NULL, torn, sizeof(torn) - 1);
}

static void refusal(int status, const char *message, struct lt_buffer *body)
{
    const char *type = status == 429   ? "rate_limit_error"
                       : status == 401 ? "authentication_error"
                       : status < 500  ? "invalid_request_error"
                                       : "server_error";
    lt_buffer_append_str(body, "{\"error\":{\"message\":");
    lt_buffer_append_quoted(body, message);
    lt_buffer_appendf(body, ",\"type\":\"%s\",\"param\":null,\"code\":%d}}", type, status);
}

static void quota(struct lt_buffer *body)
{
    lt_buffer_append_str(body,
                         "{\"error\":{\"message\":\"You exceeded your current quota, please check "
                         "your plan and billing details.\",\"type\":\"insufficient_quota\","
                         "\"param\":null,\"code\":\"insufficient_quota\"}}");
}

static void error(struct stub_reply *reply)
{
    reply->json.len = 0;
    refusal(500, "scripted error in the middle of the stream", &reply->json);
    stub_frame_event(&reply->frame, NULL, reply->json.base, reply->json.len);
    if (!reply->script.no_done) {
        done(reply);
    }
}

static void whole(struct stub_reply *reply, const struct lt_buffer *text, struct lt_buffer *body)
{
    append_identity(body, reply, "chat.completion");
    lt_buffer_append_str(body, "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
    if (text->len == 0 && reply->script.tool_calls) {
        lt_buffer_append_str(body, "null");
    } else {
        lt_buffer_append(body, "\"", 1);
        lt_buffer_append(body, text->base, text->len);
        lt_buffer_append(body, "\"", 1);
    }
    if (reply->script.tool_calls) {
        lt_buffer_append_str(body, ",\"tool_calls\":[{\"id\":\"call_1\",\"type\":\"function\","
                                   "\"function\":{\"name\":\"get_weather\",\"arguments\":"
                                   "\"{\\\"city\\\": \\\"Bern\\\"}\"}}]");
    }
    lt_buffer_append_str(body, "},\"finish_reason\":");
    lt_buffer_append_quoted(body, finish_reason(reply));
    lt_buffer_append_str(body, "}]");
    if (!reply->script.no_usage) {
        lt_buffer_append_str(body, ",");
        append_usage(body, reply);
    }
    lt_buffer_append_str(body, "}");
}

const struct stub_dialect stub_openai = {
    .id_prefix = "chatcmpl-",
    .objection = NULL, /* the many servers of this dialect do not agree on any */
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
