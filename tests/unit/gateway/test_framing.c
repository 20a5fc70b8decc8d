/* Ambiguous framing: what must be refused, what must pass, and every cut of a good head. */
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "framing.h"

static int check(const char *head, int minor)
{
    return gw_framing_check(head, strlen(head), minor, 1000);
}

static void test_plain_requests_pass(void **state)
{
    (void)state;
    assert_int_equal(check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1), 0);
    assert_int_equal(check("\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", 1), 0);
    assert_int_equal(check("GET / HTTP/1.0\r\n\r\n", 0), 0);
    assert_int_equal(check("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi", 1), 0);
    assert_int_equal(check("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", 1),
                     0);
    assert_int_equal(check("GET / HTTP/1.1\r\nhost: a\r\nx-empty:\r\n\r\n", 1), 0);
}

static void test_the_body_is_not_part_of_the_head(void **state)
{
    (void)state;
    assert_int_equal(check("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: "
                           "40\r\n\r\ncontent-length: 1\r\nhost: b\n",
                           1),
                     0);
}

static void test_ambiguous_framing_is_refused(void **state)
{
    static const struct {
        const char *head;
        int minor;
    } heads[] = {
        {"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 1},
        {"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n", 1},
        {"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
         1},
        {"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: x\r\ntransfer-encoding: chunked\r\n\r\n",
         1},
        {"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", 0},
        {"GET / HTTP/1.1\r\n\r\n", 1},
        {"GET / HTTP/1.1\r\nhost: a\r\nHOST: b\r\n\r\n", 1},
        {"GET / HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n", 0},
        {"GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n folded\r\n\r\n", 1},
        {"GET / HTTP/1.1\nhost: a\n\n", 1},
        {"GET / HTTP/1.1\r\nhost: a\nx: 1\r\n\r\n", 1},
        {"GET / HTTP/1.1\r\nhost: a\r\ncontent-length : 1\r\n\r\n", 1},
        {"GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n", 1},
        {"GET / HTTP/1.1\r\nhost: a\r\n: empty\r\n\r\n", 1},
        {"GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n", 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        print_message("%zu\n", i);
        assert_int_equal(check(heads[i].head, heads[i].minor), SL_E_BAD_FRAMING);
    }
}

static void test_every_cut_of_a_head_is_refused(void **state)
{
    static const char head[] = "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n\r\n";

    (void)state;
    for (size_t len = 0; len < sizeof(head) - 1; len++) {
        assert_int_equal(gw_framing_check(head, len, 1, 1000), SL_E_BAD_FRAMING);
    }
    assert_int_equal(gw_framing_check(head, sizeof(head) - 1, 1, 1000), 0);
}

static void test_a_large_head_is_refused(void **state)
{
    static const char request[] = "GET / HTTP/1.1\r\nhost: a\r\n\r\nbody";
    const size_t head_len = sizeof(request) - 1 - 4;

    (void)state;
    assert_int_equal(gw_framing_check(request, sizeof(request) - 1, 1, head_len), 0);
    assert_int_equal(gw_framing_check(request, sizeof(request) - 1, 1, head_len - 1),
                     SL_E_HEAD_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_requests_pass),
        cmocka_unit_test(test_the_body_is_not_part_of_the_head),
        cmocka_unit_test(test_ambiguous_framing_is_refused),
        cmocka_unit_test(test_every_cut_of_a_head_is_refused),
        cmocka_unit_test(test_a_large_head_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
