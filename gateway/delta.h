/**
 * What one upstream event adds to an answer: the common form that every provider translates to.
 *
 * Thread: one at a time. Ownership: texts are valid until the next event is translated.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sluice/buffer.h"

enum { GW_FINISH_REASON_SIZE = 32 };

struct gw_delta {
    const char *content; /* valid UTF-8; a split surrogate pair is already joined */
    size_t content_len;
    const char *reasoning;
    size_t reasoning_len;
    bool has_finish;
    char finish_reason[GW_FINISH_REASON_SIZE]; /* cut to fit; "" unless has_finish */
    bool has_usage;
    int32_t prompt_tokens, completion_tokens;
    bool ended;            /* [DONE], message_stop: nothing follows */
    bool failed;           /* the upstream reported an error in mid-stream; it wins over content */
    bool failed_retryable; /* rate limits, overload and server errors */
    bool failed_spent;     /* a quota or the bill; never retryable */
};
