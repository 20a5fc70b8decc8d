/*
 * The `openai` dialect: chunks and whole bodies of chat/completions into deltas.
 *
 * Happy path: (1) foreign event names are told apart, (2) the chunk is walked once without building a
 * tree, (3) the texts of choice 0 are added to the stream's.
 *
 * Real servers differ, so: an `error` wins over content; keys that are missing, null or of a type that
 * carries no text are passed over; ill-formed UTF-8 becomes U+FFFD; only `choices`, `delta` and
 * `content` of a wrong type are an error, since text would be lost.
 *
 * Failure modes: not JSON or such a wrong type (SL_E_UPSTREAM_MALFORMED), and those of delta_texts.h.
 *
 * Thread: one at a time for a stream. Ownership: keeps nothing but the stream's texts.
 */
#include "provider_openai.h"

#include "json_scan.h"
#include "provider_read.h"

/* What one element of `choices` said, still as it is written in the chunk. */
struct choice {
    double index;
    struct gw_json_string content, reasoning, reasoning_content, finish_reason;
};

static int read_event(struct gw_provider_stream *stream, const struct gw_sse_event *event,
                      struct gw_delta *delta);
static int read_body(struct gw_provider_stream *stream, const char *body, size_t len,
                     struct gw_delta *delta);
static int read_chunk(struct gw_provider_stream *stream, const char *text, size_t len,
                      const char *message_key, struct gw_delta *delta, bool *ret_has_choices);
static int read_choices(struct gw_provider_stream *stream, struct gw_json *scan,
                        const char *message_key, struct gw_delta *delta);
static int read_choice(struct gw_provider_stream *stream, struct gw_json *scan,
                       const char *message_key, struct gw_delta *delta);
static bool read_message(struct gw_json *scan, struct choice *choice);
static bool read_usage(struct gw_json *scan, struct gw_delta *delta);
static int add_choice(struct gw_provider_stream *stream, const struct choice *choice,
                      struct gw_delta *delta);

static const char *const no_headers[] = {NULL};

const struct gw_provider gw_provider_openai = {
    .name = "openai",
    .path = "/chat/completions",
    .key_prefix = "Authorization: Bearer ",
    .headers = no_headers,
    .build = gw_prompt_openai_build,
    .event = read_event,
    .body = read_body,
};

static int read_event(struct gw_provider_stream *stream, const struct gw_sse_event *event,
                      struct gw_delta *delta)
{
    bool has_choices;

    if (event->name_len > 0) {
        return 0;
    }
    return read_chunk(stream, event->text, event->text_len, "delta", delta, &has_choices);
}

static int read_body(struct gw_provider_stream *stream, const char *body, size_t len,
                     struct gw_delta *delta)
{
    bool has_choices;
    int err = read_chunk(stream, body, len, "message", delta, &has_choices);

    if (err == 0 && !has_choices && !delta->failed) {
        err = SL_E_UPSTREAM_MALFORMED; /* some other JSON: not an answer */
    }
    return err;
}

static int read_chunk(struct gw_provider_stream *stream, const char *text, size_t len,
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
            ok = gw_provider_read_error(&scan, delta);
        } else if (gw_json_string_is(&key, "object")) {
            ok = gw_provider_read_string(&scan, &object);
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
        gw_provider_read_failure(text, len, delta);
    }
    return 0;
}

static int read_choices(struct gw_provider_stream *stream, struct gw_json *scan,
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

static int read_choice(struct gw_provider_stream *stream, struct gw_json *scan,
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
            ok = gw_provider_read_string(scan, &choice.finish_reason);
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
                 gw_provider_read_string(scan, &choice->content);
        } else if (gw_json_string_is(&key, "reasoning_content")) {
            ok = gw_provider_read_string(scan, &choice->reasoning_content);
        } else if (gw_json_string_is(&key, "reasoning")) {
            ok = gw_provider_read_string(scan, &choice->reasoning);
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
            ok = gw_provider_read_count(scan, &delta->prompt_tokens, &delta->has_usage);
        } else if (gw_json_string_is(&key, "completion_tokens")) {
            ok = gw_provider_read_count(scan, &delta->completion_tokens, &delta->has_usage);
        } else {
            ok = gw_json_skip(scan);
        }
    }
    return ok && step == GW_JSON_STEP_END;
}

static int add_choice(struct gw_provider_stream *stream, const struct choice *choice,
                      struct gw_delta *delta)
{
    /* Servers that send both names send the same text twice. An empty new one hides nothing. */
    const struct gw_json_string *reasoning =
        choice->reasoning_content.len > 0 ? &choice->reasoning_content : &choice->reasoning;

    int err = gw_delta_texts_add_content(&stream->texts, &choice->content);
    if (err == 0) {
        err = gw_delta_texts_add_reasoning(&stream->texts, reasoning);
    }
    if (err == 0 && choice->finish_reason.len > 0) {
        delta->has_finish = true;
        gw_json_string_copy(&choice->finish_reason, delta->finish_reason,
                            sizeof(delta->finish_reason));
    }
    return err;
}
