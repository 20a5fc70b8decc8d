/* UTF-8 checks against a decoder written from the definition, and JSON strings against jansson. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "sluice/text.h"

/* By the definition: decode, then refuse overlong forms, surrogates and what is too large. */
static bool is_character(const unsigned char *at, size_t len)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t code;

    if (len == 1) {
        return at[0] < 0x80;
    }
    if (len == 2 && at[0] >> 5 == 0x6) {
        code = at[0] & 0x1fU;
    } else if (len == 3 && at[0] >> 4 == 0xe) {
        code = at[0] & 0x0fU;
    } else if (len == 4 && at[0] >> 3 == 0x1e) {
        code = at[0] & 0x07U;
    } else {
        return false;
    }
    for (size_t i = 1; i < len; i++) {
        if (at[i] >> 6 != 2) {
            return false;
        }
        code = code << 6 | (at[i] & 0x3fU);
    }
    return code >= smallest[len] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
}

static bool is_text(const unsigned char *at, size_t len)
{
    while (len > 0) {
        size_t n = 1;
        while (n <= 4 && n <= len && !is_character(at, n)) {
            n++;
        }
        if (n > 4 || n > len) {
            return false;
        }
        at += n;
        len -= n;
    }
    return true;
}

static void compare(const unsigned char *bytes, size_t len)
{
    if (sl_utf8_valid((const char *)bytes, len) != is_text(bytes, len)) {
        fail_msg("%02x %02x %02x %02x, %zu bytes", bytes[0], bytes[1], bytes[2], bytes[3], len);
    }
}

static void test_every_short_sequence(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 0x10000; i++) {
        unsigned char bytes[4] = {(unsigned char)(i >> 8), (unsigned char)i, 0, 0};
        compare(bytes, 1);
        compare(bytes, 2);
    }
    for (uint32_t i = 0xe00000; i <= 0xefffff; i++) {
        unsigned char bytes[4] = {(unsigned char)(i >> 16), (unsigned char)(i >> 8),
                                  (unsigned char)i, 0};
        compare(bytes, 3);
    }
}

static void test_four_bytes(void **state)
{
    static const unsigned char edges[] = {0x00, 0x7f, 0x80, 0xbf, 0xc0, 0xff};

    (void)state;
    for (uint32_t i = 0xee00; i <= 0xffff; i++) {
        for (size_t third = 0; third < sizeof(edges); third++) {
            for (size_t fourth = 0; fourth < sizeof(edges); fourth++) {
                unsigned char bytes[4] = {(unsigned char)(i >> 8), (unsigned char)i, edges[third],
                                          edges[fourth]};
                compare(bytes, 4);
            }
        }
    }
}

static void test_prefix(void **state)
{
    (void)state;
    assert_int_equal(sl_utf8_valid_prefix("", 0), 0);
    assert_int_equal(sl_utf8_valid_prefix("a\0b", 3), 3);
    assert_int_equal(sl_utf8_valid_prefix("ab\xc3\xa9\xffz", 6), 4);
    for (size_t cut = 1; cut < 4; cut++) {
        assert_int_equal(sl_utf8_valid_prefix("ab\xf0\x9f\x98\x80", 2 + cut), 2);
    }
}

static void test_cut(void **state)
{
    const char text[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80";
    static const size_t expected[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 10};

    (void)state;
    for (size_t limit = 0; limit < 12; limit++) {
        assert_int_equal(sl_utf8_cut(text, 10, limit), expected[limit]);
    }
    assert_int_equal(sl_utf8_cut("", 0, 5), 0);
}

static void check_json(const char *text, size_t len, const char *expected)
{
    struct sl_buffer out;

    sl_buffer_init(&out, 1024);
    assert_int_equal(sl_buffer_append(&out, "x", 1), 0);
    assert_int_equal(sl_json_append_string(&out, text, len), 0);
    if (out.len - 1 != strlen(expected) || memcmp(out.base + 1, expected, out.len - 1) != 0) {
        fail_msg("%.*s instead of %s", (int)out.len - 1, out.base + 1, expected);
    }
    for (size_t max = 0; max < strlen(expected); max++) {
        struct sl_buffer small;
        sl_buffer_init(&small, max);
        assert_int_equal(sl_json_append_string(&small, text, len), SL_E_LIMIT);
        assert_int_equal(small.len, 0);
        sl_buffer_dispose(&small);
    }
    sl_buffer_dispose(&out);
}

static void test_json_strings(void **state)
{
    (void)state;
    check_json("", 0, "\"\"");
    check_json("plain", 5, "\"plain\"");
    check_json("\"\\/\b\f\n\r\t", 8, "\"\\\"\\\\/\\b\\f\\n\\r\\t\"");
    check_json("\0\x1f", 2, "\"\\u0000\\u001f\"");
    check_json("\xc3\xa9\xf0\x9f\x98\x80", 6, "\"\xc3\xa9\xf0\x9f\x98\x80\"");
    check_json("\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xa7", 9, "\"\\u2028\\u2029\xe2\x80\xa7\"");
    check_json("a\xff"
               "b\xc3",
               4,
               "\"a\xef\xbf\xbd"
               "b\xef\xbf\xbd\"");
}

static void test_json_round_trip(void **state)
{
    uint32_t seed = 7;
    char text[64];

    (void)state;
    for (int round = 0; round < 20000; round++) {
        size_t len = 0;
        while (len < 48) {
            seed = seed * 1664525 + 1013904223;
            text[len++] = (char)(seed >> 24);
        }
        bool valid = sl_utf8_valid(text, len);
        len = round % 2 == 0 ? len : sl_utf8_valid_prefix(text, len);
        valid = valid || round % 2 != 0;
        struct sl_buffer out;
        sl_buffer_init(&out, 1024);
        assert_int_equal(sl_json_append_string(&out, text, len), 0);
        for (size_t i = 0; i < out.len; i++) {
            assert_true((unsigned char)out.base[i] >= 0x20); /* one line */
        }
        json_t *tree = json_loadb(out.base, out.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_true(json_is_string(tree));
        if (valid) {
            assert_int_equal(json_string_length(tree), len);
            assert_true(len == 0 || memcmp(json_string_value(tree), text, len) == 0);
        }
        json_decref(tree);
        sl_buffer_dispose(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_short_sequence),
        cmocka_unit_test(test_four_bytes),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_json_strings),
        cmocka_unit_test(test_json_round_trip),
    };

    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
