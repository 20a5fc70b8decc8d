/* The chunk decoder: every split of a body gives the same payload; broken framing is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "buffer.h"
#include "chunk_decoder.h"

static const char BODY[] = "5\r\nhello\r\n"
                           "1;ext=\"a b\"\r\n,\r\n"
                           "0A\r\n world\r\n!!\r\n"
                           "000\r\nTrailer: x\r\n\r\n";
static const char PAYLOAD[] = "hello, world\r\n!!";

/** Feeds `len` bytes; appends the payload. Returns the bytes used, -1 when broken. */
static ssize_t feed(struct lt_chunk_decoder *decoder, const char *bytes, size_t len,
                    struct lt_buffer *payload)
{
    size_t at = 0;
    while (at < len && !lt_chunk_decoder_done(decoder)) {
        const char *run;
        size_t run_len;
        ssize_t used = lt_chunk_decoder_read(decoder, bytes + at, len - at, &run, &run_len);
        if (used < 0) {
            return -1;
        }
        lt_buffer_append(payload, run, run_len);
        at += (size_t)used;
    }
    return (ssize_t)at;
}

static void assert_payload(struct lt_buffer *payload)
{
    assert_int_equal(payload->len, strlen(PAYLOAD));
    assert_memory_equal(payload->base, PAYLOAD, strlen(PAYLOAD));
    lt_buffer_free(payload);
}

static void every_split_gives_the_payload(void **state)
{
    (void)state;
    size_t len = strlen(BODY);
    for (size_t cut = 0; cut <= len; cut++) {
        struct lt_chunk_decoder decoder = {0};
        struct lt_buffer payload = {0};
        assert_int_equal(feed(&decoder, BODY, cut, &payload), cut);
        assert_int_equal(lt_chunk_decoder_done(&decoder), cut == len);
        assert_int_equal(feed(&decoder, BODY + cut, len - cut, &payload), len - cut);
        assert_true(lt_chunk_decoder_done(&decoder));
        assert_payload(&payload);
    }
}

static void byte_by_byte_gives_the_payload(void **state)
{
    (void)state;
    struct lt_chunk_decoder decoder = {0};
    struct lt_buffer payload = {0};
    for (size_t i = 0; i < strlen(BODY); i++) {
        assert_int_equal(feed(&decoder, BODY + i, 1, &payload), 1);
    }
    assert_true(lt_chunk_decoder_done(&decoder));
    assert_payload(&payload);
}

static void stops_behind_the_last_chunk(void **state)
{
    (void)state;
    static const char two[] = "1\r\nx\r\n0\r\n\r\nHTTP/1.1 200";
    struct lt_chunk_decoder decoder = {0};
    struct lt_buffer payload = {0};
    assert_int_equal(feed(&decoder, two, strlen(two), &payload), strlen("1\r\nx\r\n0\r\n\r\n"));
    assert_int_equal(payload.len, 1);
    lt_buffer_free(&payload);
}

static void broken_framing_is_refused(void **state)
{
    (void)state;
    static const char *const broken[] = {
        "\r\n",   "x\r\n",  "5\nhello", "5\r\nhello0\r\n", "5\r\nhello\rX",         "5\rX",
        "-1\r\n", " 5\r\n", "0\r\n\rX", "0\r\n\n",         "fffffffffffffffff\r\n", "1;a\nx",
    };
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        struct lt_chunk_decoder decoder = {0};
        struct lt_buffer payload = {0};
        assert_int_equal(feed(&decoder, broken[i], strlen(broken[i]), &payload), -1);
        lt_buffer_free(&payload);
    }
}

static void endless_extensions_are_refused(void **state)
{
    (void)state;
    struct lt_chunk_decoder decoder = {0};
    struct lt_buffer payload = {0};
    ssize_t used = feed(&decoder, "5;", 2, &payload);
    for (int i = 0; i < 10000 && used >= 0; i++) {
        used = feed(&decoder, "x", 1, &payload);
    }
    assert_int_equal(used, -1);
    lt_buffer_free(&payload);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_split_gives_the_payload),
        cmocka_unit_test(byte_by_byte_gives_the_payload),
        cmocka_unit_test(stops_behind_the_last_chunk),
        cmocka_unit_test(broken_framing_is_refused),
        cmocka_unit_test(endless_extensions_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
