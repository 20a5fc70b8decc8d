/*
 * Sending events to a provider's stream and looking at the deltas, for the tests of the dialects.
 *
 * Every event is sent from memory of its exact size, and every delta must hold valid UTF-8 without
 * NUL; anything unexpected ends the test.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "provider.h"
#include "sluice/text.h"

#define U_FFFD "\xef\xbf\xbd"
#define GRIN "\xf0\x9f\x98\x80" /* U+1F600 = D83D DE00 */

enum { TEXT_MAX = 4096 };

static inline int send(struct gw_provider_stream *stream, const char *name, const char *text,
                       size_t len, struct gw_delta *ret_delta)
{
    char *copy = malloc(len + 1); /* exactly the right size at its end, for the address sanitizer */

    assert_non_null(copy);
    memcpy(copy + 1, text, len);
    struct gw_sse_event event = {
        .name = name, .name_len = strlen(name), .text = copy + 1, .text_len = len};
    int err = gw_provider_stream_event(stream, &event, ret_delta);
    free(copy);
    return err;
}

static inline void check_texts(const struct gw_delta *delta)
{
    assert_true(sl_utf8_valid(delta->content, delta->content_len));
    assert_true(sl_utf8_valid(delta->reasoning, delta->reasoning_len));
    assert_null(memchr(delta->content, '\0', delta->content_len));
    assert_null(memchr(delta->reasoning, '\0', delta->reasoning_len));
}

static inline struct gw_delta ask(struct gw_provider_stream *stream, const char *text)
{
    struct gw_delta delta;

    memset(&delta, 0xa5, sizeof(delta));
    int err = send(stream, "", text, strlen(text), &delta);
    if (err != 0) {
        fail_msg("error %d for %s", err, text);
    }
    check_texts(&delta);
    return delta;
}

static inline bool is_empty(const struct gw_delta *delta)
{
    return delta->content_len + delta->reasoning_len == 0 && !delta->has_finish &&
           !delta->has_usage && !delta->ended && !delta->failed;
}

static inline void expect_text(const char *text, size_t len, const char *expected)
{
    if (len != strlen(expected) || memcmp(text, expected, len) != 0) {
        fail_msg("\"%.*s\" instead of \"%s\"", (int)len, text, expected);
    }
}

static inline void expect(struct gw_provider_stream *stream, const char *text, const char *content,
                          const char *reasoning)
{
    struct gw_delta delta = ask(stream, text);

    expect_text(delta.content, delta.content_len, content);
    expect_text(delta.reasoning, delta.reasoning_len, reasoning);
}

/* None of these texts adds anything. */
static inline void expect_nothing(struct gw_provider_stream *stream, const char *const *texts,
                                  size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct gw_delta delta = ask(stream, texts[i]);
        if (!is_empty(&delta)) {
            fail_msg("not empty: %s", texts[i]);
        }
    }
}

/* None of these texts is accepted, and a delta that is there stays as it is. */
static inline void expect_malformed(struct gw_provider_stream *stream, const char *const *texts,
                                    size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct gw_delta delta = {.prompt_tokens = 4711};
        if (send(stream, "", texts[i], strlen(texts[i]), &delta) != SL_E_UPSTREAM_MALFORMED) {
            fail_msg("accepted: %s", texts[i]);
        }
        assert_int_equal(delta.prompt_tokens, 4711);
    }
}
