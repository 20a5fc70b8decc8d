/* The JSON scanner: what it accepts is what jansson accepts, but for the exceptions in json_scan.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>

#include "json_scan.h"
#include "sluice/text.h"

enum { MUTATIONS = 60000 };

static const char *const valid[] = {
    "{}",
    "[]",
    " \t\r\n[ ] ",
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-0.0",
    "10",
    "1.5",
    "1e5",
    "1E+5",
    "1.25e-3",
    "123456789012345678",
    "\"\"",
    "\"a\"",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
    "\"\\u0041\\u00e9\\u20AC\\uD83D\\uDE00\"",
    "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
    "\"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\"",
    "\"\x7f\"",
    "\"a string of more than sixteen plain characters\"",
    "[1,2,3]",
    "[[],[[]],{}]",
    "{\"a\":{\"b\":[1,{\"c\":null}]},\"d\":\"e\"}",
    "{\"\":1,\"a\":2}",
    "{\"a\" : 1 , \"b\" : [ true , false ] }",
    "{\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}"
    "]}",
    "[\"\\u0000\"]",
};

static const char *const invalid[] = {
    "",
    " ",
    "{",
    "}",
    "[",
    "]",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[1 2]",
    "[1}",
    "{]",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{,}",
    "{a:1}",
    "{'a':1}",
    "{1:1}",
    "{\"a\":1 \"b\":2}",
    "{\"a\"::1}",
    "01",
    "-",
    "+1",
    ".5",
    "1.",
    "1.e5",
    "1e",
    "1e+",
    "-01",
    "0x10",
    "1a",
    "NaN",
    "Infinity",
    "nul",
    "nulll",
    "TRUE",
    "truefalse",
    "\"",
    "\"a",
    "\"\\\"",
    "\"\\x\"",
    "\"\\u12\"",
    "\"\\u12g4\"",
    "\"\\",
    "\"\n\"",
    "\"\x1f\"",
    "\"\x80\"",
    "\"\xc0\x80\"",
    "\"\xe0\x80\x80\"",
    "\"\xed\xa0\x80\"",
    "\"\xf4\x90\x80\x80\"",
    "\"\xc3\"",
    "\"\xc3",
    "\"\xff\"",
    "1 1",
    "{} {}",
    "[] x",
    "\xef\xbb\xbf{}",
    "// c\n{}",
    "[\v1]",
    "[1]\f",
};

static bool accepts(const char *text, size_t len, struct gw_json *scan)
{
    gw_json_init(scan, text, len);
    return gw_json_skip(scan) && gw_json_end(scan);
}

/* Compares the verdicts on a copy of exactly the right size. */
static void compare(const char *text, size_t len)
{
    json_error_t error;
    struct gw_json scan;
    char *copy = malloc(len + 1);

    assert_non_null(copy);
    char *exact = copy + 1; /* ends where the allocation ends */
    memcpy(exact, text, len);
    json_t *tree = json_loadb(exact, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    bool accepted = accepts(exact, len, &scan);
    bool exception = scan.lone_at != NULL || scan.fault == GW_JSON_FAULT_DEPTH;
    /* jansson swallows a NUL byte behind a number or a literal */
    exception = exception || (!accepted && memchr(text, '\0', len) != NULL);
    if (tree == NULL) {
        exception = exception || json_error_code(&error) == json_error_numeric_overflow ||
                    json_error_code(&error) == json_error_null_byte_in_key;
    }
    if (accepted != (tree != NULL) && !exception) {
        fail_msg("jansson %s, the scanner %s: %.*s", tree != NULL ? "accepts" : "refuses",
                 accepted ? "accepts" : "refuses", (int)len, text);
    }
    if (scan.lone_at != NULL) {
        assert_null(tree);
    }
    json_decref(tree);
    free(copy);
}

static void test_accepts_what_jansson_accepts(void **state)
{
    struct gw_json scan;

    (void)state;
    for (size_t i = 0; i < sizeof(valid) / sizeof(valid[0]); i++) {
        if (!accepts(valid[i], strlen(valid[i]), &scan)) {
            fail_msg("refused: %s", valid[i]);
        }
        compare(valid[i], strlen(valid[i]));
    }
    for (size_t i = 0; i < sizeof(invalid) / sizeof(invalid[0]); i++) {
        if (accepts(invalid[i], strlen(invalid[i]), &scan)) {
            fail_msg("accepted: %s", invalid[i]);
        }
        compare(invalid[i], strlen(invalid[i]));
    }
    compare("[\"a\0b\"]", 7);
    compare("[1]\0", 4);
    compare("\0[1]", 4);
}

static void test_every_prefix_and_every_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(valid) / sizeof(valid[0]); i++) {
        char text[256];
        size_t len = strlen(valid[i]);
        for (size_t n = 0; n <= len; n++) {
            compare(valid[i], n);
        }
        for (size_t at = 0; at < len; at++) {
            for (int byte = 0; byte < 256; byte++) {
                memcpy(text, valid[i], len);
                text[at] = (char)byte;
                compare(text, len);
            }
        }
    }
}

/* xorshift: the same mutations in every run */
static uint32_t next_random(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

static void test_random_mutations(void **state)
{
    static const char *const splinters[] = {"\"", "\\", "\\u", "\\ud83d",  "\\ude00",  "{",   "}",
                                            "[",  "]",  ",",   ":",        "1e5",      "-",   "0",
                                            ".",  " ",  "\n",  "\xed\xa0", "\xf0\x9f", "null"};
    uint32_t seed = 20240501;

    (void)state;
    for (int round = 0; round < MUTATIONS; round++) {
        char text[512];
        const char *from = valid[next_random(&seed) % (sizeof(valid) / sizeof(valid[0]))];
        size_t len = strlen(from);
        memcpy(text, from, len);
        for (uint32_t edits = next_random(&seed) % 4 + 1; edits > 0; edits--) {
            const char *splinter = splinters[next_random(&seed) % 20];
            size_t n = strlen(splinter);
            size_t at = next_random(&seed) % (len + 1);
            size_t cut = next_random(&seed) % 3;
            cut = cut < len - at ? cut : len - at;
            memmove(text + at + n, text + at + cut, len - at - cut);
            memcpy(text + at, splinter, n);
            len = len - cut + n;
        }
        compare(text, len);
    }
}

/* ---- the exceptions ---- */

static void test_numbers_of_any_size_are_accepted(void **state)
{
    static const char *const numbers[] = {
        "123456789012345678901234567890", "1e400", "-1e-400",
        "0.1234567890123456789012345678901234567890123456789012345"
        "678901234567890"};
    struct gw_json scan;
    double number;

    (void)state;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        assert_true(accepts(numbers[i], strlen(numbers[i]), &scan));
    }
    gw_json_init(&scan, "1e400", 5);
    assert_true(gw_json_read_number(&scan, &number));
    assert_true(isinf(number));
}

static void test_depth(void **state)
{
    char text[2 * 4096 + 1];
    struct gw_json scan;

    (void)state;
    for (size_t depth = 1; depth <= 4096; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        bool accepted = accepts(text, 2 * depth, &scan);
        assert_int_equal(accepted, depth <= GW_JSON_DEPTH_MAX);
        assert_int_equal(scan.fault, accepted ? GW_JSON_FINE : GW_JSON_FAULT_DEPTH);
    }
    /* alternating, so that both kinds of bits are used at every level */
    size_t len = 0;
    for (int i = 0; i < 32; i++) {
        memcpy(text + len, "[{\"a\":", 6);
        len += 6;
    }
    text[len++] = '1';
    for (int i = 0; i < 32; i++) {
        memcpy(text + len, "}]", 2);
        len += 2;
    }
    assert_true(accepts(text, len, &scan));
    text[len - 3] = '}';
    assert_false(accepts(text, len, &scan));
}

/* ---- decoding ---- */

static void check_decodes(const char *text, bool repair, const char *expected, bool lone)
{
    struct gw_json scan;
    struct gw_json_string string;
    struct sl_buffer out;

    gw_json_init(&scan, text, strlen(text));
    if (repair) {
        gw_json_repair_utf8(&scan);
    }
    assert_true(gw_json_read_string(&scan, &string));
    assert_true(gw_json_end(&scan));
    assert_int_equal(string.lone_at != NULL, lone);
    assert_int_equal(scan.lone_at != NULL, lone);
    sl_buffer_init(&out, 1024);
    assert_int_equal(sl_buffer_append(&out, "x", 1), 0);
    assert_int_equal(gw_json_string_append(&string, &out), 0);
    assert_int_equal(out.len, strlen(expected) + 1);
    assert_memory_equal(out.base + 1, expected, strlen(expected));
    /* too small by one byte: nothing is appended */
    struct sl_buffer small;
    if (strlen(expected) > 0) {
        sl_buffer_init(&small, strlen(expected) - 1);
        assert_int_equal(gw_json_string_append(&string, &small), SL_E_LIMIT);
        assert_int_equal(small.len, 0);
        sl_buffer_dispose(&small);
    }
    sl_buffer_dispose(&out);
}

static void test_decoding(void **state)
{
    (void)state;
    check_decodes("\"\"", false, "", false);
    check_decodes("\"plain\"", false, "plain", false);
    check_decodes("\"a\\n\\u00e9\\u20ac\\ud83d\\ude00z\"", false,
                  "a\n\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z", false);
    check_decodes("\"\\uDBFF\\uDFFF\\uD800\\uDC00\"", false, "\xf4\x8f\xbf\xbf\xf0\x90\x80\x80",
                  false);
    check_decodes("\"\\u0000\"", false, "\xef\xbf\xbd", false);
    check_decodes("\"\xc3\xa9\\t\xe2\x82\xac\"", false, "\xc3\xa9\t\xe2\x82\xac", false);
    /* halves of pairs are kept as WTF-8 */
    check_decodes("\"a\\ud83d\"", false, "a\xed\xa0\xbd", true);
    check_decodes("\"\\ude00b\"", false,
                  "\xed\xb8\x80"
                  "b",
                  true);
    check_decodes("\"\\ude00\\ud83d\"", false, "\xed\xb8\x80\xed\xa0\xbd", true);
    check_decodes("\"\\ud83d\\ud83d\\ude00\"", false, "\xed\xa0\xbd\xf0\x9f\x98\x80", true);
    check_decodes("\"\\ud83d\\u0041\"", false,
                  "\xed\xa0\xbd"
                  "A",
                  true);
    /* repair: one U+FFFD per ill-formed byte, escapes as ever */
    check_decodes("\"a\xff\\n\xc3z\xc3\xa9\"", true, "a\xef\xbf\xbd\n\xef\xbf\xbdz\xc3\xa9", false);
    check_decodes("\"\xed\xa0\xbd\"", true, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", false);
    check_decodes("\"\xf0\x9f\x98\\ud83d\"", true,
                  "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xed\xa0\xbd", true);
}

static void test_decodes_like_jansson(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(valid) / sizeof(valid[0]); i++) {
        struct gw_json scan;
        struct gw_json_string string;
        struct sl_buffer out;
        json_t *tree = json_loads(valid[i], JSON_DECODE_ANY, NULL);
        gw_json_init(&scan, valid[i], strlen(valid[i]));
        if (json_is_string(tree)) {
            sl_buffer_init(&out, 1024);
            assert_true(gw_json_read_string(&scan, &string));
            assert_int_equal(gw_json_string_append(&string, &out), 0);
            assert_int_equal(out.len, json_string_length(tree));
            assert_true(out.len == 0 || memcmp(out.base, json_string_value(tree), out.len) == 0);
            sl_buffer_dispose(&out);
        } else if (json_is_number(tree)) {
            double number;
            assert_true(gw_json_read_number(&scan, &number));
            assert_true(number == json_number_value(tree));
        }
        json_decref(tree);
    }
}

static void test_copying_cuts_at_characters(void **state)
{
    const char text[] = "\"ab\\u20ac\\ud83d\xc3\xa9\"";
    const char full[] = "ab\xe2\x82\xac\xef\xbf\xbd\xc3\xa9";
    struct gw_json scan;
    struct gw_json_string string;
    char out[32];

    (void)state;
    gw_json_init(&scan, text, sizeof(text) - 1);
    assert_true(gw_json_read_string(&scan, &string));
    for (size_t size = 1; size <= sizeof(out); size++) {
        memset(out, 'x', sizeof(out));
        gw_json_string_copy(&string, out, size);
        assert_true(strlen(out) < size);
        assert_true(sl_utf8_valid(out, strlen(out)));
        assert_int_equal(strlen(out), sl_utf8_cut(full, sizeof(full) - 1, size - 1));
        assert_memory_equal(out, full, strlen(out));
    }
}

static void test_comparing(void **state)
{
    struct gw_json scan;
    struct gw_json_string string;

    (void)state;
    gw_json_init(&scan, "\"content\"", 9);
    assert_true(gw_json_read_string(&scan, &string));
    assert_true(gw_json_string_is(&string, "content"));
    assert_false(gw_json_string_is(&string, "conten"));
    assert_false(gw_json_string_is(&string, "contents"));
    assert_false(gw_json_string_is(&string, ""));
    gw_json_init(&scan, "\"\\u0063ontent\"", 14);
    assert_true(gw_json_read_string(&scan, &string));
    assert_true(gw_json_string_is(&string, "content"));
    assert_false(gw_json_string_is(&string, "Content"));
}

/* ---- walking ---- */

static void test_walking(void **state)
{
    const char text[] =
        "{ \"a\" : [ 1 , \"x\" , { } , [ ] ] , \"b\" : -2.5 , \"c\" : { \"d\" : true } }";
    struct gw_json scan;
    struct gw_json_string string;
    double number;

    (void)state;
    gw_json_init(&scan, text, sizeof(text) - 1);
    assert_int_equal(gw_json_peek(&scan), GW_JSON_OBJECT);
    assert_true(gw_json_enter(&scan));
    assert_int_equal(gw_json_next_member(&scan, &string), GW_JSON_STEP_MORE);
    assert_true(gw_json_string_is(&string, "a"));
    assert_true(gw_json_enter(&scan));
    assert_int_equal(gw_json_next_element(&scan), GW_JSON_STEP_MORE);
    assert_true(gw_json_read_number(&scan, &number));
    assert_true(number == 1);
    assert_int_equal(gw_json_next_element(&scan), GW_JSON_STEP_MORE);
    assert_true(gw_json_read_string(&scan, &string));
    assert_int_equal(gw_json_next_element(&scan), GW_JSON_STEP_MORE);
    assert_true(gw_json_enter(&scan));
    assert_int_equal(gw_json_next_member(&scan, &string), GW_JSON_STEP_END);
    assert_int_equal(gw_json_next_element(&scan), GW_JSON_STEP_MORE);
    assert_true(gw_json_skip(&scan));
    assert_int_equal(gw_json_next_element(&scan), GW_JSON_STEP_END);
    assert_int_equal(gw_json_next_member(&scan, &string), GW_JSON_STEP_MORE);
    assert_true(gw_json_read_number(&scan, &number));
    assert_true(number == -2.5);
    assert_int_equal(gw_json_next_member(&scan, &string), GW_JSON_STEP_MORE);
    assert_int_equal(gw_json_peek(&scan), GW_JSON_OBJECT);
    assert_true(gw_json_skip(&scan));
    assert_int_equal(gw_json_next_member(&scan, &string), GW_JSON_STEP_END);
    assert_true(gw_json_end(&scan));
}

static void test_faults_stay(void **state)
{
    const char text[] = "{\"a\":[1,x],\"b\":2}";
    struct gw_json scan;
    struct gw_json_string key;

    (void)state;
    gw_json_init(&scan, text, sizeof(text) - 1);
    assert_true(gw_json_enter(&scan));
    assert_int_equal(gw_json_next_member(&scan, &key), GW_JSON_STEP_MORE);
    assert_false(gw_json_skip(&scan));
    assert_int_equal(scan.fault, GW_JSON_FAULT_SYNTAX);
    assert_int_equal(scan.fault_at - text, 8);
    assert_int_equal(gw_json_next_member(&scan, &key), GW_JSON_STEP_BROKEN);
    assert_int_equal(gw_json_peek(&scan), GW_JSON_BROKEN);
    assert_false(gw_json_enter(&scan));
    assert_false(gw_json_end(&scan));
    assert_int_equal(scan.fault_at - text, 8);
}

static void test_fault_kinds(void **state)
{
    static const struct {
        const char *text;
        enum gw_json_fault fault;
        ptrdiff_t at;
    } rows[] = {
        {"[\"a\nb\"]", GW_JSON_FAULT_CONTROL, 3}, {"[\"a\xff\"]", GW_JSON_FAULT_UTF8, 3},
        {"[\"\\q\"]", GW_JSON_FAULT_SYNTAX, 2},   {"[1", GW_JSON_FAULT_SYNTAX, 2},
        {"[1] ]", GW_JSON_FAULT_SYNTAX, 4},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct gw_json scan;
        assert_false(accepts(rows[i].text, strlen(rows[i].text), &scan));
        assert_int_equal(scan.fault, rows[i].fault);
        assert_int_equal(scan.fault_at - rows[i].text, rows[i].at);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts_what_jansson_accepts),
        cmocka_unit_test(test_every_prefix_and_every_byte),
        cmocka_unit_test(test_random_mutations),
        cmocka_unit_test(test_numbers_of_any_size_are_accepted),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_decoding),
        cmocka_unit_test(test_decodes_like_jansson),
        cmocka_unit_test(test_copying_cuts_at_characters),
        cmocka_unit_test(test_comparing),
        cmocka_unit_test(test_walking),
        cmocka_unit_test(test_faults_stay),
        cmocka_unit_test(test_fault_kinds),
    };

    return cmocka_run_group_tests_name("json_scan", tests, NULL, NULL);
}
