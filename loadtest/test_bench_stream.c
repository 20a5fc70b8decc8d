/* The verdicts: a good stream is good however it is split, and every breakage has its name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bench_stream.h"

#define HEAD                                                                                       \
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"                        \
    "transfer-encoding: chunked\r\n\r\n"
#define SESSION "data: {\"type\":\"session_id\",\"seq\":1,\"session_id\":\"s\"}\n\n"
#define ACCEPTED "data: {\"type\":\"accepted\",\"seq\":2,\"message_id\":\"m\"}\n\n: hb\n\n"
#define TOKEN3 "data: {\"seq\":3,\"content\":\"a\\\"}\",\"type\":\"token\"}\n\n"
#define TOKEN4 "data: {\"type\":\"token\",\"seq\":4,\"content\":\"b\"}\n\n"
#define DONE5 "data: {\"type\":\"done\",\"seq\":5,\"usage\":{\"a\":[1]},\"x\":null}\n\n"

static struct bench_stream stream;
static struct lt_histogram gaps;

static int begin(void **state)
{
    (void)state;
    memset(&gaps, 0, sizeof(gaps));
    memset(&stream, 0, sizeof(stream));
    bench_stream_begin(&stream, BENCH_NATIVE, &gaps);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    bench_stream_finish(&stream);
    return 0;
}

/** A whole response of one chunk; the last chunk is left out for `cut`. */
static struct lt_buffer response(const char *events, bool cut)
{
    struct lt_buffer bytes = {0};
    lt_buffer_appendf(&bytes, "%s%zx\r\n%s\r\n%s", HEAD, strlen(events), events,
                      cut ? "" : "0\r\n\r\n");
    return bytes;
}

static void good_at_every_split(void **state)
{
    (void)state;
    struct lt_buffer bytes = response(SESSION ACCEPTED TOKEN3 TOKEN4 DONE5, false);
    for (size_t cut = 1; cut < bytes.len; cut++) {
        bench_stream_begin(&stream, BENCH_NATIVE, &gaps);
        assert_true(bench_stream_read(&stream, bytes.base, cut, 10));
        assert_false(bench_stream_read(&stream, bytes.base + cut, bytes.len - cut, 20));
        assert_int_equal(stream.failure, BENCH_OK);
        assert_true(stream.complete);
        assert_true(stream.keep_alive);
        assert_int_equal(stream.marks.tokens, 2);
        assert_int_equal(stream.events, 5);
    }
    assert_int_equal(gaps.count, bytes.len - 1);
    lt_buffer_free(&bytes);
}

static void marks_carry_their_times(void **state)
{
    (void)state;
    static const char *const parts[] = {HEAD, SESSION, ACCEPTED, TOKEN3, TOKEN4, DONE5};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        char chunk[256];
        int n = i == 0
                    ? snprintf(chunk, sizeof(chunk), "%s", parts[i])
                    : snprintf(chunk, sizeof(chunk), "%zx\r\n%s\r\n", strlen(parts[i]), parts[i]);
        assert_true(bench_stream_read(&stream, chunk, (size_t)n, 100 * (i + 1)));
    }
    assert_false(bench_stream_read(&stream, "0\r\n\r\n", 5, 700));
    assert_int_equal(stream.marks.head_us, 100);
    assert_int_equal(stream.marks.session_us, 200);
    assert_int_equal(stream.marks.accepted_us, 300);
    assert_int_equal(stream.marks.first_token_us, 400);
    assert_int_equal(stream.marks.end_us, 700);
    assert_int_equal(gaps.count, 1);
    assert_int_equal(gaps.max_us, 100);
}

static void broken_streams_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *events;
        enum bench_failure failure;
    } rows[] = {
        {SESSION TOKEN3, BENCH_ORDER},
        {ACCEPTED SESSION, BENCH_ORDER},
        {SESSION SESSION, BENCH_ORDER},
        {"data: {\"type\":\"token\",\"seq\":1}\n\n", BENCH_ORDER},
        {SESSION ACCEPTED TOKEN3 TOKEN4, BENCH_TRUNCATED},
        {SESSION ACCEPTED TOKEN3 TOKEN4 DONE5 TOKEN4, BENCH_AFTER_END},
        {SESSION "data: {\"type\":\"error\",\"seq\":2}\n\n", BENCH_ERROR_EVENT},
        {SESSION "data: {\"type\":\n\n", BENCH_BAD_EVENT},
        {SESSION "data: [1]\n\n", BENCH_BAD_EVENT},
        {SESSION "data: {\"seq\":2}\n\n", BENCH_BAD_EVENT},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct lt_buffer bytes = response(rows[i].events, false);
        bench_stream_begin(&stream, BENCH_NATIVE, NULL);
        assert_false(bench_stream_read(&stream, bytes.base, bytes.len, 10));
        assert_int_equal(stream.failure, rows[i].failure);
        lt_buffer_free(&bytes);
    }
}

static void a_closed_connection_is_judged(void **state)
{
    (void)state;
    bench_stream_close(&stream, 10);
    assert_int_equal(stream.failure, BENCH_RESET);
    struct lt_buffer bytes = response(SESSION ACCEPTED TOKEN3 TOKEN4 DONE5, true);
    bench_stream_begin(&stream, BENCH_NATIVE, NULL);
    assert_true(bench_stream_read(&stream, bytes.base, bytes.len, 10));
    bench_stream_close(&stream, 20);
    assert_int_equal(stream.failure, BENCH_TRUNCATED);
    lt_buffer_free(&bytes);
}

static void heads_are_judged(void **state)
{
    (void)state;
    static const struct {
        const char *head;
        enum bench_failure failure;
        int status;
    } rows[] = {
        {"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", BENCH_STATUS, 503},
        {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", BENCH_BAD_HEAD, 200},
        {"SSH-2.0-OpenSSH\r\n\r\n", BENCH_BAD_HEAD, 0},
        {"\r\n\r\n", BENCH_BAD_HEAD, 0},
        {HEAD "zz\r\n", BENCH_BAD_CHUNK, 200},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bench_stream_begin(&stream, BENCH_NATIVE, NULL);
        assert_false(bench_stream_read(&stream, rows[i].head, strlen(rows[i].head), 10));
        assert_int_equal(stream.failure, rows[i].failure);
        assert_int_equal(stream.status, rows[i].status);
    }
}

static void the_direct_protocol_counts_content_only(void **state)
{
    (void)state;
    struct lt_buffer bytes = response(
        "data: "
        "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n"
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\r\n\r\n"
        "data:{\"choices\":[{\"delta\":{\"content\":null}}]}\n\n"
        "data: {\"choices\":[],\"usage\":{\"content\":\"x\"}}\n\ndata: [DONE]\n\n",
        false);
    bench_stream_begin(&stream, BENCH_DIRECT, NULL);
    assert_false(bench_stream_read(&stream, bytes.base, bytes.len, 10));
    assert_int_equal(stream.failure, BENCH_OK);
    assert_int_equal(stream.marks.tokens, 1);
    lt_buffer_free(&bytes);
    bytes = response("data: {\"error\":{\"message\":\"m\"}}\n\n", false);
    bench_stream_begin(&stream, BENCH_DIRECT, NULL);
    assert_false(bench_stream_read(&stream, bytes.base, bytes.len, 10));
    assert_int_equal(stream.failure, BENCH_ERROR_EVENT);
    lt_buffer_free(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(good_at_every_split, begin, finish),
        cmocka_unit_test_setup_teardown(marks_carry_their_times, begin, finish),
        cmocka_unit_test_setup_teardown(broken_streams_are_named, begin, finish),
        cmocka_unit_test_setup_teardown(a_closed_connection_is_judged, begin, finish),
        cmocka_unit_test_setup_teardown(heads_are_judged, begin, finish),
        cmocka_unit_test_setup_teardown(the_direct_protocol_counts_content_only, begin, finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
