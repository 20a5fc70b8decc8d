/* The byte buffer: growth, its maximum, and that a failed append changes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sluice/buffer.h"

static void expect(const struct sl_buffer *buffer, const char *text)
{
    assert_int_equal(buffer->len, strlen(text));
    if (buffer->len > 0) {
        assert_memory_equal(buffer->base, text, buffer->len);
    }
}

static void test_starts_without_memory(void **state)
{
    struct sl_buffer buffer;

    (void)state;
    sl_buffer_init(&buffer, 10);
    assert_null(buffer.base);
    assert_int_equal(buffer.capacity, 0);
    assert_int_equal(sl_buffer_append(&buffer, NULL, 0), 0);
    assert_null(buffer.base);
    sl_buffer_consume(&buffer, 0);
    sl_buffer_clear(&buffer);
    sl_buffer_dispose(&buffer);
    sl_buffer_dispose(&buffer);
}

static void test_appends(void **state)
{
    struct sl_buffer buffer;

    (void)state;
    sl_buffer_init(&buffer, 100);
    assert_int_equal(sl_buffer_append(&buffer, "abc", 2), 0);
    assert_int_equal(sl_buffer_append_str(&buffer, "-d"), 0);
    assert_int_equal(sl_buffer_append_str(&buffer, ""), 0);
    assert_int_equal(sl_buffer_appendf(&buffer, "%d%s%%", 42, "x"), 0);
    expect(&buffer, "ab-d42x%");
    sl_buffer_consume(&buffer, 3);
    expect(&buffer, "d42x%");
    sl_buffer_consume(&buffer, 5);
    expect(&buffer, "");
    sl_buffer_dispose(&buffer);
}

static void test_maximum(void **state)
{
    struct sl_buffer buffer;

    (void)state;
    sl_buffer_init(&buffer, 5);
    assert_int_equal(sl_buffer_append_str(&buffer, "abc"), 0);
    assert_int_equal(sl_buffer_append_str(&buffer, "def"), SL_E_LIMIT);
    assert_int_equal(sl_buffer_appendf(&buffer, "%s", "def"), SL_E_LIMIT);
    assert_null(sl_buffer_reserve(&buffer, 3));
    expect(&buffer, "abc");
    assert_int_equal(sl_buffer_append_str(&buffer, "de"), 0);
    expect(&buffer, "abcde");
    assert_int_equal(buffer.capacity, 5);
    assert_int_equal(sl_buffer_append_str(&buffer, "f"), SL_E_LIMIT);
    assert_int_equal(sl_buffer_append(&buffer, "f", SIZE_MAX), SL_E_LIMIT);
    sl_buffer_consume(&buffer, 1);
    assert_int_equal(sl_buffer_append_str(&buffer, "f"), 0);
    expect(&buffer, "bcdef");
    sl_buffer_dispose(&buffer);
    assert_int_equal(buffer.max, 5);
    assert_int_equal(sl_buffer_append_str(&buffer, "again"), 0);
    sl_buffer_dispose(&buffer);
    sl_buffer_init(&buffer, 0);
    assert_int_equal(sl_buffer_append(&buffer, "x", 1), SL_E_LIMIT);
}

static void test_growth_keeps_the_bytes(void **state)
{
    struct sl_buffer buffer;
    unsigned moves = 0;

    (void)state;
    sl_buffer_init(&buffer, 1000000);
    for (uint32_t i = 0; i < 250000; i++) {
        size_t before = buffer.capacity;
        assert_int_equal(sl_buffer_append(&buffer, &i, sizeof(i)), 0);
        moves += buffer.capacity != before;
    }
    assert_int_equal(buffer.len, 1000000);
    assert_true(moves < 20);
    for (uint32_t i = 0; i < 250000; i++) {
        assert_memory_equal(buffer.base + i * sizeof(i), &i, sizeof(i));
    }
    sl_buffer_clear(&buffer);
    assert_int_equal(buffer.len, 0);
    assert_int_equal(buffer.capacity, 1000000);
    sl_buffer_dispose(&buffer);
}

static void test_reserve(void **state)
{
    struct sl_buffer buffer;

    (void)state;
    sl_buffer_init(&buffer, 4096);
    assert_int_equal(sl_buffer_append_str(&buffer, "ab"), 0);
    char *to = sl_buffer_reserve(&buffer, 1000);
    assert_non_null(to);
    memset(to, 'x', 1000);
    expect(&buffer, "ab");
    buffer.len += 1000;
    assert_int_equal(buffer.base[1001], 'x');
    sl_buffer_dispose(&buffer);
}

static void test_trim(void **state)
{
    struct sl_buffer buffer;

    (void)state;
    sl_buffer_init(&buffer, 4096);
    sl_buffer_trim(&buffer); /* nothing to give back */
    assert_null(buffer.base);
    assert_int_equal(sl_buffer_append_str(&buffer, "abcdefg"), 0);
    assert_true(buffer.capacity > 7);
    sl_buffer_trim(&buffer);
    assert_int_equal(buffer.capacity, 7);
    sl_buffer_trim(&buffer);
    expect(&buffer, "abcdefg");
    assert_int_equal(sl_buffer_append_str(&buffer, "hijk"),
                     0); /* it still grows, up to its maximum */
    expect(&buffer, "abcdefghijk");
    assert_null(sl_buffer_reserve(&buffer, 4096));
    sl_buffer_clear(&buffer);
    sl_buffer_trim(&buffer);
    assert_null(buffer.base);
    assert_int_equal(buffer.capacity, 0);
    assert_int_equal(sl_buffer_append_str(&buffer, "again"), 0);
    expect(&buffer, "again");
    sl_buffer_dispose(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starts_without_memory),
        cmocka_unit_test(test_appends),
        cmocka_unit_test(test_maximum),
        cmocka_unit_test(test_growth_keeps_the_bytes),
        cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_trim),
    };

    return cmocka_run_group_tests_name("buffer", tests, NULL, NULL);
}
