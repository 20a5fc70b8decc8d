/*
 * The prompt: what goes in, for every dialect.
 *
 * Happy path: (1) the system text is made from the template, (2) the newest history messages that fit
 * the token budget are found, (3) the dialect writes the members and takes the messages one by one,
 * oldest first, the new one last.
 *
 * Failure modes: the buffer's maximum or memory; the body is then as it was before.
 * Thread: any. Ownership: keeps nothing of its inputs.
 */
#include "prompt.h"

#include <limits.h>
#include <string.h>

#include "sluice/text.h"

#define PLACEHOLDER "{{profile}}"

static int expand_system(struct gw_prompt_draft *draft);
static size_t first_that_fits(const struct gw_prompt *prompt);
static int write_body(struct gw_prompt_draft *draft, gw_prompt_write_fn write);
static bool is_blank(const char *text, size_t len);
static void count_tokens(struct gw_prompt_draft *draft, size_t len);

unsigned gw_prompt_estimate_tokens(size_t bytes)
{
    size_t tokens = bytes / 4 + (bytes % 4 != 0 ? 1 : 0);

    return tokens < UINT_MAX ? (unsigned)tokens : UINT_MAX;
}

int gw_prompt_build(const struct gw_prompt *prompt, gw_prompt_write_fn write,
                    struct sl_buffer *body, size_t *ret_history_used, unsigned *ret_tokens)
{
    struct gw_prompt_draft draft = {
        .prompt = prompt, .body = body, .next = first_that_fits(prompt)};
    size_t start = body->len;

    sl_buffer_init(&draft.system, body->max);
    int err = expand_system(&draft);
    if (err == 0) {
        err = write_body(&draft, write);
    }
    sl_buffer_dispose(&draft.system);
    if (err != 0) {
        body->len = start;
        return err;
    }
    *ret_history_used = draft.history_used;
    *ret_tokens = draft.tokens;
    return 0;
}

/* One pass over the template: a placeholder inside the profile stays as it is. */
static int expand_system(struct gw_prompt_draft *draft)
{
    struct sl_buffer *text = &draft->system;
    struct store_text profile = draft->prompt->profile;
    const char *at = draft->prompt->system_template;
    const char *found;
    int err = 0;

    if (at == NULL) {
        return 0;
    }
    while (err == 0 && (found = strstr(at, PLACEHOLDER)) != NULL) {
        err = sl_buffer_append(text, at, (size_t)(found - at));
        if (err == 0 && profile.base != NULL) {
            err = sl_buffer_append(text, profile.base, profile.len);
        }
        at = found + strlen(PLACEHOLDER);
    }
    if (err == 0) {
        err = sl_buffer_append_str(text, at);
    }
    if (err == 0 && is_blank(text->base, text->len)) {
        sl_buffer_clear(text);
    }
    count_tokens(draft, text->len);
    return err;
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
    while (first < prompt->history_count &&
           (prompt->history[first].role != STORE_ROLE_USER ||
            is_blank(prompt->history[first].content.base, prompt->history[first].content.len))) {
        first++;
    }
    return first;
}

static int write_body(struct gw_prompt_draft *draft, gw_prompt_write_fn write)
{
    const struct store_text *model = &draft->prompt->model;

    int err = sl_buffer_append_str(draft->body, "{\"model\":");
    if (err == 0) {
        err = sl_json_append_string(draft->body, model->base, model->len);
    }
    if (err == 0) {
        err = write(draft);
    }
    return err == 0 ? sl_buffer_append_str(draft->body, "}") : err;
}

bool gw_prompt_next(struct gw_prompt_draft *draft, const char **ret_role,
                    struct store_text *ret_text)
{
    const struct gw_prompt *prompt = draft->prompt;

    while (draft->next < prompt->history_count) {
        const struct store_message *message = &prompt->history[draft->next++];
        if (!is_blank(message->content.base, message->content.len)) {
            *ret_role = message->role == STORE_ROLE_ASSISTANT ? "assistant" : "user";
            *ret_text = message->content;
            draft->history_used++;
            count_tokens(draft, message->content.len);
            return true;
        }
    }
    if (draft->next > prompt->history_count) {
        return false;
    }
    draft->next++;
    *ret_role = "user";
    *ret_text = prompt->message;
    count_tokens(draft, prompt->message.len);
    return true;
}

int gw_prompt_append_message(struct gw_prompt_draft *draft, const char *role, const char *text,
                             size_t len)
{
    int err = sl_buffer_appendf(
        draft->body, "%s{\"role\":\"%s\",\"content\":", draft->messages > 0 ? "," : "", role);

    if (err == 0) {
        err = sl_json_append_string(draft->body, text, len);
    }
    draft->messages++;
    return err == 0 ? sl_buffer_append_str(draft->body, "}") : err;
}

/* Servers refuse texts without a word in them, be it an answer that was stopped or an empty template. */
static bool is_blank(const char *text, size_t len)
{
    size_t i = 0;

    while (i < len && memchr(" \t\r\n", text[i], 4) != NULL) {
        i++;
    }
    return i == len;
}

static void count_tokens(struct gw_prompt_draft *draft, size_t len)
{
    unsigned tokens = gw_prompt_estimate_tokens(len);

    draft->tokens = tokens <= UINT_MAX - draft->tokens ? draft->tokens + tokens : UINT_MAX;
}
