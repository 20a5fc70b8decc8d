/*
 * Response reader: head -> chunks -> lines -> events -> marks.
 *
 * Happy path: status 200 and text/event-stream -> each `data:` line is one event -> the last event
 * -> the last chunk -> complete.
 * Failure: the first thing that is wrong decides `failure`; nothing is read after it. An event over
 * several data lines is not followed: neither server sends one.
 * Thread: one at a time. Ownership: see bench_stream.h.
 */
#include "bench_stream.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "json_scan.h"

enum { LINE_MAX_BYTES = 4 * 1024 * 1024, HEAD_LINES_SPAN = 64 * 1024 };

void bench_stream_begin(struct bench_stream *stream, enum bench_protocol protocol,
                        struct lt_histogram *gaps)
{
    struct lt_buffer line = stream->line;
    line.len = 0;
    *stream = (struct bench_stream){.protocol = protocol, .gaps = gaps, .line = line};
}

void bench_stream_finish(struct bench_stream *stream)
{
    lt_buffer_free(&stream->line);
}

static void fail(struct bench_stream *stream, enum bench_failure failure)
{
    if (stream->failure == BENCH_OK) {
        stream->failure = failure;
    }
}

/* --- events --- */

static void mark_token(struct bench_stream *stream, uint64_t now_us)
{
    struct bench_marks *marks = &stream->marks;
    if (marks->tokens++ == 0) {
        marks->first_token_us = now_us;
    } else if (stream->gaps != NULL) {
        lt_histogram_record(stream->gaps, now_us - marks->last_token_us);
    }
    marks->last_token_us = now_us;
}

struct native_event {
    char type[32];
    uint64_t seq;
};

static bool take_native_member(struct lt_json *json, const char *key, void *context)
{
    struct native_event *event = context;
    return strcmp(key, "type") == 0  ? lt_json_read_short(json, event->type, sizeof(event->type))
           : strcmp(key, "seq") == 0 ? lt_json_read_count(json, &event->seq)
                                     : lt_json_skip(json);
}

static void take_native_event(struct bench_stream *stream, struct lt_json *json, uint64_t now_us)
{
    struct native_event event = {.seq = 0};
    bool ok = lt_json_walk_object(json, take_native_member, &event);
    bool is_first = strcmp(event.type, "session_id") == 0;
    if (!ok || event.type[0] == 0) {
        fail(stream, BENCH_BAD_EVENT);
    } else if (event.seq != stream->events || (event.seq == 1) != is_first) {
        fail(stream, BENCH_ORDER);
    } else if (strcmp(event.type, "token") == 0) {
        mark_token(stream, now_us);
    } else if (is_first) {
        stream->marks.session_us = now_us;
    } else if (strcmp(event.type, "accepted") == 0) {
        stream->marks.accepted_us = now_us;
    } else if (strcmp(event.type, "done") == 0) {
        stream->saw_last = true;
    } else if (strcmp(event.type, "error") == 0) {
        fail(stream, BENCH_ERROR_EVENT);
    }
}

struct direct_event {
    bool has_content; /* a string that is not empty */
    bool has_error;
};

static bool take_delta_member(struct lt_json *json, const char *key, void *context)
{
    struct direct_event *event = context;
    const char *start = lt_json_peek(json) == '"' ? json->at : NULL;
    bool ok = lt_json_skip(json);
    if (strcmp(key, "content") == 0) {
        event->has_content = ok && start != NULL && json->at - start > 2;
    }
    return ok;
}

static bool take_choice_member(struct lt_json *json, const char *key, void *context)
{
    return strcmp(key, "delta") == 0 ? lt_json_walk_object(json, take_delta_member, context)
                                     : lt_json_skip(json);
}

static bool take_choice(struct lt_json *json, void *context)
{
    return lt_json_walk_object(json, take_choice_member, context);
}

static bool take_direct_member(struct lt_json *json, const char *key, void *context)
{
    struct direct_event *event = context;
    if (strcmp(key, "choices") == 0) {
        return lt_json_walk_array(json, take_choice, event);
    }
    event->has_error = event->has_error || (strcmp(key, "error") == 0 && lt_json_peek(json) == '{');
    return lt_json_skip(json);
}

static void take_direct_event(struct bench_stream *stream, struct lt_json *json, uint64_t now_us)
{
    struct direct_event event = {.has_content = false};
    if (json->end - json->at == 6 && memcmp(json->at, "[DONE]", 6) == 0) {
        stream->saw_last = true;
    } else if (!lt_json_walk_object(json, take_direct_member, &event)) {
        fail(stream, BENCH_BAD_EVENT);
    } else if (event.has_error) {
        fail(stream, BENCH_ERROR_EVENT);
    } else if (event.has_content) {
        mark_token(stream, now_us);
    }
}

/** One line of the body, without its end. Comments, blank lines and other fields pass. */
static void take_body_line(struct bench_stream *stream, const char *line, size_t len,
                           uint64_t now_us)
{
    if (len < 5 || memcmp(line, "data:", 5) != 0) {
        return;
    }
    size_t start = len > 5 && line[5] == ' ' ? 6 : 5;
    struct lt_json json = {.at = line + start, .end = line + len};
    if (stream->saw_last) {
        fail(stream, BENCH_AFTER_END);
        return;
    }
    stream->events++;
    if (stream->protocol == BENCH_NATIVE) {
        take_native_event(stream, &json, now_us);
    } else {
        take_direct_event(stream, &json, now_us);
    }
}

/* --- lines and body --- */

/** Cuts payload into lines; the common case, a whole line in one piece, is not copied. */
static void take_payload(struct bench_stream *stream, const char *bytes, size_t len,
                         uint64_t now_us)
{
    while (len != 0 && stream->failure == BENCH_OK) {
        const char *end = memchr(bytes, '\n', len);
        if (end == NULL) {
            lt_buffer_append(&stream->line, bytes, len);
            if (stream->line.len > LINE_MAX_BYTES) {
                fail(stream, BENCH_BAD_EVENT);
            }
            return;
        }
        size_t taken = (size_t)(end - bytes) + 1;
        const char *line = bytes;
        size_t line_len = taken - 1;
        if (stream->line.len != 0) {
            lt_buffer_append(&stream->line, bytes, line_len);
            line = stream->line.base;
            line_len = stream->line.len;
        }
        if (line_len != 0 && line[line_len - 1] == '\r') {
            line_len--;
        }
        take_body_line(stream, line, line_len, now_us);
        stream->line.len = 0;
        bytes += taken;
        len -= taken;
    }
}

static void end_body(struct bench_stream *stream, uint64_t now_us)
{
    stream->marks.end_us = now_us;
    if (stream->saw_last) {
        stream->complete = true;
    } else {
        fail(stream, BENCH_TRUNCATED);
    }
}

static void take_chunked(struct bench_stream *stream, const char *bytes, size_t len,
                         uint64_t now_us)
{
    while (len != 0 && stream->failure == BENCH_OK) {
        const char *payload;
        size_t payload_len;
        ssize_t used = lt_chunk_decoder_read(&stream->chunks, bytes, len, &payload, &payload_len);
        if (used < 0) {
            fail(stream, BENCH_BAD_CHUNK);
            return;
        }
        take_payload(stream, payload, payload_len, now_us);
        bytes += used;
        len -= (size_t)used;
        if (lt_chunk_decoder_done(&stream->chunks)) {
            end_body(stream, now_us);
            stream->keep_alive = stream->keep_alive && len == 0;
            return;
        }
    }
}

static void take_body(struct bench_stream *stream, const char *bytes, size_t len, uint64_t now_us)
{
    if (stream->chunked) {
        take_chunked(stream, bytes, len, now_us);
        return;
    }
    size_t mine = len < stream->body_left ? len : (size_t)stream->body_left;
    take_payload(stream, bytes, mine, now_us);
    stream->body_left -= stream->body_left != UINT64_MAX ? mine : 0;
    if (stream->failure == BENCH_OK && stream->body_left == 0) {
        end_body(stream, now_us);
        stream->keep_alive = stream->keep_alive && mine == len;
    }
}

/* --- head --- */

/** The value of a header line, NULL when it is another header. */
static const char *header_value(const char *line, const char *name)
{
    size_t len = strlen(name);
    if (strncasecmp(line, name, len) != 0 || line[len] != ':') {
        return NULL;
    }
    const char *value = line + len + 1;
    return value + strspn(value, " \t");
}

/** `head` is NUL-terminated and ends with the blank line. */
static void read_head(struct bench_stream *stream, char *head)
{
    bool is_sse = false;
    char *rest = NULL;
    char *line = strtok_r(head, "\r\n", &rest);
    if (line == NULL || strncmp(line, "HTTP/1.", 7) != 0 || strlen(line) < 12) {
        fail(stream, BENCH_BAD_HEAD);
        return;
    }
    stream->status = atoi(line + 9);
    stream->keep_alive = line[7] == '1';
    stream->body_left = UINT64_MAX;
    while ((line = strtok_r(NULL, "\r\n", &rest)) != NULL) {
        const char *value;
        if ((value = header_value(line, "content-type")) != NULL) {
            is_sse = strncasecmp(value, "text/event-stream", 17) == 0;
        } else if ((value = header_value(line, "transfer-encoding")) != NULL) {
            stream->chunked = strcasecmp(value, "chunked") == 0;
        } else if ((value = header_value(line, "content-length")) != NULL) {
            stream->body_left = strtoull(value, NULL, 10);
        } else if ((value = header_value(line, "connection")) != NULL) {
            stream->keep_alive = strcasecmp(value, "close") != 0;
        }
    }
    if (stream->status != 200) {
        fail(stream, BENCH_STATUS);
    } else if (!is_sse) {
        fail(stream, BENCH_BAD_HEAD);
    }
}

/** Returns how many bytes belonged to the head. */
static size_t take_head(struct bench_stream *stream, const char *bytes, size_t len, uint64_t now_us)
{
    struct lt_buffer *head = &stream->line;
    size_t before = head->len;
    size_t from = before > 3 ? before - 3 : 0;
    lt_buffer_append(head, bytes, len);
    const char *blank = memmem(head->base + from, head->len - from, "\r\n\r\n", 4);
    if (blank == NULL) {
        if (head->len > HEAD_LINES_SPAN) {
            fail(stream, BENCH_BAD_HEAD);
        }
        return len;
    }
    size_t head_len = (size_t)(blank - head->base) + 4;
    head->base[head_len - 1] = 0;
    stream->marks.head_us = now_us;
    read_head(stream, head->base);
    head->len = 0;
    return head_len - before;
}

bool bench_stream_read(struct bench_stream *stream, const char *bytes, size_t len, uint64_t now_us)
{
    if (stream->status == 0 && len != 0) {
        size_t used = take_head(stream, bytes, len, now_us);
        bytes += used;
        len -= used;
    }
    if (stream->status != 0 && stream->failure == BENCH_OK && len != 0) {
        take_body(stream, bytes, len, now_us);
    }
    return stream->failure == BENCH_OK && !stream->complete;
}

void bench_stream_close(struct bench_stream *stream, uint64_t now_us)
{
    stream->keep_alive = false;
    if (stream->complete || stream->failure != BENCH_OK) {
        return;
    }
    if (stream->status != 0 && !stream->chunked && stream->body_left == UINT64_MAX) {
        end_body(stream, now_us); /* such a body ends with its connection */
        return;
    }
    fail(stream, stream->status == 0 ? BENCH_RESET : BENCH_TRUNCATED);
}

const char *bench_failure_name(enum bench_failure failure)
{
    static const char *const names[BENCH_FAILURES] = {
        [BENCH_OK] = "ok",
        [BENCH_CONNECT] = "connect",
        [BENCH_RESET] = "reset",
        [BENCH_TIMEOUT] = "timeout",
        [BENCH_STATUS] = "status",
        [BENCH_BAD_HEAD] = "bad_head",
        [BENCH_BAD_CHUNK] = "bad_chunk",
        [BENCH_BAD_EVENT] = "bad_event",
        [BENCH_ORDER] = "order",
        [BENCH_ERROR_EVENT] = "error_event",
        [BENCH_TRUNCATED] = "truncated",
        [BENCH_AFTER_END] = "after_end",
    };
    return names[failure];
}
