/* The values in Redis: what goes in comes out, byte by byte; everything else is refused. Pure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache_key.h"
#include "cache_value.h"

#define ID "01890a5d-ac96-774b-bcce-b302099a8057"
#define TURN "01890a5d-ac96-774b-bcce-b302099a8058"

static struct sl_buffer value, out;

static int set_up(void **state)
{
    (void)state;
    sl_buffer_init(&value, 1 << 20);
    sl_buffer_init(&out, 1 << 20);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sl_buffer_dispose(&value);
    sl_buffer_dispose(&out);
    return 0;
}

static struct store_text text_of(const struct sl_buffer *buffer)
{
    return (struct store_text){buffer->base, buffer->len};
}

static struct store_text word(const char *text)
{
    return (struct store_text){text, strlen(text)};
}

static void expect_bytes(const struct sl_buffer *buffer, const char *bytes, size_t len)
{
    assert_int_equal(buffer->len, len);
    assert_memory_equal(buffer->base, bytes, len);
}

static void profiles_come_out_as_they_went_in(void **state)
{
    static const char *const users[] = {"ann", "a\"}:p\\b", "\xc3\xa4\xe2\x80\xa8\xf0\x9f\x98\x80",
                                        "user\nwith\tcontrol\x01"};
    static const char *const profiles[] = {
        "{}",
        "{ \"name\" : \"Ann\",\n\t\"n\": 1.50, \"big\": 12345678901234567890123 }",
        "{\"z\":1,\"a\":2,\"z\":3}",
        "{\"esc\":\"\\u0000\\ud83d\\ude00\\/"
        "\\n\",\"raw\":\"\xc3\xa4\xe2\x80\xa8\xe2\x80\xa9\x7f\"}",
    };

    (void)state;
    for (size_t u = 0; u < sizeof(users) / sizeof(users[0]); u++) {
        for (size_t p = 0; p < sizeof(profiles) / sizeof(profiles[0]); p++) {
            bool found = false;
            sl_buffer_clear(&value);
            sl_buffer_clear(&out);
            assert_int_equal(store_cache_value_write_profile(&value, users[u], strlen(users[u]),
                                                             true, word(profiles[p])),
                             0);
            assert_int_equal(store_cache_value_read_profile(text_of(&value), users[u],
                                                            strlen(users[u]), &found, &out),
                             0);
            assert_true(found);
            expect_bytes(&out, profiles[p], strlen(profiles[p]));
            assert_int_equal(
                store_cache_value_read_profile(text_of(&value), "eve", 3, &found, &out),
                SL_E_INVALID_VALUE);
        }
    }
}

static void absence_is_a_value_too(void **state)
{
    static const char expected[] = "{\"v\":1,\"u\":\"ann\",\"p\":null}";
    bool found = true;

    (void)state;
    assert_int_equal(store_cache_value_write_profile(&value, "ann", 3, false, word("x")), 0);
    expect_bytes(&value, expected, sizeof(expected) - 1);
    assert_int_equal(store_cache_value_read_profile(text_of(&value), "ann", 3, &found, &out), 0);
    assert_false(found);
    assert_int_equal(out.len, 0);
}

static struct store_message message_with(const char *content, size_t len)
{
    struct store_message message = {
        .role = STORE_ROLE_ASSISTANT,
        .status = STORE_STATUS_STOPPED,
        .created_at_us = 1700000000123456,
        .content = {content, len},
        .model = {"m", 1},
        .finish_reason = {"stop", 4},
        .prompt_tokens = 5,
        .completion_tokens = 6,
        .ttft_ms = 7,
    };

    assert_int_equal(sl_uuid_parse(ID, 36, &message.id), 0);
    assert_int_equal(sl_uuid_parse(TURN, 36, &message.turn_id), 0);
    return message;
}

static void messages_come_out_as_they_went_in(void **state)
{
    static const char expected[] = "{\"v\":1,\"u\":\"ann\",\"i\":\"" ID "\",\"n\":\"" TURN
                                   "\",\"r\":\"assistant\",\"s\":\"stopped\","
                                   "\"t\":1700000000123456,\"c\":\"hi \\\"there\\\"\"}";
    static const char *const contents[] = {"hi \"there\"", "", "line\r\nline\t\x01\x7f\\",
                                           "\xe2\x80\xa8\xf0\x9f\x98\x80", "{\"v\":2}"};

    (void)state;
    for (size_t i = 0; i < sizeof(contents) / sizeof(contents[0]); i++) {
        struct store_message in = message_with(contents[i], strlen(contents[i])), back;
        sl_buffer_clear(&value);
        sl_buffer_clear(&out);
        assert_int_equal(sl_buffer_append_str(&out, "before"), 0);
        assert_int_equal(store_cache_value_write_message(&value, "ann", 3, &in), 0);
        if (i == 0) {
            expect_bytes(&value, expected, sizeof(expected) - 1);
        }
        assert_int_equal(store_cache_value_read_message(text_of(&value), "ann", 3, &back, &out), 0);
        assert_true(sl_uuid_equal(&back.id, &in.id));
        assert_true(sl_uuid_equal(&back.turn_id, &in.turn_id));
        assert_int_equal(back.role, in.role);
        assert_int_equal(back.status, in.status);
        assert_int_equal(back.created_at_us, in.created_at_us);
        assert_int_equal(back.content.len, strlen(contents[i]));
        assert_int_equal(out.len, 6 + back.content.len);
        assert_memory_equal(out.base + 6, contents[i], back.content.len);
        assert_null(back.model.base);
        assert_null(back.finish_reason.base);
        assert_int_equal(back.prompt_tokens, -1);
        assert_int_equal(back.completion_tokens, -1);
        assert_true(back.ttft_ms < 0);
        assert_int_equal(store_cache_value_read_message(text_of(&value), "an", 2, &back, &out),
                         SL_E_INVALID_VALUE);
    }
}

static void every_role_and_status_comes_back(void **state)
{
    (void)state;
    for (enum store_role role = STORE_ROLE_USER; role <= STORE_ROLE_ASSISTANT; role++) {
        for (enum store_status s = STORE_STATUS_COMPLETE; s <= STORE_STATUS_FAILED; s++) {
            struct store_message in = message_with("x", 1), back;
            in.role = role;
            in.status = s;
            in.created_at_us = s == STORE_STATUS_FAILED ? INT64_MIN : INT64_MAX;
            sl_buffer_clear(&value);
            assert_int_equal(store_cache_value_write_message(&value, "u", 1, &in), 0);
            assert_int_equal(store_cache_value_read_message(text_of(&value), "u", 1, &back, &out),
                             0);
            assert_int_equal(back.role, role);
            assert_int_equal(back.status, s);
            assert_true(back.created_at_us == in.created_at_us);
        }
    }
}

static void anything_else_is_refused(void **state)
{
    static const char *const profiles[] = {
        "",
        "null",
        "[]",
        "\"x\"",
        "{}",
        "x",
        "{\"v\":1,\"u\":\"ann\"}",
        "{\"v\":1,\"p\":null}",
        "{\"u\":\"ann\",\"p\":null}",
        "{\"v\":2,\"u\":\"ann\",\"p\":null}",
        "{\"v\":1.0,\"u\":\"ann\",\"p\":null}",
        "{\"v\":\"1\",\"u\":\"ann\",\"p\":null}",
        "{\"v\":1,\"u\":\"Ann\",\"p\":null}",
        "{\"v\":1,\"u\":\"ann \",\"p\":null}",
        "{\"v\":1,\"u\":3,\"p\":null}",
        "{\"v\":1,\"u\":\"ann\",\"p\":{}}",
        "{\"v\":1,\"u\":\"ann\",\"p\":true}",
        "{\"v\":1,\"u\":\"ann\",\"p\":null} x",
        "{\"v\":1,\"u\":\"ann\",\"u\":\"ann\",\"p\":null}",
        "{\"v\":1,\"u\":\"ann\",\"p\":\"\\u0000\"}",
        "{\"v\":1,\"u\":\"ann\",\"p\":\"\xff\"}",
    };
    static const char good[] = "{\"v\":1,\"u\":\"ann\",\"i\":\"" ID "\",\"n\":\"" TURN
                               "\",\"r\":\"user\",\"s\":\"complete\",\"t\":1,\"c\":\"x\"}";
    static const struct {
        const char *from, *to;
    } changes[] = {
        {"\"v\":1", "\"v\":0"},
        {"ann", "bob"},
        {ID, "01890a5d-ac96-774b-bcce-b302099a805"},
        {ID, "01890a5d-ac96-774b-bcce-b302099a805x"},
        {"\"n\":\"" TURN "\"", "\"n\":null"},
        {"\"user\"", "\"system\""},
        {"\"user\"", "\"users\""},
        {"\"user\"", "1"},
        {"\"complete\"", "\"done\""},
        {"\"complete\"", "null"},
        {"\"t\":1", "\"t\":1.5"},
        {"\"t\":1", "\"t\":\"1\""},
        {"\"t\":1", "\"t\":99999999999999999999"},
        {"\"c\":\"x\"", "\"c\":null"},
        {"\"c\":\"x\"", "\"d\":\"x\""},
        {"\"c\":\"x\"", "\"c\":\"x\",\"c\":\"y\""},
        {"\"c\":\"x\"}", "\"c\":\"x\""},
    };
    bool found = true;
    struct store_message message;

    (void)state;
    for (size_t i = 0; i < sizeof(profiles) / sizeof(profiles[0]); i++) {
        if (store_cache_value_read_profile(word(profiles[i]), "ann", 3, &found, &out) !=
            SL_E_INVALID_VALUE) {
            fail_msg("accepted: %s", profiles[i]);
        }
    }
    assert_true(found); /* untouched */
    assert_int_equal(out.len, 0);
    assert_int_equal(store_cache_value_read_message(word(good), "ann", 3, &message, &out), 0);
    sl_buffer_clear(&out);
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        char text[512];
        const char *at = strstr(good, changes[i].from);
        assert_non_null(at);
        (void)snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - good), good, changes[i].to,
                       at + strlen(changes[i].from));
        if (store_cache_value_read_message(word(text), "ann", 3, &message, &out) !=
            SL_E_INVALID_VALUE) {
            fail_msg("accepted: %s", text);
        }
        assert_int_equal(out.len, 0);
    }
}

static void more_members_do_not_disturb(void **state)
{
    bool found;

    (void)state;
    assert_int_equal(store_cache_value_read_profile(
                         word(" {\"x\":[1,{\"v\":2}],\"p\":\"{}\",\"u\":\"ann\",\"v\":1} "), "ann",
                         3, &found, &out),
                     0);
    expect_bytes(&out, "{}", 2);
}

static void full_buffers_are_left_as_they_were(void **state)
{
    struct store_message in = message_with("some content", 12), back;

    (void)state;
    assert_int_equal(store_cache_value_write_message(&value, "ann", 3, &in), 0);
    for (size_t max = 1; max < value.len; max++) {
        struct sl_buffer small;
        sl_buffer_init(&small, max);
        assert_int_equal(sl_buffer_append(&small, "x", 1), 0);
        assert_int_equal(store_cache_value_write_message(&small, "ann", 3, &in), SL_E_LIMIT);
        assert_int_equal(small.len, 1);
        if (max < 13) {
            assert_int_equal(
                store_cache_value_read_message(text_of(&value), "ann", 3, &back, &small),
                SL_E_LIMIT);
            assert_int_equal(small.len, 1);
        }
        if (max < 30) {
            assert_int_equal(
                store_cache_value_write_profile(&small, "ann", 3, true, word("{\"a\":1}")),
                SL_E_LIMIT);
            assert_int_equal(small.len, 1);
        }
        sl_buffer_dispose(&small);
    }
    in.content.base = NULL;
    sl_buffer_clear(&value);
    assert_int_equal(store_cache_value_write_message(&value, "ann", 3, &in), SL_E_INVALID_VALUE);
    assert_int_equal(value.len, 0);
}

/* Every prefix and every changed byte of a good value: refused or read, never worse. */
static void survives_damage(void **state)
{
    struct store_message in = message_with("a\xc3\xa4\\\"b", 6), back;
    bool found;

    (void)state;
    assert_int_equal(store_cache_value_write_message(&value, "ann", 3, &in), 0);
    for (size_t len = 0; len < value.len; len++) {
        char *copy = malloc(len + 1); /* its own block, so that reading too far is seen */
        assert_non_null(copy);
        memcpy(copy, value.base, len);
        char *exact = realloc(copy, len > 0 ? len : 1);
        struct store_text text = {exact, len};
        assert_int_equal(store_cache_value_read_message(text, "ann", 3, &back, &out),
                         SL_E_INVALID_VALUE);
        assert_int_equal(store_cache_value_read_profile(text, "ann", 3, &found, &out),
                         SL_E_INVALID_VALUE);
        free(exact);
    }
    for (size_t at = 0; at < value.len; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            value.base[at] = (char)(value.base[at] ^ (1 << bit));
            sl_buffer_clear(&out);
            (void)!store_cache_value_read_message(text_of(&value), "ann", 3, &back, &out);
            value.base[at] = (char)(value.base[at] ^ (1 << bit));
        }
    }
    char *deep = malloc(200000);
    assert_non_null(deep);
    memset(deep, '[', 200000);
    assert_int_equal(
        store_cache_value_read_profile((struct store_text){deep, 200000}, "ann", 3, &found, &out),
        SL_E_INVALID_VALUE);
    free(deep);
    assert_int_equal(
        store_cache_value_read_profile((struct store_text){NULL, 0}, "ann", 3, &found, &out),
        SL_E_INVALID_VALUE);
}

static void keys_do_not_collide(void **state)
{
    struct store_cache_key a, b;
    struct sl_uuid session;
    char longest[STORE_USER_ID_MAX];

    (void)state;
    assert_int_equal(sl_uuid_parse(ID, 36, &session), 0);
    store_cache_key_profile("ann", 3, &a);
    assert_int_equal(a.len, 10);
    assert_memory_equal(a.bytes, "sl:{ann}:p", 10);
    store_cache_key_history("ann", 3, &session, &a);
    assert_memory_equal(a.bytes, "sl:{ann}:h:" ID, 47);
    assert_int_equal(a.len, 47);
    /* a user whose id looks like the rest of another key */
    store_cache_key_history("ann}:h:" ID "}:p", 3, &session, &a);
    store_cache_key_profile("ann}:h:" ID, 43, &b);
    assert_false(a.len == b.len && memcmp(a.bytes, b.bytes, a.len) == 0);
    memset(longest, 'x', sizeof(longest));
    store_cache_key_history(longest, sizeof(longest), &session, &a);
    assert_in_range(a.len, 1, STORE_CACHE_KEY_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(profiles_come_out_as_they_went_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(absence_is_a_value_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(messages_come_out_as_they_went_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_role_and_status_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(anything_else_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(more_members_do_not_disturb, set_up, tear_down),
        cmocka_unit_test_setup_teardown(full_buffers_are_left_as_they_were, set_up, tear_down),
        cmocka_unit_test_setup_teardown(survives_damage, set_up, tear_down),
        cmocka_unit_test(keys_do_not_collide),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
