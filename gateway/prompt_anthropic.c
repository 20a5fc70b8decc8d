/*
 * The prompt as the body of a Messages API request: the system text stands apart, the roles take
 * turns, and max_tokens is required.
 *
 * Thread: any. Ownership: keeps nothing of its inputs.
 */
#include "prompt.h"

#include <string.h>

#include "sluice/text.h"

enum { MAX_TOKENS_DEFAULT = 4096 };

static int write_members(struct gw_prompt_draft *draft);
static unsigned max_tokens(const struct gw_prompt *prompt);
static int append_system(struct gw_prompt_draft *draft);
static int append_messages(struct gw_prompt_draft *draft);
static int join_messages(struct gw_prompt_draft *draft, struct sl_buffer *joined);

int gw_prompt_anthropic_build(const struct gw_prompt *prompt, struct sl_buffer *body,
                              size_t *ret_history_used, unsigned *ret_tokens)
{
    return gw_prompt_build(prompt, write_members, body, ret_history_used, ret_tokens);
}

static int write_members(struct gw_prompt_draft *draft)
{
    const struct gw_prompt *prompt = draft->prompt;

    int err = sl_buffer_appendf(draft->body, ",\"max_tokens\":%u", max_tokens(prompt));
    if (err == 0 && draft->system.len > 0) {
        err = append_system(draft);
    }
    if (err == 0) {
        err = append_messages(draft);
    }
    if (err == 0) {
        err = sl_buffer_append_str(draft->body, ",\"stream\":true");
    }
    if (err == 0 && prompt->has_temperature) {
        /* our clients may ask for up to 2, as OpenAI's scale goes; here 1 is the end of it */
        double temperature = prompt->temperature < 1 ? prompt->temperature : 1;
        err = sl_buffer_appendf(draft->body, ",\"temperature\":%.15g", temperature);
    }
    return err;
}

static unsigned max_tokens(const struct gw_prompt *prompt)
{
    if (prompt->has_max_tokens) {
        return prompt->max_tokens;
    }
    return prompt->max_tokens_default > 0 ? prompt->max_tokens_default : MAX_TOKENS_DEFAULT;
}

static int append_system(struct gw_prompt_draft *draft)
{
    int err = sl_buffer_append_str(draft->body, ",\"system\":");

    return err == 0 ? sl_json_append_string(draft->body, draft->system.base, draft->system.len)
                    : err;
}

static int append_messages(struct gw_prompt_draft *draft)
{
    struct sl_buffer joined;

    int err = sl_buffer_append_str(draft->body, ",\"messages\":[");
    if (err == 0) {
        sl_buffer_init(&joined, draft->body->max);
        err = join_messages(draft, &joined);
        sl_buffer_dispose(&joined);
    }
    return err == 0 ? sl_buffer_append_str(draft->body, "]") : err;
}

/* Neighbours of one role (an answer between them failed) become one message of paragraphs. */
static int join_messages(struct gw_prompt_draft *draft, struct sl_buffer *joined)
{
    const char *role, *joined_role = NULL;
    struct store_text text;
    int err = 0;

    while (err == 0 && gw_prompt_next(draft, &role, &text)) {
        if (joined_role != NULL && strcmp(role, joined_role) == 0) {
            err = sl_buffer_append_str(joined, "\n\n");
        } else if (joined_role != NULL) {
            err = gw_prompt_append_message(draft, joined_role, joined->base, joined->len);
            sl_buffer_clear(joined);
        }
        if (err == 0) {
            err = sl_buffer_append(joined, text.base, text.len);
        }
        joined_role = role;
    }
    return err == 0 ? gw_prompt_append_message(draft, joined_role, joined->base, joined->len) : err;
}
