/*
 * libFuzzer: the scanner accepts what jansson accepts (but for the exceptions named in json_scan.c),
 * and decodes strings to the same bytes.
 *
 * Input: a JSON text. Needs json_scan.c, json_string.c, base/buffer.c, base/text.c and jansson.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "json_scan.h"
#include "sluice/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

/* Walks both in step; the tree holds each key once, so only the scanner's side is complete. */
static void compare(struct gw_json *scan, const json_t *tree);

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void compare_string(const struct gw_json_string *string, const json_t *tree)
{
    struct sl_buffer text;
    const char *expected = json_string_value(tree);
    size_t expected_len = json_string_length(tree);

    if (memchr(expected, '\0', expected_len) != NULL) {
        return; /* U+0000 is decoded as U+FFFD here */
    }
    sl_buffer_init(&text, 1 << 22);
    require(gw_json_string_append(string, &text) == 0);
    require(text.len == expected_len &&
            (text.len == 0 || memcmp(text.base, expected, text.len) == 0));
    sl_buffer_dispose(&text);
}

static void compare_members(struct gw_json *scan, const json_t *tree)
{
    struct gw_json_string key;

    while (gw_json_next_member(scan, &key) == GW_JSON_STEP_MORE) {
        struct sl_buffer name;
        sl_buffer_init(&name, 1 << 22);
        require(gw_json_string_append(&key, &name) == 0 && sl_buffer_append(&name, "", 1) == 0);
        compare(scan, json_object_get(tree, name.base));
        sl_buffer_dispose(&name);
    }
}

static void compare(struct gw_json *scan, const json_t *tree)
{
    struct gw_json_string string;
    double number;
    size_t i = 0;

    switch (gw_json_peek(scan)) {
    case GW_JSON_OBJECT:
        require(json_is_object(tree) && gw_json_enter(scan));
        compare_members(scan, tree);
        break;
    case GW_JSON_ARRAY:
        require(json_is_array(tree) && gw_json_enter(scan));
        while (gw_json_next_element(scan) == GW_JSON_STEP_MORE) {
            compare(scan, json_array_get(tree, i++));
        }
        require(i == json_array_size(tree));
        break;
    case GW_JSON_STRING:
        require(json_is_string(tree) && gw_json_read_string(scan, &string));
        compare_string(&string, tree);
        break;
    case GW_JSON_NUMBER: {
        const char *start = scan->at;
        require(json_is_number(tree) && gw_json_read_number(scan, &number));
        require(scan->at - start > 63 || number == json_number_value(tree));
        break;
    }
    case GW_JSON_TRUE:
        require(json_is_true(tree) && gw_json_skip(scan));
        break;
    case GW_JSON_FALSE:
        require(json_is_false(tree) && gw_json_skip(scan));
        break;
    case GW_JSON_NULL:
        require(json_is_null(tree) && gw_json_skip(scan));
        break;
    case GW_JSON_BROKEN:
        abort();
    }
    require(scan->fault == GW_JSON_FINE);
}

/* Repairing accepts more, never less, and what is decoded is valid but for halves of pairs. */
static void check_repair(const char *text, size_t size, bool accepted)
{
    struct gw_json scan;
    struct gw_json_string string;
    struct sl_buffer out;
    char short_text[16];

    gw_json_init(&scan, text, size);
    gw_json_repair_utf8(&scan);
    bool repaired = gw_json_skip(&scan) && gw_json_end(&scan);
    require(repaired || !accepted);
    gw_json_init(&scan, text, size);
    gw_json_repair_utf8(&scan);
    if (gw_json_peek(&scan) != GW_JSON_STRING || !gw_json_read_string(&scan, &string)) {
        return;
    }
    sl_buffer_init(&out, 1 << 22);
    require(gw_json_string_append(&string, &out) == 0);
    require(string.lone_at != NULL || sl_utf8_valid(out.base, out.len));
    sl_buffer_dispose(&out);
    gw_json_string_copy(&string, short_text, sizeof(short_text));
    require(sl_utf8_valid(short_text, strlen(short_text)));
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    json_error_t error;
    struct gw_json scan;
    const char *text = (const char *)input;

    json_object_seed(1); /* the same run twice is the same run */
    json_t *tree = json_loadb(text, size,
                              JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL |
                                  JSON_REJECT_DUPLICATES,
                              &error);
    gw_json_init(&scan, text, size);
    bool accepted = gw_json_skip(&scan) && gw_json_end(&scan);
    enum json_error_code code = tree == NULL ? json_error_code(&error) : json_error_unknown;
    bool exception = scan.lone_at != NULL || scan.fault == GW_JSON_FAULT_DEPTH ||
                     code == json_error_numeric_overflow || code == json_error_null_byte_in_key ||
                     code == json_error_duplicate_key || code == json_error_stack_overflow ||
                     (!accepted && size > 0 && memchr(text, '\0', size) != NULL);
    require(accepted == (tree != NULL) || exception);
    if (tree != NULL && accepted) {
        gw_json_init(&scan, text, size);
        compare(&scan, tree);
        require(gw_json_end(&scan));
    }
    check_repair(text, size, accepted);
    json_decref(tree);
    return 0;
}
