/*
 * Whatever an upstream sends, the deltas hold valid UTF-8 without NUL, within the maximum.
 *
 * Input: a flag byte, then a stream as it comes from the wire (or a body, as the flag says).
 */
#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "provider.h"
#include "sluice/text.h"

enum { TEXT_MAX = 64 };

static inline void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

static inline void check_text(const char *text, size_t len)
{
    require(text != NULL && len <= TEXT_MAX && sl_utf8_valid(text, len));
    require(len == 0 || memchr(text, '\0', len) == NULL);
}

static inline void check(const struct gw_delta *delta)
{
    check_text(delta->content, delta->content_len);
    check_text(delta->reasoning, delta->reasoning_len);
    const char *end = memchr(delta->finish_reason, '\0', sizeof(delta->finish_reason));
    require(end != NULL);
    require(sl_utf8_valid(delta->finish_reason, (size_t)(end - delta->finish_reason)));
    require(delta->has_finish || delta->finish_reason[0] == '\0');
    require(delta->prompt_tokens >= 0 && delta->completion_tokens >= 0);
    require(delta->failed || (!delta->failed_retryable && !delta->failed_spent));
    require(!delta->failed_retryable || !delta->failed_spent);
    require(!delta->failed || (delta->content_len == 0 && delta->reasoning_len == 0));
}

static inline bool is_expected(int err)
{
    return err == SL_E_UPSTREAM_MALFORMED || err == SL_E_ANSWER_TOO_LONG;
}

static inline int on_event(void *context, const struct gw_sse_event *event)
{
    struct gw_delta delta;
    int err = gw_provider_stream_event(context, event, &delta);

    if (err == 0) {
        check(&delta);
    } else {
        require(is_expected(err));
    }
    return 0; /* on, to see whether the stream survives it */
}

static inline int fuzz_provider(const char *provider, const uint8_t *input, size_t size)
{
    struct gw_provider_stream stream;
    struct gw_sse_parser parser;
    struct gw_delta delta;

    if (size < 1) {
        return 0;
    }
    const char *text = (const char *)input + 1;
    gw_provider_stream_init(&stream, gw_provider_find(provider), TEXT_MAX);
    if (input[0] == 'b') {
        int err = gw_provider_stream_body(&stream, text, size - 1, &delta);
        if (err == 0) {
            check(&delta);
            require(delta.ended);
        } else {
            require(is_expected(err));
        }
    } else {
        gw_sse_parser_init(&parser, 4096, on_event, &stream);
        int err = gw_sse_parser_feed(&parser, text, size - 1);
        require(err == 0 || err == SL_E_UPSTREAM_MALFORMED);
        gw_sse_parser_dispose(&parser);
    }
    require(gw_provider_stream_finish(&stream, &delta) == 0);
    check(&delta);
    gw_provider_stream_dispose(&stream);
    return 0;
}
