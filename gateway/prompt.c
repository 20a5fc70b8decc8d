/*
 * The prompt as an OpenAI request body.
 *
 * Happy path: (1) model, (2) the system message from the template, (3) the newest history messages
 * that fit the token budget, oldest first, (4) the new message, (5) the parameters.
 *
 * Failure modes: the buffer's maximum or memory; the body is then as it was before.
 * Thread: any. Ownership: keeps nothing of its inputs.
 */
#include "prompt.h"

#include <limits.h>
#include <string.h>

#include "sluice/text.h"

#define PLACEHOLDER "{{profile}}"

/* What is being written. */
struct draft {
    struct sl_buffer *body;
    unsigned tokens;
    size_t messages;
};

static int append_messages(const struct gw_prompt *prompt, struct draft *draft,
                           size_t *ret_history_used);
static int append_system(const struct gw_prompt *prompt, struct draft *draft);
static int expand(const char *template, struct store_text profile, struct sl_buffer *text);
static size_t first_that_fits(const struct gw_prompt *prompt);
static int append_history(const struct gw_prompt *prompt, struct draft *draft,
                          size_t *ret_history_used);
static int append_message(struct draft *draft, const char *role, const char *text, size_t len);
static int append_parameters(const struct gw_prompt *prompt, struct sl_buffer *body);

unsigned gw_prompt_estimate_tokens(size_t bytes)
{
    size_t tokens = bytes / 4 + (bytes % 4 != 0 ? 1 : 0);

    return tokens < UINT_MAX ? (unsigned)tokens : UINT_MAX;
}

int gw_prompt_build(const struct gw_prompt *prompt, struct sl_buffer *body,
                    size_t *ret_history_used, unsigned *ret_tokens)
{
    struct draft draft = {.body = body};
    size_t start = body->len;
    size_t history_used = 0;

    int err = sl_buffer_append_str(body, "{\"model\":");
    if (err == 0) {
        err = sl_json_append_string(body, prompt->model.base, prompt->model.len);
    }
    if (err == 0) {
        err = append_messages(prompt, &draft, &history_used);
    }
    if (err == 0) {
        err = append_parameters(prompt, body);
    }
    if (err != 0) {
        body->len = start;
        return err;
    }
    *ret_history_used = history_used;
    *ret_tokens = draft.tokens;
    return 0;
}

static int append_messages(const struct gw_prompt *prompt, struct draft *draft,
                           size_t *ret_history_used)
{
    int err = sl_buffer_append_str(draft->body, ",\"messages\":[");

    if (err == 0) {
        err = append_system(prompt, draft);
    }
    if (err == 0) {
        err = append_history(prompt, draft, ret_history_used);
    }
    if (err == 0) {
        err = append_message(draft, "user", prompt->message.base, prompt->message.len);
    }
    return err == 0 ? sl_buffer_append_str(draft->body, "]") : err;
}

/* Left out when nothing would stand in it: some servers refuse an empty system message. */
static int append_system(const struct gw_prompt *prompt, struct draft *draft)
{
    struct sl_buffer text;

    sl_buffer_init(&text, draft->body->max);
    int err = prompt->system_template != NULL
                  ? expand(prompt->system_template, prompt->profile, &text)
                  : 0;
    if (err == 0 && text.len > 0) {
        err = append_message(draft, "system", text.base, text.len);
    }
    sl_buffer_dispose(&text);
    return err;
}

/* One pass over the template: a placeholder inside the profile stays as it is. */
static int expand(const char *template, struct store_text profile, struct sl_buffer *text)
{
    const char *at = template;
    const char *found;
    int err = 0;

    while (err == 0 && (found = strstr(at, PLACEHOLDER)) != NULL) {
        err = sl_buffer_append(text, at, (size_t)(found - at));
        if (err == 0 && profile.base != NULL) {
            err = sl_buffer_append(text, profile.base, profile.len);
        }
        at = found + strlen(PLACEHOLDER);
    }
    return err == 0 ? sl_buffer_append_str(text, at) : err;
}

static int append_history(const struct gw_prompt *prompt, struct draft *draft,
                          size_t *ret_history_used)
{
    size_t used = 0;

    for (size_t i = first_that_fits(prompt); i < prompt->history_count; i++) {
        const struct store_message *message = &prompt->history[i];
        if (message->content.len == 0) {
            continue;
        }
        const char *role = message->role == STORE_ROLE_ASSISTANT ? "assistant" : "user";
        int err = append_message(draft, role, message->content.base, message->content.len);
        if (err != 0) {
            return err;
        }
        used++;
    }
    *ret_history_used = used;
    return 0;
}

/* Newest first while the budget lasts; then on to a user message, since an answer without its question misleads. */
static size_t first_that_fits(const struct gw_prompt *prompt)
{
    unsigned left = prompt->history_tokens;
    size_t first = prompt->history_count;

    while (first > 0) {
        unsigned tokens = gw_prompt_estimate_tokens(prompt->history[first - 1].content.len);
        if (tokens > left) {
            break;
        }
        left -= tokens;
        first--;
    }
    while (first < prompt->history_count && (prompt->history[first].role != STORE_ROLE_USER ||
                                             prompt->history[first].content.len == 0)) {
        first++;
    }
    return first;
}

static int append_message(struct draft *draft, const char *role, const char *text, size_t len)
{
    int err = sl_buffer_appendf(
        draft->body, "%s{\"role\":\"%s\",\"content\":", draft->messages > 0 ? "," : "", role);

    if (err == 0) {
        err = sl_json_append_string(draft->body, text, len);
    }
    if (err == 0) {
        err = sl_buffer_append_str(draft->body, "}");
    }
    unsigned tokens = gw_prompt_estimate_tokens(len);
    draft->tokens = tokens <= UINT_MAX - draft->tokens ? draft->tokens + tokens : UINT_MAX;
    draft->messages++;
    return err;
}

static int append_parameters(const struct gw_prompt *prompt, struct sl_buffer *body)
{
    int err =
        sl_buffer_append_str(body, ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");

    if (err == 0 && prompt->has_temperature) {
        /* 15 digits give back every decimal number a client wrote with up to 15 */
        err = sl_buffer_appendf(body, ",\"temperature\":%.15g", prompt->temperature);
    }
    if (err == 0 && prompt->has_max_tokens) {
        err = sl_buffer_appendf(body, ",\"max_tokens\":%u", prompt->max_tokens);
    }
    return err == 0 ? sl_buffer_append_str(body, "}") : err;
}
