/*
 * Dead letters in a damaged file, and on a disk that fails at each of its calls.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "letter_fixture.h"

enum { FLIPS = 400, CALLS_MAX = 100 };

static bool settle_even(void *context, struct store_dead_letter *letter)
{
    (void)see(context, letter);
    return sample_number(&letter->record->message.id) % 2 == 0;
}

/* ---- damage ---- */

static void a_torn_tail_costs_nothing_else(void **state)
{
    enum { COUNT = 4 };
    static uint8_t bytes[FILE_MAX];

    (void)state;
    append_some(COUNT - 1);
    size_t whole = load_file(bytes);
    assert_int_equal(append(COUNT - 1, "the last"), 0);
    size_t size = load_file(bytes);
    /* not into the padding: its zeros come back by themselves when the file grows past them */
    for (size_t len = whole; len <= size - 8; len++) {
        put_file(bytes, len);
        reopen_letters();
        assert_int_equal(damaged(), len > whole);
        assert_int_equal(append(COUNT - 1, "again"), 0);
        assert_int_equal(list(), COUNT);
        assert_seen_but(COUNT, COUNT);
        reopen_letters();
        assert_int_equal(damaged(), len > whole);
        assert_int_equal(counted(), COUNT);
    }
}

static void a_header_that_was_torn_is_written_again(void **state)
{
    static uint8_t bytes[FILE_MAX];

    (void)state;
    append_some(1);
    (void)load_file(bytes);
    for (size_t len = 0; len <= 64; len++) {
        put_file(bytes, len);
        reopen_letters();
        assert_int_equal(append(0, "text"), 0);
        reopen_letters();
        assert_int_equal(list(), 1);
        assert_int_equal(damaged(), 0);
    }
}

static void one_flipped_bit_costs_one_letter(void **state)
{
    enum { COUNT = 6 };
    static uint8_t bytes[FILE_MAX];
    size_t begins[COUNT + 1];
    unsigned seed = (unsigned)time(NULL);

    (void)state;
    print_message("seed %u\n", seed);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(append(i, "some text"), 0);
        begins[i + 1] = load_file(bytes);
    }
    begins[0] = 64;
    for (unsigned k = 0; k < FLIPS; k++) {
        size_t bit = (size_t)rand_r(&seed) % (begins[COUNT] * 8);
        unsigned hit = COUNT; /* the file's header */
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        put_file(bytes, begins[COUNT]);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        for (unsigned i = 0; i < COUNT; i++) {
            if (bit / 8 >= begins[i] && bit / 8 < begins[i + 1]) {
                hit = i;
            }
        }
        reopen_letters();
        assert_int_equal(damaged(), hit < COUNT);
        assert_int_equal(list(), hit < COUNT ? COUNT - 1 : COUNT);
        assert_seen_but(COUNT, hit);
    }
}

static void a_file_without_a_salt_is_put_aside(void **state)
{
    static uint8_t bytes[FILE_MAX];

    (void)state;
    append_some(3);
    size_t size = load_file(bytes);
    bytes[30] ^= 1;
    bytes[64 + 10] ^= 1;
    put_file(bytes, size);
    reopen_letters();
    assert_int_equal(counted(), 0);
    assert_int_equal(damaged(), 1);
    assert_int_equal(append(9, "text"), 0);
    assert_int_equal(list(), 1);
    reopen_letters();
    assert_int_equal(damaged(), 0);
    assert_int_equal(counted(), 1);
}

/* Bytes of a real letter inside of a message, in a letter that is then damaged. */
static void what_a_user_writes_is_no_letter(void **state)
{
    static uint8_t bytes[FILE_MAX];
    static char content[FILE_MAX];

    (void)state;
    append_some(1);
    size_t forged = load_file(bytes) - 64;
    assert_int_equal(unlink(file), 0);
    reopen_letters();
    for (size_t i = 0; i < 8; i++) { /* at one of these it is aligned */
        memcpy(content + i * (forged + 1), bytes + 64, forged);
    }
    struct store_record *record = make_record(5, (struct store_text){content, 8 * (forged + 1)});
    assert_int_equal(store_dead_letter_append_on_writer_thread(letters, record, "22021"), 0);
    store_record_destroy(record);
    assert_int_equal(append(6, "behind"), 0);
    size_t size = load_file(bytes);
    bytes[64 + 20] ^= 1;
    put_file(bytes, size);
    reopen_letters();
    assert_int_equal(list(), 1);
    assert_int_equal(seen.numbers[0], 6);
    assert_int_equal(damaged(), 1);
}

static void damage_stays_in_the_file(void **state)
{
    static uint8_t bytes[FILE_MAX];

    (void)state;
    append_some(5);
    size_t size = load_file(bytes);
    bytes[64 + 20] ^= 1;       /* the first letter */
    put_file(bytes, size - 9); /* and the last one is torn */
    reopen_letters();
    assert_int_equal(damaged(), 2);
    assert_int_equal(store_dead_letter_retry(letters, settle_even, NULL), 0);
    assert_int_equal(append(9, "behind"), 0);
    reopen_letters();
    assert_int_equal(damaged(), 2);
    assert_int_equal(list(), 3);
    assert_int_equal(seen.numbers[0], 1);
    assert_int_equal(seen.numbers[1], 3);
    assert_int_equal(seen.numbers[2], 9);
}

/* ---- a disk that fails ---- */

static void an_append_that_fails_is_made_up_for_by_the_next(void **state)
{
    unsigned failures = 0;

    (void)state;
    for (unsigned at = 1; at < CALLS_MAX; at++) {
        (void)unlink(file);
        fault.fails = 0;
        reopen_letters();
        fault.calls = 0;
        fault.fails = at;
        for (unsigned i = 0; i < 3; i++) {
            while (append(i, "some text") != 0) { /* as the writer does */
                failures++;
            }
        }
        assert_int_equal(list(), 3);
        assert_seen_but(3, 3);
        reopen_letters();
        assert_int_equal(counted(), 3);
        assert_int_equal(damaged(), 0);
        if (fault.calls < at) {
            assert_int_equal(failures, at - 1); /* each call was hit */
            assert_true(failures > 10);
            return;
        }
    }
    fail();
}

static void a_retry_that_fails_loses_nothing(void **state)
{
    (void)state;
    for (unsigned at = 1; at < CALLS_MAX; at++) {
        (void)unlink(file);
        fault.fails = 0;
        reopen_letters();
        append_some(7);
        fault.calls = 0;
        fault.fails = at;
        int err = store_dead_letter_retry(letters, settle_even, NULL);
        bool reached = fault.calls >= at;
        /* the unlink of what is not there may fail without harm */
        assert_true(reached || err == 0);
        for (int again = 0; again < 2; again++) {
            unsigned found = list();
            assert_true(found == 3 || (found == 7 && err != 0));
            for (unsigned i = 0; i < found; i++) {
                assert_int_equal(seen.numbers[i], found == 7 ? i : 2 * i + 1);
            }
            reopen_letters();
            assert_int_equal(damaged(), 0);
            assert_int_equal(counted(), found);
        }
        fault.fails = 0;
        assert_int_equal(store_dead_letter_retry(letters, settle_even, NULL), 0);
        assert_int_equal(list(), 3);
        if (!reached) {
            assert_true(at > 6);
            return;
        }
    }
    fail();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LETTER_TEST(a_torn_tail_costs_nothing_else),
        LETTER_TEST(a_header_that_was_torn_is_written_again),
        LETTER_TEST(one_flipped_bit_costs_one_letter),
        LETTER_TEST(a_file_without_a_salt_is_put_aside),
        LETTER_TEST(what_a_user_writes_is_no_letter),
        LETTER_TEST(damage_stays_in_the_file),
        LETTER_TEST(an_append_that_fails_is_made_up_for_by_the_next),
        LETTER_TEST(a_retry_that_fails_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
