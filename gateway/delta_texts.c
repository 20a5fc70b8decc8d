/*
 * The two texts of a delta.
 *
 * Happy path: (1) the buffers are emptied and the held halves put back, (2) strings are decoded into
 * them, (3) surrogate pairs are settled, (4) the delta points at the buffers.
 * Failure modes: a text over the maximum (SL_E_ANSWER_TOO_LONG), no memory (SL_E_NO_MEMORY).
 * Thread: one at a time. Ownership: see the header.
 */
#include "delta_texts.h"

#include "surrogates.h"

/* Buffers that one large event has grown beyond this are given back after it. */
enum { KEEP_BYTES = 16 * 1024 };

static int begin(struct sl_buffer *text, uint16_t high);
static int add(struct sl_buffer *text, const struct gw_json_string *string);
static int end(const struct gw_delta_texts *texts, struct sl_buffer *text, uint16_t *high,
               bool last);

void gw_delta_texts_init(struct gw_delta_texts *texts, size_t max_bytes)
{
    /* A held half comes in front of the text and another may stand at its end. */
    size_t max = max_bytes <= SIZE_MAX - 2 * GW_SURROGATE_BYTES ? max_bytes + 2 * GW_SURROGATE_BYTES
                                                                : SIZE_MAX;

    *texts = (struct gw_delta_texts){.max_bytes = max_bytes};
    sl_buffer_init(&texts->content, max);
    sl_buffer_init(&texts->reasoning, max);
}

int gw_delta_texts_begin(struct gw_delta_texts *texts)
{
    int err = begin(&texts->content, texts->content_high);

    return err == 0 ? begin(&texts->reasoning, texts->reasoning_high) : err;
}

static int begin(struct sl_buffer *text, uint16_t high)
{
    if (text->capacity > KEEP_BYTES) {
        sl_buffer_dispose(text);
    } else {
        sl_buffer_clear(text);
    }
    return gw_surrogates_put_back(text, high);
}

int gw_delta_texts_add_content(struct gw_delta_texts *texts, const struct gw_json_string *string)
{
    return add(&texts->content, string);
}

int gw_delta_texts_add_reasoning(struct gw_delta_texts *texts, const struct gw_json_string *string)
{
    return add(&texts->reasoning, string);
}

static int add(struct sl_buffer *text, const struct gw_json_string *string)
{
    int err = string->len > 0 ? gw_json_string_append(string, text) : 0;

    return err == SL_E_LIMIT ? SL_E_ANSWER_TOO_LONG : err;
}

int gw_delta_texts_end(struct gw_delta_texts *texts, bool last, struct gw_delta *delta)
{
    int err = end(texts, &texts->content, &texts->content_high, last);

    if (err == 0) {
        err = end(texts, &texts->reasoning, &texts->reasoning_high, last);
    }
    if (err != 0) {
        return err;
    }
    if (texts->content.len > 0) {
        delta->content = texts->content.base;
        delta->content_len = texts->content.len;
    }
    if (texts->reasoning.len > 0) {
        delta->reasoning = texts->reasoning.base;
        delta->reasoning_len = texts->reasoning.len;
    }
    return 0;
}

static int end(const struct gw_delta_texts *texts, struct sl_buffer *text, uint16_t *high,
               bool last)
{
    *high = gw_surrogates_settle(text, last);
    return text->len <= texts->max_bytes ? 0 : SL_E_ANSWER_TOO_LONG;
}

void gw_delta_texts_dispose(struct gw_delta_texts *texts)
{
    sl_buffer_dispose(&texts->content);
    sl_buffer_dispose(&texts->reasoning);
    texts->content_high = 0;
    texts->reasoning_high = 0;
}
