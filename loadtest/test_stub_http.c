/* Requests: split anywhere they are the same request. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "random.h"
#include "stub_http.h"

static const char WITH_LENGTH[] = "POST /v1/chat/completions?x=1 HTTP/1.1\r\nHost: a\r\n"
                                  "content-length:  5 \r\n\r\nhello";
static const char WITH_CHUNKS[] = "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
                                  "Transfer-Encoding: Chunked\r\nConnection: Close\r\n\r\n"
                                  "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";

static void assert_body(const struct stub_http *http, const char *body)
{
    assert_string_equal(http->request.method, "POST");
    assert_string_equal(http->request.path, "/v1/chat/completions");
    assert_int_equal(http->request.body_len, strlen(body));
    assert_memory_equal(http->request.body, body, strlen(body));
}

static void grows_to_ready(const char *input, bool keep_alive)
{
    size_t len = strlen(input);
    struct stub_http http = {0};
    for (size_t n = 1; n < len; n++) {
        assert_int_equal(stub_http_read(&http, input, n), STUB_HTTP_MORE);
    }
    assert_int_equal(stub_http_read(&http, input, len), STUB_HTTP_READY);
    assert_body(&http, "hello");
    assert_int_equal(http.request.keep_alive, keep_alive);
    assert_int_equal(stub_http_next(&http), len);
}

static void byte_by_byte_is_one_request(void **state)
{
    (void)state;
    grows_to_ready(WITH_LENGTH, true);
    grows_to_ready(WITH_CHUNKS, false);
}

static void pipelined_requests_are_told_apart(void **state)
{
    (void)state;
    static const char two[] = "GET /stats HTTP/1.1\r\n\r\nGET /last HTTP/1.0\r\n\r\n";
    struct stub_http http = {0};
    assert_int_equal(stub_http_read(&http, two, strlen(two)), STUB_HTTP_READY);
    assert_string_equal(http.request.path, "/stats");
    size_t used = stub_http_next(&http);
    assert_int_equal(stub_http_read(&http, two + used, strlen(two) - used), STUB_HTTP_READY);
    assert_string_equal(http.request.path, "/last");
    assert_false(http.request.keep_alive);
    assert_int_equal(used + stub_http_next(&http), strlen(two));
}

static void expectation_is_reported_once(void **state)
{
    (void)state;
    static const char input[] =
        "POST /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab";
    size_t len = strlen(input);
    struct stub_http http = {0};
    assert_int_equal(stub_http_read(&http, input, len - 2), STUB_HTTP_CONTINUE);
    assert_int_equal(stub_http_read(&http, input, len - 1), STUB_HTTP_MORE);
    assert_int_equal(stub_http_read(&http, input, len), STUB_HTTP_READY);
    stub_http_finish(&http);
}

static void broken_requests_have_a_status(void **state)
{
    (void)state;
    static const struct {
        const char *input;
        int status;
    } rows[] = {
        {"\r\n\r\n", 400},
        {"GET\r\n\r\n", 400},
        {"GET / HTTP/2.0\r\n\r\n", 400},
        {"GET  HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nContent-Length: 1x\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxx", 400},
        {"POST / HTTP/1.1\r\nContent-Length: 4194305\r\n\r\n", 413},
        {"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999999\r\n\r\n", 400},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct stub_http http = {0};
        assert_int_equal(stub_http_read(&http, rows[i].input, strlen(rows[i].input)),
                         STUB_HTTP_BROKEN);
        assert_int_equal(http.status, rows[i].status);
        stub_http_finish(&http);
    }
    char *endless = malloc(70000);
    assert_non_null(endless);
    memset(endless, 'a', 70000);
    struct stub_http http = {0};
    assert_int_equal(stub_http_read(&http, endless, 70000), STUB_HTTP_BROKEN);
    assert_int_equal(http.status, 431);
    free(endless);
}

/** Copies exactly `len` bytes, so that a sanitizer sees one byte too far. */
static void parse_copy(const char *bytes, size_t len)
{
    char *copy = malloc(len != 0 ? len : 1);
    struct stub_http http = {0};
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    (void)stub_http_read(&http, copy, len);
    stub_http_finish(&http);
    free(copy);
}

static void garbage_never_reads_outside(void **state)
{
    (void)state;
    static const char letters[] = ":;0d\r\n 1\t\x80";
    struct lt_random random = {11};
    for (int round = 0; round < 20000; round++) {
        char text[sizeof(WITH_CHUNKS)];
        memcpy(text, WITH_CHUNKS, sizeof(text));
        for (uint64_t n = lt_random_below(&random, 4); n != 0; n--) {
            text[lt_random_below(&random, sizeof(text))] =
                letters[lt_random_below(&random, sizeof(letters))];
        }
        parse_copy(text, (size_t)lt_random_below(&random, sizeof(text)));
    }
    for (size_t n = 0; n < sizeof(WITH_CHUNKS); n++) {
        parse_copy(WITH_CHUNKS, n);
    }
}

static void headers_of_interest_are_noticed(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        bool has_key, has_anthropic_version;
    } rows[] = {
        {"Accept: */*", false, false},
        {"authorization: Bearer k", true, false},
        {"X-API-Key: k", true, false},
        {"Anthropic-Version: 2023-06-01", false, true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[128];
        struct stub_http http = {0};
        int n = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\n%s\r\n\r\n", rows[i].header);
        assert_int_equal(stub_http_read(&http, text, (size_t)n), STUB_HTTP_READY);
        assert_int_equal(http.request.has_key, rows[i].has_key);
        assert_int_equal(http.request.has_anthropic_version, rows[i].has_anthropic_version);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_by_byte_is_one_request),
        cmocka_unit_test(pipelined_requests_are_told_apart),
        cmocka_unit_test(expectation_is_reported_once),
        cmocka_unit_test(broken_requests_have_a_status),
        cmocka_unit_test(headers_of_interest_are_noticed),
        cmocka_unit_test(garbage_never_reads_outside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
