/*
 * The journal's bytes: known checksums, every kind of record there and back, every bit that flips and
 * every length that is cut is noticed, and bytes that are not ours are refused.
 */
#include "journal_fixture.h"

#include <stdlib.h>
#include <string.h>

#include "journal_format.h"

static void checksums_are_the_known_ones(void **state)
{
    uint8_t bytes[32];
    uint8_t noise[4096 + 7];
    uint32_t x = 1;

    (void)state;
    assert_int_equal(store_format_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(store_format_crc32c_tables(0, "123456789", 9), 0xe3069283);
    memset(bytes, 0, sizeof(bytes)); /* RFC 3720 appendix B.4 */
    assert_int_equal(store_format_crc32c(0, bytes, sizeof(bytes)), 0x8a9136aa);
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(store_format_crc32c(0, bytes, sizeof(bytes)), 0x62a8ab43);
    for (size_t i = 0; i < sizeof(noise); i++) {
        x = x * 1664525 + 1013904223;
        noise[i] = (uint8_t)(x >> 24);
    }
    for (size_t len = 0; len < sizeof(noise); len += 1 + len / 7) {
        uint32_t whole = store_format_crc32c(0, noise + 3, len);
        assert_int_equal(whole, store_format_crc32c_tables(0, noise + 3, len));
        uint32_t half = store_format_crc32c(0, noise + 3, len / 2);
        assert_int_equal(whole, store_format_crc32c(half, noise + 3 + len / 2, len - len / 2));
    }
}

static uint8_t *encode(unsigned number, uint64_t salt, size_t *ret_size)
{
    struct store_record *record = fixture_record(number);
    uint8_t *bytes;

    record->sequence = 1000 + number;
    record->recorded_at_us = 77 + (int64_t)number;
    *ret_size = store_format_record_size(record);
    bytes = malloc(*ret_size); /* exactly: the sanitizer sees a byte too many */
    assert_non_null(bytes);
    store_format_encode_record(record, salt, bytes);
    store_record_destroy(record);
    return bytes;
}

static void every_kind_comes_back_as_it_was(void **state)
{
    (void)state;
    for (unsigned number = 0; number < 80; number++) {
        struct store_record *record = NULL;
        struct store_format_view view;
        uint64_t salt = 5, other = 6;
        size_t size;
        uint8_t *bytes = encode(number, salt, &size);

        assert_int_equal(size % STORE_FORMAT_ALIGN, 0);
        assert_int_equal(store_format_peek_size(bytes, &salt), size);
        assert_int_equal(store_format_peek_size(bytes, NULL), size);
        assert_int_equal(store_format_peek_size(bytes, &other), 0);
        assert_true(store_format_decode_record(bytes, size, &view));
        assert_int_equal(store_format_rebuild(&view, &record), 0);
        fixture_check_record(record);
        assert_int_equal(record->sequence, 1000 + number);
        assert_int_equal(record->recorded_at_us, 77 + number);
        assert_null(record->origin);
        store_record_destroy(record);

        uint8_t *copy = malloc(size);
        assert_non_null(copy);
        store_format_copy_record(&view, other, copy);
        assert_int_equal(store_format_peek_size(copy, &other), size);
        assert_true(store_format_decode_record(copy, size, &view));
        assert_int_equal(store_format_rebuild(&view, &record), 0);
        fixture_check_record(record);
        store_record_destroy(record);
        free(copy);
        free(bytes);
    }
}

static void every_flipped_bit_is_noticed(void **state)
{
    static const unsigned numbers[] = {0, 2, 5, 6, 7};

    (void)state;
    for (size_t n = 0; n < sizeof(numbers) / sizeof(numbers[0]); n++) {
        struct store_format_view view;
        uint64_t salt = 5;
        size_t size;
        uint8_t *bytes = encode(numbers[n], salt, &size);
        for (size_t bit = 0; bit < 8 * size; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_false(store_format_peek_size(bytes, &salt) == size &&
                         store_format_decode_record(bytes, size, &view));
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        assert_true(store_format_decode_record(bytes, size, &view));
        free(bytes);
    }
}

/* intact by its checksum, cut by its lengths: nothing is read beyond the payload */
static void a_payload_that_ends_early_is_refused(void **state)
{
    (void)state;
    for (unsigned number = 1; number < 9; number++) {
        struct store_format_view view;
        size_t size;
        uint8_t *bytes = encode(number, 5, &size);
        assert_true(store_format_decode_record(bytes, size, &view));
        size_t whole = view.payload_len;
        for (size_t len = 0; len < whole; len++) {
            struct store_record *record = NULL;
            uint8_t *payload = malloc(len + 1);
            assert_non_null(payload);
            memcpy(payload, bytes + STORE_FORMAT_RECORD_HEADER, len);
            payload = realloc(payload, len > 0 ? len : 1);
            assert_non_null(payload);
            view.payload = payload;
            view.payload_len = len;
            assert_int_equal(store_format_rebuild(&view, &record), SL_E_INVALID_VALUE);
            free(payload);
        }
        free(bytes);
    }
}

static void a_segment_header_is_itself_or_nothing(void **state)
{
    struct store_format_segment segment = {.number = 7, .salt = 99, .created_us = -3}, back;
    uint8_t bytes[STORE_FORMAT_SEGMENT_HEADER];

    (void)state;
    store_format_encode_segment(&segment, bytes);
    assert_true(store_format_decode_segment(bytes, &back));
    assert_true(back.number == 7 && back.salt == 99 && back.created_us == -3);
    for (size_t bit = 0; bit < 8 * sizeof(bytes); bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(store_format_decode_segment(bytes, &back));
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checksums_are_the_known_ones),
        cmocka_unit_test(every_kind_comes_back_as_it_was),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(a_payload_that_ends_early_is_refused),
        cmocka_unit_test(a_segment_header_is_itself_or_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
