/* The `anthropic` dialect: what real servers send, and what must become of it. */
#include <stdio.h>

#include "provider_fixture.h"

#define BLOCK_START(members)                                                                       \
    "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{" members "}}"
#define BLOCK_DELTA(members)                                                                       \
    "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{" members "}}"
#define TEXT(text) BLOCK_DELTA("\"type\":\"text_delta\",\"text\":\"" text "\"")
#define THINKING(text) BLOCK_DELTA("\"type\":\"thinking_delta\",\"thinking\":\"" text "\"")
#define MESSAGE_START(usage)                                                                       \
    "{\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":"     \
    "\"assistant\",\"model\":\"m\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,"    \
    "\"usage\":" usage "}}"
#define MESSAGE_DELTA(reason, usage)                                                               \
    "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":" reason                               \
    ",\"stop_sequence\":null},\"usage\":" usage "}"

static int set_up(void **state)
{
    static struct gw_provider_stream stream;

    gw_provider_stream_init(&stream, gw_provider_find("anthropic"), TEXT_MAX);
    *state = &stream;
    return 0;
}

static int tear_down(void **state)
{
    gw_provider_stream_dispose(*state);
    return 0;
}

static void test_the_provider(void **state)
{
    const struct gw_provider *provider = gw_provider_find("anthropic");

    (void)state;
    assert_string_equal(provider->name, "anthropic");
    assert_string_equal(provider->path, "/messages");
    assert_string_equal(provider->key_prefix, "x-api-key: ");
    assert_string_equal(provider->headers[0], "anthropic-version: 2023-06-01");
    assert_null(provider->headers[1]);
    provider = gw_provider_find("openai");
    assert_string_equal(provider->path, "/chat/completions");
    assert_string_equal(provider->key_prefix, "Authorization: Bearer ");
    assert_null(provider->headers[0]);
    assert_null(gw_provider_find("OpenAI"));
    assert_null(gw_provider_find(""));
}

static void test_the_usual_stream(void **state)
{
    struct gw_provider_stream *stream = *state;

    struct gw_delta delta = ask(stream, MESSAGE_START("{\"input_tokens\":3,\"output_tokens\":1}"));
    assert_true(is_empty(&delta));
    delta = ask(stream, BLOCK_START("\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\""));
    assert_true(is_empty(&delta));
    expect(stream, THINKING("Hm"), "", "Hm");
    delta = ask(stream, BLOCK_DELTA("\"type\":\"signature_delta\",\"signature\":\"Eq=\""));
    assert_true(is_empty(&delta));
    delta = ask(stream, "{\"type\":\"content_block_stop\",\"index\":0}");
    assert_true(is_empty(&delta));
    delta = ask(stream, BLOCK_START("\"type\":\"text\",\"text\":\"\""));
    assert_true(is_empty(&delta));
    delta = ask(stream, "{\"type\": \"ping\"}");
    assert_true(is_empty(&delta));
    expect(stream, TEXT("Hi"), "Hi", "");
    delta = ask(stream, MESSAGE_DELTA("\"end_turn\"", "{\"output_tokens\":5}"));
    assert_true(delta.has_finish && delta.has_usage && !delta.ended);
    assert_string_equal(delta.finish_reason, "stop");
    assert_int_equal(delta.prompt_tokens, 3);
    assert_int_equal(delta.completion_tokens, 5);
    delta = ask(stream, "{\"type\":\"message_stop\"}");
    assert_true(delta.ended && !delta.has_finish && !delta.has_usage);
    /* some proxies add OpenAI's end */
    delta = ask(stream, "[DONE]");
    assert_true(delta.ended);
}

static void test_nothing_to_add(void **state)
{
    static const char *const texts[] = {
        "",
        " ",
        "{}",
        "{\"type\":\"ping\"}",
        "{\"type\":null}",
        "{\"type\":7,\"delta\":\"x\"}",
        "{\"type\":\"content_block_stop\",\"index\":0}",
        "{\"type\":\"invented_tomorrow\",\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}",
        "{\"type\":\"content_block_delta\",\"index\":0}",
        "{\"type\":\"content_block_delta\",\"delta\":null}",
        "{\"type\":\"content_block_delta\",\"delta\":{}}",
        BLOCK_DELTA("\"type\":\"text_delta\""),
        BLOCK_DELTA("\"type\":\"text_delta\",\"text\":null"),
        BLOCK_DELTA("\"type\":\"text_delta\",\"thinking\":\"x\""),
        BLOCK_DELTA("\"type\":\"thinking_delta\",\"text\":\"x\",\"thinking\":7"),
        BLOCK_DELTA("\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"text\\\":\""),
        BLOCK_DELTA("\"type\":\"citations_delta\",\"citation\":{\"cited_text\":\"x\"}"),
        BLOCK_DELTA("\"type\":\"invented_tomorrow\",\"text\":[\"x\"],\"thinking\":\"x\""),
        BLOCK_START("\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"n\",\"input\":{\"text\":\"x\"}"),
        BLOCK_START("\"type\":\"redacted_thinking\",\"data\":\"x\""),
        BLOCK_START("\"type\":\"web_search_tool_result\",\"content\":{\"error\":\"x\"}"),
        "{\"type\":\"content_block_start\",\"content_block\":null}",
        "{\"type\":\"message_start\"}",
        "{\"type\":\"message_start\",\"message\":null}",
        "{\"type\":\"message_start\",\"message\":{\"content\":null,\"stop_reason\":\"end_turn\"}}",
        "{\"type\":\"message_delta\"}",
        "{\"type\":\"message_delta\",\"delta\":null,\"usage\":null}",
        "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":null},\"usage\":[]}",
        "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":7},\"usage\":{}}",
        "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"\"}}",
        "{\"type\":\"ping\",\"error\":null}",
    };

    expect_nothing(*state, texts, sizeof(texts) / sizeof(texts[0]));
}

static void test_texts(void **state)
{
    expect(*state, TEXT("a\\n\\\"\\u00e9\\ud83d\\ude00\\/"), "a\n\"\xc3\xa9" GRIN "/", "");
    expect(*state, TEXT("a\\u0000b"), "a" U_FFFD "b", "");
    /* a block may begin with text */
    expect(*state, BLOCK_START("\"type\":\"text\",\"text\":\"a\",\"citations\":null"), "a", "");
    expect(*state, BLOCK_START("\"type\":\"thinking\",\"thinking\":\"b\""), "", "b");
    expect(*state,
           "{\"type\":\"message_start\",\"message\":{\"content\":[{\"type\":\"text\",\"text\":"
           "\"a\"},{\"type\":\"thinking\",\"thinking\":\"b\"}]}}",
           "a", "b");
    /* keys in any order, escaped or repeated; the last one counts, as in JavaScript */
    expect(*state,
           "{\"d\\u0065lta\":{\"text\":\"b\",\"typ\\u0065\":\"text_d\\u0065lta\"},\"index\":0,"
           "\"type\":\"content_block_delt\\u0061\"}",
           "b", "");
    expect(*state, BLOCK_DELTA("\"text\":\"a\",\"type\":\"text_delta\",\"text\":\"b\""), "b", "");
    /* without a type the key tells */
    expect(*state, BLOCK_DELTA("\"text\":\"a\",\"thinking\":\"b\""), "a", "b");
    /* ill-formed UTF-8 costs a character, not the answer */
    expect(*state,
           TEXT("a\xff"
                "b\xc3"),
           "a" U_FFFD "b" U_FFFD, "");
    expect(*state, THINKING("\xed\xa0\xbd"), "", U_FFFD U_FFFD U_FFFD);
    expect(*state, BLOCK_DELTA("\"x\":\"\xff\",\"text\":\"a\""), "a", "");
}

static void test_pairs_split_over_deltas(void **state)
{
    struct gw_provider_stream *stream = *state;
    struct gw_delta delta;

    expect(stream, TEXT("a\\ud83d"), "a", "");
    expect(stream, "{\"type\":\"ping\"}", "", "");
    expect(stream, THINKING("r\\ud83d"), "", "r");
    expect(stream, TEXT("\\ude00b"), GRIN "b", "");
    expect(stream, THINKING("\\ude00"), "", GRIN);
    expect(stream, TEXT("\\ud83d"), "", "");
    expect(stream, TEXT("a"), U_FFFD "a", "");
    expect(stream, TEXT("\\ude00"), U_FFFD, "");
    /* at the end */
    expect(stream, TEXT("x\\ud83d"), "x", "");
    delta = ask(stream, "{\"type\":\"message_stop\"}");
    assert_true(delta.ended);
    expect_text(delta.content, delta.content_len, U_FFFD);
    assert_int_equal(gw_provider_stream_finish(stream, &delta), 0);
    assert_true(is_empty(&delta));
    expect(stream, TEXT("x\\ud83d"), "x", "");
    assert_int_equal(gw_provider_stream_finish(stream, &delta), 0);
    expect_text(delta.content, delta.content_len, U_FFFD);
}

static void test_stop_reasons(void **state)
{
    static const struct {
        const char *theirs, *ours;
    } rows[] = {
        {"end_turn", "stop"},
        {"stop_sequence", "stop"},
        {"max_tokens", "length"},
        {"model_context_window_exceeded", "length"},
        {"tool_use", "tool_calls"},
        {"refusal", "content_filter"},
        {"pause_turn", "pause_turn"},
        {"end_turn ", "end_turn "},
        {"end\\u005fturn", "stop"},
        /* cut at a character: 30 bytes, then an é that does not fit any more */
        {"123456789012345678901234567890\xc3\xa9", "123456789012345678901234567890"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[256];
        (void)snprintf(text, sizeof(text), MESSAGE_DELTA("\"%s\"", "null"), rows[i].theirs);
        struct gw_delta delta = ask(*state, text);
        assert_true(delta.has_finish && !delta.has_usage);
        assert_string_equal(delta.finish_reason, rows[i].ours);
    }
}

static void test_usage(void **state)
{
    static const struct {
        const char *first, *last;
        bool has;
        int32_t prompt, completion;
    } rows[] = {
        {"{\"input_tokens\":3,\"output_tokens\":1}", "{\"output_tokens\":5}", true, 3, 5},
        {"{\"input_tokens\":3,\"cache_creation_input_tokens\":10,\"cache_read_input_tokens\":200,"
         "\"cache_creation\":{\"ephemeral_5m_input_tokens\":10}}",
         "{\"output_tokens\":5}", true, 213, 5},
        /* totals: what comes later replaces, what is missing stays */
        {"{\"input_tokens\":0,\"cache_read_input_tokens\":7}",
         "{\"input_tokens\":40,\"output_tokens\":6}", true, 47, 6},
        {"{\"input_tokens\":3,\"cache_read_input_tokens\":7}",
         "{\"cache_read_input_tokens\":null,\"output_tokens\":6}", true, 10, 6},
        {"null", "{\"output_tokens\":2}", true, 0, 2},
        {"{\"input_tokens\":2147483647}",
         "{\"cache_read_input_tokens\":99999999999,\"output_tokens\":-1}", true, INT32_MAX, 0},
        /* the output is not known to be whole */
        {"{\"input_tokens\":3,\"output_tokens\":1}", "null", false, 0, 0},
        {"{\"input_tokens\":3,\"output_tokens\":1}", "{\"output_tokens\":\"6\"}", false, 0, 0},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct gw_provider_stream stream;
        char text[512];
        gw_provider_stream_init(&stream, gw_provider_find("anthropic"), TEXT_MAX);
        (void)snprintf(text, sizeof(text), MESSAGE_START("%s"), rows[i].first);
        struct gw_delta delta = ask(&stream, text);
        assert_true(is_empty(&delta));
        (void)snprintf(text, sizeof(text), MESSAGE_DELTA("null", "%s"), rows[i].last);
        delta = ask(&stream, text);
        assert_int_equal(delta.has_usage, rows[i].has);
        assert_int_equal(delta.prompt_tokens, rows[i].prompt);
        assert_int_equal(delta.completion_tokens, rows[i].completion);
        gw_provider_stream_dispose(&stream);
    }
    /* there may be more than one message_delta */
    (void)ask(*state, MESSAGE_DELTA("null", "{\"output_tokens\":5}"));
    struct gw_delta delta = ask(*state, MESSAGE_DELTA("\"end_turn\"", "{\"output_tokens\":9}"));
    assert_int_equal(delta.completion_tokens, 9);
}

static void test_errors(void **state)
{
    static const struct {
        const char *name, *text;
        bool retryable, spent;
    } rows[] = {
#define ERROR(type) "{\"type\":\"error\",\"error\":{\"type\":\"" type "\",\"message\":\"m\"}}"
        {"error", ERROR("overloaded_error"), true, false},
        {"", ERROR("overloaded_error"), true, false},
        {"message", ERROR("rate_limit_error"), true, false},
        {"", ERROR("api_error"), true, false},
        {"", ERROR("timeout_error"), true, false},
        {"", ERROR("invalid_request_error"), false, false},
        {"", ERROR("billing_error"), false, true},
        {"", "{\"type\":\"error\"}", false, false},
        {"", "{\"error\":{\"type\":\"overloaded_error\"},\"type\":\"error\"}", true, false},
        {"error", "not json", false, false},
        {"error", "", false, false},
        /* other servers' shape, and an error beside a text */
        {"", "{\"error\":{\"message\":\"m\",\"code\":503}}", true, false},
        {"", "{\"type\":\"content_block_delta\",\"delta\":{\"text\":\"x\"},\"error\":\"no\"}",
         false, false},
        {"",
         "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"x\"},\"error\":{\"code\":500}}",
         true, false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct gw_delta delta;
        assert_int_equal(send(*state, rows[i].name, rows[i].text, strlen(rows[i].text), &delta), 0);
        if (!delta.failed || delta.failed_retryable != rows[i].retryable ||
            delta.failed_spent != rows[i].spent) {
            fail_msg("failed %d, retryable %d, spent %d: %s", delta.failed, delta.failed_retryable,
                     delta.failed_spent, rows[i].text);
        }
        assert_int_equal(delta.content_len + delta.reasoning_len, 0);
        assert_false(delta.has_finish);
    }
}

static void test_malformed(void **state)
{
    static const char *const texts[] = {
        "x",
        "{",
        "[]",
        "null",
        "7",
        "\"text\"",
        "<html>",
        "{\"type\":\"ping\"",
        "{\"type\":\"ping\"}}",
        "{\"type\":\"ping\",}",
        "{\"type\":\"error\",\"error\":",
        "{\"type\":\"content_block_delta\",\"delta\":\"x\"}",
        "{\"type\":\"content_block_delta\",\"delta\":[]}",
        BLOCK_DELTA("\"type\":\"text_delta\",\"text\":7"),
        BLOCK_DELTA("\"type\":\"text_delta\",\"text\":[\"x\"]"),
        BLOCK_DELTA("\"text\":{}"),
        BLOCK_DELTA("\"type\":\"text_delta\",\"text\":\"x\n\""),
        BLOCK_DELTA("\"type\":\"text_delta\",\"text\":\"x\"}"),
        BLOCK_START("\"type\":\"text\",\"text\":true"),
        "{\"type\":\"content_block_start\",\"content_block\":\"x\"}",
        "{\"type\":\"message_start\",\"message\":\"x\"}",
        "{\"type\":\"message_start\",\"message\":{\"content\":\"x\"}}",
        "{\"type\":\"message_start\",\"message\":{\"content\":[\"x\"]}}",
        "[DONE",
    };

    expect_malformed(*state, texts, sizeof(texts) / sizeof(texts[0]));
    /* and the stream goes on to work */
    expect(*state, TEXT("a"), "a", "");
}

static void test_depth_bomb(void **state)
{
    enum { DEPTH = 100000 };
    char *text = malloc(DEPTH + 16);
    struct gw_delta delta;

    assert_non_null(text);
    for (int i = 0; i + 9 < DEPTH; i += 9) {
        memcpy(text + i, "{\"delta\":", 9);
    }
    assert_int_equal(send(*state, "", text, DEPTH / 9 * 9, &delta), SL_E_UPSTREAM_MALFORMED);
    free(text);
}

static void test_text_limit(void **state)
{
    struct gw_provider_stream stream;
    struct gw_delta delta;

    (void)state;
    gw_provider_stream_init(&stream, gw_provider_find("anthropic"), 8);
    expect(&stream, TEXT("12345678"), "12345678", "");
    expect(&stream, THINKING("12345678"), "", "12345678");
    assert_int_equal(send(&stream, "", TEXT("123456789"), strlen(TEXT("123456789")), &delta),
                     SL_E_ANSWER_TOO_LONG);
    assert_int_equal(
        send(&stream, "", TEXT("123456789012345"), strlen(TEXT("123456789012345")), &delta),
        SL_E_ANSWER_TOO_LONG);
    gw_provider_stream_dispose(&stream);
}

static void test_whole_bodies(void **state)
{
    static const struct {
        const char *body;
        int err;
        const char *content;
    } rows[] = {
        {"{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\","
         "\"content\":"
         "[{\"type\":\"thinking\",\"thinking\":\"r\",\"signature\":\"s\"},{\"type\":\"text\","
         "\"text\":\"Hi\"},{\"type\":\"tool_use\",\"input\":{\"text\":\"x\"}},null,{\"type\":"
         "\"text\",\"text\":\" you\"}],\"stop_reason\":\"max_tokens\",\"stop_sequence\":null,"
         "\"usage\":{\"input_tokens\":3,\"cache_read_input_tokens\":4,\"output_tokens\":2}}\n",
         0, "Hi you"},
        {"{\"content\":[{\"type\":\"text\",\"text\":\"a\\ud83d\"}]}", 0, "a" U_FFFD},
        {"{\"type\":\"message\",\"content\":[]}", 0, ""},
        {"{\"type\":\"message\",\"content\":null}", SL_E_UPSTREAM_MALFORMED, NULL},
        {"{\"type\":\"message\",\"content\":\"Hi\"}", SL_E_UPSTREAM_MALFORMED, NULL},
        {"{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":7}]}",
         SL_E_UPSTREAM_MALFORMED, NULL},
        {"{\"type\":\"message\",\"content\":[\"Hi\"]}", SL_E_UPSTREAM_MALFORMED, NULL},
        {"{\"detail\":\"Not Found\"}", SL_E_UPSTREAM_MALFORMED, NULL},
        {"<html></html>", SL_E_UPSTREAM_MALFORMED, NULL},
        {"", SL_E_UPSTREAM_MALFORMED, NULL},
    };
    static const char error[] = "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}";
    struct gw_delta delta;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *body = rows[i].body;
        assert_int_equal(gw_provider_stream_body(*state, body, strlen(body), &delta), rows[i].err);
        if (rows[i].err == 0) {
            expect_text(delta.content, delta.content_len, rows[i].content);
            assert_true(delta.ended);
            assert_int_equal(delta.has_usage, i == 0);
        }
        if (i == 0) {
            assert_string_equal(delta.finish_reason, "length");
            expect_text(delta.reasoning, delta.reasoning_len, "r");
            assert_int_equal(delta.prompt_tokens, 7);
            assert_int_equal(delta.completion_tokens, 2);
        }
    }
    assert_int_equal(gw_provider_stream_body(*state, error, strlen(error), &delta), 0);
    assert_true(delta.failed && delta.failed_retryable);
}

/* ---- the wire: the same answer, however the bytes arrive */

struct answer {
    struct gw_provider_stream stream;
    char content[64], reasoning[64], finish_reason[GW_FINISH_REASON_SIZE];
    int32_t prompt_tokens, completion_tokens;
    unsigned ended;
};

static int on_event(void *context, const struct gw_sse_event *event)
{
    struct answer *answer = context;
    struct gw_delta delta;

    assert_int_equal(gw_provider_stream_event(&answer->stream, event, &delta), 0);
    check_texts(&delta);
    assert_false(delta.failed);
    strncat(answer->content, delta.content, delta.content_len);
    strncat(answer->reasoning, delta.reasoning, delta.reasoning_len);
    if (delta.has_finish) {
        memcpy(answer->finish_reason, delta.finish_reason, sizeof(answer->finish_reason));
    }
    if (delta.has_usage) {
        answer->prompt_tokens = delta.prompt_tokens;
        answer->completion_tokens = delta.completion_tokens;
    }
    answer->ended += delta.ended;
    return 0;
}

static void check_wire(const char *wire, size_t cut)
{
    struct answer answer = {.ended = 0};
    struct gw_sse_parser parser;
    size_t len = strlen(wire);

    gw_provider_stream_init(&answer.stream, gw_provider_find("anthropic"), TEXT_MAX);
    gw_sse_parser_init(&parser, TEXT_MAX, on_event, &answer);
    if (cut <= len) {
        assert_int_equal(gw_sse_parser_feed(&parser, wire, cut), 0);
        assert_int_equal(gw_sse_parser_feed(&parser, wire + cut, len - cut), 0);
    } else { /* one by one */
        for (size_t i = 0; i < len; i++) {
            assert_int_equal(gw_sse_parser_feed(&parser, wire + i, 1), 0);
        }
    }
    assert_string_equal(answer.content, "\xc3\xa9" GRIN "!" U_FFFD);
    assert_string_equal(answer.reasoning, "Hm");
    assert_string_equal(answer.finish_reason, "stop");
    assert_int_equal(answer.prompt_tokens, 12);
    assert_int_equal(answer.completion_tokens, 5);
    assert_int_equal(answer.ended, 1);
    gw_sse_parser_dispose(&parser);
    gw_provider_stream_dispose(&answer.stream);
}

#define EVENT(name, data, eol) "event: " name eol "data: " data eol eol
#define UNNAMED(name, data, eol) "data:" data eol eol
#define WIRE(EVENT, eol)                                                                           \
    EVENT("message_start", MESSAGE_START("{\"input_tokens\":12,\"output_tokens\":1}"), eol)        \
    EVENT("content_block_start", BLOCK_START("\"type\":\"thinking\",\"thinking\":\"\""), eol)      \
    EVENT("ping", "{\"type\": \"ping\"}", eol)                                                     \
    EVENT("content_block_delta", THINKING("Hm"), eol)                                              \
    EVENT("content_block_stop", "{\"type\":\"content_block_stop\",\"index\":0}", eol)              \
    ": keep-alive" eol eol EVENT("content_block_start",                                            \
                                 BLOCK_START("\"type\":\"text\",\"text\":\"\""), eol)              \
        EVENT("content_block_delta", TEXT("\xc3\xa9\\ud83d"), eol)                                 \
            EVENT("content_block_delta", TEXT("\\ude00!\xff"), eol)                                \
                EVENT("content_block_stop", "{\"type\":\"content_block_stop\",\"index\":1}", eol)  \
                    EVENT("message_delta", MESSAGE_DELTA("\"end_turn\"", "{\"output_tokens\":5}"), \
                          eol) EVENT("message_stop", "{\"type\":\"message_stop\"}", eol)

static void test_every_cut_of_the_wire(void **state)
{
    static const char *const wires[] = {WIRE(EVENT, "\n"), WIRE(EVENT, "\r\n"), WIRE(EVENT, "\r"),
                                        WIRE(UNNAMED, "\n")};

    (void)state;
    for (size_t i = 0; i < sizeof(wires) / sizeof(wires[0]); i++) {
        for (size_t cut = 0; cut <= strlen(wires[i]) + 1; cut++) {
            check_wire(wires[i], cut);
        }
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_provider),
        TEST(test_the_usual_stream),
        TEST(test_nothing_to_add),
        TEST(test_texts),
        TEST(test_pairs_split_over_deltas),
        TEST(test_stop_reasons),
        TEST(test_usage),
        TEST(test_errors),
        TEST(test_malformed),
        TEST(test_depth_bomb),
        TEST(test_text_limit),
        TEST(test_whole_bodies),
        TEST(test_every_cut_of_the_wire),
    };

    return cmocka_run_group_tests_name("provider_anthropic", tests, NULL, NULL);
}
