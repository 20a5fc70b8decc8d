/* Directives: what each kind of value does, and that a typo is refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "random.h"
#include "stub_script.h"

static struct stub_script script;
static char error[STUB_SCRIPT_ERROR_MAX];

static int parse(const char *message)
{
    stub_script_init(&script);
    error[0] = 0;
    return stub_script_parse(&script, message, strlen(message), error);
}

static void no_directive_leaves_the_presets(void **state)
{
    (void)state;
    stub_script_init(&script);
    script.gap_us = 5;
    struct stub_script before = script;
    assert_int_equal(stub_script_parse(&script, "hello [stub]", 12, error), 0);
    assert_memory_equal(&script, &before, sizeof(script));
    assert_int_equal(stub_script_parse(&script, NULL, 0, error), 0);
    assert_int_equal(script.tokens, -1);
    assert_int_equal(script.stall_after, -1);
    assert_int_equal(script.comments_us, -1);
    assert_string_equal(script.reasoning_key, "reasoning_content");
}

static void values_are_read(void **state)
{
    (void)state;
    assert_int_equal(
        parse("Hi! [[stub tokens=12 delay=1.5 gap=20\n first=.25 fin_after=0 status=503 "
              "retry_after=7 reasoning_key=reasoning crlf half_dead=fin drop split=99 "
              "comments pings=40 malformed times=2 at=9090]] bye"),
        0);
    assert_int_equal(script.tokens, 12);
    assert_int_equal(script.delay_us, 1500);
    assert_int_equal(script.gap_us, 20000);
    assert_int_equal(script.first_us, 250);
    assert_int_equal(script.fin_after, 0);
    assert_int_equal(script.status, 503);
    assert_int_equal(script.retry_after_s, 7);
    assert_string_equal(script.reasoning_key, "reasoning");
    assert_true(script.crlf);
    assert_false(script.cr);
    assert_int_equal(script.half_dead, STUB_CUT_FIN);
    assert_int_equal(script.drop, STUB_CUT_RST);
    assert_int_equal(script.split_seed, 99);
    assert_int_equal(script.comments_us, 0);
    assert_int_equal(script.pings_us, 40000);
    assert_int_equal(script.malformed_after, 1);
    assert_int_equal(script.times, 2);
    assert_int_equal(script.at_port, 9090);
    assert_int_equal(parse("[[stub malformed=3]]"), 0);
    assert_int_equal(script.malformed_after, 3);
}

static void text_runs_to_the_closing_brackets(void **state)
{
    (void)state;
    assert_int_equal(parse("[[stub no_done text=one tokens=2 [three] ]] tail"), 0);
    assert_true(script.no_done);
    assert_int_equal(script.tokens, -1);
    assert_int_equal(script.text_len, strlen("one tokens=2 [three] "));
    assert_memory_equal(script.text, "one tokens=2 [three] ", script.text_len);
    assert_int_equal(parse("[[stub text=]]"), 0);
    assert_non_null(script.text);
    assert_int_equal(script.text_len, 0);
}

static void mistakes_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *message, *named;
    } rows[] = {
        {"[[stub bogus=1]]", "bogus"},
        {"[[stub tokens]]", "tokens"},
        {"[[stub tokens=]]", "tokens"},
        {"[[stub tokens=-1]]", "tokens"},
        {"[[stub tokens=1x]]", "tokens"},
        {"[[stub gap=nan]]", "gap"},
        {"[[stub gap=1e99]]", "gap"},
        {"[[stub crlf=1]]", "crlf"},
        {"[[stub status=200]]", "status"},
        {"[[stub status=600]]", "status"},
        {"[[stub status=201 html]]", "status"},
        {"[[stub status=200 empty]]", "status"},
        {"[[stub quota=1]]", "quota"},
        {"[[stub head_bytes]]", "head_bytes"},
        {"[[stub drop=soft]]", "drop"},
        {"[[stub long=99999999999]]", "long"},
        {"[[stub finish=]]", "finish"},
        {"[[stub tokens=3", "[[stub"},
        {"[[stubborn]]", "[[stub"},
        {"[[stub split=99999999999999999999999]]", "split"},
        {"[[stub =1]]", "''"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(parse(rows[i].message), -1);
        assert_non_null(strstr(error, rows[i].named));
    }
    char longest[300];
    snprintf(longest, sizeof(longest), "[[stub id=%0200d]]", 7);
    assert_int_equal(parse(longest), -1);
    assert_non_null(strstr(error, "too long"));
}

static void directives_have_their_own_hash(void **state)
{
    (void)state;
    assert_int_equal(parse("a [[stub times=1 status=500]]"), 0);
    uint64_t hash = script.directive_hash;
    assert_int_equal(parse("other text [[stub times=1 status=500]] here"), 0);
    assert_int_equal(script.directive_hash, hash);
    assert_int_equal(parse("a [[stub times=1 status=501]]"), 0);
    assert_int_not_equal(script.directive_hash, hash);
}

static void cleared_faults_keep_the_answer(void **state)
{
    (void)state;
    assert_int_equal(parse("[[stub status=500 html quota head_bytes=9 stall_after=1 drop no_done "
                           "delay=9 gap=3 crlf tokens=4]]"),
                     0);
    stub_script_clear_faults(&script);
    assert_int_equal(script.status, -1);
    assert_int_equal(script.stall_after, -1);
    assert_int_equal(script.drop, STUB_CUT_NONE);
    assert_int_equal(script.delay_us, 0);
    assert_int_equal(script.head_bytes, -1);
    assert_false(script.html || script.quota || script.no_done);
    assert_int_equal(script.tokens, 4);
    assert_int_equal(script.gap_us, 3000);
    assert_true(script.crlf);
}

static void garbage_never_reads_outside(void **state)
{
    (void)state;
    static const char letters[] = " =]tokensfial0159.-[\n";
    struct lt_random random = {7};
    for (int round = 0; round < 20000; round++) {
        char message[48] = "[[stub ";
        size_t len = 7 + (size_t)lt_random_below(&random, sizeof(message) - 7);
        for (size_t i = 7; i < len; i++) {
            message[i] = letters[lt_random_below(&random, sizeof(letters) - 1)];
        }
        stub_script_init(&script);
        (void)stub_script_parse(&script, message, len, error);
        assert_true(script.text == NULL || script.text_len <= len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_directive_leaves_the_presets),
        cmocka_unit_test(values_are_read),
        cmocka_unit_test(text_runs_to_the_closing_brackets),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(directives_have_their_own_hash),
        cmocka_unit_test(cleared_faults_keep_the_answer),
        cmocka_unit_test(garbage_never_reads_outside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
