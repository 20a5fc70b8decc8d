/*
 * Requests in, replies out, as bytes.
 *
 * Happy path: find the blank line -> request line -> the headers that matter -> body by length
 * or by chunks -> READY.
 * Failure: BROKEN with 400 (framing), 413 (body too long) or 431 (head too long).
 * Thread: one at a time. Ownership: see stub_http.h.
 */
#include "stub_http.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

enum {
    HEAD_MAX = 64 * 1024,
    BODY_MAX = 4 * 1024 * 1024,
    CHUNKED_INPUT_MAX = 8 * 1024 * 1024,
};

static enum stub_http_result broken(struct stub_http *http, int status)
{
    http->status = status;
    return STUB_HTTP_BROKEN;
}

static bool copy_word(char *to, size_t size, const char *from, const char *end)
{
    size_t len = (size_t)(end - from);
    if (len == 0 || len >= size) {
        return false;
    }
    memcpy(to, from, len);
    to[len] = 0;
    return true;
}

static bool read_request_line(struct stub_request *request, const char *line, const char *end)
{
    const char *target = memchr(line, ' ', (size_t)(end - line));
    if (target == NULL || !copy_word(request->method, sizeof(request->method), line, target)) {
        return false;
    }
    target++;
    const char *version = memchr(target, ' ', (size_t)(end - target));
    if (version == NULL || end - version != 9 || memcmp(version + 1, "HTTP/1.", 7) != 0) {
        return false;
    }
    const char *query = memchr(target, '?', (size_t)(version - target));
    request->http_1_0 = version[8] == '0';
    request->keep_alive = !request->http_1_0;
    return copy_word(request->path, sizeof(request->path), target, query != NULL ? query : version);
}

static bool name_is(const char *line, const char *colon, const char *name)
{
    size_t len = strlen(name);
    return (size_t)(colon - line) == len && strncasecmp(line, name, len) == 0;
}

static bool read_content_length(struct stub_http *http, const char *value, const char *end)
{
    size_t length = 0;
    for (const char *at = value; at < end; at++) {
        if (*at < '0' || *at > '9' || length > SIZE_MAX / 10 - 10) {
            return false;
        }
        length = length * 10 + (size_t)(*at - '0');
    }
    http->content_length = length;
    return value < end;
}

static bool read_header(struct stub_http *http, const char *line, const char *end)
{
    const char *colon = memchr(line, ':', (size_t)(end - line));
    if (colon == NULL) {
        return false;
    }
    const char *value = colon + 1;
    while (value < end && (*value == ' ' || *value == '\t')) {
        value++;
    }
    while (end > value && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }
    size_t len = (size_t)(end - value);
    if (name_is(line, colon, "content-length")) {
        return read_content_length(http, value, end);
    }
    if (name_is(line, colon, "transfer-encoding")) {
        http->chunked = true;
        return len == 7 && strncasecmp(value, "chunked", 7) == 0;
    }
    if (name_is(line, colon, "connection")) {
        if (len == 5 && strncasecmp(value, "close", 5) == 0) {
            http->request.keep_alive = false;
        } else if (len == 10 && strncasecmp(value, "keep-alive", 10) == 0) {
            http->request.keep_alive = true;
        }
    } else if (name_is(line, colon, "expect")) {
        http->expects_continue = true;
    } else if (name_is(line, colon, "authorization") || name_is(line, colon, "x-api-key")) {
        http->request.has_key = true;
    } else if (name_is(line, colon, "anthropic-version")) {
        http->request.has_anthropic_version = true;
    }
    return true;
}

/** The head is input[0 .. head_len), blank line included. */
static bool read_head(struct stub_http *http, const char *input, size_t head_len)
{
    const char *line = input;
    const char *head_end = input + head_len - 2; /* where the blank line starts */
    bool is_request_line = true;
    while (line < head_end) {
        const char *end = memmem(line, (size_t)(head_end - line), "\r\n", 2);
        if (end == NULL) {
            return false;
        }
        if (!(is_request_line ? read_request_line(&http->request, line, end)
                              : read_header(http, line, end))) {
            return false;
        }
        is_request_line = false;
        line = end + 2;
    }
    return !is_request_line;
}

static enum stub_http_result ready(struct stub_http *http, const char *input, const char *body,
                                   size_t body_len)
{
    http->request.head = input;
    http->request.body = body;
    http->request.body_len = body_len;
    return STUB_HTTP_READY;
}

static enum stub_http_result more(struct stub_http *http)
{
    if (http->have_head && http->expects_continue) {
        http->expects_continue = false;
        return STUB_HTTP_CONTINUE;
    }
    return STUB_HTTP_MORE;
}

static enum stub_http_result read_chunked(struct stub_http *http, const char *input, size_t len)
{
    while (http->used < len && !lt_chunk_decoder_done(&http->chunks)) {
        const char *payload;
        size_t payload_len;
        ssize_t used = lt_chunk_decoder_read(&http->chunks, input + http->used, len - http->used,
                                             &payload, &payload_len);
        if (used < 0) {
            return broken(http, 400);
        }
        if (http->decoded.len + payload_len > BODY_MAX) {
            return broken(http, 413);
        }
        lt_buffer_append(&http->decoded, payload, payload_len);
        http->used += (size_t)used;
    }
    if (lt_chunk_decoder_done(&http->chunks)) {
        return ready(http, input, http->decoded.base, http->decoded.len);
    }
    return len > CHUNKED_INPUT_MAX ? broken(http, 413) : more(http);
}

enum stub_http_result stub_http_read(struct stub_http *http, const char *input, size_t len)
{
    if (!http->have_head) {
        size_t from = http->scanned > 3 ? http->scanned - 3 : 0;
        const char *blank = len > from ? memmem(input + from, len - from, "\r\n\r\n", 4) : NULL;
        if (blank == NULL) {
            http->scanned = len;
            return len > HEAD_MAX ? broken(http, 431) : STUB_HTTP_MORE;
        }
        size_t head_len = (size_t)(blank - input) + 4;
        if (!read_head(http, input, head_len)) {
            return broken(http, 400);
        }
        if (http->content_length > BODY_MAX) {
            return broken(http, 413);
        }
        http->have_head = true;
        http->request.head_len = head_len;
        http->used = head_len;
    }
    if (http->chunked) {
        return read_chunked(http, input, len);
    }
    if (len - http->request.head_len < http->content_length) {
        return more(http);
    }
    http->used = http->request.head_len + http->content_length;
    return ready(http, input, input + http->request.head_len, http->content_length);
}

size_t stub_http_next(struct stub_http *http)
{
    size_t used = http->used;
    stub_http_finish(http);
    *http = (struct stub_http){0};
    return used;
}

void stub_http_finish(struct stub_http *http)
{
    lt_buffer_free(&http->decoded);
}

const char *stub_http_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {402, "Payment Required"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {413, "Content Too Large"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {529, "Overloaded"},
    };
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i].status == status) {
            return reasons[i].reason;
        }
    }
    return "Unknown";
}

void stub_http_respond(struct lt_buffer *out, int status, const char *type, const char *headers,
                       const void *body, size_t body_len, bool keep_alive)
{
    lt_buffer_appendf(out, "HTTP/1.1 %d %s\r\n", status, stub_http_reason(status));
    if (type != NULL) {
        lt_buffer_appendf(out, "Content-Type: %s\r\n", type);
    }
    lt_buffer_appendf(out, "Content-Length: %zu\r\n%s%s\r\n", body_len, headers,
                      keep_alive ? "" : "Connection: close\r\n");
    lt_buffer_append(out, body, body_len);
}
