/*
 * The `anthropic` dialect: events and whole bodies of the Messages API into deltas.
 *
 * Happy path: (1) one walk over the text checks it and notes where its members stand, (2) `type` says
 * which of them count, whatever the event's name and the order of the keys, (3) those are read from
 * where they stand: texts and thinking are added to the stream's, counts replace older ones.
 *
 * Real servers differ, so: an `error` wins over content; unknown events, blocks and deltas (tool
 * calls, signatures, citations) are passed over, as are keys that are missing or null; a block
 * without a `type` is known by its keys; only a text, or what should hold one, of a wrong type is an
 * error, since text would be lost.
 *
 * Failure modes: not JSON or such a wrong type (SL_E_UPSTREAM_MALFORMED), and those of delta_texts.h.
 *
 * Thread: one at a time for a stream. Ownership: keeps nothing but the stream's texts and counts.
 */
#include "provider_anthropic.h"

#include <stdio.h>
#include <string.h>

#include "json_scan.h"
#include "provider_read.h"

/* Where the members of an object stand that mean something on any level; `at` NULL: it has none. */
struct members {
    struct gw_json type, error, message, content, content_block, delta, text, thinking, stop_reason,
        usage;
};

static int read_event(struct gw_provider_stream *stream, const struct gw_sse_event *event,
                      struct gw_delta *delta);
static int read_body(struct gw_provider_stream *stream, const char *body, size_t len,
                     struct gw_delta *delta);
static int open_text(const char *text, size_t len, struct members *ret_members,
                     struct gw_delta *delta);
static bool find_members(struct gw_json *scan, struct members *ret_members);
static struct gw_json *place_of(const struct gw_json_string *key, struct members *members);
static enum gw_json_type type_at(struct gw_json *place);
static struct gw_json_string string_at(struct gw_json *place);
static int read_message_start(struct gw_provider_stream *stream, struct members *members);
static int read_message_delta(struct gw_provider_stream *stream, struct members *members,
                              struct gw_delta *delta);
static int read_content(struct gw_provider_stream *stream, struct gw_json *place);
static int read_block(struct gw_provider_stream *stream, struct gw_json *place,
                      const char *text_type, const char *thinking_type);
static void read_stop_reason(struct gw_json *place, struct gw_delta *delta);
static bool read_usage(struct gw_provider_stream *stream, struct gw_json *place);
static void report_usage(const struct gw_provider_stream *stream, struct gw_delta *delta);

static const char *const headers[] = {"anthropic-version: 2023-06-01", NULL};

const struct gw_provider gw_provider_anthropic = {
    .name = "anthropic",
    .path = "/messages",
    .key_prefix = "x-api-key: ",
    .headers = headers,
    .build = gw_prompt_anthropic_build,
    .event = read_event,
    .body = read_body,
};

static int read_event(struct gw_provider_stream *stream, const struct gw_sse_event *event,
                      struct gw_delta *delta)
{
    struct members members;
    int err = open_text(event->text, event->text_len, &members, delta);

    if (err != 0 || delta->failed) {
        return err;
    }
    struct gw_json_string type = string_at(&members.type);
    if (gw_json_string_is(&type, "content_block_delta")) {
        return read_block(stream, &members.delta, "text_delta", "thinking_delta");
    }
    if (gw_json_string_is(&type, "content_block_start")) {
        return read_block(stream, &members.content_block, "text", "thinking");
    }
    if (gw_json_string_is(&type, "message_start")) {
        return read_message_start(stream, &members);
    }
    if (gw_json_string_is(&type, "message_delta")) {
        return read_message_delta(stream, &members, delta);
    }
    delta->ended = gw_json_string_is(&type, "message_stop");
    return 0; /* ping, content_block_stop, and what is yet to be invented */
}

/* The body is the message itself. */
static int read_body(struct gw_provider_stream *stream, const char *body, size_t len,
                     struct gw_delta *delta)
{
    struct members message;
    int err = open_text(body, len, &message, delta);

    if (err != 0 || delta->failed) {
        return err;
    }
    if (type_at(&message.content) != GW_JSON_ARRAY) {
        return SL_E_UPSTREAM_MALFORMED; /* some other JSON: not an answer */
    }
    read_stop_reason(&message.stop_reason, delta);
    if (read_usage(stream, &message.usage)) {
        report_usage(stream, delta);
    }
    return read_content(stream, &message.content);
}

/* ---- the first walk: what stands where; after it the text is known to be valid JSON ---- */

static int open_text(const char *text, size_t len, struct members *ret_members,
                     struct gw_delta *delta)
{
    struct gw_json scan;

    gw_json_init(&scan, text, len);
    gw_json_repair_utf8(&scan);
    if (!find_members(&scan, ret_members) || !gw_json_end(&scan)) {
        return SL_E_UPSTREAM_MALFORMED;
    }
    struct gw_json type = ret_members->type;
    struct gw_json_string name = string_at(&type);
    if (gw_json_string_is(&name, "error")) {
        gw_provider_read_failure(text, len, delta);
        return 0;
    }
    bool ok = ret_members->error.at == NULL || gw_provider_read_error(&ret_members->error, delta);
    return ok ? 0 : SL_E_UPSTREAM_MALFORMED;
}

/* False: no object, or not valid. Of repeated keys the last one counts. */
static bool find_members(struct gw_json *scan, struct members *ret_members)
{
    struct gw_json_string key;
    enum gw_json_step step = GW_JSON_STEP_BROKEN;
    bool ok = gw_json_peek(scan) == GW_JSON_OBJECT && gw_json_enter(scan);

    *ret_members = (struct members){.type = {.at = NULL}};
    while (ok && (step = gw_json_next_member(scan, &key)) == GW_JSON_STEP_MORE) {
        struct gw_json *place = place_of(&key, ret_members);
        if (place != NULL) {
            *place = *scan;
        }
        ok = gw_json_skip(scan);
    }
    return ok && step == GW_JSON_STEP_END;
}

static struct gw_json *place_of(const struct gw_json_string *key, struct members *members)
{
    return gw_json_string_is(key, "type")            ? &members->type
           : gw_json_string_is(key, "delta")         ? &members->delta
           : gw_json_string_is(key, "text")          ? &members->text
           : gw_json_string_is(key, "thinking")      ? &members->thinking
           : gw_json_string_is(key, "content_block") ? &members->content_block
           : gw_json_string_is(key, "message")       ? &members->message
           : gw_json_string_is(key, "content")       ? &members->content
           : gw_json_string_is(key, "stop_reason")   ? &members->stop_reason
           : gw_json_string_is(key, "usage")         ? &members->usage
           : gw_json_string_is(key, "error")         ? &members->error
                                                     : NULL;
}

/* A member that is missing is as good as null. */
static enum gw_json_type type_at(struct gw_json *place)
{
    return place->at != NULL ? gw_json_peek(place) : GW_JSON_NULL;
}

/* The string that stands there; one without text when it is something else. */
static struct gw_json_string string_at(struct gw_json *place)
{
    struct gw_json_string string = {.base = NULL, .plain = true};
    bool found = place->at != NULL && gw_provider_read_string(place, &string);

    return found ? string : (struct gw_json_string){.base = NULL, .plain = true};
}

/* ---- what the members say ---- */

static int read_message_start(struct gw_provider_stream *stream, struct members *members)
{
    struct members message;

    if (type_at(&members->message) == GW_JSON_NULL) {
        return 0;
    }
    if (!find_members(&members->message, &message)) {
        return SL_E_UPSTREAM_MALFORMED;
    }
    /* kept but not reported: the output is only begun, and a cut answer is better estimated */
    (void)read_usage(stream, &message.usage);
    return read_content(stream, &message.content);
}

static int read_message_delta(struct gw_provider_stream *stream, struct members *members,
                              struct gw_delta *delta)
{
    struct members change;

    if (type_at(&members->delta) == GW_JSON_OBJECT && find_members(&members->delta, &change)) {
        read_stop_reason(&change.stop_reason, delta);
    }
    if (read_usage(stream, &members->usage)) {
        report_usage(stream, delta);
    }
    return 0;
}

static int read_content(struct gw_provider_stream *stream, struct gw_json *place)
{
    enum gw_json_step step;

    if (type_at(place) == GW_JSON_NULL) {
        return 0;
    }
    if (type_at(place) != GW_JSON_ARRAY || !gw_json_enter(place)) {
        return SL_E_UPSTREAM_MALFORMED;
    }
    while ((step = gw_json_next_element(place)) == GW_JSON_STEP_MORE) {
        struct gw_json block = *place;
        int err = gw_json_skip(place) ? read_block(stream, &block, "text", "thinking")
                                      : SL_E_UPSTREAM_MALFORMED;
        if (err != 0) {
            return err;
        }
    }
    return step == GW_JSON_STEP_END ? 0 : SL_E_UPSTREAM_MALFORMED;
}

/* A content block or a delta of one. */
static int read_block(struct gw_provider_stream *stream, struct gw_json *place,
                      const char *text_type, const char *thinking_type)
{
    struct members block;
    int err = 0;

    if (type_at(place) == GW_JSON_NULL) {
        return 0;
    }
    if (!find_members(place, &block)) {
        return SL_E_UPSTREAM_MALFORMED;
    }
    struct gw_json_string type = string_at(&block.type);
    if (type.len == 0 || gw_json_string_is(&type, text_type)) {
        enum gw_json_type text_is = type_at(&block.text);
        if (text_is != GW_JSON_STRING && text_is != GW_JSON_NULL) {
            return SL_E_UPSTREAM_MALFORMED;
        }
        struct gw_json_string text = string_at(&block.text);
        err = gw_delta_texts_add_content(&stream->texts, &text);
    }
    if (err == 0 && (type.len == 0 || gw_json_string_is(&type, thinking_type))) {
        struct gw_json_string thinking = string_at(&block.thinking);
        err = gw_delta_texts_add_reasoning(&stream->texts, &thinking);
    }
    return err;
}

/* In the names that our clients know; others are passed on as they are. */
static void read_stop_reason(struct gw_json *place, struct gw_delta *delta)
{
    static const struct {
        const char *theirs, *ours;
    } names[] = {
        {"end_turn", "stop"},       {"stop_sequence", "stop"},
        {"max_tokens", "length"},   {"model_context_window_exceeded", "length"},
        {"tool_use", "tool_calls"}, {"refusal", "content_filter"},
    };
    struct gw_json_string reason = string_at(place);

    if (reason.len == 0) {
        return;
    }
    delta->has_finish = true;
    gw_json_string_copy(&reason, delta->finish_reason, sizeof(delta->finish_reason));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (gw_json_string_is(&reason, names[i].theirs)) {
            (void)snprintf(delta->finish_reason, sizeof(delta->finish_reason), "%s", names[i].ours);
        }
    }
}

/* The counts are totals so far, each replaces an older one. True: the output was among them. */
static bool read_usage(struct gw_provider_stream *stream, struct gw_json *place)
{
    struct gw_json_string key;
    bool has_input = false, has_output = false;
    bool ok = type_at(place) == GW_JSON_OBJECT && gw_json_enter(place);

    while (ok && gw_json_next_member(place, &key) == GW_JSON_STEP_MORE) {
        if (gw_json_string_is(&key, "output_tokens")) {
            ok = gw_provider_read_count(place, &stream->usage.output, &has_output);
        } else if (gw_json_string_is(&key, "input_tokens")) {
            ok = gw_provider_read_count(place, &stream->usage.input, &has_input);
        } else if (gw_json_string_is(&key, "cache_creation_input_tokens")) {
            ok = gw_provider_read_count(place, &stream->usage.cache_creation, &has_input);
        } else if (gw_json_string_is(&key, "cache_read_input_tokens")) {
            ok = gw_provider_read_count(place, &stream->usage.cache_read, &has_input);
        } else {
            ok = gw_json_skip(place);
        }
    }
    return has_output;
}

/* What was written to the cache or read from it was sent by us all the same. */
static void report_usage(const struct gw_provider_stream *stream, struct gw_delta *delta)
{
    int64_t input =
        (int64_t)stream->usage.input + stream->usage.cache_creation + stream->usage.cache_read;

    delta->has_usage = true;
    delta->prompt_tokens = input < INT32_MAX ? (int32_t)input : INT32_MAX;
    delta->completion_tokens = stream->usage.output;
}
