/* What upstreams send in place of an answer, and whether waiting would help. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "upstream_error.h"

#define ANTHROPIC(type, message)                                                                   \
    "{\"type\":\"error\",\"error\":{\"type\":\"" type "\",\"message\":\"" message                  \
    "\"},\"request_id\":\"req_1\"}"

enum verdict { LASTING, RETRY, SPENT };

struct row {
    const char *text;
    enum verdict verdict;
};

static struct gw_error_verdict judge(const char *text, size_t len)
{
    char *copy = malloc(len + 1); /* exactly the right size at its end, for the address sanitizer */

    assert_non_null(copy);
    memcpy(copy + 1, text, len);
    struct gw_error_verdict verdict = gw_upstream_error_judge(copy + 1, len);
    free(copy);
    return verdict;
}

static void check(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct gw_error_verdict verdict = judge(rows[i].text, strlen(rows[i].text));
        if (verdict.retryable != (rows[i].verdict == RETRY) ||
            verdict.spent != (rows[i].verdict == SPENT)) {
            fail_msg("retryable %d, spent %d: %s", verdict.retryable, verdict.spent, rows[i].text);
        }
    }
}

#define CHECK(rows) check(rows, sizeof(rows) / sizeof((rows)[0]))

static void test_openai(void **state)
{
    static const struct row rows[] = {
        {"{\"error\":{\"message\":\"m\",\"type\":\"t\",\"code\":429}}", RETRY},
        {"{\"error\":{\"message\":\"m\",\"type\":\"t\",\"code\":\"429\"}}", RETRY},
        {"{\"error\":{\"message\":\"m\",\"type\":\"InternalServerError\",\"param\":null,\"code\":"
         "500}}",
         RETRY},
        {"{\"error\":{\"code\":529}}", RETRY},
        {"{\"error\":{\"status\":503}}", RETRY},
        {"{\"error\":{\"code\":400,\"message\":\"rate limit must be positive\"}}", LASTING},
        {"{\"error\":{\"code\":null,\"type\":\"rate_limit_error\"}}", RETRY},
        {"{\"error\":{\"code\":\"rate_limit_exceeded\"}}", RETRY},
        {"{\"error\":{\"message\":\"The engine is currently OVERLOADED\"}}", RETRY},
        {"{\"error\":{\"type\":\"server_error\"}}", RETRY},
        {"{\"error\":{\"type\":\"invalid_request_error\",\"code\":\"context_length_exceeded\"}}",
         LASTING},
        {"{\"error\":{\"code\":\"r\\u0061te_limit\xff\"}}", RETRY},
        {"{\"error\":{}}", LASTING},
        {"{\"error\":{\"error\":{\"code\":502}}}", RETRY},
        {"{\"object\":\"error\",\"message\":\"m\",\"type\":\"BadRequestError\",\"code\":400}",
         LASTING},
        {"{\"message\":\"m\",\"code\":500}", RETRY},
        {"{\"message\":\"m\",\"code\":401}", LASTING},
    };

    (void)state;
    CHECK(rows);
}

static void test_anthropic(void **state)
{
    static const struct row rows[] = {
        {ANTHROPIC("overloaded_error", "Overloaded"), RETRY},
        {ANTHROPIC("rate_limit_error", "m"), RETRY},
        {ANTHROPIC("api_error", "m"), RETRY},
        {ANTHROPIC("timeout_error", "m"), RETRY},
        {ANTHROPIC("invalid_request_error", "m"), LASTING},
        {ANTHROPIC("authentication_error", "m"), LASTING},
        {ANTHROPIC("permission_error", "m"), LASTING},
        {ANTHROPIC("not_found_error", "m"), LASTING},
        {ANTHROPIC("request_too_large", "m"), LASTING},
        {ANTHROPIC("unheard_of_error", "m"), LASTING},
        /* a message may quote the request */
        {ANTHROPIC("invalid_request_error", "bad word: overloaded"), LASTING},
        {ANTHROPIC("unheard_of_error", "we are overloaded"), RETRY},
        {"{\"error\":{\"message\":\"overloaded\",\"type\":\"invalid_request_error\"}}", LASTING},
    };

    (void)state;
    CHECK(rows);
}

static void test_spent(void **state)
{
    static const struct row rows[] = {
        {"{\"error\":{\"message\":\"You exceeded your current quota, please check your plan and "
         "billing details.\",\"type\":\"insufficient_quota\",\"param\":null,\"code\":"
         "\"insufficient_quota\"}}",
         SPENT},
        {"{\"error\":{\"message\":\"m\",\"code\":429,\"type\":\"insufficient_quota\"}}", SPENT},
        {"{\"error\":{\"code\":\"billing_hard_limit_reached\"}}", SPENT},
        {"{\"error\":{\"message\":\"Billing hard limit has been reached\",\"code\":429}}", SPENT},
        {"{\"error\":\"You EXCEEDED your current quota\"}", SPENT},
        {"{\"error\":{\"error\":{\"message\":\"Rate limit: spend limit reached\"}}}", SPENT},
        {"{\"error\":{\"code\":402}}", SPENT},
        {"{\"error\":{\"code\":\"402\",\"message\":\"m\"}}", SPENT},
        {"{\"error\":{\"message\":\"Insufficient Balance\",\"code\":\"invalid_request_error\"}}",
         SPENT},
        {ANTHROPIC("billing_error", "m"), SPENT},
        {ANTHROPIC("invalid_request_error", "Your credit balance is too low to access the API."),
         SPENT},
        {ANTHROPIC("rate_limit_error", "You have reached your spend limit."), SPENT},
        {"Payment Required", SPENT},
        {"<html><title>402 Payment Required</title></html>", SPENT},
        /* the word alone says nothing */
        {ANTHROPIC("overloaded_error", "see the billing page"), RETRY},
    };

    (void)state;
    CHECK(rows);
}

static void test_other_bytes(void **state)
{
    static const struct row rows[] = {
        {"", LASTING},
        {" ", LASTING},
        {"no", LASTING},
        {"503", RETRY},
        {"null", LASTING},
        {"[]", LASTING},
        {"\"Rate limit reached\"", RETRY},
        {"upstream overloaded", RETRY},
        {"<html><head><title>502 Bad Gateway</title></head></html>", RETRY},
        {"<html><h1>Not Found</h1></html>", LASTING},
        {"\xff\xfe\x80", LASTING},
        /* cut off: what came before counts */
        {"{\"error\":", LASTING},
        {"{\"error\":{\"code\":400,\"message\":\"overload", LASTING},
        {"{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"mess", RETRY},
        {"{\"error\":{\"message\":\"insufficient_quota", SPENT},
    };

    (void)state;
    CHECK(rows);
    assert_false(gw_upstream_error_judge(NULL, 0).retryable);
    assert_false(judge("over\0load", 9).retryable);
}

/* Every byte may be the last one: nothing is read behind it, and a spent quota never is retryable. */
static void test_every_cut(void **state)
{
    static const char text[] =
        ANTHROPIC("rate_limit_error", "\\u0073pend limit \\ud83d\xff reached");

    (void)state;
    for (size_t len = 0; len < sizeof(text); len++) {
        struct gw_error_verdict verdict = judge(text, len);
        assert_false(verdict.retryable && verdict.spent);
    }
    assert_true(judge(text, sizeof(text) - 1).spent);
}

static void test_depth_bomb(void **state)
{
    enum { LEN = 900000 };
    char *text = malloc(LEN);

    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < LEN; i += 9) {
        memcpy(text + i, "{\"error\":", 9);
    }
    assert_false(judge(text, LEN).retryable);
    memset(text, '[', LEN);
    assert_false(judge(text, LEN).retryable);
    free(text);
}

static void test_the_value_of_an_error_key(void **state)
{
    static const struct {
        const char *text;
        bool valid, failed, retryable;
    } rows[] = {
        {"null", true, false, false},    {"false", true, false, false},
        {"0", true, false, false},       {"\"\"", true, false, false},
        {"true", true, true, false},     {"{}", true, true, false},
        {"[]", true, true, false},       {"529", true, true, true},
        {"\"busy\"", true, true, false}, {"{\"code\":", false, false, false},
        {"\"x", false, false, false},    {"", false, false, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct gw_error_verdict verdict = {.retryable = false};
        struct gw_json scan;
        bool failed = false;
        gw_json_init(&scan, rows[i].text, strlen(rows[i].text));
        assert_int_equal(gw_upstream_error_read(&scan, &failed, &verdict), rows[i].valid);
        assert_int_equal(failed, rows[i].failed);
        assert_int_equal(verdict.retryable, rows[i].retryable);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_openai),
        cmocka_unit_test(test_anthropic),
        cmocka_unit_test(test_spent),
        cmocka_unit_test(test_other_bytes),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_depth_bomb),
        cmocka_unit_test(test_the_value_of_an_error_key),
    };

    return cmocka_run_group_tests_name("upstream_error", tests, NULL, NULL);
}
