/* Event ids: what encoder_native.c writes is read back, and nothing else is taken for one. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "event_id.h"

#define TURN_ID "0198c0de-1234-7abc-8def-0123456789ab"

/* Reads a copy that ends where the text does, so that ASan sees a byte too many being read. */
static bool parse(const char *text, size_t len, struct sl_uuid *ret_turn_id, uint32_t *ret_seq)
{
    char *copy = malloc(len > 0 ? len : 1);

    assert_non_null(copy);
    memcpy(copy, text, len);
    bool is_read = gw_event_id_parse(copy, len, ret_turn_id, ret_seq);
    free(copy);
    return is_read;
}

static void refuse(const char *text, size_t len)
{
    struct sl_uuid turn_id = {{7}};
    const struct sl_uuid untouched = turn_id;
    uint32_t seq = 77;

    assert_false(parse(text, len, &turn_id, &seq));
    assert_true(sl_uuid_equal(&turn_id, &untouched));
    assert_int_equal(seq, 77);
}

static void test_what_is_written_is_read(void **state)
{
    static const uint32_t seqs[] = {0, 1, 9, 10, 4294967294U, UINT32_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof(seqs) / sizeof(seqs[0]); i++) {
        const struct sl_uuid id = sl_uuid_v7();
        struct sl_uuid read_id;
        uint32_t seq;
        char uuid[SL_UUID_TEXT_SIZE], text[64];
        sl_uuid_format(&id, uuid);
        int len = snprintf(text, sizeof(text), "%s.%u", uuid, seqs[i]);
        assert_true(parse(text, (size_t)len, &read_id, &seq));
        assert_true(sl_uuid_equal(&read_id, &id));
        assert_int_equal(seq, seqs[i]);
    }
}

static void test_every_prefix(void **state)
{
    static const char text[] = TURN_ID ".4294967295";
    struct sl_uuid turn_id;
    uint32_t seq, expected = 0;

    (void)state;
    for (size_t len = 0; len <= SL_UUID_TEXT_LEN + 1; len++) {
        refuse(text, len);
    }
    for (size_t len = SL_UUID_TEXT_LEN + 2; len <= sizeof(text) - 1; len++) {
        expected = expected * 10 + (uint32_t)(text[len - 1] - '0');
        assert_true(parse(text, len, &turn_id, &seq)); /* a shorter number is one, too */
        assert_int_equal(seq, expected);
    }
}

static void test_what_is_no_id(void **state)
{
    static const char *const texts[] = {
        TURN_ID ".4294967296",           /* one more than there is room for */
        TURN_ID ".9999999999",           /* ten digits */
        TURN_ID ".18446744073709551617", /* 2^64 + 1 */
        TURN_ID ".00000000001",          /* more digits than any has */
        TURN_ID ".-1",
        TURN_ID ".+1",
        TURN_ID ". 1",
        TURN_ID ".1 ",
        TURN_ID ".0x1",
        TURN_ID ".1.2",
        TURN_ID "..1",
        TURN_ID ":1",
        TURN_ID "1.1",
        "0198c0de-1234-7abc-8def-0123456789ag.1",
        "0198c0de_1234_7abc_8def_0123456789ab.1",
        " " TURN_ID ".1",
        "1",
        "abc",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        refuse(texts[i], strlen(texts[i]));
    }
    refuse(TURN_ID ".1\0", SL_UUID_TEXT_LEN + 3); /* a NUL is no digit */
}

static void test_sequence_numbers(void **state)
{
    uint32_t seq = 77;

    (void)state;
    assert_true(gw_event_seq_parse("0", 1, &seq));
    assert_int_equal(seq, 0);
    assert_true(gw_event_seq_parse("0042", 4, &seq));
    assert_int_equal(seq, 42);
    assert_true(gw_event_seq_parse("4294967295", 10, &seq));
    assert_int_equal(seq, UINT32_MAX);
    seq = 77;
    assert_false(gw_event_seq_parse("", 0, &seq));
    assert_false(gw_event_seq_parse("4294967296", 10, &seq));
    assert_false(gw_event_seq_parse("12a", 3, &seq));
    assert_int_equal(seq, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_is_read),
        cmocka_unit_test(test_every_prefix),
        cmocka_unit_test(test_what_is_no_id),
        cmocka_unit_test(test_sequence_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
