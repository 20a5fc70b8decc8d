/* The player on a clock of the test's own: what is said, when, and how it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "chunk_decoder.h"
#include "clock.h"
#include "stub_player.h"

static struct stub_player player;
static struct lt_buffer out;

static void start(const char *message, bool stream, uint64_t now_us)
{
    char error[STUB_SCRIPT_ERROR_MAX];
    struct stub_script script;
    struct stub_chat chat = {.messages = 1, .model = "m", .stream = stream, .include_usage = true};
    stub_script_init(&script);
    lt_buffer_append_str(&chat.user_text, message);
    lt_buffer_append_str(&chat.roles, "user");
    assert_int_equal(stub_script_parse(&script, message, strlen(message), error), 0);
    struct stub_player_ask ask = {
        .dialect = &stub_openai,
        .script = &script,
        .chat = &chat,
        .number = 1,
        .created_s = 1,
        .request_bytes = 12,
        .keep_alive = true,
    };
    stub_player_start(&player, &ask, &out, now_us);
    stub_chat_finish(&chat);
}

static int stop(void **state)
{
    (void)state;
    stub_player_finish(&player);
    lt_buffer_free(&out);
    return 0;
}

static int clear(void **state)
{
    (void)state;
    memset(&player, 0, sizeof(player));
    memset(&out, 0, sizeof(out));
    return 0;
}

/** Plays to the end without pauses. */
static enum stub_play play_all(uint64_t now_us)
{
    enum stub_play outcome;
    while ((outcome = stub_player_run(&player, now_us)) == STUB_PLAY_MORE) {
    }
    return outcome;
}

/** The decoded body in `out`; `ret_whole` says whether the last chunk was there. */
static struct lt_buffer body(bool *ret_whole)
{
    struct lt_chunk_decoder decoder = {0};
    struct lt_buffer text = {0};
    lt_buffer_append(&out, "", 1);
    const char *at = strstr(out.base, "\r\n\r\n") + 4;
    const char *end = out.base + out.len - 1;
    while (at < end) {
        const char *run;
        size_t run_len;
        ssize_t used = lt_chunk_decoder_read(&decoder, at, (size_t)(end - at), &run, &run_len);
        assert_true(used > 0);
        lt_buffer_append(&text, run, run_len);
        at += used;
    }
    lt_buffer_append(&text, "", 1);
    *ret_whole = lt_chunk_decoder_done(&decoder);
    return text;
}

#define OPENING                                                                                    \
    "{\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\","            \
    "\"choices\":["
#define DELTA(json, finish)                                                                        \
    "data: " OPENING "{\"index\":0,\"delta\":{" json "},\"finish_reason\":" finish                 \
    "}],\"usage\":null}\n\n"
static const char TWO_TOKENS[] = DELTA("\"role\":\"assistant\",\"content\":\"\"", "null")
    DELTA("\"content\":\"tok0\"", "null") DELTA("\"content\":\" tok1\"", "null")
        DELTA("", "\"stop\"") "data: " OPENING "],\"usage\":{\"prompt_tokens\":3,\"completion_"
                              "tokens\":2,\"total_tokens\":5}}\n\n"
                              "data: [DONE]\n\n";

static void assert_body_is(const char *expected)
{
    bool whole;
    struct lt_buffer text = body(&whole);
    assert_string_equal(text.base, expected);
    assert_true(whole);
    lt_buffer_free(&text);
}

static void the_whole_stream(void **state)
{
    (void)state;
    start("[[stub tokens=2 id=x]]", true, 0);
    assert_int_equal(play_all(0), STUB_PLAY_END);
    assert_non_null(strstr(out.base, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"));
    assert_body_is(TWO_TOKENS);
}

static void bytes_and_splits_change_only_the_framing(void **state)
{
    (void)state;
    static const char *const messages[] = {
        "[[stub tokens=2 id=x bytes]]",
        "[[stub tokens=2 id=x split=1]]",
        "[[stub tokens=2 id=x split=2]]",
    };
    for (size_t i = 0; i < 3; i++) {
        start(messages[i], true, 0);
        assert_int_equal(play_all(0), STUB_PLAY_END);
        assert_body_is(TWO_TOKENS);
        stop(NULL);
        clear(NULL);
    }
}

static void every_pause_is_kept(void **state)
{
    (void)state;
    start("[[stub tokens=2 delay=10 first=20 role_then=30 gap=5]]", true, 1000);
    static const struct {
        uint64_t now_us;
        const char *appears;
    } rows[] = {
        {1000, NULL},        {11000, "200 OK"},    {31000, "\"role\""},
        {61000, "\"tok0\""}, {66000, "\" tok1\""},
    };
    uint64_t wake_us = 1000;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(wake_us, rows[i].now_us);
        assert_int_equal(stub_player_run(&player, wake_us - (i != 0)), STUB_PLAY_WAIT);
        assert_true(rows[i].appears == NULL || out.base == NULL ||
                    memmem(out.base, out.len, rows[i].appears, strlen(rows[i].appears)) == NULL);
        assert_int_equal(stub_player_run(&player, wake_us), STUB_PLAY_WAIT);
        assert_true(rows[i].appears == NULL ||
                    memmem(out.base, out.len, rows[i].appears, strlen(rows[i].appears)) != NULL);
        wake_us = player.wake_us;
    }
    assert_int_equal(play_all(71000), STUB_PLAY_END);
}

static void late_wakeups_do_not_drift(void **state)
{
    (void)state;
    start("[[stub tokens=10 gap=5]]", true, 0);
    assert_int_equal(stub_player_run(&player, 7000), STUB_PLAY_WAIT);
    assert_int_equal(player.wake_us, 10000);
}

static void silence_is_filled_with_comments(void **state)
{
    (void)state;
    start("[[stub tokens=1 stall_after=0 comments=15]]", true, 0);
    assert_int_equal(stub_player_run(&player, 0), STUB_PLAY_WAIT);
    assert_int_equal(player.wake_us, 15000);
    size_t before = out.len;
    assert_int_equal(stub_player_run(&player, 15000), STUB_PLAY_WAIT);
    assert_int_equal(player.wake_us, 30000);
    assert_int_equal(out.len - before, strlen("f\r\n: keep-alive\n\n\n\r\n"));
}

static void cuts_come_after_their_token(void **state)
{
    (void)state;
    static const struct {
        const char *message;
        enum stub_play outcome;
    } rows[] = {
        {"[[stub tokens=9 fin_after=2]]", STUB_PLAY_FIN},
        {"[[stub tokens=9 rst_after=2]]", STUB_PLAY_RST},
        {"[[stub tokens=9 stall_after=2]]", STUB_PLAY_WAIT},
        {"[[stub tokens=2 fin_after=2]]", STUB_PLAY_FIN},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bool whole;
        start(rows[i].message, true, 0);
        assert_int_equal(play_all(1000), rows[i].outcome);
        struct lt_buffer text = body(&whole);
        assert_false(whole);
        assert_non_null(strstr(text.base, "\" tok1\""));
        assert_null(strstr(text.base, "tok2"));
        assert_null(strstr(text.base, "\"stop\""));
        lt_buffer_free(&text);
        stop(NULL);
        clear(NULL);
    }
    start("[[stub stall_after=0]]", true, 0);
    assert_int_equal(play_all(1000), STUB_PLAY_WAIT);
    assert_int_equal(player.wake_us, LT_NEVER_US);
}

static void endings_that_lack_something(void **state)
{
    (void)state;
    static const struct {
        const char *message, *present, *absent;
    } rows[] = {
        {"[[stub tokens=1 no_done]]", "\"stop\"", "[DONE]"},
        {"[[stub tokens=1 no_finish]]", "[DONE]", "\"stop\""},
        {"[[stub tokens=1 no_usage]]", "[DONE]", "\"usage\""},
        {"[[stub tokens=3 error_after=1]]", "{\"error\":", "tok1"},
        {"[[stub tokens=1 finish=length]]", "\"length\"", "\"stop\""},
        {"[[stub tool_calls]]", "\"tool_calls\":[{\"index\":0", "You said"},
        {"[[stub reasoning=1 reasoning_key=reasoning tokens=1]]", "{\"reasoning\":\"think0\"}",
         "reasoning_content"},
        {"[[stub surrogates]]", "grin \\ud83d\"}", "\xed"},
        {"[[stub tokens=1 crlf]]", "}\r\n\r\ndata: ", "}\n"},
        {"[[stub tokens=1 cr]]", "}\r\rdata: ", "\n"},
        {"[[stub tokens=1 nospace]]", "data:{", "data: "},
        {"[[stub tokens=1 multiline]]", ",\ndata: \"", ",\""},
        {"[[stub text=a \"b\" \\c]]", " \\\"b\\\"", "You said"},
        {"[[stub echo]]", " roles=user", "You said"},
        {"[[stub tokens=1 malformed=0]]", ":\"to\n\n", "nothing"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bool whole;
        start(rows[i].message, true, 0);
        assert_int_equal(play_all(0), STUB_PLAY_END);
        struct lt_buffer text = body(&whole);
        assert_true(whole);
        assert_non_null(strstr(text.base, rows[i].present));
        assert_null(strstr(text.base, rows[i].absent));
        lt_buffer_free(&text);
        stop(NULL);
        clear(NULL);
    }
}

static void bursts_are_bounded(void **state)
{
    (void)state;
    start("[[stub tokens=100000]]", true, 0);
    assert_int_equal(stub_player_run(&player, 0), STUB_PLAY_MORE);
    assert_in_range(out.len, 64 * 1024, 66 * 1024);
    lt_buffer_consume(&out, out.len);
    assert_int_equal(stub_player_run(&player, 0), STUB_PLAY_MORE);
    assert_in_range(out.len, 64 * 1024, 66 * 1024);
}

static void without_stream_it_is_one_object(void **state)
{
    (void)state;
    start("[[stub tokens=3 gap=10 first=5]]", false, 0);
    assert_int_equal(stub_player_run(&player, 0), STUB_PLAY_WAIT);
    assert_int_equal(player.wake_us, 35000);
    assert_int_equal(out.len, 0);
    assert_int_equal(play_all(35000), STUB_PLAY_END);
    lt_buffer_append(&out, "", 1);
    assert_non_null(strstr(out.base, "\"content\":\"tok0 tok1 tok2\"},\"finish_reason\":\"stop\""));
}

static void refusals_are_whole_replies(void **state)
{
    (void)state;
    start("[[stub status=429 retry_after=7]]", true, 0);
    assert_int_equal(play_all(0), STUB_PLAY_END);
    lt_buffer_append(&out, "", 1);
    assert_ptr_equal(strstr(out.base, "HTTP/1.1 429 Too Many Requests\r\n"), out.base);
    assert_non_null(strstr(out.base, "\r\nRetry-After: 7\r\n"));
    assert_non_null(strstr(out.base, "\"rate_limit_error\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_whole_stream, clear, stop),
        cmocka_unit_test_setup_teardown(bytes_and_splits_change_only_the_framing, clear, stop),
        cmocka_unit_test_setup_teardown(every_pause_is_kept, clear, stop),
        cmocka_unit_test_setup_teardown(late_wakeups_do_not_drift, clear, stop),
        cmocka_unit_test_setup_teardown(silence_is_filled_with_comments, clear, stop),
        cmocka_unit_test_setup_teardown(cuts_come_after_their_token, clear, stop),
        cmocka_unit_test_setup_teardown(endings_that_lack_something, clear, stop),
        cmocka_unit_test_setup_teardown(bursts_are_bounded, clear, stop),
        cmocka_unit_test_setup_teardown(without_stream_it_is_one_object, clear, stop),
        cmocka_unit_test_setup_teardown(refusals_are_whole_replies, clear, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
