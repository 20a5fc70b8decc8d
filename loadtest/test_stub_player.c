/* The player on a clock of the test's own: what is said, when, and how it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "clock.h"
#include "test_play.h"

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

static void the_whole_stream(void **state)
{
    (void)state;
    play_start(&stub_openai, "[[stub tokens=2 id=x]]", true, 0);
    assert_int_equal(play_all(0), STUB_PLAY_END);
    assert_non_null(
        strstr(play.out.base, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"));
    play_assert_body(TWO_TOKENS);
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
        play_start(&stub_openai, messages[i], true, 0);
        assert_int_equal(play_all(0), STUB_PLAY_END);
        play_assert_body(TWO_TOKENS);
        play_teardown(NULL);
        play_setup(NULL);
    }
}

static void every_pause_is_kept(void **state)
{
    (void)state;
    play_start(&stub_openai, "[[stub tokens=2 delay=10 first=20 role_then=30 gap=5]]", true, 1000);
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
        assert_int_equal(stub_player_run(&play.player, wake_us - (i != 0)), STUB_PLAY_WAIT);
        assert_true(rows[i].appears == NULL || play.out.base == NULL ||
                    memmem(play.out.base, play.out.len, rows[i].appears, strlen(rows[i].appears)) ==
                        NULL);
        assert_int_equal(stub_player_run(&play.player, wake_us), STUB_PLAY_WAIT);
        assert_true(rows[i].appears == NULL || memmem(play.out.base, play.out.len, rows[i].appears,
                                                      strlen(rows[i].appears)) != NULL);
        wake_us = play.player.wake_us;
    }
    assert_int_equal(play_all(71000), STUB_PLAY_END);
}

static void late_wakeups_do_not_drift(void **state)
{
    (void)state;
    play_start(&stub_openai, "[[stub tokens=10 gap=5]]", true, 0);
    assert_int_equal(stub_player_run(&play.player, 7000), STUB_PLAY_WAIT);
    assert_int_equal(play.player.wake_us, 10000);
}

static void silence_is_filled_with_comments(void **state)
{
    (void)state;
    play_start(&stub_openai, "[[stub tokens=1 stall_after=0 comments=15]]", true, 0);
    assert_int_equal(stub_player_run(&play.player, 0), STUB_PLAY_WAIT);
    assert_int_equal(play.player.wake_us, 15000);
    size_t before = play.out.len;
    assert_int_equal(stub_player_run(&play.player, 15000), STUB_PLAY_WAIT);
    assert_int_equal(play.player.wake_us, 30000);
    assert_int_equal(play.out.len - before, strlen("f\r\n: keep-alive\n\n\n\r\n"));
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
        play_start(&stub_openai, rows[i].message, true, 0);
        assert_int_equal(play_all(1000), rows[i].outcome);
        struct lt_buffer text = play_body(&whole);
        assert_false(whole);
        assert_non_null(strstr(text.base, "\" tok1\""));
        assert_null(strstr(text.base, "tok2"));
        assert_null(strstr(text.base, "\"stop\""));
        lt_buffer_free(&text);
        play_teardown(NULL);
        play_setup(NULL);
    }
    play_start(&stub_openai, "[[stub stall_after=0]]", true, 0);
    assert_int_equal(play_all(1000), STUB_PLAY_WAIT);
    assert_int_equal(play.player.wake_us, LT_NEVER_US);
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
        {"[[stub tokens=3 error_after=1]]", "[DONE]", "\"stop\""},
        {"[[stub tokens=1 pings]]", "event: ping\ndata: {", ": keep-alive"},
        {"[[stub tokens=1 comments]]", ": keep-alive\n\n\n", "event: ping"},
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
        play_assert_stream(&stub_openai, rows[i].message, rows[i].present, rows[i].absent);
    }
}

static void bursts_are_bounded(void **state)
{
    (void)state;
    play_start(&stub_openai, "[[stub tokens=100000]]", true, 0);
    assert_int_equal(stub_player_run(&play.player, 0), STUB_PLAY_MORE);
    assert_in_range(play.out.len, 64 * 1024, 66 * 1024);
    lt_buffer_consume(&play.out, play.out.len);
    assert_int_equal(stub_player_run(&play.player, 0), STUB_PLAY_MORE);
    assert_in_range(play.out.len, 64 * 1024, 66 * 1024);
}

static void without_stream_it_is_one_object(void **state)
{
    (void)state;
    play_start(&stub_openai, "[[stub tokens=3 gap=10 first=5]]", false, 0);
    assert_int_equal(stub_player_run(&play.player, 0), STUB_PLAY_WAIT);
    assert_int_equal(play.player.wake_us, 35000);
    assert_int_equal(play.out.len, 0);
    assert_int_equal(play_all(35000), STUB_PLAY_END);
    lt_buffer_append(&play.out, "", 1);
    assert_non_null(
        strstr(play.out.base, "\"content\":\"tok0 tok1 tok2\"},\"finish_reason\":\"stop\""));
}

static void refusals_are_whole_replies(void **state)
{
    (void)state;
    static const struct {
        const char *message, *head, *header, *body;
    } rows[] = {
        {"[[stub status=429 retry_after=7]]", "HTTP/1.1 429 Too Many Requests\r\n",
         "\r\nRetry-After: 7\r\n",
         "\r\n\r\n{\"error\":{\"message\":\"scripted refusal\",\"type\":"
         "\"rate_limit_error\",\"param\":null,\"code\":429}}"},
        {"[[stub status=503 retry_after=1]]", "HTTP/1.1 503 Service Unavailable\r\n",
         "\r\nRetry-After: 1\r\n", "\"server_error\""},
        {"[[stub quota]]", "HTTP/1.1 429 Too Many Requests\r\n", "application/json",
         "\"code\":\"insufficient_quota\""},
        {"[[stub quota status=402]]", "HTTP/1.1 402 Payment Required\r\n", "application/json",
         "\"type\":\"insufficient_quota\""},
        {"[[stub html]]", "HTTP/1.1 502 Bad Gateway\r\n", "text/html", "<h1>502 Bad Gateway</h1>"},
        {"[[stub html status=200]]", "HTTP/1.1 200 OK\r\n", "text/html", "<h1>200 OK</h1>"},
        {"[[stub empty]]", "HTTP/1.1 502 Bad Gateway\r\n", "Content-Length: 0\r\n", ""},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        play_start(&stub_openai, rows[i].message, true, 0);
        assert_int_equal(play_all(0), STUB_PLAY_END);
        lt_buffer_append(&play.out, "", 1);
        assert_ptr_equal(strstr(play.out.base, rows[i].head), play.out.base);
        assert_non_null(strstr(play.out.base, rows[i].header));
        assert_non_null(strstr(play.out.base, rows[i].body));
        play_teardown(NULL);
        play_setup(NULL);
    }
}

static size_t head_len(const char *message, bool stream)
{
    play_start(&stub_openai, message, stream, 0);
    assert_int_equal(play_all(0), STUB_PLAY_END);
    const char *blank = memmem(play.out.base, play.out.len, "\r\n\r\n", 4);
    size_t len = (size_t)(blank - play.out.base);
    play_teardown(NULL);
    play_setup(NULL);
    return len;
}

static void heads_grow_by_the_bytes_asked_for(void **state)
{
    (void)state;
    size_t stream_len = head_len("[[stub tokens=1]]", true);
    size_t whole_len = head_len("[[stub tokens=1]]", false);
    size_t refused_len = head_len("[[stub status=500]]", true);
    assert_int_equal(head_len("[[stub tokens=1 head_bytes=0]]", true), stream_len);
    assert_int_equal(head_len("[[stub tokens=1 head_bytes=13]]", true), stream_len + 13);
    assert_int_equal(head_len("[[stub tokens=1 head_bytes=1999]]", true), stream_len + 1999);
    assert_int_equal(head_len("[[stub tokens=1 head_bytes=400000]]", true), stream_len + 400000);
    assert_int_equal(head_len("[[stub tokens=1 head_bytes=2000]]", false), whole_len + 2000);
    assert_int_equal(head_len("[[stub status=500 head_bytes=2001]]", true), refused_len + 2001);
}

static void one_line_can_be_a_mebibyte(void **state)
{
    (void)state;
    bool whole;
    play_start(&stub_openai, "[[stub bigline=1048576 tokens=1]]", true, 0);
    assert_int_equal(play_all(0), STUB_PLAY_END);
    struct lt_buffer text = play_body(&whole);
    const char *line = strstr(text.base, "xxx");
    assert_non_null(line);
    assert_int_equal(strspn(line, "x"), 1048576);
    lt_buffer_free(&text);
}

/** `utf8` and `bytes` together: some chunk begins in the middle of a character. */
static void characters_are_cut(void **state)
{
    (void)state;
    play_start(&stub_openai, "[[stub utf8 bytes]]", true, 0);
    assert_int_equal(play_all(0), STUB_PLAY_END);
    assert_non_null(memmem(play.out.base, play.out.len, "\r\n1\r\n\xc3\r\n1\r\n\xbc\r\n", 14));
}

static void dropped_without_a_byte(void **state)
{
    (void)state;
    play_start(&stub_openai, "[[stub drop=fin]]", true, 0);
    assert_int_equal(play_all(0), STUB_PLAY_FIN);
    assert_int_equal(play.out.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_whole_stream, play_setup, play_teardown),
        cmocka_unit_test_setup_teardown(bytes_and_splits_change_only_the_framing, play_setup,
                                        play_teardown),
        cmocka_unit_test_setup_teardown(every_pause_is_kept, play_setup, play_teardown),
        cmocka_unit_test_setup_teardown(late_wakeups_do_not_drift, play_setup, play_teardown),
        cmocka_unit_test_setup_teardown(silence_is_filled_with_comments, play_setup, play_teardown),
        cmocka_unit_test_setup_teardown(cuts_come_after_their_token, play_setup, play_teardown),
        cmocka_unit_test_setup_teardown(endings_that_lack_something, play_setup, play_teardown),
        cmocka_unit_test_setup_teardown(bursts_are_bounded, play_setup, play_teardown),
        cmocka_unit_test_setup_teardown(without_stream_it_is_one_object, play_setup, play_teardown),
        cmocka_unit_test_setup_teardown(refusals_are_whole_replies, play_setup, play_teardown),
        cmocka_unit_test_setup_teardown(heads_grow_by_the_bytes_asked_for, play_setup,
                                        play_teardown),
        cmocka_unit_test_setup_teardown(one_line_can_be_a_mebibyte, play_setup, play_teardown),
        cmocka_unit_test_setup_teardown(characters_are_cut, play_setup, play_teardown),
        cmocka_unit_test_setup_teardown(dropped_without_a_byte, play_setup, play_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
