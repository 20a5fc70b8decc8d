/* Trace Context: what is well-formed is read and passed on, everything else is ignored. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "trace_context.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define SPAN "b7ad6b7169203331"
#define PARENT "00-" TRACE "-" SPAN "-01"

/* Copies that end where the text does, so that ASan sees a byte too many being read. */
static char *exact(const char *text, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);

    assert_non_null(copy);
    memcpy(copy, text, len);
    return copy;
}

static int parse(const char *text, size_t len, struct gw_trace_context *ret_context)
{
    char *copy = exact(text, len);
    int err = gw_trace_context_parse(copy, len, ret_context);

    free(copy);
    return err;
}

static bool is_state(const char *text, size_t len)
{
    char *copy = exact(text, len);
    bool is_valid = gw_trace_state_is_valid(copy, len);

    free(copy);
    return is_valid;
}

static void refuse(const char *text, size_t len)
{
    struct gw_trace_context context = {1, 2, 3, true};

    if (parse(text, len, &context) == 0) {
        fail_msg("taken: %.*s", (int)len, text);
    }
    assert_true(context.id_high == 1 && context.id_low == 2 && context.parent == 3);
}

static void test_a_good_one(void **state)
{
    static const struct {
        const char *text;
        bool sampled;
    } cases[] = {
        {PARENT, true},
        {" \t" PARENT " ", true},
        {"00-" TRACE "-" SPAN "-00", false},
        {"00-" TRACE "-" SPAN "-fe", false}, /* only bit 0 means anything */
        {"00-" TRACE "-" SPAN "-ff", true},
        {"01-" TRACE "-" SPAN "-01", true},
        {"cc-" TRACE "-" SPAN "-01-what the future brings", true},
        {"cc-" TRACE "-" SPAN "-01-", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct gw_trace_context context;
        char text[GW_TRACEPARENT_SIZE];
        assert_int_equal(parse(cases[i].text, strlen(cases[i].text), &context), 0);
        assert_true(context.id_high == 0x0af7651916cd43ddU &&
                    context.id_low == 0x8448eb211c80319cU);
        assert_true(context.parent == 0xb7ad6b7169203331U);
        assert_int_equal(context.sampled, cases[i].sampled);
        gw_trace_context_format(&context, 0x1f, text);
        assert_string_equal(text, cases[i].sampled ? "00-" TRACE "-000000000000001f-01"
                                                   : "00-" TRACE "-000000000000001f-00");
    }
}

static void test_ill_formed_ones(void **state)
{
    static const char *const cases[] = {
        "",
        "-",
        "ff-" TRACE "-" SPAN "-01",
        "0-" TRACE "-" SPAN "-01",
        "000-" TRACE "-" SPAN "-01",
        "0x-" TRACE "-" SPAN "-01",
        "00-00000000000000000000000000000000-" SPAN "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01",
        "00-" TRACE "-B7AD6B7169203331-01",
        "00-" TRACE "-" SPAN "-0A",
        "00-" TRACE "-" SPAN "-1",
        "00-" TRACE "-" SPAN "-001",
        "00-" TRACE "-" SPAN "-01-",
        "00-" TRACE "-" SPAN "-01-more",
        "00-" TRACE "-" SPAN "-01.",
        "cc-" TRACE "-" SPAN "-01more",
        "00_" TRACE "_" SPAN "_01",
        "00-" TRACE "a-" SPAN "-01",
        "00-" TRACE " " SPAN "-01",
        "00-" TRACE "-" SPAN "-01," PARENT,
        "00-" TRACE "-" SPAN "- 1",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        refuse(cases[i], strlen(cases[i]));
    }
    for (size_t len = 0; len < sizeof(PARENT) - 1; len++) {
        refuse(PARENT, len);
    }
    refuse("00-" TRACE "-" SPAN "-\0001", GW_TRACEPARENT_LEN);
}

/* No byte but a few can stand at any place of it. */
static void test_every_byte_at_every_place(void **state)
{
    (void)state;
    for (size_t at = 0; at < sizeof(PARENT) - 1; at++) {
        for (int byte = 0; byte < 256; byte++) {
            char text[] = PARENT;
            struct gw_trace_context context;
            bool is_dash = text[at] == '-';
            bool is_hex = byte != 0 && strchr("0123456789abcdef", byte) != NULL;
            text[at] = (char)byte;
            bool may_be_read = is_dash ? byte == '-' : is_hex;
            if (parse(text, strlen(PARENT), &context) == 0) {
                assert_true(may_be_read);
            } else {
                assert_true(!may_be_read || memcmp(text, "ff", 2) == 0);
            }
        }
    }
}

static void test_a_new_trace(void **state)
{
    unsigned sampled = 0;

    (void)state;
    for (unsigned i = 0; i < 2000; i++) {
        struct gw_trace_context context = gw_trace_context_begin(25), again;
        char text[GW_TRACEPARENT_SIZE];
        assert_true(gw_trace_context_is_set(&context) && context.parent == 0);
        gw_trace_context_format(&context, 7, text);
        assert_int_equal(parse(text, strlen(text), &again), 0);
        assert_true(again.id_high == context.id_high && again.id_low == context.id_low);
        assert_true(again.parent == 7 && again.sampled == context.sampled);
        sampled += context.sampled;
        assert_true(gw_trace_context_begin(100).sampled);
        assert_false(gw_trace_context_begin(0).sampled);
    }
    assert_in_range(sampled, 350, 650); /* 500 expected, more than seven deviations */
}

static void test_states(void **state)
{
    static const struct {
        const char *text;
        bool is_valid;
    } cases[] = {
        {"a=1", true},
        {"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", true},
        {" a=1 ,\tb=2\t", true},
        {"a=1,,b=2,", true},
        {"fw529a3039@dt=FfD9!~ \"#x", true},
        {"0tenant@v=1", true},
        {"a_-*/0=x y", true},
        {"", false},
        {" , ,", false},
        {"a", false},
        {"a=", false},
        {"=1", false},
        {"a=1,b", false},
        {"a=1=2", false},
        {"A=1", false},
        {"a b=1", false},
        {"a =1", false},
        {"_a=1", false},
        {"@a=1", false},
        {"a@=1", false},
        {"a@b@c=1", false},
        {"a=\x7f", false},
        {"a=x\ty", false},
        {"a=\xc3\xa4", false},
        {"a=1\r\nx: y", false},
    };
    char text[GW_TRACESTATE_MAX + 2];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (is_state(cases[i].text, strlen(cases[i].text)) != cases[i].is_valid) {
            fail_msg("case %zu: %s", i, cases[i].text);
        }
    }
    assert_false(is_state("a=\0001", 4));
    /* 32 members, 256 bytes of a key and of a value, 512 bytes in all, and one more of each */
    size_t len = 0;
    for (unsigned i = 0; i < 33; i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%sm%u=1", i > 0 ? "," : "", i);
        assert_int_equal(is_state(text, len), i < 32);
    }
    memset(text, 'k', sizeof(text));
    memcpy(text + 256, "=1", 2);
    assert_true(is_state(text, 258));
    memcpy(text + 256, "k=1", 3);
    assert_false(is_state(text, 259));
    memset(text, 'v', sizeof(text));
    memcpy(text, "a=", 2);
    assert_true(is_state(text, 258));
    assert_false(is_state(text, 259));
    memcpy(text + 258, ",b=", 3);
    assert_true(is_state(text, GW_TRACESTATE_MAX));
    text[GW_TRACESTATE_MAX] = ',';
    assert_false(is_state(text, GW_TRACESTATE_MAX + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_good_one),
        cmocka_unit_test(test_ill_formed_ones),
        cmocka_unit_test(test_every_byte_at_every_place),
        cmocka_unit_test(test_a_new_trace),
        cmocka_unit_test(test_states),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
