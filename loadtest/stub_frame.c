/*
 * Framing: event -> lines -> HTTP chunks.
 *
 * Happy path: one event is one chunk, written straight to the output. A bent script goes the long
 * way: lines with the wanted ends, then cut into chunks of one byte (`bytes`) or of random size
 * (`split`). Each piece is a chunk of its own, so that a client sees the cut whatever TCP joins.
 * Failure: none. Thread: one at a time. Ownership: see stub_frame.h.
 */
#include "stub_frame.h"

#include <stdint.h>
#include <string.h>

void stub_frame_init(struct stub_frame *frame, const struct stub_script *script,
                     struct lt_buffer *out, bool chunked)
{
    *frame = (struct stub_frame){.script = script, .out = out, .chunked = chunked};
    frame->straight = !(script->crlf || script->cr || script->nospace || script->multiline ||
                        script->bytes || script->split_seed >= 0);
    frame->random.state = (uint64_t)script->split_seed;
}

void stub_frame_finish(struct stub_frame *frame)
{
    lt_buffer_free(&frame->event);
    lt_buffer_free(&frame->carry);
}

/** Appends the size line of a chunk; no printf, every token comes through here. */
static void open_chunk(struct stub_frame *frame, size_t size)
{
    char line[2 * sizeof(size_t) + 2];
    char *at = line + sizeof(line);
    *--at = '\n';
    *--at = '\r';
    do {
        *--at = "0123456789abcdef"[size & 15];
        size >>= 4;
    } while (size != 0);
    lt_buffer_append(frame->out, at, (size_t)(line + sizeof(line) - at));
}

static void append_chunk(struct stub_frame *frame, const char *bytes, size_t len)
{
    if (len == 0) {
        return; /* would be the last chunk */
    }
    if (!frame->chunked) {
        lt_buffer_append(frame->out, bytes, len);
        return;
    }
    open_chunk(frame, len);
    lt_buffer_append(frame->out, bytes, len);
    lt_buffer_append(frame->out, "\r\n", 2);
}

/** Mostly small pieces, now and then one that spans several events. */
static size_t random_piece(struct stub_frame *frame)
{
    bool wide = lt_random_below(&frame->random, 8) == 0;
    return 1 + (size_t)lt_random_below(&frame->random, wide ? 600 : 24);
}

static void cut_carry(struct stub_frame *frame)
{
    size_t at = 0;
    if (frame->piece == 0) {
        frame->piece = random_piece(frame);
    }
    while (frame->carry.len - at >= frame->piece) {
        append_chunk(frame, frame->carry.base + at, frame->piece);
        at += frame->piece;
        frame->piece = random_piece(frame);
    }
    lt_buffer_consume(&frame->carry, at);
}

static void append_body(struct stub_frame *frame, const struct lt_buffer *bytes)
{
    if (frame->script->bytes) {
        for (size_t i = 0; i < bytes->len; i++) {
            append_chunk(frame, bytes->base + i, 1);
        }
    } else if (frame->script->split_seed >= 0) {
        lt_buffer_append(&frame->carry, bytes->base, bytes->len);
        cut_carry(frame);
    } else {
        append_chunk(frame, bytes->base, bytes->len);
    }
}

static const char *line_end(const struct stub_frame *frame)
{
    return frame->script->crlf ? "\r\n" : frame->script->cr ? "\r" : "\n";
}

static void append_field(struct stub_frame *frame, const char *name)
{
    lt_buffer_append_str(&frame->event, name);
    lt_buffer_append_str(&frame->event, frame->script->nospace ? ":" : ": ");
}

/** Breaks the JSON after each comma between its members, where a line break is still JSON. */
static void append_multiline(struct stub_frame *frame, const char *json, size_t len)
{
    bool in_string = false;
    size_t start = 0;
    for (size_t i = 0; i < len; i++) {
        if (json[i] == '\\') {
            i++;
        } else if (json[i] == '"') {
            in_string = !in_string;
        } else if (json[i] == ',' && !in_string) {
            lt_buffer_append(&frame->event, json + start, i + 1 - start);
            lt_buffer_append_str(&frame->event, line_end(frame));
            append_field(frame, "data");
            start = i + 1;
        }
    }
    lt_buffer_append(&frame->event, json + start, len - start);
}

static void append_bent_event(struct stub_frame *frame, const char *name, const char *json,
                              size_t len)
{
    frame->event.len = 0;
    if (name != NULL) {
        append_field(frame, "event");
        lt_buffer_append_str(&frame->event, name);
        lt_buffer_append_str(&frame->event, line_end(frame));
    }
    append_field(frame, "data");
    if (frame->script->multiline) {
        append_multiline(frame, json, len);
    } else {
        lt_buffer_append(&frame->event, json, len);
    }
    lt_buffer_append_str(&frame->event, line_end(frame));
    lt_buffer_append_str(&frame->event, line_end(frame));
    append_body(frame, &frame->event);
}

void stub_frame_event(struct stub_frame *frame, const char *name, const char *json, size_t len)
{
    if (!frame->straight) {
        append_bent_event(frame, name, json, len);
        return;
    }
    size_t name_len = name != NULL ? strlen(name) : 0;
    size_t name_line_len = name != NULL ? name_len + sizeof("event: \n") - 1 : 0;
    struct lt_buffer *out = frame->out;
    if (frame->chunked) {
        open_chunk(frame, name_line_len + 6 + len + 2);
    }
    if (name != NULL) {
        lt_buffer_append(out, "event: ", 7);
        lt_buffer_append(out, name, name_len);
        lt_buffer_append(out, "\n", 1);
    }
    lt_buffer_append(out, "data: ", 6);
    lt_buffer_append(out, json, len);
    lt_buffer_append(out, "\n\n\r\n", frame->chunked ? 4 : 2);
}

void stub_frame_comment(struct stub_frame *frame, const char *text)
{
    frame->event.len = 0;
    lt_buffer_append_str(&frame->event, ": ");
    lt_buffer_append_str(&frame->event, text);
    for (int i = 0; i < 3; i++) {
        lt_buffer_append_str(&frame->event, line_end(frame));
    }
    append_body(frame, &frame->event);
}

void stub_frame_flush(struct stub_frame *frame)
{
    if (frame->carry.len != 0) {
        append_chunk(frame, frame->carry.base, frame->carry.len);
        frame->carry.len = 0;
    }
}

void stub_frame_end(struct stub_frame *frame)
{
    stub_frame_flush(frame);
    if (frame->chunked) {
        lt_buffer_append_str(frame->out, "0\r\n\r\n");
    }
}
