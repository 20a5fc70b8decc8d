/*
 * The answer: chosen once per request, then handed out delta by delta.
 *
 * A delta is one word with the blanks before it, so the joined deltas are the text exactly. Counted
 * answers are made on the fly: a million tokens cost no memory.
 * Failure: none. Thread: any. Ownership: see stub_answer.h.
 */
#include "stub_answer.h"

#include <string.h>

enum { QUOTE_MAX = 200, LONG_PIECE_BYTES = 64 };

static const char UTF8_TEXT[] =
    "Grüße aus Zürich, déjà vu! Привет мир. 你好，世界 こんにちは "
    "한국어 עברית ไทย 😀 👩‍👩‍👧 𝄞 z̈ €.";

/* An emoji's escape pair cut in two, and a first half that never gets its second. */
static const char SURROGATES_JSON[] = "grin \\ud83d|\\ude00 and on";
static const char LONE_SURROGATE_JSON[] = "lone \\ud83d| here| and|\\udc00 low";

/** At most QUOTE_MAX bytes of what the user said, cut between characters, on one line. */
static void append_quote(struct lt_buffer *text, const struct lt_buffer *said)
{
    size_t n = said->len;
    if (n > QUOTE_MAX) {
        n = QUOTE_MAX;
        while (n > 0 && ((unsigned char)said->base[n] & 0xc0) == 0x80) {
            n--;
        }
    }
    size_t start = text->len;
    lt_buffer_append(text, said->base, n);
    for (size_t i = start; i < text->len; i++) {
        if ((unsigned char)text->base[i] < 0x20) {
            text->base[i] = ' ';
        }
    }
    if (n < said->len) {
        lt_buffer_append_str(text, "…");
    }
}

static void write_demo(struct lt_buffer *text, const struct stub_chat *chat)
{
    lt_buffer_append_str(text, "You said: “");
    append_quote(text, &chat->user_text);
    lt_buffer_append_str(
        text, "”. I am a small scripted model, so I have no opinion about that, but I can show you "
              "how an answer streams: every word you see here left me on its own, travelled "
              "through the gateway as one event, and is being saved while you read. ");
    lt_buffer_appendf(text, "This conversation has reached me with %zu message%s. ", chat->messages,
                      chat->messages == 1 ? "" : "s");
    lt_buffer_append_str(text, "Point the gateway at a real model whenever you like; nothing else "
                               "has to change.");
}

static void write_long(struct lt_buffer *text, size_t bytes)
{
    static const char phrase[] = "Sixty-four bytes at a time this long answer walks to its end. ";
    char *to = lt_buffer_reserve(text, bytes + sizeof(phrase));
    for (size_t n = 0; n < bytes; n += sizeof(phrase) - 1) {
        memcpy(to + n, phrase, sizeof(phrase) - 1);
    }
    text->len += bytes;
}

void stub_answer_init(struct stub_answer *answer, const struct stub_script *script,
                      const struct stub_chat *chat)
{
    *answer = (struct stub_answer){0};
    struct lt_buffer *text = &answer->text;
    if (script->text != NULL) {
        lt_buffer_append(text, script->text, script->text_len);
    } else if (script->long_bytes >= 0) {
        answer->piece_bytes = LONG_PIECE_BYTES;
        write_long(text, (size_t)script->long_bytes);
    } else if (script->utf8) {
        lt_buffer_append_str(text, UTF8_TEXT);
    } else if (script->echo) {
        lt_buffer_appendf(text, "messages=%zu roles=", chat->messages);
        lt_buffer_append(text, chat->roles.base, chat->roles.len);
        lt_buffer_append_str(text, " ");
        lt_buffer_append(text, chat->user_text.base, chat->user_text.len);
    } else if (script->surrogates || script->lone_surrogate) {
        answer->escaped = true;
        lt_buffer_append_str(text, script->surrogates ? SURROGATES_JSON : LONE_SURROGATE_JSON);
    } else if (script->tool_calls) {
        /* The call is the answer. */
    } else if (script->tokens >= 0) {
        /* Late: the command line may have preset it. */
        answer->counted = true;
        answer->tokens = (uint64_t)script->tokens;
    } else {
        write_demo(text, chat);
    }
}

void stub_answer_finish(struct stub_answer *answer)
{
    lt_buffer_free(&answer->text);
}

/** "tok0", " tok1", ...: no printf, this is the path that benchmarks run on. */
static void append_counted(struct lt_buffer *out, uint64_t number)
{
    char word[32];
    char *at = word + sizeof(word);
    uint64_t left = number;
    do {
        *--at = (char)('0' + left % 10);
        left /= 10;
    } while (left != 0);
    at -= 4;
    memcpy(at, " tok", 4);
    at += number == 0;
    lt_buffer_append(out, at, (size_t)(word + sizeof(word) - at));
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static size_t word_end(const struct lt_buffer *text, size_t at)
{
    while (at < text->len && is_blank(text->base[at])) {
        at++;
    }
    while (at < text->len && !is_blank(text->base[at])) {
        at++;
    }
    return at;
}

bool stub_answer_next(struct stub_answer *answer, struct lt_buffer *out)
{
    const struct lt_buffer *text = &answer->text;
    if (answer->counted) {
        if (answer->next == answer->tokens) {
            return false;
        }
        append_counted(out, answer->next++);
        return true;
    }
    if (answer->at == text->len) {
        return false;
    }
    const char *start = text->base + answer->at;
    size_t left = text->len - answer->at;
    size_t n;
    if (answer->escaped) {
        const char *bar = memchr(start, '|', left);
        n = bar != NULL ? (size_t)(bar - start) : left;
        lt_buffer_append(out, start, n);
        n += bar != NULL;
    } else {
        n = answer->piece_bytes == 0     ? word_end(text, answer->at) - answer->at
            : answer->piece_bytes < left ? answer->piece_bytes
                                         : left;
        lt_buffer_append_json(out, start, n);
    }
    answer->at += n;
    answer->next++;
    return true;
}
