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

static bool read_part(struct lt_json *json, struct lt_buffer *text)
{
    char key[LT_JSON_KEY_MAX];
    bool first = true;
    enum lt_json_next next;
    if (!lt_json_enter(json, '{')) {
        return false;
    }
    while ((next = lt_json_next_member(json, &first, key)) == LT_JSON_MORE) {
        bool is_text = strcmp(key, "text") == 0 && lt_json_peek(json) == '"';
        if (!(is_text ? lt_json_read_string(json, text) : lt_json_skip(json))) {
            return false;
        }
    }
    return next == LT_JSON_END;
}

static bool read_content(struct lt_json *json, struct lt_buffer *text)
{
    char c = lt_json_peek(json);
    if (c == '"') {
        return lt_json_read_string(json, text);
    }
    if (c != '[') {
        return lt_json_skip(json); /* null next to tool_calls */
    }
    bool first = true;
    enum lt_json_next next;
    (void)lt_json_enter(json, '[');
    while ((next = lt_json_next_element(json, &first)) == LT_JSON_MORE) {
        if (!(lt_json_peek(json) == '{' ? read_part(json, text) : lt_json_skip(json))) {
            return false;
        }
    }
    return next == LT_JSON_END;
}

/** One message. `text` is scratch memory that the caller keeps from message to message. */
static bool read_message(struct lt_json *json, struct stub_chat *chat, struct lt_buffer *text)
{
    char key[LT_JSON_KEY_MAX];
    char role[32] = "?";
    bool first = true;
    enum lt_json_next next;
    if (!lt_json_enter(json, '{')) {
        return false;
    }
    text->len = 0;
    while ((next = lt_json_next_member(json, &first, key)) == LT_JSON_MORE) {
        bool ok;
        if (strcmp(key, "role") == 0 && lt_json_peek(json) == '"') {
            ok = lt_json_read_short(json, role, sizeof(role));
        } else if (strcmp(key, "content") == 0) {
            ok = read_content(json, text);
        } else {
            ok = lt_json_skip(json);
        }
        if (!ok) {
            return false;
        }
    }
    if (chat->messages++ != 0) {
        lt_buffer_append_str(&chat->roles, ",");
    }
    lt_buffer_append_str(&chat->roles, role);
    if (strcmp(role, "user") == 0) {
        struct lt_buffer older = chat->user_text;
        chat->user_text = *text;
        *text = older;
    }
    return next == LT_JSON_END;
}

static bool read_messages(struct lt_json *json, struct stub_chat *chat)
{
    bool first = true;
    enum lt_json_next next = LT_JSON_BROKEN;
    struct lt_buffer text = {0};
    if (lt_json_enter(json, '[')) {
        while ((next = lt_json_next_element(json, &first)) == LT_JSON_MORE) {
            if (!read_message(json, chat, &text)) {
                next = LT_JSON_BROKEN;
                break;
            }
        }
    }
    lt_buffer_free(&text);
    return next == LT_JSON_END;
}

static bool read_stream_options(struct lt_json *json, struct stub_chat *chat)
{
    char key[LT_JSON_KEY_MAX];
    bool first = true;
    enum lt_json_next next;
    if (lt_json_peek(json) != '{') {
        return lt_json_skip(json);
    }
    (void)lt_json_enter(json, '{');
    while ((next = lt_json_next_member(json, &first, key)) == LT_JSON_MORE) {
        bool wanted = strcmp(key, "include_usage") == 0;
        if (!(wanted && lt_json_read_bool(json, &chat->include_usage)) && !lt_json_skip(json)) {
            return false;
        }
    }
    return next == LT_JSON_END;
}

int stub_chat_parse(const char *body, size_t len, struct stub_chat *chat)
{
    struct lt_json json = {.at = body, .end = body + len};
    char key[LT_JSON_KEY_MAX];
    bool first = true;
    bool saw_messages = false;
    enum lt_json_next next;
    if (len == 0 || !lt_json_enter(&json, '{')) {
        return -1;
    }
    while ((next = lt_json_next_member(&json, &first, key)) == LT_JSON_MORE) {
        bool ok;
        if (strcmp(key, "messages") == 0) {
            saw_messages = true;
            ok = read_messages(&json, chat);
        } else if (strcmp(key, "model") == 0 && lt_json_peek(&json) == '"') {
            ok = lt_json_read_short(&json, chat->model, sizeof(chat->model));
        } else if (strcmp(key, "stream") == 0) {
            ok = lt_json_read_bool(&json, &chat->stream) || lt_json_skip(&json);
        } else if (strcmp(key, "stream_options") == 0) {
            ok = read_stream_options(&json, chat);
        } else {
            ok = lt_json_skip(&json);
        }
        if (!ok) {
            return -1;
        }
    }
    return next == LT_JSON_END && saw_messages ? 0 : -1;
}

void stub_chat_finish(struct stub_chat *chat)
{
    lt_buffer_free(&chat->roles);
    lt_buffer_free(&chat->user_text);
}
