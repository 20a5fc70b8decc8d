/* The chat in a request is found, of either dialect, and what a strict service minds is noticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "random.h"
#include "stub_chat.h"

static void chat_is_understood(void **state)
{
    (void)state;
    static const char body[] =
        "{ \"messages\" : [ {\"content\":\"you are\",\"role\":\"system\"},"
        "{\"role\":\"user\",\"content\":\"first\"}, {\"role\":\"assistant\",\"content\":null,"
        "\"tool_calls\":[{\"a\":[1,2,{\"b\":\"]}\"}]}]},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"caf\\u00e9 \"},"
        "{\"type\":\"image_url\",\"image_url\":{\"url\":\"x\"}},"
        "{\"type\":\"text\",\"text\":\"\\ud83d\\ude00 \\ud83d!\"}]}],"
        "\"stream\":true,\"model\":\"m\\\"1\",\"temperature\":-0.5e3,"
        "\"stream_options\":{\"x\":1,\"include_usage\":true}}";
    static const char user_text[] = "café 😀 \xef\xbf\xbd!";
    struct stub_chat chat = {0};
    assert_int_equal(stub_chat_parse(body, strlen(body), &chat), 0);
    assert_int_equal(chat.messages, 4);
    assert_int_equal(chat.roles.len, strlen("system,user,assistant,user"));
    assert_memory_equal(chat.roles.base, "system,user,assistant,user", chat.roles.len);
    assert_int_equal(chat.user_text.len, strlen(user_text));
    assert_memory_equal(chat.user_text.base, user_text, strlen(user_text));
    assert_string_equal(chat.model, "m\"1");
    assert_true(chat.stream);
    assert_true(chat.include_usage);
    stub_chat_finish(&chat);
}

static void the_system_prompt_beside_the_messages_counts(void **state)
{
    (void)state;
    static const struct {
        const char *body, *roles;
        size_t messages;
    } rows[] = {
        {"{\"system\":\"s\",\"messages\":[{\"role\":\"user\",\"content\":\"u\"}]}", "system,user",
         2},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"u\"}]}],"
         "\"system\":[{\"type\":\"text\",\"text\":\"s\"}]}",
         "system,user", 2},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"u\"}],\"system\":null}", "user", 1},
        {"{\"messages\":[],\"system\":\"s\"}", "system", 1},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct stub_chat chat = {0};
        assert_int_equal(stub_chat_parse(rows[i].body, strlen(rows[i].body), &chat), 0);
        assert_int_equal(chat.messages, rows[i].messages);
        assert_int_equal(chat.roles.len, strlen(rows[i].roles));
        assert_memory_equal(chat.roles.base, rows[i].roles, chat.roles.len);
        assert_false(chat.has_system_message);
        stub_chat_finish(&chat);
    }
}

static void no_chat_is_refused(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "",
        "[]",
        "{",
        "{}",
        "{\"messages\":{}}",
        "{\"messages\":[1]}",
        "{\"messages\":[{]}",
        "{\"messages\":[{\"content\":\"\\u12",
        "{\"messages\":[] \"a\":1}",
    };
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        struct stub_chat chat = {0};
        assert_int_equal(stub_chat_parse(bodies[i], strlen(bodies[i]), &chat), -1);
        stub_chat_finish(&chat);
    }
}

/** Copies exactly `len` bytes, so that a sanitizer sees one byte too far. */
static void parse_copy(const char *bytes, size_t len)
{
    char *copy = malloc(len != 0 ? len : 1);
    struct stub_chat chat = {0};
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    (void)stub_chat_parse(copy, len, &chat);
    stub_chat_finish(&chat);
    free(copy);
}

static void garbage_never_reads_outside(void **state)
{
    (void)state;
    static const char seed[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
        "\"text\":\"a\\ud83d\\ude00\\n\"}]}],\"system\":\"s\",\"stream\":true}";
    static const char letters[] = "{}[]\",:\\u0d8e\r\n tf\x80";
    struct lt_random random = {11};
    for (int round = 0; round < 20000; round++) {
        char text[sizeof(seed)];
        memcpy(text, seed, sizeof(seed));
        for (uint64_t n = lt_random_below(&random, 4); n != 0; n--) {
            text[lt_random_below(&random, sizeof(seed))] =
                letters[lt_random_below(&random, sizeof(letters))];
        }
        parse_copy(text, (size_t)lt_random_below(&random, sizeof(seed)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chat_is_understood),
        cmocka_unit_test(the_system_prompt_beside_the_messages_counts),
        cmocka_unit_test(no_chat_is_refused),
        cmocka_unit_test(garbage_never_reads_outside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
