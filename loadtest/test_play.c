/* A stage for replies: see test_play.h. */
#include "test_play.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "chunk_decoder.h"

struct play play;

int play_setup(void **state)
{
    (void)state;
    memset(&play, 0, sizeof(play));
    return 0;
}

int play_teardown(void **state)
{
    (void)state;
    stub_player_finish(&play.player);
    lt_buffer_free(&play.out);
    return 0;
}

void play_start(const struct stub_dialect *dialect, const char *message, bool stream,
                uint64_t now_us)
{
    char error[STUB_SCRIPT_ERROR_MAX];
    struct stub_script script;
    struct stub_chat chat = {.messages = 1, .model = "m", .stream = stream, .include_usage = true};
    stub_script_init(&script);
    lt_buffer_append_str(&chat.user_text, message);
    lt_buffer_append_str(&chat.roles, "user");
    assert_int_equal(stub_script_parse(&script, message, strlen(message), error), 0);
    struct stub_player_ask ask = {
        .dialect = dialect,
        .script = &script,
        .chat = &chat,
        .number = 1,
        .created_s = 1,
        .request_bytes = 12,
        .keep_alive = true,
    };
    stub_player_start(&play.player, &ask, &play.out, now_us);
    stub_chat_finish(&chat);
}

enum stub_play play_all(uint64_t now_us)
{
    enum stub_play outcome;
    while ((outcome = stub_player_run(&play.player, now_us)) == STUB_PLAY_MORE) {
    }
    return outcome;
}

struct lt_buffer play_body(bool *ret_whole)
{
    struct lt_chunk_decoder decoder = {0};
    struct lt_buffer text = {0};
    lt_buffer_append(&play.out, "", 1);
    const char *at = strstr(play.out.base, "\r\n\r\n") + 4;
    const char *end = play.out.base + play.out.len - 1;
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

void play_assert_body(const char *expected)
{
    bool whole;
    struct lt_buffer text = play_body(&whole);
    assert_string_equal(text.base, expected);
    assert_true(whole);
    lt_buffer_free(&text);
}

void play_assert_stream(const struct stub_dialect *dialect, const char *message,
                        const char *present, const char *absent)
{
    bool whole;
    play_start(dialect, message, true, 0);
    assert_int_equal(play_all(0), STUB_PLAY_END);
    struct lt_buffer text = play_body(&whole);
    assert_true(whole);
    assert_non_null(strstr(text.base, present));
    assert_null(strstr(text.base, absent));
    lt_buffer_free(&text);
    play_teardown(NULL);
    play_setup(NULL);
}
