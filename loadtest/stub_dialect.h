/**
 * One answer under way, and the table of functions that write it in a provider's wire format.
 *
 * The player decides what is said and when; a dialect only says how. One more dialect is one more
 * file with such a table and one more row in the routes of stub_routes.c.
 *
 * Thread: one at a time. Ownership: the reply is embedded in its player, which frees it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"
#include "stub_chat.h"
#include "stub_frame.h"
#include "stub_http.h"
#include "stub_script.h"

struct block_kind;

struct stub_reply {
    struct stub_script script;
    struct stub_frame frame;
    char id[STUB_SCRIPT_WORD_MAX + 16];
    char model[128];
    int64_t created_s; /* Unix time */
    bool include_usage;
    uint64_t prompt_tokens;
    uint64_t completion_tokens; /* deltas so far, reasoning included */
    struct lt_buffer opening;   /* the JSON that all chunks, or those of a block, begin with */
    struct lt_buffer json;      /* the event under construction */
    /* anthropic only: the open content block, NULL: none; its index, or that of the next one */
    const struct block_kind *block_kind;
    int block;
};

struct stub_dialect {
    const char *id_prefix; /* of an answer's id */
    /** Why the service refuses this request, NULL: it does not. Itself NULL: it takes them all. */
    const char *(*objection)(const struct stub_request *request, const struct stub_chat *chat);
    /** Before the first event: the opening of the chunks. Sends nothing. */
    void (*prepare)(struct stub_reply *reply);
    /** The event or events before the first delta. */
    void (*begin)(struct stub_reply *reply);
    /** One delta; `text` is escaped for the inside of a JSON string. */
    void (*content)(struct stub_reply *reply, const struct lt_buffer *text);
    void (*reasoning)(struct stub_reply *reply, const struct lt_buffer *text);
    /** A whole tool call, in several events. */
    void (*tool_call)(struct stub_reply *reply);
    /** The reason why the answer ends and, where they are asked for, the token counts. */
    void (*finish)(struct stub_reply *reply);
    /** The last event. */
    void (*done)(struct stub_reply *reply);
    /** An event that is not JSON. */
    void (*malformed)(struct stub_reply *reply);
    /** An error in the middle of the stream, and what the service still sends after it. */
    void (*error)(struct stub_reply *reply);
    /** The answer as one JSON object, appended to `body`. */
    void (*whole)(struct stub_reply *reply, const struct lt_buffer *text, struct lt_buffer *body);
    /** The JSON body of an HTTP error, appended to `body`. */
    void (*refusal)(int status, const char *message, struct lt_buffer *body);
    /** As above, of the error that says that the money is spent. */
    void (*quota)(struct lt_buffer *body);
};

/** OpenAI chat completions. */
extern const struct stub_dialect stub_openai;
/** Anthropic messages. */
extern const struct stub_dialect stub_anthropic;
