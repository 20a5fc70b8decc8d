/**
 * The prompt: system template, profile, history and the new message, as an OpenAI request body.
 *
 * Pure: no I/O. Thread: any.
 */
#pragma once

#include <stdbool.h>

#include "sluice/buffer.h"
#include "sluice/store.h"

struct gw_prompt {
    /* {{profile}} is replaced by the profile's JSON text, or by nothing */
    const char *system_template;
    struct store_text profile;           /* base NULL: none */
    const struct store_message *history; /* oldest first */
    size_t history_count;
    unsigned history_tokens; /* budget; the newest messages that fit are used, whole, in order */
    struct store_text message;
    struct store_text model;
    bool has_temperature, has_max_tokens;
    double temperature;
    unsigned max_tokens;
};

/** An estimate where the upstream reports no usage: one token per four bytes, rounded up. */
unsigned gw_prompt_estimate_tokens(size_t bytes);

/**
 * Appends the JSON body of a streaming chat/completions request. `ret_history_used` gets the number of
 * history messages that fit the budget, `ret_tokens` the estimate of the whole prompt. Errors as sl_buffer_append.
 */
SL_MUST_CHECK int gw_prompt_build(const struct gw_prompt *prompt, struct sl_buffer *body,
                                  size_t *ret_history_used, unsigned *ret_tokens);
