/*
 * An incremental parser for Server-Sent Events.
 *
 * Happy path: (1) find the next line end in the fed bytes, (2) read the line's field where it stands,
 * (3) at an empty line call back with the event. An event with one `data` line whose bytes are all in
 * the fed piece is never copied: its text is held by reference until the empty line comes, and only
 * copied when a second `data` line or the end of the piece comes first.
 *
 * Failure modes: a line or a joined text over event_max_bytes (SL_E_UPSTREAM_MALFORMED), no memory
 * (SL_E_NO_MEMORY), the callback's own verdict. After any of them the parser must not be fed again.
 * The limit is checked per whole line, so that the verdict does not depend on how the bytes were split.
 *
 * `id` and `retry` mean nothing to a client that never reconnects and are ignored.
 * Thread: one at a time. Ownership: the struct is the caller's; see the header.
 */
#include "sse_parser.h"

#include <string.h>

/* Buffers that one large event has grown beyond this are given back after it. */
enum { KEEP_BYTES = 16 * 1024 };

/* One call of feed: what is only true while the fed bytes are there. */
struct feed {
    struct gw_sse_parser *parser;
    const char
        *text; /* the only data line so far, by reference; NULL: none, or it is in parser->text */
    size_t text_len;
};

static int feed_lines(struct feed *feed, const char *bytes, size_t len);
static int end_line(struct feed *feed, const char *rest, size_t rest_len);
static int read_line(struct feed *feed, const char *line, size_t len);
static int add_text(struct feed *feed, const char *value, size_t len);
static int keep_text(struct feed *feed);
static int dispatch(struct feed *feed);
static int append(struct sl_buffer *buffer, const char *bytes, size_t len);
static void forget(struct sl_buffer *buffer);

void gw_sse_parser_init(struct gw_sse_parser *parser, size_t event_max_bytes,
                        gw_sse_event_fn on_event, void *context)
{
    *parser = (struct gw_sse_parser){
        .on_event = on_event, .context = context, .event_max_bytes = event_max_bytes};
    sl_buffer_init(&parser->line, event_max_bytes);
    sl_buffer_init(&parser->text, event_max_bytes);
    sl_buffer_init(&parser->name, event_max_bytes);
}

int gw_sse_parser_feed(struct gw_sse_parser *parser, const char *bytes, size_t len)
{
    struct feed feed = {.parser = parser};

    if (len > 0 && parser->after_cr) {
        parser->after_cr = false;
        if (bytes[0] == '\n') {
            bytes++;
            len--;
        }
    }
    if (len == 0) {
        return 0;
    }
    return feed_lines(&feed, bytes, len);
}

static int feed_lines(struct feed *feed, const char *bytes, size_t len)
{
    const char *at = bytes, *end = bytes + len;
    /* Both are searched again only once they lie behind, so each byte is searched once for each. */
    const char *lf = NULL, *cr = NULL;
    int err;

    while (at < end) {
        if (lf == NULL || lf < at) {
            lf = memchr(at, '\n', (size_t)(end - at));
            lf = lf != NULL ? lf : end;
        }
        if (cr == NULL || cr < at) {
            cr = memchr(at, '\r', (size_t)(end - at));
            cr = cr != NULL ? cr : end;
        }
        const char *line_end = lf < cr ? lf : cr;
        if (line_end == end) {
            break;
        }
        err = end_line(feed, at, (size_t)(line_end - at));
        if (err != 0) {
            return err;
        }
        at = line_end + 1;
        if (line_end == cr) {
            if (at == end) {
                feed->parser->after_cr = true;
            } else if (*at == '\n') {
                at++;
            }
        }
    }
    /* The fed bytes go away: first the held text, which may lie in the line buffer. */
    err = keep_text(feed);
    if (err == 0) {
        err = append(&feed->parser->line, at, (size_t)(end - at));
    }
    return err;
}

/* `rest` is what ends the line that may have begun in an earlier piece. */
static int end_line(struct feed *feed, const char *rest, size_t rest_len)
{
    struct gw_sse_parser *parser = feed->parser;
    const char *line = rest;
    size_t len = rest_len;

    if (parser->line.len > 0) {
        int err = append(&parser->line, rest, rest_len);
        if (err != 0) {
            return err;
        }
        line = parser->line.base;
        len = parser->line.len;
    }
    if (len > parser->event_max_bytes) {
        return SL_E_UPSTREAM_MALFORMED;
    }
    if (!parser->started) {
        parser->started = true;
        if (len >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
            line += 3;
            len -= 3;
        }
    }
    int err = len == 0 ? dispatch(feed) : read_line(feed, line, len);
    /* A held text may lie in the line's memory, which stays until the next unfinished line. */
    parser->line.len = 0;
    return err;
}

static int read_line(struct feed *feed, const char *line, size_t len)
{
    struct gw_sse_parser *parser = feed->parser;
    const char *colon = memchr(line, ':', len);
    size_t name_len = colon != NULL ? (size_t)(colon - line) : len;
    const char *value = colon != NULL ? colon + 1 : line + len;
    size_t value_len = len - name_len - (colon != NULL ? 1 : 0);

    if (name_len == 0) {
        parser->comments++;
        return 0;
    }
    if (value_len > 0 && *value == ' ') {
        value++;
        value_len--;
    }
    if (name_len == 4 && memcmp(line, "data", 4) == 0) {
        return add_text(feed, value, value_len);
    }
    if (name_len == 5 && memcmp(line, "event", 5) == 0) {
        sl_buffer_clear(&parser->name);
        return append(&parser->name, value, value_len);
    }
    return 0;
}

static int add_text(struct feed *feed, const char *value, size_t len)
{
    struct gw_sse_parser *parser = feed->parser;

    if (!parser->has_text) {
        parser->has_text = true;
        feed->text = value;
        feed->text_len = len;
        return 0;
    }
    int err = keep_text(feed);
    if (err == 0) {
        err = append(&parser->text, "\n", 1);
    }
    return err == 0 ? append(&parser->text, value, len) : err;
}

/* Copies the text that is held by reference. */
static int keep_text(struct feed *feed)
{
    const char *text = feed->text;

    feed->text = NULL;
    return text != NULL ? append(&feed->parser->text, text, feed->text_len) : 0;
}

static int dispatch(struct feed *feed)
{
    struct gw_sse_parser *parser = feed->parser;
    struct gw_sse_event event = {.name = "", .text = ""};
    int err = 0;

    if (parser->has_text) {
        bool is_message = parser->name.len == 7 && memcmp(parser->name.base, "message", 7) == 0;
        if (parser->name.len > 0 && !is_message) {
            event.name = parser->name.base;
            event.name_len = parser->name.len;
        }
        if (feed->text != NULL) {
            event.text = feed->text;
            event.text_len = feed->text_len;
        } else if (parser->text.len > 0) {
            event.text = parser->text.base;
            event.text_len = parser->text.len;
        }
        err = parser->on_event(parser->context, &event);
    }
    feed->text = NULL;
    parser->has_text = false;
    forget(&parser->text);
    forget(&parser->name);
    /* Here the line is the empty one, so its memory is free too. */
    forget(&parser->line);
    return err;
}

static int append(struct sl_buffer *buffer, const char *bytes, size_t len)
{
    int err = sl_buffer_append(buffer, bytes, len);

    return err == SL_E_LIMIT ? SL_E_UPSTREAM_MALFORMED : err;
}

static void forget(struct sl_buffer *buffer)
{
    if (buffer->capacity > KEEP_BYTES) {
        sl_buffer_dispose(buffer);
    } else {
        sl_buffer_clear(buffer);
    }
}

void gw_sse_parser_dispose(struct gw_sse_parser *parser)
{
    sl_buffer_dispose(&parser->line);
    sl_buffer_dispose(&parser->text);
    sl_buffer_dispose(&parser->name);
    parser->has_text = false;
}
