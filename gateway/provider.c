/*
 * Providers: the table of dialects, and the half of translating that is the same in all of them.
 *
 * Happy path: (1) error events, `[DONE]` and empty events are told apart, (2) the texts are begun,
 * (3) the dialect walks the JSON and adds strings, (4) the texts are settled into the delta.
 *
 * Failure modes: what the dialect and the texts return; the caller's delta is then untouched.
 * Thread: one at a time for a stream. Ownership: the struct is the caller's; deltas point into it.
 */
#include "provider.h"

#include <string.h>

#include "provider_anthropic.h"
#include "provider_openai.h"
#include "provider_read.h"

static const struct gw_delta empty = {.content = "", .reasoning = ""};

static void trim_end(struct gw_sse_event *event);
static bool says(const char *text, size_t len, const char *literal);
static int settle(struct gw_provider_stream *stream, bool last, struct gw_delta *delta);

const struct gw_provider *gw_provider_find(const char *name)
{
    static const struct gw_provider *const all[] = {&gw_provider_openai, &gw_provider_anthropic};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (strcmp(all[i]->name, name) == 0) {
            return all[i];
        }
    }
    return NULL;
}

void gw_provider_stream_init(struct gw_provider_stream *stream, const struct gw_provider *provider,
                             size_t text_max_bytes)
{
    *stream = (struct gw_provider_stream){.provider = provider};
    gw_delta_texts_init(&stream->texts, text_max_bytes);
}

int gw_provider_stream_event(struct gw_provider_stream *stream, const struct gw_sse_event *event,
                             struct gw_delta *ret_delta)
{
    struct gw_sse_event trimmed = *event;
    struct gw_delta delta = empty;

    trim_end(&trimmed);
    if (says(trimmed.name, trimmed.name_len, "error")) {
        gw_provider_read_failure(trimmed.text, trimmed.text_len, &delta);
        *ret_delta = delta;
        return 0;
    }
    if (trimmed.text_len == 0) {
        *ret_delta = delta;
        return 0;
    }
    int err = gw_delta_texts_begin(&stream->texts);
    if (err != 0) {
        return err;
    }
    /* some proxies send OpenAI's end marker behind the end of other dialects */
    delta.ended = says(trimmed.text, trimmed.text_len, "[DONE]");
    if (!delta.ended) {
        err = stream->provider->event(stream, &trimmed, &delta);
    }
    if (err == 0) {
        err = settle(stream, delta.ended, &delta);
    }
    if (err == 0) {
        *ret_delta = delta;
    }
    return err;
}

static void trim_end(struct gw_sse_event *event)
{
    while (event->text_len > 0 && memchr(" \n\r", event->text[event->text_len - 1], 3) != NULL) {
        event->text_len--;
    }
}

static bool says(const char *text, size_t len, const char *literal)
{
    return len == strlen(literal) && memcmp(text, literal, len) == 0;
}

int gw_provider_stream_body(struct gw_provider_stream *stream, const char *body, size_t len,
                            struct gw_delta *ret_delta)
{
    struct gw_delta delta = empty;

    int err = gw_delta_texts_begin(&stream->texts);
    if (err == 0) {
        err = stream->provider->body(stream, body, len, &delta);
    }
    if (err == 0) {
        err = settle(stream, true, &delta);
    }
    if (err == 0) {
        delta.ended = true;
        *ret_delta = delta;
    }
    return err;
}

int gw_provider_stream_finish(struct gw_provider_stream *stream, struct gw_delta *ret_delta)
{
    struct gw_delta delta = empty;

    int err = gw_delta_texts_begin(&stream->texts);
    if (err == 0) {
        err = settle(stream, true, &delta);
    }
    if (err == 0) {
        *ret_delta = delta;
    }
    return err;
}

/* An error wins over what stands beside it. */
static int settle(struct gw_provider_stream *stream, bool last, struct gw_delta *delta)
{
    int err = gw_delta_texts_end(&stream->texts, last, delta);

    if (err == 0 && delta->failed) {
        delta->content_len = delta->reasoning_len = 0;
        delta->has_finish = false;
        delta->finish_reason[0] = '\0';
    }
    return err;
}

void gw_provider_stream_dispose(struct gw_provider_stream *stream)
{
    gw_delta_texts_dispose(&stream->texts);
}
