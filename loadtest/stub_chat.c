/*
 * Chat request reader: one walk over the JSON, keeping only what a script needs.
 *
 * Happy path: top-level members -> messages -> role and content of each; a later user message
 * overwrites the earlier one. Content is a string or an array of {type:"text", text} parts.
 * Failure: -1 for anything that is not followed; unknown members are skipped.
 * Thread: any. Ownership: the caller's struct holds copies.
 */
#include "stub_chat.h"

#include <string.h>

#include "json_scan.h"

struct walk {
    struct stub_chat *chat;
    struct lt_buffer text; /* of the message under way; kept from message to message */
    char role[32];         /* of that message */
    bool saw_messages;
    bool saw_system; /* beside the messages */
};

static bool read_text(struct lt_json *json, struct walk *walk)
{
    size_t before = walk->text.len;
    bool ok = lt_json_read_string(json, &walk->text);
    walk->chat->has_empty_text = walk->chat->has_empty_text || walk->text.len == before;
    return ok;
}

static bool take_part_member(struct lt_json *json, const char *key, void *context)
{
    bool is_text = strcmp(key, "text") == 0 && lt_json_peek(json) == '"';
    return is_text ? read_text(json, context) : lt_json_skip(json);
}

static bool take_part(struct lt_json *json, void *context)
{
    return lt_json_peek(json) == '{' ? lt_json_walk_object(json, take_part_member, context)
                                     : lt_json_skip(json);
}

static bool read_content(struct lt_json *json, struct walk *walk)
{
    switch (lt_json_peek(json)) {
    case '"':
        return read_text(json, walk);
    case '[':
        return lt_json_walk_array(json, take_part, walk);
    default:
        return lt_json_skip(json); /* null next to tool_calls */
    }
}

static bool take_message_member(struct lt_json *json, const char *key, void *context)
{
    struct walk *walk = context;
    if (strcmp(key, "role") == 0 && lt_json_peek(json) == '"') {
        return lt_json_read_short(json, walk->role, sizeof(walk->role));
    }
    return strcmp(key, "content") == 0 ? read_content(json, walk) : lt_json_skip(json);
}

static bool take_message(struct lt_json *json, void *context)
{
    struct walk *walk = context;
    struct stub_chat *chat = walk->chat;
    strcpy(walk->role, "?");
    walk->text.len = 0;
    if (!lt_json_walk_object(json, take_message_member, walk)) {
        return false;
    }
    bool is_user = strcmp(walk->role, "user") == 0;
    if (chat->messages++ != 0) {
        lt_buffer_append_str(&chat->roles, ",");
    } else {
        chat->starts_with_user = is_user;
    }
    lt_buffer_append_str(&chat->roles, walk->role);
    chat->has_system_message = chat->has_system_message || strcmp(walk->role, "system") == 0;
    if (is_user) {
        struct lt_buffer older = chat->user_text;
        chat->user_text = walk->text;
        walk->text = older;
    }
    return true;
}

static bool take_stream_option(struct lt_json *json, const char *key, void *context)
{
    struct stub_chat *chat = context;
    bool wanted = strcmp(key, "include_usage") == 0;
    return (wanted && lt_json_read_bool(json, &chat->include_usage)) || lt_json_skip(json);
}

static bool take_member(struct lt_json *json, const char *key, void *context)
{
    struct walk *walk = context;
    struct stub_chat *chat = walk->chat;
    char first = lt_json_peek(json);
    if (strcmp(key, "messages") == 0) {
        walk->saw_messages = true;
        return lt_json_walk_array(json, take_message, walk);
    }
    if (strcmp(key, "system") == 0) {
        walk->saw_system = first == '"' || first == '[';
        return read_content(json, walk);
    }
    if (strcmp(key, "model") == 0 && first == '"') {
        return lt_json_read_short(json, chat->model, sizeof(chat->model));
    }
    if (strcmp(key, "stream_options") == 0 && first == '{') {
        return lt_json_walk_object(json, take_stream_option, chat);
    }
    bool was_read = (strcmp(key, "stream") == 0 && lt_json_read_bool(json, &chat->stream)) ||
                    (strcmp(key, "max_tokens") == 0 && lt_json_read_count(json, &chat->max_tokens));
    return was_read || lt_json_skip(json);
}

/** Puts the system prompt where the other dialect has it: it may have been read last. */
static void count_system(struct stub_chat *chat)
{
    struct lt_buffer roles = {0};
    lt_buffer_append_str(&roles, chat->messages++ == 0 ? "system" : "system,");
    lt_buffer_append(&roles, chat->roles.base, chat->roles.len);
    lt_buffer_free(&chat->roles);
    chat->roles = roles;
}

int stub_chat_parse(const char *body, size_t len, struct stub_chat *chat)
{
    struct lt_json json = {.at = body, .end = body + len};
    struct walk walk = {.chat = chat};
    bool ok = len != 0 && lt_json_walk_object(&json, take_member, &walk) && walk.saw_messages;
    if (ok && walk.saw_system) {
        count_system(chat);
    }
    lt_buffer_free(&walk.text);
    return ok ? 0 : -1;
}

void stub_chat_finish(struct stub_chat *chat)
{
    lt_buffer_free(&chat->roles);
    lt_buffer_free(&chat->user_text);
}
