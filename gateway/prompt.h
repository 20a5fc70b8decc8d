/**
 * The prompt: system template, profile, history and the new message, as the body of a request.
 *
 * What goes in is decided here, once; how it is written is the dialect's: prompt_openai.c and
 * prompt_anthropic.c. Pure: no I/O. Thread: any.
 */
#pragma once

#include <stdbool.h>

#include "sluice/buffer.h"
#include "sluice/store.h"

enum { GW_PROMPT_MAX_BYTES = 8 << 20 /* of a whole request body */ };

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
    unsigned max_tokens_default; /* for a dialect that must name one; 0: none, 4096 is used then */
};

/** An estimate where the upstream reports no usage: one token per four bytes, rounded up. */
unsigned gw_prompt_estimate_tokens(size_t bytes);

/**
 * Appends the JSON body of a streaming chat/completions or messages request. `ret_history_used` gets
 * the number of history messages that fit the budget, `ret_tokens` the estimate of the whole prompt.
 * Errors as sl_buffer_append; the body is then as it was before.
 */
SL_MUST_CHECK int gw_prompt_openai_build(const struct gw_prompt *prompt, struct sl_buffer *body,
                                         size_t *ret_history_used, unsigned *ret_tokens);
SL_MUST_CHECK int gw_prompt_anthropic_build(const struct gw_prompt *prompt, struct sl_buffer *body,
                                            size_t *ret_history_used, unsigned *ret_tokens);

/* ---- for the dialects */

/** A body that is being written. */
struct gw_prompt_draft {
    const struct gw_prompt *prompt;
    struct sl_buffer *body;
    struct sl_buffer system; /* the template with the profile in it; len 0: nothing to say */
    /* private */
    size_t next; /* in the history; history_count: the new message */
    size_t history_used, messages;
    unsigned tokens;
};

/** Writes the members behind `model`, each with a comma before it. Errors as sl_buffer_append. */
typedef int (*gw_prompt_write_fn)(struct gw_prompt_draft *draft);

/** Builds a body with a dialect's members. As gw_prompt_openai_build. */
SL_MUST_CHECK int gw_prompt_build(const struct gw_prompt *prompt, gw_prompt_write_fn write,
                                  struct sl_buffer *body, size_t *ret_history_used,
                                  unsigned *ret_tokens);

/**
 * The messages in their order: the history that fits, from one of the user's on and without empty
 * ones, then the new message. False: that was the last one, and the outputs are untouched.
 */
bool gw_prompt_next(struct gw_prompt_draft *draft, const char **ret_role,
                    struct store_text *ret_text);

/** Appends one element of `messages`, with a comma unless it is the first. Errors as sl_buffer_append. */
SL_MUST_CHECK int gw_prompt_append_message(struct gw_prompt_draft *draft, const char *role,
                                           const char *text, size_t len);
