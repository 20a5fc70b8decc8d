/* The body of the streaming route: every key, its limits, and which key an error names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "chat_request.h"
#include "config.h"
#include "sluice/text.h"

#define ID "0190163d-8694-739b-aea5-966c26f8ad91"

static char *models[] = {"large", "small=small-2026-05"};
static struct gw_upstream_config upstreams[] = {
    {.models = models, .models_count = 2}, {.models = NULL}, /* serves upstream.model alone */
};
static const struct gw_config config = {
    .upstreams = upstreams,
    .upstreams_count = 2,
    .upstream = {.model = "default", .temperature_max = 2.0, .max_tokens_max = 8192},
    .chat = {.message_max_bytes = 16},
};

static struct gw_chat_request request;
static struct gw_request_error error;

/* From a copy of exactly the right size, for the address sanitizer. */
static int parse(const char *body, size_t len)
{
    char *copy = malloc(len + 1);

    assert_non_null(copy);
    memcpy(copy + 1, body, len);
    memset(&request, 0xa5, sizeof(request));
    memset(&error, 0xa5, sizeof(error));
    int err = gw_chat_request_parse(copy + 1, len, &config, &request, &error);
    free(copy);
    return err;
}

static void accept(const char *body)
{
    int err = parse(body, strlen(body));

    if (err != 0) {
        fail_msg("refused with %d, %s: %s", err, error.detail, body);
    }
    assert_int_equal(strlen(request.message), request.message_len);
    assert_true(sl_utf8_valid(request.message, request.message_len));
    assert_non_null(request.model);
}

static void refuse_bytes(const char *body, size_t len, int err, const char *param,
                         const char *detail)
{
    int got = parse(body, len);

    if (got == 0) {
        gw_chat_request_dispose(&request);
        fail_msg("accepted: %.*s", (int)len, body);
    }
    if (got != err || strcmp(error.param, param) != 0 || strstr(error.detail, detail) == NULL) {
        fail_msg("%d, `%s`, \"%s\" for %.*s", got, error.param, error.detail, (int)len, body);
    }
    assert_int_equal(request.message_len, 0xa5a5a5a5a5a5a5a5); /* untouched */
}

static void refuse(const char *body, const char *param, const char *detail)
{
    refuse_bytes(body, strlen(body), SL_E_INVALID_VALUE, param, detail);
}

static void refuse_text(const char *body, const char *detail)
{
    refuse_bytes(body, strlen(body), SL_E_INVALID_JSON, "", detail);
}

static void test_defaults(void **state)
{
    (void)state;
    accept("{\"message\":\"hi\"}");
    assert_string_equal(request.message, "hi");
    assert_string_equal(request.model, "default");
    assert_false(request.has_session || request.use_rag || request.has_temperature ||
                 request.has_max_tokens);
    assert_true(request.stream);
    assert_int_equal(request.on_disconnect, GW_DISCONNECT_CANCEL);
    assert_string_equal(request.client_message_id, "");
    gw_chat_request_dispose(&request);
    gw_chat_request_dispose(&request);
    /* null is the same as absent */
    accept(
        "{\"message\":\"hi\",\"session_id\":null,\"use_rag\":null,\"model\":null,\"temperature\":"
        "null,"
        "\"max_tokens\":null,\"on_disconnect\":null,\"client_message_id\":null,\"stream\":null}");
    assert_true(request.stream);
    assert_false(request.has_session || request.has_temperature || request.has_max_tokens);
    gw_chat_request_dispose(&request);
}

static void test_everything_given(void **state)
{
    char text[SL_UUID_TEXT_SIZE];

    (void)state;
    accept(
        " {\"message\":\"h\\u00e9\",\"session_id\":\"0190163D-8694-739B-AEA5-966C26F8AD91\",\"use_"
        "rag\":true,"
        "\"model\":\"small\",\"temperature\":0.5,\"max_tokens\":100,\"on_disconnect\":\"continue\","
        "\"client_message_id\":\"a b~\",\"stream\":false,\"unknown\":{\"x\":[1,{}]}}\n");
    assert_string_equal(request.message, "h\xc3\xa9");
    assert_true(request.has_session);
    sl_uuid_format(&request.session, text);
    assert_string_equal(text, ID);
    assert_true(request.use_rag);
    assert_string_equal(request.model, "small");
    assert_true(request.has_temperature && request.temperature == 0.5);
    assert_true(request.has_max_tokens);
    assert_int_equal(request.max_tokens, 100);
    assert_int_equal(request.on_disconnect, GW_DISCONNECT_CONTINUE);
    assert_string_equal(request.client_message_id, "a b~");
    assert_false(request.stream);
    gw_chat_request_dispose(&request);
}

static void test_message(void **state)
{
    (void)state;
    accept("{\"message\":\" \\t\\r\\n a b \\u000b\\f \"}");
    assert_string_equal(request.message, "a b");
    gw_chat_request_dispose(&request);
    accept("{\"message\":\"   1234567890123456   \"}");
    assert_int_equal(request.message_len, 16);
    gw_chat_request_dispose(&request);
    /* a no-break space is text */
    accept("{\"message\":\"\xc2\xa0\"}");
    gw_chat_request_dispose(&request);
    refuse("{\"message\":\"12345678901234567\"}", "message", "too long");
    refuse("{\"message\":\"\"}", "message", "empty");
    refuse("{\"message\":\" \\n\\t \"}", "message", "empty");
    refuse("{}", "message", "required");
    refuse("{\"message\":null}", "message", "required");
    refuse("{\"Message\":\"hi\"}", "message", "required");
    refuse("{\"message\":7}", "message", "must be a string");
    refuse("{\"message\":[\"hi\"]}", "message", "must be a string");
    refuse("{\"message\":\"a\\u0000b\"}", "message", "NUL");
}

static void test_session(void **state)
{
    static const char *const forms[] = {ID, "0190163D8694739BAEA5966C26F8AD91", "{" ID "}",
                                        "urn:uuid:" ID, "URN:UUID:" ID};
    static const char *const bad[] = {"",
                                      "x",
                                      "0190163d-8694-739b-aea5-966c26f8ad9",
                                      ID "0",
                                      "{" ID,
                                      "(" ID ")",
                                      "0190163d-8694-739b-aea5-966c26f8ad9g",
                                      "0190163d8694739baea5966c26f8ad9g",
                                      "0190163d_8694_739b_aea5_966c26f8ad91"};
    char body[256], text[SL_UUID_TEXT_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        (void)snprintf(body, sizeof(body), "{\"message\":\"m\",\"session_id\":\"%s\"}", forms[i]);
        accept(body);
        sl_uuid_format(&request.session, text);
        assert_string_equal(text, ID);
        gw_chat_request_dispose(&request);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        (void)snprintf(body, sizeof(body), "{\"message\":\"m\",\"session_id\":\"%s\"}", bad[i]);
        refuse(body, "session_id", "UUID");
    }
    refuse("{\"message\":\"m\",\"session_id\":7}", "session_id", "string");
}

static void test_model(void **state)
{
    (void)state;
    accept("{\"message\":\"m\",\"model\":\"default\"}");
    assert_string_equal(request.model, "default");
    gw_chat_request_dispose(&request);
    accept("{\"message\":\"m\",\"model\":\"large\"}");
    assert_string_equal(request.model, "large");
    gw_chat_request_dispose(&request);
    refuse("{\"message\":\"m\",\"model\":\"other\"}", "model", "not an available");
    refuse("{\"message\":\"m\",\"model\":\"\"}", "model", "not an available");
    refuse("{\"message\":\"m\",\"model\":\"smal\"}", "model", "not an available");
    refuse("{\"message\":\"m\",\"model\":\"small-2026-05\"}", "model", "not an available");
    refuse("{\"message\":\"m\",\"model\":\"small=small-2026-05\"}", "model", "not an available");
    refuse("{\"message\":\"m\",\"model\":1}", "model", "string");
    refuse("{\"message\":\"m\",\"model\":\"large\\u0000\"}", "model", "NUL");
    /* the list is not the client's business */
    assert_null(strstr(error.detail, "small"));
}

static void test_numbers(void **state)
{
    static const struct {
        const char *temperature;
        double expected;
    } temperatures[] = {{"0", 0},
                        {"1", 1},
                        {"2.0", 2},
                        {"2.1", 2},
                        {"-0.1", 0},
                        {"1e300", 2},
                        {"-99999999999999999999999", 0}};
    static const struct {
        const char *max_tokens;
        unsigned expected;
    } limits[] = {{"1", 1},       {"0", 1},        {"-5", 1},
                  {"8192", 8192}, {"8193", 8192},  {"100.0", 100},
                  {"1e2", 100},   {"1e300", 8192}, {"99999999999999999999999", 8192}};
    char body[256];

    (void)state;
    for (size_t i = 0; i < sizeof(temperatures) / sizeof(temperatures[0]); i++) {
        (void)snprintf(body, sizeof(body), "{\"message\":\"m\",\"temperature\":%s}",
                       temperatures[i].temperature);
        accept(body);
        assert_true(request.has_temperature && request.temperature == temperatures[i].expected);
        gw_chat_request_dispose(&request);
    }
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        (void)snprintf(body, sizeof(body), "{\"message\":\"m\",\"max_tokens\":%s}",
                       limits[i].max_tokens);
        accept(body);
        assert_true(request.has_max_tokens);
        assert_int_equal(request.max_tokens, limits[i].expected);
        gw_chat_request_dispose(&request);
    }
    refuse("{\"message\":\"m\",\"temperature\":\"1\"}", "temperature", "number");
    refuse("{\"message\":\"m\",\"temperature\":true}", "temperature", "number");
    refuse("{\"message\":\"m\",\"max_tokens\":1.5}", "max_tokens", "integer");
    refuse("{\"message\":\"m\",\"max_tokens\":\"5\"}", "max_tokens", "integer");
    refuse("{\"message\":\"m\",\"max_tokens\":[]}", "max_tokens", "integer");
    refuse("{\"message\":\"m\",\"max_tokens\":1e999}", "max_tokens", "too large");
    refuse("{\"x\":[-1e999],\"message\":\"m\"}", "x", "too large");
    /* an unknown key's large integer is ignored like the key */
    accept("{\"message\":\"m\",\"x\":123456789012345678901234567890}");
    gw_chat_request_dispose(&request);
}

static void test_booleans_and_choices(void **state)
{
    (void)state;
    refuse("{\"message\":\"m\",\"use_rag\":1}", "use_rag", "true or false");
    refuse("{\"message\":\"m\",\"use_rag\":\"true\"}", "use_rag", "true or false");
    refuse("{\"message\":\"m\",\"stream\":0}", "stream", "true or false");
    accept("{\"message\":\"m\",\"on_disconnect\":\"cancel\"}");
    assert_int_equal(request.on_disconnect, GW_DISCONNECT_CANCEL);
    gw_chat_request_dispose(&request);
    refuse("{\"message\":\"m\",\"on_disconnect\":\"Cancel\"}", "on_disconnect", "must be");
    refuse("{\"message\":\"m\",\"on_disconnect\":true}", "on_disconnect", "string");
}

static void test_client_message_id(void **state)
{
    char body[256], id[GW_CLIENT_MESSAGE_ID_MAX + 2];

    (void)state;
    memset(id, 'a', sizeof(id));
    id[GW_CLIENT_MESSAGE_ID_MAX] = '\0';
    (void)snprintf(body, sizeof(body), "{\"message\":\"m\",\"client_message_id\":\"%s\"}", id);
    accept(body);
    assert_string_equal(request.client_message_id, id);
    gw_chat_request_dispose(&request);
    id[GW_CLIENT_MESSAGE_ID_MAX] = 'a';
    id[GW_CLIENT_MESSAGE_ID_MAX + 1] = '\0';
    (void)snprintf(body, sizeof(body), "{\"message\":\"m\",\"client_message_id\":\"%s\"}", id);
    refuse(body, "client_message_id", "64");
    refuse("{\"message\":\"m\",\"client_message_id\":\"\"}", "client_message_id", "1 to 64");
    refuse("{\"message\":\"m\",\"client_message_id\":\"\xc3\xa9\"}", "client_message_id", "ASCII");
    refuse("{\"message\":\"m\",\"client_message_id\":\"a\\n\"}", "client_message_id", "printable");
    refuse("{\"message\":\"m\",\"client_message_id\":\"\\u007f\"}", "client_message_id",
           "printable");
    refuse("{\"message\":\"m\",\"client_message_id\":5}", "client_message_id", "string");
}

static void test_not_json(void **state)
{
    (void)state;
    refuse_text("", "not valid JSON");
    refuse_text(" ", "not valid JSON");
    refuse_text("message=hi", "byte 0");
    refuse_text("{\"message\":\"hi\"", "byte 15");
    refuse_text("{\"message\":\"hi\",}", "byte 16");
    refuse_text("{\"message\":\"hi\"} x", "byte 17");
    refuse_text("{'message':'hi'}", "byte 1");
    refuse_text("\xef\xbb\xbf{\"message\":\"hi\"}", "byte 0");
    refuse_bytes("{\"message\":\"hi\",\"max_tokens\":1\0}", 32, SL_E_INVALID_JSON, "",
                 "not valid JSON");
    refuse_bytes("{\"message\":\"hi\"}\0", 17, SL_E_INVALID_JSON, "", "not valid JSON");
    refuse("[]", "", "must be a JSON object");
    refuse("\"hi\"", "", "must be a JSON object");
    refuse("null", "", "must be a JSON object");
}

static void test_bad_characters_name_their_key(void **state)
{
    (void)state;
    refuse("{\"message\":\"a\xff\"}", "message", "not valid UTF-8");
    refuse("{\"message\":\"a\xc3\"}", "message", "not valid UTF-8");
    refuse("{\"message\":\"\xed\xa0\xbd\"}", "message", "not valid UTF-8");
    refuse("{\"message\":\"a\",\"model\":\"\xc0\x80\"}", "model", "not valid UTF-8");
    refuse("{\"message\":\"\\ud83d\"}", "message", "lone surrogate");
    refuse("{\"message\":\"\\ude00\\ud83d\"}", "message", "lone surrogate");
    refuse("{\"message\":\"a\",\"x\":{\"y\":[\"\\ud83dz\"]}}", "x", "lone surrogate");
    refuse("{\"message\":\"a\nb\"}", "message", "control character");
    refuse_bytes("{\"message\":\"a\0b\"}", 17, SL_E_INVALID_VALUE, "message", "NUL");
    /* the first fault counts */
    refuse("{\"session_id\":\"\\ud800\",\"message\":\"\xff\"}", "session_id", "lone surrogate");
    refuse("{\"session_id\":\"\xff\",\"message\":\"\\ud800\"}", "session_id", "UTF-8");
    refuse_text("{\"x\":1 \"message\":\"\xff\"}", "byte 7");
    /* in a key there is no value to name */
    refuse_text("{\"message\":\"a\",\"\xff\":1}", "not valid UTF-8");
    refuse("{\"message\":\"a\",\"x\\ud800\":1}", "x\xef\xbf\xbd", "lone surrogate");
    refuse("{\"x\":{\"a\\u0000\":1},\"message\":\"m\"}", "x", "NUL");
}

static void test_duplicates(void **state)
{
    (void)state;
    refuse("{\"message\":\"a\",\"message\":\"b\"}", "message", "twice");
    refuse("{\"message\":\"a\",\"stream\":true,\"stream\":false}", "stream", "twice");
    refuse("{\"message\":\"a\",\"x\":{\"y\":1,\"y\":2},\"stream\":true}", "x", "twice");
    refuse("{\"message\":\"a\",\"m\\u0065ssage\":\"b\"}", "message", "twice");
}

static void test_long_key_names_are_cut(void **state)
{
    char body[512];
    size_t len = (size_t)snprintf(body, sizeof(body), "{\"message\":\"m\",\"");

    (void)state;
    for (int i = 0; i < 100; i++) {
        memcpy(body + len, "\xe2\x82\xac", 3);
        len += 3;
    }
    len += (size_t)snprintf(body + len, sizeof(body) - len, "\":\"\\ud800\"}");
    assert_int_equal(parse(body, len), SL_E_INVALID_VALUE);
    assert_int_equal(strlen(error.param), 63);
    assert_true(sl_utf8_valid(error.param, strlen(error.param)));
    assert_true(sl_utf8_valid(error.detail, strlen(error.detail)));
    assert_non_null(strstr(error.detail, "lone surrogate"));
}

static void test_depth_bombs(void **state)
{
    enum { DEPTH = 100000 };
    char *body = malloc(6 * DEPTH + 64);

    (void)state;
    assert_non_null(body);
    memset(body, '[', DEPTH);
    refuse_bytes(body, DEPTH, SL_E_INVALID_JSON, "", "nested too deeply");
    memcpy(body, "{\"x\":", 5);
    refuse_bytes(body, DEPTH, SL_E_INVALID_VALUE, "x", "nested too deeply");
    for (int i = 0; i < DEPTH; i++) {
        memcpy(body + 5 * i, "{\"a\":", 5);
    }
    refuse_bytes(body, 5 * DEPTH, SL_E_INVALID_VALUE, "a", "nested too deeply");
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_everything_given),
        cmocka_unit_test(test_message),
        cmocka_unit_test(test_session),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_booleans_and_choices),
        cmocka_unit_test(test_client_message_id),
        cmocka_unit_test(test_not_json),
        cmocka_unit_test(test_bad_characters_name_their_key),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_long_key_names_are_cut),
        cmocka_unit_test(test_depth_bombs),
    };

    return cmocka_run_group_tests_name("chat_request", tests, NULL, NULL);
}
