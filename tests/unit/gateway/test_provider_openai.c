/* The `openai` dialect: what real servers send, and what must become of it. */
#include <stdio.h>

#include "provider_fixture.h"

#define DELTA(members) "{\"choices\":[{\"index\":0,\"delta\":{" members "}}]}"
#define CONTENT(text) DELTA("\"content\":\"" text "\"")

static int set_up(void **state)
{
    static struct gw_provider_stream stream;

    gw_provider_stream_init(&stream, gw_provider_find("openai"), TEXT_MAX);
    *state = &stream;
    return 0;
}

static int tear_down(void **state)
{
    gw_provider_stream_dispose(*state);
    return 0;
}

static void test_the_usual_stream(void **state)
{
    struct gw_provider_stream *stream = *state;

    struct gw_delta delta =
        ask(stream, "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,"
                    "\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\","
                    "\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}");
    assert_int_equal(delta.content_len, 0);
    assert_false(delta.has_finish || delta.has_usage || delta.ended || delta.failed);
    expect(stream,
           "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}]}",
           "Hi", "");
    delta = ask(stream, "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}");
    assert_true(delta.has_finish);
    assert_string_equal(delta.finish_reason, "stop");
    delta = ask(stream, "{\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1,"
                        "\"total_tokens\":4,\"prompt_tokens_details\":{\"cached_tokens\":0}}}");
    assert_true(delta.has_usage);
    assert_int_equal(delta.prompt_tokens, 3);
    assert_int_equal(delta.completion_tokens, 1);
    delta = ask(stream, "[DONE]");
    assert_true(delta.ended);
    assert_false(delta.has_finish);
    delta = ask(stream, " [DONE] " + 1);
    assert_true(delta.ended);
}

static void test_nothing_to_add(void **state)
{
    static const char *const texts[] = {
        "",
        " ",
        "{}",
        "{\"choices\":[]}",
        "{\"choices\":null}",
        "{\"choices\":[null]}",
        "{\"choices\":[{}]}",
        "{\"choices\":[{\"index\":0}]}",
        "{\"choices\":[{\"delta\":null}]}",
        "{\"choices\":[{\"index\":null,\"delta\":{\"content\":null,\"role\":null}}]}",
        "{\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}",
        "{\"choices\":[{\"delta\":{},\"finish_reason\":\"\"}]}",
        "{\"choices\":[{\"delta\":{},\"finish_reason\":7}]}",
        "{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"other\"},\"finish_reason\":\"stop\"}]"
        "}",
        "{\"usage\":null,\"error\":null}",
        "{\"usage\":[],\"error\":false}",
        "{\"error\":\"\"}",
        "{\"error\":0}",
        "{\"choices\":[{\"delta\":{\"reasoning\":{\"effort\":1},\"reasoning_content\":null}}]}",
        "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\"}}"
        "]}}]}",
        "{\"type\":\"keepalive\",\"sequence_number\":4}",
    };

    expect_nothing(*state, texts, sizeof(texts) / sizeof(texts[0]));
}

static void test_finish_reasons(void **state)
{
    struct gw_delta delta = ask(*state, "{\"choices\":[{\"finish_reason\":\"tool_calls\",\"delta\":"
                                        "{\"content\":\"a\"},\"index\":0}]}");
    assert_string_equal(delta.finish_reason, "tool_calls");
    expect_text(delta.content, delta.content_len, "a");
    delta = ask(*state, "{\"choices\":[{\"finish_reason\":\"abort\"}]}");
    assert_string_equal(delta.finish_reason, "abort");
    /* cut at a character: 30 bytes, then an é that does not fit any more */
    delta = ask(*state,
                "{\"choices\":[{\"finish_reason\":\"123456789012345678901234567890\xc3\xa9\"}]}");
    assert_string_equal(delta.finish_reason, "123456789012345678901234567890");
    delta = ask(*state, "{\"choices\":[{\"finish_reason\":\"st\\u006fp\\ud83d\\u0000\"}]}");
    assert_string_equal(delta.finish_reason, "stop" U_FFFD U_FFFD);
}

static void test_usage(void **state)
{
    static const struct {
        const char *usage;
        bool has;
        int32_t prompt, completion;
    } rows[] = {
        {"{\"prompt_tokens\":412,\"completion_tokens\":6}", true, 412, 6},
        {"{\"completion_tokens\":6}", true, 0, 6},
        {"{\"prompt_tokens\":1e3,\"completion_tokens\":2.9}", true, 1000, 2},
        {"{\"prompt_tokens\":99999999999999999999,\"completion_tokens\":-5}", true, INT32_MAX, 0},
        {"{\"prompt_tokens\":null,\"completion_tokens\":\"6\"}", false, 0, 0},
        {"{}", false, 0, 0},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[256];
        (void)snprintf(text, sizeof(text),
                       "{\"usage\":%s,\"choices\":[{\"delta\":{\"content\":\"x\"}}]}",
                       rows[i].usage);
        struct gw_delta delta = ask(*state, text);
        expect_text(delta.content, delta.content_len, "x");
        assert_int_equal(delta.has_usage, rows[i].has);
        assert_int_equal(delta.prompt_tokens, rows[i].prompt);
        assert_int_equal(delta.completion_tokens, rows[i].completion);
    }
}

static void test_reasoning(void **state)
{
    expect(*state, DELTA("\"reasoning_content\":\"a\""), "", "a");
    expect(*state, DELTA("\"reasoning\":\"b\""), "", "b");
    /* both names mean the same text, in either order */
    expect(*state, DELTA("\"reasoning\":\"c\",\"reasoning_content\":\"c\""), "", "c");
    expect(*state, DELTA("\"reasoning_content\":\"d\",\"reasoning\":\"d\",\"content\":\"e\""), "e",
           "d");
    expect(*state, DELTA("\"reasoning_content\":null,\"reasoning\":\"f\""), "", "f");
    expect(*state, DELTA("\"reasoning_content\":\"\",\"reasoning\":\"g\""), "", "g");
    expect(*state, DELTA("\"reasoning_content\":[1],\"reasoning\":\"h\""), "", "h");
}

static void test_texts(void **state)
{
    expect(*state, CONTENT("a\\n\\\"\\u00e9\\ud83d\\ude00\\/"), "a\n\"\xc3\xa9" GRIN "/", "");
    expect(*state, CONTENT("a\\u0000b"), "a" U_FFFD "b", "");
    expect(*state, CONTENT("\xed\x95\x9c\xea\xb5\xad\xed\x95\x9c"),
           "\xed\x95\x9c\xea\xb5\xad\xed\x95\x9c", "");
    /* escaped and repeated keys: the last one counts, as in JavaScript */
    expect(*state, "{\"ch\\u006fices\":[{\"d\\u0065lta\":{\"content\":\"a\",\"content\":\"b\"}}]}",
           "b", "");
    /* ill-formed UTF-8 costs a character, not the answer */
    expect(*state,
           CONTENT("a\xff"
                   "b\xc3"),
           "a" U_FFFD "b" U_FFFD, "");
    expect(*state, CONTENT("\xed\xa0\xbd"), U_FFFD U_FFFD U_FFFD, "");
    expect(*state, "{\"x\":\"\xff\",\"choices\":[{\"delta\":{\"content\":\"a\"},\"index\":0.0}]}",
           "a", "");
}

static void test_pairs_split_over_chunks(void **state)
{
    struct gw_provider_stream *stream = *state;

    expect(stream, CONTENT("a\\ud83d"), "a", "");
    expect(stream, CONTENT("\\ude00b"), GRIN "b", "");
    /* with role, usage and reasoning chunks in between; each field holds its own half */
    expect(stream, DELTA("\"content\":\"\\ud83d\",\"reasoning\":\"r\\uD83D\""), "", "r");
    expect(stream, DELTA("\"role\":\"assistant\",\"content\":\"\""), "", "");
    expect(stream, "{\"choices\":[],\"usage\":{\"prompt_tokens\":1}}", "", "");
    expect(stream, DELTA("\"reasoning\":\"\\uDE00\""), "", GRIN);
    expect(stream, CONTENT("\\uDE00"), GRIN, "");
    /* a chain: each chunk ends one pair and begins the next */
    expect(stream, CONTENT("\\ud83d"), "", "");
    expect(stream, CONTENT("\\ude00\\ud83d"), GRIN, "");
    expect(stream, CONTENT("\\ude00"), GRIN, "");
}

static void test_lone_halves(void **state)
{
    struct gw_provider_stream *stream = *state;
    struct gw_delta delta;

    expect(stream, CONTENT("\\ude00a"), U_FFFD "a", "");
    expect(stream, CONTENT("\\ud83da"), U_FFFD "a", "");
    expect(stream, CONTENT("\\ude00\\ude00"), U_FFFD U_FFFD, "");
    expect(stream, CONTENT("\\ud83d"), "", "");
    expect(stream, CONTENT("a"), U_FFFD "a", "");
    expect(stream, CONTENT("\\ud83d"), "", "");
    expect(stream, CONTENT("\\ud83d"), U_FFFD, "");
    expect(stream, CONTENT("\xf0\x9f\x98\x80"), U_FFFD GRIN, "");
    /* at the end */
    expect(stream, DELTA("\"content\":\"x\\ud83d\",\"reasoning\":\"y\\ud83d\""), "x", "y");
    assert_int_equal(gw_provider_stream_finish(stream, &delta), 0);
    expect_text(delta.content, delta.content_len, U_FFFD);
    expect_text(delta.reasoning, delta.reasoning_len, U_FFFD);
    assert_int_equal(gw_provider_stream_finish(stream, &delta), 0);
    assert_int_equal(delta.content_len + delta.reasoning_len, 0);
    expect(stream, CONTENT("\\ud83d"), "", "");
    delta = ask(stream, "[DONE]");
    assert_true(delta.ended);
    expect_text(delta.content, delta.content_len, U_FFFD);
    assert_int_equal(gw_provider_stream_finish(stream, &delta), 0);
    assert_int_equal(delta.content_len, 0);
}

/* All ways to cut a text of escapes into chunks give the same text. */
static void test_every_cut_of_escapes(void **state)
{
    static const char *const units[] = {"\\ud83d", "\\ude00", "a",       "\\ud83d",
                                        "\\ud83d", "\\ude00", "\\ude00", "\\u20ac"};
    const char expected[] = GRIN "a" U_FFFD GRIN U_FFFD "\xe2\x82\xac";
    struct gw_provider_stream *stream = *state;

    for (unsigned cuts = 0; cuts < 128; cuts++) {
        char all[256] = "", piece[128] = "", chunk[256];
        struct gw_delta delta;
        for (unsigned i = 0; i < 8; i++) {
            strcat(piece, units[i]);
            if (i == 7 || (cuts >> i & 1) != 0) {
                (void)snprintf(chunk, sizeof(chunk), CONTENT("%s"), piece);
                delta = ask(stream, chunk);
                strncat(all, delta.content, delta.content_len);
                piece[0] = '\0';
            }
        }
        assert_string_equal(all, expected);
    }
}

/* How they are judged is upstream_error.c's. */
static void test_errors(void **state)
{
    static const struct {
        const char *text;
        bool retryable, spent;
    } rows[] = {
        {"{\"error\":{\"message\":\"m\",\"type\":\"t\",\"code\":429}}", true, false},
        {"{\"error\":{\"code\":429,\"type\":\"insufficient_quota\"}}", false, true},
        {"{\"error\":\"bad input\"}", false, false},
        {"{\"error\":{}}", false, false},
        {"{\"error\":true}", false, false},
        {"{\"object\":\"error\",\"message\":\"m\",\"type\":\"BadRequestError\",\"code\":400}",
         false, false},
        {"{\"object\":\"error\",\"message\":\"m\",\"type\":\"x\",\"code\":503}", true, false},
        {"{\"error\":{\"code\":503},\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":"
         "\"error\"}]}",
         true, false},
        {"{\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"error\"}],\"error\":{"
         "\"code\":400}}",
         false, false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct gw_delta delta = ask(*state, rows[i].text);
        if (!delta.failed || delta.failed_retryable != rows[i].retryable ||
            delta.failed_spent != rows[i].spent) {
            fail_msg("failed %d, retryable %d, spent %d: %s", delta.failed, delta.failed_retryable,
                     delta.failed_spent, rows[i].text);
        }
        assert_int_equal(delta.content_len, 0);
        assert_false(delta.has_finish);
    }
}

static void test_named_events(void **state)
{
    static const char error[] = "{\"message\":\"m\",\"code\":500}";
    struct gw_delta delta;

    assert_int_equal(send(*state, "error", error, strlen(error), &delta), 0);
    assert_true(delta.failed && delta.failed_retryable && !delta.failed_spent);
    assert_int_equal(send(*state, "error", "", 0, &delta), 0);
    assert_true(delta.failed && !delta.failed_retryable);
    assert_int_equal(send(*state, "ping", CONTENT("x"), strlen(CONTENT("x")), &delta), 0);
    assert_true(is_empty(&delta));
    assert_int_equal(send(*state, "ping", "not json", 8, &delta), 0);
    assert_true(is_empty(&delta));
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
        "{\"choices\":{}}",
        "{\"choices\":\"x\"}",
        "{\"choices\":[7]}",
        "{\"choices\":[{\"delta\":\"x\"}]}",
        "{\"choices\":[{\"delta\":{\"content\":7}}]}",
        "{\"choices\":[{\"delta\":{\"content\":[\"x\"]}}]}",
        "{\"choices\":[{\"delta\":{\"content\":\"x\"}}]",
        "{\"choices\":[{\"delta\":{\"content\":\"x\"}}]}}",
        "{\"choices\":[{\"delta\":{\"content\":\"x\"}}],}",
        "{\"choices\":[{\"delta\":{\"content\":\"x\n\"}}]}",
        "[DONE",
        "[DONE]]",
    };

    expect_malformed(*state, texts, sizeof(texts) / sizeof(texts[0]));
    /* and the stream goes on to work */
    expect(*state, CONTENT("a"), "a", "");
}

static void test_depth_bomb(void **state)
{
    enum { DEPTH = 100000 };
    char *text = malloc(DEPTH + 16);
    struct gw_delta delta;

    assert_non_null(text);
    memcpy(text, "{\"x\":", 5);
    memset(text + 5, '[', DEPTH);
    assert_int_equal(send(*state, "", text, DEPTH + 5, &delta), SL_E_UPSTREAM_MALFORMED);
    for (int i = 0; i + 10 < DEPTH; i += 9) {
        memcpy(text + i, "{\"error\":", 9);
    }
    assert_int_equal(send(*state, "", text, DEPTH / 9 * 9, &delta), SL_E_UPSTREAM_MALFORMED);
    assert_int_equal(send(*state, "error", text, DEPTH / 9 * 9, &delta), 0);
    free(text);
}

static void test_text_limit(void **state)
{
    struct gw_provider_stream stream;
    struct gw_delta delta;

    (void)state;
    gw_provider_stream_init(&stream, gw_provider_find("openai"), 8);
    expect(&stream, CONTENT("12345678"), "12345678", "");
    assert_int_equal(send(&stream, "", CONTENT("123456789"), strlen(CONTENT("123456789")), &delta),
                     SL_E_ANSWER_TOO_LONG);
    assert_int_equal(
        send(&stream, "", CONTENT("123456789012345"), strlen(CONTENT("123456789012345")), &delta),
        SL_E_ANSWER_TOO_LONG);
    expect(&stream, DELTA("\"content\":\"12345678\",\"reasoning\":\"12345678\""), "12345678",
           "12345678");
    /* a half that waits does not count; the joined pair does */
    expect(&stream, CONTENT("12345678\\ud83d"), "12345678", "");
    expect(&stream, CONTENT("\\ude001234"), GRIN "1234", "");
    expect(&stream, CONTENT("\\ud83d"), "", "");
    assert_int_equal(
        send(&stream, "", CONTENT("\\ude0012345"), strlen(CONTENT("\\ude0012345")), &delta),
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
        {"{\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Hi\","
         "\"reasoning_content\":\"r\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3,"
         "\"completion_tokens\":1}}\n",
         0, "Hi"},
        {"{\"choices\":[{\"message\":{\"content\":\"a\\ud83d\"}}]}", 0, "a" U_FFFD},
        {"{\"choices\":[]}", 0, ""},
        {"{\"detail\":\"Not Found\"}", SL_E_UPSTREAM_MALFORMED, NULL},
        {"<html></html>", SL_E_UPSTREAM_MALFORMED, NULL},
        {"", SL_E_UPSTREAM_MALFORMED, NULL},
    };
    struct gw_delta delta;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *body = rows[i].body;
        assert_int_equal(gw_provider_stream_body(*state, body, strlen(body), &delta), rows[i].err);
        if (rows[i].err == 0) {
            expect_text(delta.content, delta.content_len, rows[i].content);
            assert_true(delta.ended);
        }
        if (i == 0) {
            assert_string_equal(delta.finish_reason, "stop");
            expect_text(delta.reasoning, delta.reasoning_len, "r");
            assert_int_equal(delta.prompt_tokens, 3);
        }
    }
    assert_int_equal(gw_provider_stream_body(*state, "{\"error\":\"overloaded\"}", 22, &delta), 0);
    assert_true(delta.failed && delta.failed_retryable);
    /* in a stream, `message` is a copy of the whole answer so far and must not be added */
    expect(*state,
           "{\"choices\":[{\"message\":{\"content\":\"a b\"},\"delta\":{\"content\":\"b\"}}]}", "b",
           "");
}

static void test_large_buffers_are_given_back(void **state)
{
    enum { LEN = 100000 };
    struct gw_provider_stream stream;
    struct gw_delta delta;
    char *text = malloc(LEN + 64);

    (void)state;
    assert_non_null(text);
    gw_provider_stream_init(&stream, gw_provider_find("openai"), 2 * LEN);
    size_t len = (size_t)snprintf(text, 64, "{\"choices\":[{\"delta\":{\"content\":\"");
    memset(text + len, 'x', LEN);
    memcpy(text + len + LEN, "\"}}]}", 5);
    assert_int_equal(send(&stream, "", text, len + LEN + 5, &delta), 0);
    assert_int_equal(delta.content_len, LEN);
    expect(&stream, CONTENT("a"), "a", "");
    assert_true(stream.texts.content.capacity < LEN);
    gw_provider_stream_dispose(&stream);
    free(text);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_usual_stream),
        TEST(test_nothing_to_add),
        TEST(test_finish_reasons),
        TEST(test_usage),
        TEST(test_reasoning),
        TEST(test_texts),
        TEST(test_pairs_split_over_chunks),
        TEST(test_lone_halves),
        TEST(test_every_cut_of_escapes),
        TEST(test_errors),
        TEST(test_named_events),
        TEST(test_malformed),
        TEST(test_depth_bomb),
        TEST(test_text_limit),
        TEST(test_whole_bodies),
        TEST(test_large_buffers_are_given_back),
    };

    return cmocka_run_group_tests_name("provider_openai", tests, NULL, NULL);
}
