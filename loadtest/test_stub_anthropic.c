/* Anthropic's dialect: the events in their order, and requests checked as the service does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "stub_routes.h"
#include "test_play.h"

#define EVENT(type, members) "event: " type "\ndata: {\"type\":\"" type "\"" members "}\n\n"
#define START                                                                                      \
    EVENT(                                                                                         \
        "message_start",                                                                           \
        ",\"message\":{\"id\":\"x\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\","  \
        "\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,"                              \
        "\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}")
#define BLOCK(index, members)                                                                      \
    EVENT("content_block_start", ",\"index\":" index ",\"content_block\":{" members "}")
#define DELTA(index, members)                                                                      \
    EVENT("content_block_delta", ",\"index\":" index ",\"delta\":{" members "}")
#define TEXT(index, text) DELTA(index, "\"type\":\"text_delta\",\"text\":\"" text "\"")
#define INPUT(index, json)                                                                         \
    DELTA(index, "\"type\":\"input_json_delta\",\"partial_json\":\"" json "\"")
#define STOP(index) EVENT("content_block_stop", ",\"index\":" index)
#define MESSAGE_DELTA(reason, tokens)                                                              \
    EVENT("message_delta", ",\"delta\":{" reason "\"stop_sequence\":null},"                        \
                           "\"usage\":{\"input_tokens\":3,\"output_tokens\":" tokens "}")
#define REASON(word) "\"stop_reason\":\"" word "\","
#define END EVENT("message_stop", "")
#define TEXT_BLOCK "\"type\":\"text\",\"text\":\"\""

static void whole_streams(void **state)
{
    (void)state;
    static const struct {
        const char *message, *body;
    } rows[] = {
        {"[[stub tokens=2 id=x]]", START BLOCK("0", TEXT_BLOCK) TEXT("0", "tok0") TEXT("0", " tok1")
                                       STOP("0") MESSAGE_DELTA(REASON("end_turn"), "2") END},
        {"[[stub reasoning=1 tokens=1 id=x]]",
         START BLOCK("0", "\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"")
             DELTA("0", "\"type\":\"thinking_delta\",\"thinking\":\"think0\"")
                 DELTA("0", "\"type\":\"signature_delta\",\"signature\":\"c3R1Yg==\"") STOP("0")
                     BLOCK("1", TEXT_BLOCK) TEXT("1", "tok0") STOP("1")
                         MESSAGE_DELTA(REASON("end_turn"), "2") END},
        {"[[stub id=x tool_calls text=a]]",
         START BLOCK("0", TEXT_BLOCK) TEXT("0", "a") STOP("0")
             BLOCK("1", "\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"get_weather\","
                        "\"input\":{}") INPUT("1", "") INPUT("1", "{\\\"city\\\":")
                 INPUT("1", " \\\"Bern\\\"}") STOP("1") MESSAGE_DELTA(REASON("tool_use"), "1") END},
        {"[[stub id=x usage_each tokens=2]]",
         START BLOCK("0", TEXT_BLOCK) TEXT("0", "tok0") MESSAGE_DELTA("", "1") TEXT("0", " tok1")
             MESSAGE_DELTA("", "2") STOP("0") MESSAGE_DELTA(REASON("end_turn"), "2") END},
        {"[[stub id=x tokens=1 no_finish]]",
         START BLOCK("0", TEXT_BLOCK) TEXT("0", "tok0") STOP("0") MESSAGE_DELTA("", "1") END},
        {"[[stub id=x tokens=1 no_done finish=max_tokens]]",
         START BLOCK("0", TEXT_BLOCK) TEXT("0", "tok0") STOP("0")
             MESSAGE_DELTA(REASON("max_tokens"), "1")},
        {"[[stub id=x tokens=2 error_after=1]]",
         START BLOCK("0", TEXT_BLOCK) TEXT("0", "tok0") EVENT(
             "error", ",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}")},
        {"[[stub id=x tokens=2 bytes]]",
         START BLOCK("0", TEXT_BLOCK) TEXT("0", "tok0") TEXT("0", " tok1") STOP("0")
             MESSAGE_DELTA(REASON("end_turn"), "2") END},
        {"[[stub id=x tokens=2 split=7]]",
         START BLOCK("0", TEXT_BLOCK) TEXT("0", "tok0") TEXT("0", " tok1") STOP("0")
             MESSAGE_DELTA(REASON("end_turn"), "2") END},
        {"[[stub id=x tokens=0]]", START MESSAGE_DELTA(REASON("end_turn"), "0") END},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        play_start(&stub_anthropic, rows[i].message, true, 0);
        assert_int_equal(play_all(0), STUB_PLAY_END);
        play_assert_body(rows[i].body);
        play_teardown(NULL);
        play_setup(NULL);
    }
}

static void directives_bend_this_dialect_too(void **state)
{
    (void)state;
    static const struct {
        const char *message, *present, *absent;
    } rows[] = {
        {"[[stub tokens=1 no_usage]]", "message_stop", "\"usage\""},
        {"[[stub tokens=1]]", "\"id\":\"msg_1\"", "[DONE]"},
        {"[[stub tokens=1 pings]]", "event: ping\ndata: {\"type\":\"ping\"}\n\n", ": keep-alive"},
        {"[[stub tokens=1 comments]]", ": keep-alive\n\n\n", "event: ping"},
        {"[[stub tokens=1 malformed=0]]", "\"delta\":{\"type\":\"to\n\n", "chatcmpl"},
        {"[[stub tokens=1 crlf]]", "event: message_stop\r\ndata: ", "}\n"},
        {"[[stub tokens=1 cr]]", "event: message_stop\rdata: ", "\n"},
        {"[[stub tokens=1 nospace]]", "event:message_stop\ndata:{", "data: "},
        {"[[stub tokens=1 multiline]]", ",\ndata: \"", ",\""},
        {"[[stub surrogates]]", "\"text\":\"grin \\ud83d\"}", "\xed"},
        {"[[stub bigline=3 tokens=1]]", "\"text\":\"xxx\"", "nothing"},
        {"[[stub echo]]", "roles=user", "You said"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        play_assert_stream(&stub_anthropic, rows[i].message, rows[i].present, rows[i].absent);
    }
}

static void replies_without_a_stream(void **state)
{
    (void)state;
    static const struct {
        const char *message;
        bool stream;
        const char *status, *body;
    } rows[] = {
        {"[[stub id=x tokens=2]]", false, "HTTP/1.1 200 ",
         "{\"id\":\"x\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":"
         "[{\"type\":\"text\",\"text\":\"tok0 tok1\"}],\"stop_reason\":\"end_turn\","
         "\"stop_sequence\":null,\"usage\":{\"input_tokens\":3,\"output_tokens\":2}}"},
        {"[[stub json id=x tool_calls text=a]]", true, "HTTP/1.1 200 ",
         "{\"id\":\"x\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":"
         "[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":"
         "\"get_weather\",\"input\":{\"city\":\"Bern\"}}],\"stop_reason\":\"tool_use\","
         "\"stop_sequence\":null,\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}"},
        {"[[stub status=429]]", true, "HTTP/1.1 429 ",
         "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\","
         "\"message\":\"scripted refusal\"}}"},
        {"[[stub status=529]]", true, "HTTP/1.1 529 ",
         "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\","
         "\"message\":\"scripted refusal\"}}"},
        {"[[stub status=500]]", true, "HTTP/1.1 500 ",
         "{\"type\":\"error\",\"error\":{\"type\":\"api_error\","
         "\"message\":\"scripted refusal\"}}"},
        {"[[stub quota]]", true, "HTTP/1.1 429 ",
         "{\"type\":\"error\",\"error\":{\"type\":\"billing_error\","
         "\"message\":\"You have reached your specified API usage limits.\"}}"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        play_start(&stub_anthropic, rows[i].message, rows[i].stream, 0);
        assert_int_equal(play_all(0), STUB_PLAY_END);
        lt_buffer_append(&play.out, "", 1);
        assert_ptr_equal(strstr(play.out.base, rows[i].status), play.out.base);
        assert_string_equal(strstr(play.out.base, "\r\n\r\n") + 4, rows[i].body);
        play_teardown(NULL);
        play_setup(NULL);
    }
}

/* --- requests --- */

#define USER "{\"role\":\"user\",\"content\":\"u [[stub tokens=1]]\"}"
#define ASSISTANT "{\"role\":\"assistant\",\"content\":\"a\"}"
#define VERSION "anthropic-version: 2023-06-01\r\nx-api-key: k\r\n"

static bool ask(const char *headers, const char *body)
{
    static struct stub_server server;
    struct lt_buffer text = {0};
    struct stub_http http = {0};
    uint64_t keys = server.counters.requests_with_key;
    stub_script_init(&server.presets);
    lt_buffer_appendf(&text,
                      "POST /v1/messages?beta=true HTTP/1.1\r\n%sContent-Length: %zu\r\n\r\n%s",
                      headers, strlen(body), body);
    assert_int_equal(stub_http_read(&http, text.base, text.len), STUB_HTTP_READY);
    bool plays = stub_routes_answer(&server, &http.request, &play.out, &play.player, 0);
    assert_int_equal(server.counters.requests_with_key - keys, strstr(headers, "key") != NULL);
    stub_http_finish(&http);
    lt_buffer_free(&text);
    lt_buffer_free(&server.last_head);
    lt_buffer_free(&server.last_body);
    return plays;
}

static void requests_are_checked_as_the_service_does(void **state)
{
    (void)state;
    static const struct {
        const char *headers, *body, *message; /* NULL: accepted */
    } rows[] = {
        {VERSION, "{\"max_tokens\":9,\"messages\":[" USER "]}", NULL},
        {VERSION,
         "{\"max_tokens\":9,\"system\":[{\"type\":\"text\",\"text\":\"s\"}],\"messages\":"
         "[" USER "," ASSISTANT "," USER "]}",
         NULL},
        {"x-api-key: k\r\n", "{\"max_tokens\":9,\"messages\":[" USER "]}",
         "anthropic-version: header is required"},
        {VERSION, "{\"messages\":[" USER "]}", "max_tokens: Field required"},
        {VERSION, "{\"max_tokens\":9,\"messages\":[" ASSISTANT "," USER "]}",
         "messages: first message must use the"},
        {VERSION, "{\"max_tokens\":9,\"messages\":[]}", "messages: first message must use the"},
        {VERSION,
         "{\"max_tokens\":9,\"messages\":[{\"role\":\"system\",\"content\":\"s\"}," USER "]}",
         "messages: Unexpected role"},
        {VERSION,
         "{\"max_tokens\":9,\"messages\":[" USER ",{\"role\":\"assistant\",\"content\":\"\"}," USER
         "]}",
         "messages: text content blocks must be non-empty"},
        {VERSION,
         "{\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
         "\"text\":\"\"}]}]}",
         "messages: text content blocks must be non-empty"},
        {VERSION, "{\"max_tokens\":9}", "the body is not a chat request in JSON"},
        {VERSION,
         "{\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"[[stub x]]\"}]}",
         "unknown stub directive 'x'"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bool accepted = rows[i].message == NULL;
        assert_int_equal(ask(rows[i].headers, rows[i].body), accepted);
        if (!accepted) {
            lt_buffer_append(&play.out, "", 1);
            assert_ptr_equal(strstr(play.out.base, "HTTP/1.1 400 "), play.out.base);
            assert_non_null(strstr(play.out.base, "{\"type\":\"error\",\"error\":{\"type\":"
                                                  "\"invalid_request_error\",\"message\":\""));
            assert_non_null(strstr(play.out.base, rows[i].message));
        }
        play_teardown(NULL);
        play_setup(NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whole_streams, play_setup, play_teardown),
        cmocka_unit_test_setup_teardown(directives_bend_this_dialect_too, play_setup,
                                        play_teardown),
        cmocka_unit_test_setup_teardown(replies_without_a_stream, play_setup, play_teardown),
        cmocka_unit_test_setup_teardown(requests_are_checked_as_the_service_does, play_setup,
                                        play_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
