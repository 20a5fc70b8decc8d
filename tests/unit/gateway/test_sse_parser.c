/* The SSE parser: every stream is fed whole, byte by byte, and in every split into two and three pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sse_parser.h"

enum { MAX_BYTES = 64 };

struct recorder {
    struct sl_buffer out;
    const char *fed, *fed_end; /* the piece being fed */
    unsigned events, stop_at, uncopied;
};

/* "name|text;" per event */
static int record(void *context, const struct gw_sse_event *event)
{
    struct recorder *recorder = context;

    assert_non_null(event->name);
    assert_non_null(event->text);
    assert_int_equal(sl_buffer_append(&recorder->out, event->name, event->name_len), 0);
    assert_int_equal(sl_buffer_append(&recorder->out, "|", 1), 0);
    assert_int_equal(sl_buffer_append(&recorder->out, event->text, event->text_len), 0);
    assert_int_equal(sl_buffer_append(&recorder->out, ";", 1), 0);
    if (event->text >= recorder->fed && event->text < recorder->fed_end) {
        recorder->uncopied++;
    }
    recorder->events++;
    return recorder->events == recorder->stop_at ? SL_E_CANCELLED : 0;
}

/* Feeds a copy of exactly the right size, so that the address sanitizer sees every byte read beyond it. */
static int feed(struct gw_sse_parser *parser, const char *bytes, size_t len)
{
    struct recorder *recorder = parser->context;
    char *copy = malloc(len);

    assert_true(copy != NULL || len == 0);
    if (len > 0) {
        memcpy(copy, bytes, len);
    }
    recorder->fed = copy;
    recorder->fed_end = copy + len;
    int err = gw_sse_parser_feed(parser, copy, len);
    recorder->fed = recorder->fed_end = NULL;
    free(copy);
    return err;
}

/* Feeds the stream in the pieces [0,a) [a,b) [b,len) and compares. */
static void check_pieces(const char *stream, size_t len, size_t a, size_t b, const char *expected,
                         size_t expected_len, int expected_err, uint64_t comments)
{
    struct recorder recorder = {.events = 0};
    struct gw_sse_parser parser;

    sl_buffer_init(&recorder.out, 65536);
    gw_sse_parser_init(&parser, MAX_BYTES, record, &recorder);
    int err = feed(&parser, stream, a);
    err = err == 0 ? feed(&parser, stream + a, b - a) : err;
    err = err == 0 ? feed(&parser, stream + b, len - b) : err;
    if (err != expected_err || recorder.out.len != expected_len ||
        (expected_len > 0 && memcmp(recorder.out.base, expected, expected_len) != 0)) {
        fail_msg("split at %zu and %zu: error %d, events \"%.*s\", wanted \"%.*s\"", a, b, err,
                 (int)recorder.out.len, recorder.out.base, (int)expected_len, expected);
    }
    if (expected_err == 0) {
        assert_int_equal(parser.comments, comments);
    }
    gw_sse_parser_dispose(&parser);
    sl_buffer_dispose(&recorder.out);
}

static void check_bytewise(const char *stream, size_t len, const char *expected,
                           size_t expected_len, int expected_err)
{
    struct recorder recorder = {.events = 0};
    struct gw_sse_parser parser;
    int err = 0;

    sl_buffer_init(&recorder.out, 65536);
    gw_sse_parser_init(&parser, MAX_BYTES, record, &recorder);
    for (size_t i = 0; i < len && err == 0; i++) {
        err = feed(&parser, stream + i, 1);
        err = err == 0 ? feed(&parser, "", 0) : err;
    }
    assert_int_equal(err, expected_err);
    assert_int_equal(recorder.out.len, expected_len);
    if (expected_len > 0) {
        assert_memory_equal(recorder.out.base, expected, expected_len);
    }
    gw_sse_parser_dispose(&parser);
    sl_buffer_dispose(&recorder.out);
}

static void check_all(const char *stream, size_t len, const char *expected, size_t expected_len,
                      int expected_err, uint64_t comments)
{
    check_bytewise(stream, len, expected, expected_len, expected_err);
    for (size_t a = 0; a <= len; a++) {
        for (size_t b = a; b <= len; b++) {
            check_pieces(stream, len, a, b, expected, expected_len, expected_err, comments);
        }
    }
}

#define CHECK(stream, comments, expected)                                                          \
    check_all(stream, sizeof(stream) - 1, expected, sizeof(expected) - 1, 0, comments)
#define CHECK_TOO_LONG(stream, expected)                                                           \
    check_all(stream, sizeof(stream) - 1, expected, sizeof(expected) - 1, SL_E_UPSTREAM_MALFORMED, \
              0)

static void test_line_ends(void **state)
{
    (void)state;
    CHECK("data: a\n\ndata: b\n\n", 0, "|a;|b;");
    CHECK("data: a\r\n\r\ndata: b\r\n\r\n", 0, "|a;|b;");
    CHECK("data: a\r\rdata: b\r\r", 0, "|a;|b;");
    CHECK("data: a\r\n\ndata: b\n\r\ndata: c\r\r\ndata: d\n\r", 0, "|a;|b;|c;|d;");
    /* one event, so that a CRLF torn apart must not count as two line ends */
    CHECK("event: x\r\ndata: a\r\n: c\r\ndata: b\r\n\r\n", 1, "x|a\nb;");
    CHECK("data: a\rdata: b\ndata: c\r\n\r", 0, "|a\nb\nc;");
    CHECK("\n\n\r\n\r\rdata: a\r\n\r\n\r\n\n", 0, "|a;");
}

static void test_byte_order_mark(void **state)
{
    (void)state;
    CHECK("\xef\xbb\xbf"
          "data: a\n\n",
          0, "|a;");
    CHECK("\xef\xbb\xbf\ndata: a\n\n", 0, "|a;");
    /* only one, and only at the start */
    CHECK("\xef\xbb\xbf\xef\xbb\xbf"
          "data: a\n\ndata: b\n\n",
          0, "|b;");
    CHECK("data: a\n\n\xef\xbb\xbf"
          "data: b\n\n",
          0, "|a;");
    CHECK("\xef\xbb"
          "data: a\n\n",
          0, "");
}

static void test_fields(void **state)
{
    (void)state;
    CHECK("data:a\n\ndata:  b\n\ndata: c \n\n", 0, "|a;| b;|c ;");
    CHECK("data: one\ndata: two\ndata:three\n\n", 0, "|one\ntwo\nthree;");
    CHECK("id: 7\nretry: 10\nretry: x\nid\ndata: a\nid: 8\n\nid: 9\n\ndata: b\n\n", 0, "|a;|b;");
    CHECK("Data: a\ndata : b\n data: c\ndatax: d\ndat: e\nnothing\ndata: f\n\n", 0, "|f;");
    CHECK("data: a:b: c\n\n", 0, "|a:b: c;");
}

static void test_empty_text(void **state)
{
    (void)state;
    /* WHATWG's own example: an empty event, one LF, and an unfinished one */
    CHECK("data\n\ndata\ndata\n\ndata:", 0, "|;|\n;");
    CHECK("data:\n\ndata: \n\n", 0, "|;|;");
    CHECK("data:\ndata: a\ndata\n\n", 0, "|\na\n;");
}

static void test_names(void **state)
{
    (void)state;
    CHECK("event: error\ndata: a\n\ndata: b\n\n", 0, "error|a;|b;");
    CHECK("data: a\nevent: x\nevent: yz\n\n", 0, "yz|a;");
    CHECK("event: message\ndata: a\n\nevent\ndata: b\n\nevent: Message\ndata: c\n\n", 0,
          "|a;|b;Message|c;");
    /* a name without text dispatches nothing and is forgotten */
    CHECK("event: ping\n\ndata: a\n\n", 0, "|a;");
}

static void test_comments(void **state)
{
    (void)state;
    CHECK(": hb\n\n:\n:data: x\ndata: a\n: in between\ndata: b\n\n", 4, "|a\nb;");
    CHECK(": OPENROUTER PROCESSING\r\n\r\ndata: a\r\n\r\n", 1, "|a;");
}

static void test_odd_bytes(void **state)
{
    (void)state;
    CHECK("data: a\0b\ndata: \xff\xc3\n\ne\0vent: x\ndata: \xc3\xa9\n\n", 0,
          "|a\0b\n\xff\xc3;|\xc3\xa9;");
    CHECK("id: \0\ndata: a\n\n", 0, "|a;");
}

static void test_unfinished_event(void **state)
{
    (void)state;
    CHECK("data: a\n\ndata: b\n", 0, "|a;");
    CHECK("data: a\n\ndata: b", 0, "|a;");
    CHECK("data: a", 0, "");
    CHECK("", 0, "");
}

static void test_limits(void **state)
{
    (void)state;
    /* 64 bytes of line are the maximum: 58 of text after "data: " */
    CHECK("data: 0123456789012345678901234567890123456789012345678901234567\n\n", 0,
          "|0123456789012345678901234567890123456789012345678901234567;");
    CHECK_TOO_LONG(
        "data: a\n\ndata: 01234567890123456789012345678901234567890123456789012345678\n\n", "|a;");
    CHECK_TOO_LONG("data: a\n\n: 01234567890123456789012345678901234567890123456789012345678901234",
                   "|a;");
    /* the joined text: 31 + LF + 32 fits, one more does not */
    CHECK("data: 0123456789012345678901234567890\ndata: 01234567890123456789012345678901\n\n", 0,
          "|0123456789012345678901234567890\n01234567890123456789012345678901;");
    CHECK_TOO_LONG("data: 0123456789012345678901234567890\n"
                   "data: 012345678901234567890123456789012\n\n",
                   "");
}

static void test_callback_stops(void **state)
{
    const char stream[] = "data: a\n\ndata: b\n\ndata: c\n\n";

    (void)state;
    for (size_t a = 0; a < sizeof(stream); a++) {
        struct recorder recorder = {.stop_at = 2};
        struct gw_sse_parser parser;
        sl_buffer_init(&recorder.out, 256);
        gw_sse_parser_init(&parser, MAX_BYTES, record, &recorder);
        int err = feed(&parser, stream, a);
        err = err == 0 ? feed(&parser, stream + a, sizeof(stream) - 1 - a) : err;
        assert_int_equal(err, SL_E_CANCELLED);
        assert_int_equal(recorder.events, 2);
        gw_sse_parser_dispose(&parser);
        sl_buffer_dispose(&recorder.out);
    }
}

static void test_whole_events_are_not_copied(void **state)
{
    const char stream[] = "data: a\n\nevent: x\nid: 1\ndata: b\n\n: c\n\ndata: d\r\n\r\n";
    struct recorder recorder = {.events = 0};
    struct gw_sse_parser parser;

    (void)state;
    sl_buffer_init(&recorder.out, 256);
    gw_sse_parser_init(&parser, MAX_BYTES, record, &recorder);
    assert_int_equal(feed(&parser, stream, sizeof(stream) - 1), 0);
    assert_int_equal(recorder.events, 3);
    assert_int_equal(recorder.uncopied, 3);
    assert_int_equal(parser.text.capacity, 0);
    assert_int_equal(parser.line.capacity, 0);
    gw_sse_parser_dispose(&parser);
    sl_buffer_dispose(&recorder.out);
}

static void test_large_buffers_are_given_back(void **state)
{
    const size_t len = 100000;
    struct recorder recorder = {.events = 0};
    struct gw_sse_parser parser;
    char *text = malloc(len);

    (void)state;
    assert_non_null(text);
    memset(text, 'x', len);
    sl_buffer_init(&recorder.out, 3 * len);
    gw_sse_parser_init(&parser, 2 * len, record, &recorder);
    assert_int_equal(feed(&parser, "data: ", 6), 0);
    assert_int_equal(feed(&parser, text, len), 0);
    assert_int_equal(feed(&parser, "\n", 1), 0);
    assert_true(parser.text.capacity >= len);
    assert_int_equal(feed(&parser, "\n", 1), 0);
    assert_int_equal(recorder.events, 1);
    assert_int_equal(recorder.out.len, len + 2);
    assert_int_equal(parser.text.capacity, 0);
    assert_int_equal(parser.line.capacity, 0);
    gw_sse_parser_dispose(&parser);
    sl_buffer_dispose(&recorder.out);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line_ends),
        cmocka_unit_test(test_byte_order_mark),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_empty_text),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_comments),
        cmocka_unit_test(test_odd_bytes),
        cmocka_unit_test(test_unfinished_event),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_callback_stops),
        cmocka_unit_test(test_whole_events_are_not_copied),
        cmocka_unit_test(test_large_buffers_are_given_back),
    };

    return cmocka_run_group_tests_name("sse_parser", tests, NULL, NULL);
}
