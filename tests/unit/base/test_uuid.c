/* UUIDs: form, order within the process, also over threads, and the text form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <time.h>

#include "sluice/uuid.h"

enum { PER_THREAD = 20000, THREADS = 4 };

static uint64_t milliseconds(const struct sl_uuid *uuid)
{
    uint64_t ms = 0;

    for (int i = 0; i < 6; i++) {
        ms = ms << 8 | uuid->bytes[i];
    }
    return ms;
}

static void test_version_7(void **state)
{
    struct timespec now;

    (void)state;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    uint64_t before_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    struct sl_uuid uuid = sl_uuid_v7();
    (void)clock_gettime(CLOCK_REALTIME, &now);
    uint64_t after_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    assert_int_equal(uuid.bytes[6] >> 4, 7);
    assert_int_equal(uuid.bytes[8] >> 6, 2);
    assert_in_range(milliseconds(&uuid), before_ms, after_ms);
    assert_false(sl_uuid_is_nil(&uuid));
}

static void test_strictly_ordered(void **state)
{
    struct sl_uuid last = sl_uuid_v7();

    (void)state;
    /* far more than the 4096 that one millisecond has room for */
    for (int i = 0; i < 100000; i++) {
        struct sl_uuid next = sl_uuid_v7();
        assert_true(memcmp(&next, &last, sizeof(next)) > 0);
        assert_int_equal(next.bytes[6] >> 4, 7);
        assert_int_equal(next.bytes[8] >> 6, 2);
        last = next;
    }
}

static void *make_many(void *context)
{
    struct sl_uuid *uuids = context;

    for (int i = 0; i < PER_THREAD; i++) {
        uuids[i] = sl_uuid_v7();
    }
    return NULL;
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct sl_uuid));
}

static void test_threads_share_the_order(void **state)
{
    struct sl_uuid *uuids = calloc((size_t)THREADS * PER_THREAD, sizeof(*uuids));
    pthread_t threads[THREADS];

    (void)state;
    assert_non_null(uuids);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(
            pthread_create(&threads[i], NULL, make_many, uuids + (size_t)i * PER_THREAD), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        for (int k = 1; k < PER_THREAD; k++) {
            assert_true(compare(uuids + i * PER_THREAD + k, uuids + i * PER_THREAD + k - 1) > 0);
        }
    }
    qsort(uuids, (size_t)THREADS * PER_THREAD, sizeof(*uuids), compare);
    for (size_t i = 1; i < (size_t)THREADS * PER_THREAD; i++) {
        /* the stamp alone differs already: 60 bits of time and counter, around the version */
        assert_true(memcmp(&uuids[i], &uuids[i - 1], 8) != 0);
    }
    free(uuids);
}

static void test_random_part(void **state)
{
    unsigned ones[64] = {0};

    (void)state;
    for (int i = 0; i < 4096; i++) {
        struct sl_uuid uuid = sl_uuid_v7();
        for (int bit = 2; bit < 64; bit++) {
            ones[bit] += uuid.bytes[8 + bit / 8] >> (7 - bit % 8) & 1;
        }
    }
    /* 2048 expected, standard deviation 32: ten of them are never reached by chance */
    for (int bit = 2; bit < 64; bit++) {
        assert_in_range(ones[bit], 2048 - 320, 2048 + 320);
    }
}

static void test_text_form(void **state)
{
    struct sl_uuid uuid, other;
    char text[SL_UUID_TEXT_SIZE];

    (void)state;
    assert_int_equal(sl_uuid_parse("0190163D-8694-739b-AEA5-966c26f8ad91", 36, &uuid), 0);
    assert_int_equal(uuid.bytes[0], 0x01);
    assert_int_equal(uuid.bytes[15], 0x91);
    sl_uuid_format(&uuid, text);
    assert_string_equal(text, "0190163d-8694-739b-aea5-966c26f8ad91");
    for (int i = 0; i < 1000; i++) {
        uuid = sl_uuid_v7();
        sl_uuid_format(&uuid, text);
        assert_int_equal(sl_uuid_parse(text, strlen(text), &other), 0);
        assert_true(sl_uuid_equal(&uuid, &other));
    }
    other.bytes[15] ^= 1;
    assert_false(sl_uuid_equal(&uuid, &other));
    assert_int_equal(sl_uuid_parse("00000000-0000-0000-0000-000000000000", 36, &uuid), 0);
    assert_true(sl_uuid_is_nil(&uuid));
}

static void test_refused_texts(void **state)
{
    const char good[] = "0190163d-8694-739b-aea5-966c26f8ad91";
    struct sl_uuid uuid;
    char text[40];

    (void)state;
    memset(&uuid, 0x5a, sizeof(uuid));
    for (size_t len = 0; len < 36; len++) {
        assert_int_equal(sl_uuid_parse(good, len, &uuid), SL_E_INVALID_VALUE);
    }
    for (size_t at = 0; at < 36; at++) {
        for (int c = 0; c < 256; c++) {
            bool hyphen = at == 8 || at == 13 || at == 18 || at == 23;
            bool hex = strchr("0123456789abcdefABCDEF", c) != NULL && c != 0;
            if (hyphen ? c == '-' : hex) {
                continue;
            }
            memcpy(text, good, sizeof(good));
            text[at] = (char)c;
            assert_int_equal(sl_uuid_parse(text, 36, &uuid), SL_E_INVALID_VALUE);
        }
    }
    memcpy(text, good, sizeof(good));
    assert_int_equal(sl_uuid_parse(text, 37, &uuid), SL_E_INVALID_VALUE);
    assert_int_equal(uuid.bytes[0], 0x5a); /* untouched */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version_7),
        cmocka_unit_test(test_strictly_ordered),
        cmocka_unit_test(test_threads_share_the_order),
        cmocka_unit_test(test_random_part),
        cmocka_unit_test(test_text_form),
        cmocka_unit_test(test_refused_texts),
    };

    return cmocka_run_group_tests_name("uuid", tests, NULL, NULL);
}
