/* Rows as JSON, field selection, and the cursor's round trip. */
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "rows_json.h"

static const struct sl_uuid id = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};

static void expect(const struct sl_buffer *json, const char *wanted)
{
    assert_int_equal(json->len, strlen(wanted));
    assert_memory_equal(json->base, wanted, json->len);
}

static void test_messages(void **state)
{
    struct store_message rows[2] = {
        {.id = id,
         .turn_id = id,
         .role = STORE_ROLE_ASSISTANT,
         .status = STORE_STATUS_COMPLETE,
         .created_at_us = 1700000000123456,
         .content = {"a\n", 2},
         .model = {"m", 1},
         .finish_reason = {NULL, 0},
         .prompt_tokens = 3,
         .completion_tokens = 4,
         .ttft_ms = 1.5},
        {.id = id,
         .turn_id = id,
         .role = STORE_ROLE_USER,
         .status = STORE_STATUS_COMPLETE,
         .created_at_us = 0,
         .content = {"q", 1}},
    };
    struct store_read read = {.messages = rows, .count = 2};
    struct sl_buffer json;

    (void)state;
    sl_buffer_init(&json, 4096);
    assert_int_equal(gw_rows_messages(&read, (struct store_text){NULL, 0}, &json), 0);
    expect(
        &json,
        "{\"messages\":[{\"id\":\"01020304-0506-0708-090a-0b0c0d0e0f10\","
        "\"turn_id\":\"01020304-0506-0708-090a-0b0c0d0e0f10\",\"role\":\"assistant\","
        "\"content\":\"a\\n\",\"status\":\"complete\",\"created_at\":\"2023-11-14T22:13:20.123Z\","
        "\"model\":\"m\",\"finish_reason\":null,"
        "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4},\"ttft_ms\":1.500},"
        "{\"id\":\"01020304-0506-0708-090a-0b0c0d0e0f10\","
        "\"turn_id\":\"01020304-0506-0708-090a-0b0c0d0e0f10\",\"role\":\"user\","
        "\"content\":\"q\",\"status\":\"complete\",\"created_at\":\"1970-01-01T00:00:00.000Z\"}],"
        "\"next_cursor\":null}");
    sl_buffer_clear(&json);
    assert_int_equal(
        gw_rows_messages(&read, (struct store_text){"role,nothing,content", 20}, &json), 0);
    expect(&json, "{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\\n\"},"
                  "{\"role\":\"user\",\"content\":\"q\"}],\"next_cursor\":null}");
    sl_buffer_dispose(&json);
}

static void test_sessions_and_cursor(void **state)
{
    struct store_session rows[1] = {{.id = id, .updated_at_us = 1700000000123456}};
    struct store_read read = {.sessions = rows, .count = 1, .more = true};
    struct sl_buffer json;
    int64_t at_us;
    struct sl_uuid back;

    (void)state;
    sl_buffer_init(&json, 4096);
    assert_int_equal(gw_rows_sessions(&read, (struct store_text){"title", 5}, &json), 0);
    expect(&json, "{\"sessions\":[{\"title\":null}],"
                  "\"next_cursor\":\"00060a24182022400102030405060708090a0b0c0d0e0f10\"}");
    assert_int_equal(
        gw_cursor_parse("00060a24182022400102030405060708090a0b0c0d0e0f10", 48, &at_us, &back), 0);
    assert_int_equal(at_us, 1700000000123456);
    assert_true(sl_uuid_equal(&back, &id));
    sl_buffer_dispose(&json);
}

static void test_bad_cursors(void **state)
{
    static const char *const bad[] = {"", "x", "00060a24182022400102030405060708090a0b0c0d0e0f1",
                                      "00060a24182022400102030405060708090a0b0c0d0e0f1g",
                                      "00060A24182022400102030405060708090a0b0c0d0e0f10"};
    int64_t at_us;
    struct sl_uuid back;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(gw_cursor_parse(bad[i], strlen(bad[i]), &at_us, &back),
                         SL_E_INVALID_VALUE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_sessions_and_cursor),
        cmocka_unit_test(test_bad_cursors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
