/**
 * What the stub wants to know of a chat request: the roles, the last user text, a few flags.
 *
 * Thread: any. Ownership: the struct is the caller's and is freed with stub_chat_finish.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"

struct stub_chat {
    size_t messages;            /* with the system prompt, wherever it stands */
    struct lt_buffer roles;     /* "system,user,assistant,user" */
    struct lt_buffer user_text; /* the last user message, its text parts joined */
    char model[128];            /* cut when longer */
    bool stream;
    bool include_usage;
    uint64_t max_tokens; /* 0: not given */

    /* what a strict service objects to */
    bool starts_with_user;   /* the first of `messages` is the user's */
    bool has_system_message; /* one of `messages` is the system's */
    bool has_empty_text;     /* a content "", or such a text part */
};

/**
 * Reads the body of a chat request into an all-zero `chat`, of OpenAI's kind or of Anthropic's
 * (whose `system` stands beside `messages`). 0, or -1 when the text is not a JSON object with a
 * `messages` array of objects; finish the struct in both cases.
 */
int stub_chat_parse(const char *body, size_t len, struct stub_chat *chat);

void stub_chat_finish(struct stub_chat *chat);
