/*
 * The prompt as the body of a chat/completions request: the system text is the first message.
 *
 * Thread: any. Ownership: keeps nothing of its inputs.
 */
#include "prompt.h"

static int write_members(struct gw_prompt_draft *draft);
static int append_messages(struct gw_prompt_draft *draft);

int gw_prompt_openai_build(const struct gw_prompt *prompt, struct sl_buffer *body,
                           size_t *ret_history_used, unsigned *ret_tokens)
{
    return gw_prompt_build(prompt, write_members, body, ret_history_used, ret_tokens);
}

static int write_members(struct gw_prompt_draft *draft)
{
    const struct gw_prompt *prompt = draft->prompt;

    int err = append_messages(draft);
    if (err == 0) {
        err = sl_buffer_append_str(draft->body,
                                   ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    }
    if (err == 0 && prompt->has_temperature) {
        /* 15 digits give back every decimal number a client wrote with up to 15 */
        err = sl_buffer_appendf(draft->body, ",\"temperature\":%.15g", prompt->temperature);
    }
    if (err == 0 && prompt->has_max_tokens) {
        err = sl_buffer_appendf(draft->body, ",\"max_tokens\":%u", prompt->max_tokens);
    }
    return err;
}

static int append_messages(struct gw_prompt_draft *draft)
{
    const char *role;
    struct store_text text;

    int err = sl_buffer_append_str(draft->body, ",\"messages\":[");
    if (err == 0 && draft->system.len > 0) {
        err = gw_prompt_append_message(draft, "system", draft->system.base, draft->system.len);
    }
    while (err == 0 && gw_prompt_next(draft, &role, &text)) {
        err = gw_prompt_append_message(draft, role, text.base, text.len);
    }
    return err == 0 ? sl_buffer_append_str(draft->body, "]") : err;
}
