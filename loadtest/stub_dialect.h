/**
 * One answer under way, and the table of functions that write it in a provider's wire format.
 *
 * The player decides what is said and when; a dialect only says how. A second dialect is one more
 * file with such a table and one more row in the routes of stub_routes.c.
 *
 * Thread: one at a time. Ownership: the reply is embedded in its player, which frees it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"
#include "stub_frame.h"
#include "stub_script.h"

struct stub_reply {
    struct stub_script script;
    struct stub_frame frame;
    char id[STUB_SCRIPT_WORD_MAX + 16];
    char model[128];
    int64_t created_s; /* Unix time */
    bool include_usage;
    uint64_t prompt_tokens;
    uint64_t completion_tokens; /* deltas so far, reasoning included */
    struct lt_buffer opening;   /* the JSON that all chunks begin with */
    struct lt_buffer json;      /* the event under construction */
};

struct stub_dialect {
    /** Before the first event: the opening of the chunks. Sends nothing. */
    void (*prepare)(struct stub_reply *reply);
    /** The event or events before the first delta. */
    void (*begin)(struct stub_reply *reply);
    /** One delta; `text` is escaped for the inside of a JSON string. */
    void (*content)(struct stub_reply *reply, const struct lt_buffer *text);
    void (*reasoning)(struct stub_reply *reply, const struct lt_buffer *text);
    /** A whole tool call, in several events. */
    void (*tool_call)(struct stub_reply *reply);
    /** The reason why the answer ends. */
    void (*finish)(struct stub_reply *reply);
    /** The token counts; sends nothing when the request did not ask for them. */
    void (*usage)(struct stub_reply *reply);
    /** The last event. */
    void (*done)(struct stub_reply *reply);
    /** An error in the middle of the stream. */
    void (*error)(struct stub_reply *reply);
    /** The answer as one JSON object, appended to `body`. */
    void (*whole)(struct stub_reply *reply, const struct lt_buffer *text, struct lt_buffer *body);
    /** The JSON body of an HTTP error, appended to `body`. */
    void (*refusal)(int status, const char *message, struct lt_buffer *body);
};

/** OpenAI chat completions. */
extern const struct stub_dialect stub_openai;
