/*
 * The `openai` dialect: chunks and whole bodies of chat/completions into deltas.
 *
 * Happy path: (1) `[DONE]` and foreign event names are told apart, (2) the chunk is walked once
 * without building a tree, (3) the texts of choice 0 are decoded into the stream's buffers, (4) halves
 * of surrogate pairs are joined, held back or replaced, (5) the delta points at the buffers.
 *
 * Real servers differ, so: an `error` wins over content; keys that are missing, null or of a type that
 * carries no text are passed over; ill-formed UTF-8 becomes U+FFFD; only `choices`, `delta` and
 * `content` of a wrong type are an error, since text would be lost.
 *
 * Failure modes: not JSON or such a wrong type (SL_E_UPSTREAM_MALFORMED), a text over text_max_bytes
 * (SL_E_ANSWER_TOO_LONG), no memory (SL_E_NO_MEMORY).
 *
 * Thread: one at a time. Ownership: the struct is the caller's; deltas point into it.
 */
#include "provider_openai.h"

#include <string.h>

#include "json_scan.h"
#include "openai_error.h"
#include "surrogates.h"

/* Buffers that one large chunk has grown beyond this are given back after it. */
enum { KEEP_BYTES = 16 * 1024 };

/* What one element of `choices` said, still as it is written in the chunk. */
struct choice {
    double index;
    struct gw_json_string content, reasoning, reasoning_content, finish_reason;
};

static int read_chunk(struct gw_openai_stream *stream, const char *text, size_t len,
                      const char *message_key, struct gw_delta *delta, bool *ret_has_choices);
static int read_choices(struct gw_openai_stream *stream, struct gw_json *scan,
                        const char *message_key, struct gw_delta *delta);
static int read_choice(struct gw_openai_stream *stream, struct gw_json *scan,
                       const char *message_key, struct gw_delta *delta);
static bool read_message(struct gw_json *scan, struct choice *choice);
static bool read_usage(struct gw_json *scan, struct gw_delta *delta);
static bool read_count(struct gw_json *scan, struct gw_delta *delta, int32_t *count);
static bool read_if_string(struct gw_json *scan, struct gw_json_string *string);
static int add_choice(struct gw_openai_stream *stream, const struct choice *choice,
                      struct gw_delta *delta);
static int begin_texts(struct gw_openai_stream *stream);
static int begin_text(struct sl_buffer *text, uint16_t high);
static int end_texts(struct gw_openai_stream *stream, bool last, struct gw_delta *delta);
static int end_text(struct gw_openai_stream *stream, struct sl_buffer *text, uint16_t *high,
                    bool last);
static int too_long(int err);

void gw_openai_stream_init(struct gw_openai_stream *stream, size_t text_max_bytes)
{
    /* A held half comes in front of the text and another may stand at its end. */
    size_t max = text_max_bytes <= SIZE_MAX - 2 * GW_SURROGATE_BYTES
                     ? text_max_bytes + 2 * GW_SURROGATE_BYTES
                     : SIZE_MAX;

    *stream = (struct gw_openai_stream){.text_max_bytes = text_max_bytes};
    sl_buffer_init(&stream->content, max);
    sl_buffer_init(&stream->reasoning, max);
}

/* ---- events ---- */

int gw_openai_stream_event(struct gw_openai_stream *stream, const struct gw_sse_event *event,
                           struct gw_delta *ret_delta)
{
    struct gw_delta delta = {.content = "", .reasoning = ""};
    const char *text = event->text;
    size_t len = event->text_len;
    bool has_choices;

    while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\n' || text[len - 1] == '\r')) {
        len--;
    }
    if (event->name_len == 5 && memcmp(event->name, "error", 5) == 0) {
        delta.failed = true;
        delta.failed_retryable = gw_openai_error_retryable(text, len);
        *ret_delta = delta;
        return 0;
    }
    if (event->name_len > 0 || len == 0) {
        *ret_delta = delta;
        return 0;
    }
    int err = begin_texts(stream);
    if (err != 0) {
        return err;
    }
    delta.ended = len == 6 && memcmp(text, "[DONE]", 6) == 0;
    if (!delta.ended) {
        err = read_chunk(stream, text, len, "delta", &delta, &has_choices);
    }
    if (err == 0) {
        err = end_texts(stream, delta.ended, &delta);
    }
    if (err == 0) {
        *ret_delta = delta;
    }
    return err;
}

int gw_openai_stream_body(struct gw_openai_stream *stream, const char *body, size_t len,
                          struct gw_delta *ret_delta)
{
    struct gw_delta delta = {.content = "", .reasoning = ""};
    bool has_choices = false;

    int err = begin_texts(stream);
    if (err == 0) {
        err = read_chunk(stream, body, len, "message", &delta, &has_choices);
    }
    if (err == 0 && !has_choices && !delta.failed) {
        err = SL_E_UPSTREAM_MALFORMED; /* some other JSON: not an answer */
    }
    if (err == 0) {
        err = end_texts(stream, true, &delta);
    }
    if (err == 0) {
        delta.ended = true;
        *ret_delta = delta;
    }
    return err;
}

int gw_openai_stream_finish(struct gw_openai_stream *stream, struct gw_delta *ret_delta)
{
    struct gw_delta delta = {.content = "", .reasoning = ""};
    int err = begin_texts(stream);

    if (err == 0) {
        err = end_texts(stream, true, &delta);
    }
    if (err == 0) {
        *ret_delta = delta;
    }
    return err;
}

/* ---- the walk ---- */

static int read_chunk(struct gw_openai_stream *stream, const char *text, size_t len,
                      const char *message_key, struct gw_delta *delta, bool *ret_has_choices)
{
    struct gw_json scan;
    struct gw_json_string key, object = {.base = NULL};
    enum gw_json_step step = GW_JSON_STEP_BROKEN;
    bool ok = true;
    int err = 0;

    gw_json_init(&scan, text, len);
    gw_json_repair_utf8(&scan);
    if (gw_json_peek(&scan) != GW_JSON_OBJECT || !gw_json_enter(&scan)) {
        return SL_E_UPSTREAM_MALFORMED;
    }
    *ret_has_choices = false;
    while (ok && err == 0 && (step = gw_json_next_member(&scan, &key)) == GW_JSON_STEP_MORE) {
        if (gw_json_string_is(&key, "choices")) {
            *ret_has_choices = gw_json_peek(&scan) == GW_JSON_ARRAY;
            err = read_choices(stream, &scan, message_key, delta);
        } else if (gw_json_string_is(&key, "usage")) {
            ok = read_usage(&scan, delta);
        } else if (gw_json_string_is(&key, "error")) {
            ok = gw_openai_error_read(&scan, &delta->failed, &delta->failed_retryable);
        } else if (gw_json_string_is(&key, "object")) {
            ok = read_if_string(&scan, &object);
        } else {
            ok = gw_json_skip(&scan);
        }
    }
    if (err != 0) {
        return err;
    }
    if (!ok || step != GW_JSON_STEP_END || !gw_json_end(&scan)) {
        return SL_E_UPSTREAM_MALFORMED;
    }
    if (!delta->failed && object.base != NULL && gw_json_string_is(&object, "error")) {
        /* older vLLM and SGLang: the error's keys stand at the top */
        delta->failed = true;
        delta->failed_retryable = gw_openai_error_retryable(text, len);
    }
    return 0;
}

static int read_choices(struct gw_openai_stream *stream, struct gw_json *scan,
                        const char *message_key, struct gw_delta *delta)
{
    enum gw_json_step step;

    if (gw_json_peek(scan) == GW_JSON_NULL) {
        return gw_json_skip(scan) ? 0 : SL_E_UPSTREAM_MALFORMED;
    }
    if (gw_json_peek(scan) != GW_JSON_ARRAY || !gw_json_enter(scan)) {
        return SL_E_UPSTREAM_MALFORMED;
    }
    while ((step = gw_json_next_element(scan)) == GW_JSON_STEP_MORE) {
        int err = read_choice(stream, scan, message_key, delta);
        if (err != 0) {
            return err;
        }
    }
    return step == GW_JSON_STEP_END ? 0 : SL_E_UPSTREAM_MALFORMED;
}

static int read_choice(struct gw_openai_stream *stream, struct gw_json *scan,
                       const char *message_key, struct gw_delta *delta)
{
    struct choice choice = {.index = 0};
    struct gw_json_string key;
    enum gw_json_step step = GW_JSON_STEP_BROKEN;
    bool ok = true;

    if (gw_json_peek(scan) == GW_JSON_NULL) {
        return gw_json_skip(scan) ? 0 : SL_E_UPSTREAM_MALFORMED;
    }
    if (gw_json_peek(scan) != GW_JSON_OBJECT || !gw_json_enter(scan)) {
        return SL_E_UPSTREAM_MALFORMED;
    }
    while (ok && (step = gw_json_next_member(scan, &key)) == GW_JSON_STEP_MORE) {
        if (gw_json_string_is(&key, message_key)) {
            ok = read_message(scan, &choice);
        } else if (gw_json_string_is(&key, "finish_reason")) {
            ok = read_if_string(scan, &choice.finish_reason);
        } else if (gw_json_string_is(&key, "index") && gw_json_peek(scan) == GW_JSON_NUMBER) {
            ok = gw_json_read_number(scan, &choice.index);
        } else {
            ok = gw_json_skip(scan);
        }
    }
    if (!ok || step != GW_JSON_STEP_END) {
        return SL_E_UPSTREAM_MALFORMED;
    }
    /* one answer was asked for; other choices are not ours to mix in */
    return choice.index < 0.5 ? add_choice(stream, &choice, delta) : 0;
}

static bool read_message(struct gw_json *scan, struct choice *choice)
{
    struct gw_json_string key;
    enum gw_json_step step = GW_JSON_STEP_BROKEN;
    bool ok = true;

    if (gw_json_peek(scan) == GW_JSON_NULL) {
        return gw_json_skip(scan);
    }
    if (gw_json_peek(scan) != GW_JSON_OBJECT || !gw_json_enter(scan)) {
        return false;
    }
    while (ok && (step = gw_json_next_member(scan, &key)) == GW_JSON_STEP_MORE) {
        if (gw_json_string_is(&key, "content")) {
            enum gw_json_type type = gw_json_peek(scan);
            ok = (type == GW_JSON_STRING || type == GW_JSON_NULL) &&
                 read_if_string(scan, &choice->content);
        } else if (gw_json_string_is(&key, "reasoning_content")) {
            ok = read_if_string(scan, &choice->reasoning_content);
        } else if (gw_json_string_is(&key, "reasoning")) {
            ok = read_if_string(scan, &choice->reasoning);
        } else {
            ok = gw_json_skip(scan); /* role, tool_calls, refusal, obfuscation ... */
        }
    }
    return ok && step == GW_JSON_STEP_END;
}

/* A later usage replaces an earlier one; counts that are missing are 0. */
static bool read_usage(struct gw_json *scan, struct gw_delta *delta)
{
    struct gw_json_string key;
    enum gw_json_step step = GW_JSON_STEP_BROKEN;
    bool ok = true;

    if (gw_json_peek(scan) != GW_JSON_OBJECT) {
        return gw_json_skip(scan);
    }
    if (!gw_json_enter(scan)) {
        return false;
    }
    while (ok && (step = gw_json_next_member(scan, &key)) == GW_JSON_STEP_MORE) {
        if (gw_json_string_is(&key, "prompt_tokens")) {
            ok = read_count(scan, delta, &delta->prompt_tokens);
        } else if (gw_json_string_is(&key, "completion_tokens")) {
            ok = read_count(scan, delta, &delta->completion_tokens);
        } else {
            ok = gw_json_skip(scan);
        }
    }
    return ok && step == GW_JSON_STEP_END;
}

static bool read_count(struct gw_json *scan, struct gw_delta *delta, int32_t *count)
{
    double number;

    if (gw_json_peek(scan) != GW_JSON_NUMBER) {
        return gw_json_skip(scan);
    }
    if (!gw_json_read_number(scan, &number)) {
        return false;
    }
    number = number > 0 ? number : 0;
    *count = number < (double)INT32_MAX ? (int32_t)number : INT32_MAX;
    delta->has_usage = true;
    return true;
}

/* Reads a string; steps over anything else. */
static bool read_if_string(struct gw_json *scan, struct gw_json_string *string)
{
    return gw_json_peek(scan) == GW_JSON_STRING ? gw_json_read_string(scan, string)
                                                : gw_json_skip(scan);
}

/* ---- the texts ---- */

static int add_choice(struct gw_openai_stream *stream, const struct choice *choice,
                      struct gw_delta *delta)
{
    /* Servers that send both names send the same text twice. An empty new one hides nothing. */
    const struct gw_json_string *reasoning =
        choice->reasoning_content.len > 0 ? &choice->reasoning_content : &choice->reasoning;
    int err = 0;

    if (choice->content.len > 0) {
        err = gw_json_string_append(&choice->content, &stream->content);
    }
    if (err == 0 && reasoning->len > 0) {
        err = gw_json_string_append(reasoning, &stream->reasoning);
    }
    if (err == 0 && choice->finish_reason.len > 0) {
        delta->has_finish = true;
        gw_json_string_copy(&choice->finish_reason, delta->finish_reason,
                            sizeof(delta->finish_reason));
    }
    return too_long(err);
}

/* Empties the buffers and puts back what was held, in front of what comes. */
static int begin_texts(struct gw_openai_stream *stream)
{
    int err = begin_text(&stream->content, stream->content_high);

    return err == 0 ? begin_text(&stream->reasoning, stream->reasoning_high) : err;
}

static int begin_text(struct sl_buffer *text, uint16_t high)
{
    if (text->capacity > KEEP_BYTES) {
        sl_buffer_dispose(text);
    } else {
        sl_buffer_clear(text);
    }
    return gw_surrogates_put_back(text, high);
}

static int end_texts(struct gw_openai_stream *stream, bool last, struct gw_delta *delta)
{
    int err = end_text(stream, &stream->content, &stream->content_high, last);

    if (err == 0) {
        err = end_text(stream, &stream->reasoning, &stream->reasoning_high, last);
    }
    if (err != 0) {
        return err;
    }
    if (delta->failed) {
        delta->has_finish = false;
        delta->finish_reason[0] = '\0';
        return 0;
    }
    if (stream->content.len > 0) {
        delta->content = stream->content.base;
        delta->content_len = stream->content.len;
    }
    if (stream->reasoning.len > 0) {
        delta->reasoning = stream->reasoning.base;
        delta->reasoning_len = stream->reasoning.len;
    }
    return 0;
}

static int end_text(struct gw_openai_stream *stream, struct sl_buffer *text, uint16_t *high,
                    bool last)
{
    *high = gw_surrogates_settle(text, last);
    return text->len <= stream->text_max_bytes ? 0 : SL_E_ANSWER_TOO_LONG;
}

static int too_long(int err)
{
    return err == SL_E_LIMIT ? SL_E_ANSWER_TOO_LONG : err;
}

void gw_openai_stream_dispose(struct gw_openai_stream *stream)
{
    sl_buffer_dispose(&stream->content);
    sl_buffer_dispose(&stream->reasoning);
    stream->content_high = 0;
    stream->reasoning_high = 0;
}
