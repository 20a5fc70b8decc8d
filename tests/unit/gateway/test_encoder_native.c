/* The native encoder: exact bytes, and a round trip of hostile text through the SSE parser. */
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>
#include <jansson.h>

#include "encoder_native.h"
#include "sse_parser.h"

static void test_exact_bytes(void **state)
{
    static const char payload[] = "\"session_id\":\"s\"";
    const struct gw_event session = {SL_EVENT_SESSION_ID, 1, payload, sizeof(payload) - 1};
    const struct gw_event token = {SL_EVENT_TOKEN, 3, "a\"\n", 3};
    struct sl_buffer out;

    (void)state;
    sl_buffer_init(&out, 4096);
    assert_int_equal(gw_encoder_native_event(&session, NULL, &out), 0);
    assert_int_equal(gw_encoder_native_event(&token, NULL, &out), 0);
    static const char wanted[] =
        "data: {\"type\":\"session_id\",\"seq\":1,\"session_id\":\"s\"}\n\n"
        "data: {\"type\":\"token\",\"seq\":3,\"content\":\"a\\\"\\n\"}\n\n";
    assert_int_equal(out.len, sizeof(wanted) - 1);
    assert_memory_equal(out.base, wanted, out.len);
    sl_buffer_clear(&out);
    assert_int_equal(gw_encoder_native_event(&token, "t-1", &out), 0);
    assert_memory_equal(out.base, "id: t-1.3\ndata: {", 17);
    sl_buffer_clear(&out);
    assert_int_equal(gw_encoder_native_heartbeat(false, &out), 0);
    assert_int_equal(gw_encoder_native_heartbeat(true, &out), 0);
    assert_memory_equal(out.base, ": hb\n\n: hb\n", 11);
    sl_buffer_dispose(&out);
}

struct got {
    unsigned events;
    char text[4096];
    size_t len;
};

static int on_event(void *context, const struct gw_sse_event *event)
{
    struct got *got = context;
    json_t *root = json_loadb(event->text, event->text_len, JSON_ALLOW_NUL, NULL);
    const json_t *content = json_object_get(root, "content");

    assert_non_null(content);
    got->events++;
    got->len = json_string_length(content);
    memcpy(got->text, json_string_value(content), got->len);
    json_decref(root);
    return 0;
}

static void test_hostile_text_stays_inside_its_event(void **state)
{
    static const char text[] =
        "\n\ndata: {\"type\":\"done\"}\n\nid: 1\r\revent: x\n\xe2\x80\xa8\xe2\x80\xa9"
        "\x01\x1f\x7f\\\"<script>\xf0\x9f\x98\x80\0end";
    const struct gw_event token = {SL_EVENT_TOKEN, 7, text, sizeof(text) - 1};
    struct got got = {0};
    struct gw_sse_parser parser;
    struct sl_buffer out;

    (void)state;
    sl_buffer_init(&out, 8192);
    assert_int_equal(gw_encoder_native_event(&token, NULL, &out), 0);
    gw_sse_parser_init(&parser, 65536, on_event, &got);
    assert_int_equal(gw_sse_parser_feed(&parser, out.base, out.len), 0);
    assert_int_equal(got.events, 1);
    assert_int_equal(got.len, sizeof(text) - 1);
    assert_memory_equal(got.text, text, got.len);
    gw_sse_parser_dispose(&parser);
    sl_buffer_dispose(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact_bytes),
        cmocka_unit_test(test_hostile_text_stays_inside_its_event),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
