/* The error table: every number finds its own row, and no row leaks anything. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sluice/error.h"

static const struct {
    int err;
    const char *name;
} all[] = {
#define ROW(name, http, code, retryable, term, text) {name, #name},
    SL_ERRORS(ROW)
#undef ROW
};

static void test_every_error_has_its_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        const struct sl_error_info *info = sl_error_info(all[i].err);
        assert_string_equal(info->name, all[i].name);
        assert_true(all[i].err < 0 && all[i].err > SL_E_FIRST_);
        /* errno values are small: -EHWPOISON is the last */
        assert_true(all[i].err < -EHWPOISON);
    }
}

static void test_rows_are_fit_for_clients(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        const struct sl_error_info *info = sl_error_info(all[i].err);
        assert_in_range(info->http_status, 400, 599);
        assert_true(strlen(info->code) > 0);
        assert_int_equal(strspn(info->code, "abcdefghijklmnopqrstuvwxyz_"), strlen(info->code));
        assert_non_null(strchr("CURDLIcurd", info->term));
        assert_int_equal(info->text[strlen(info->text) - 1], '.');
        static const char *const inside[] = {"SL_E",  "libpq", "hiredis", "curl", "Postgres",
                                             "Redis", "SQL",   "h2o",     "://",  "127."};
        for (size_t k = 0; k < sizeof(inside) / sizeof(inside[0]); k++) {
            assert_null(strstr(info->text, inside[k]));
        }
    }
}

static void test_codes_are_unique(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        for (size_t k = 0; k < i; k++) {
            const struct sl_error_info *a = sl_error_info(all[i].err);
            const struct sl_error_info *b = sl_error_info(all[k].err);
            /* to a client, no memory is one more reason for "overloaded" */
            bool overloaded = strcmp(a->code, "overloaded") == 0;
            assert_true(strcmp(a->code, b->code) != 0 || overloaded);
        }
    }
}

static void test_unknown_numbers(void **state)
{
    static const int unknown[] = {0,
                                  1,
                                  -1,
                                  -EIO,
                                  4711,
                                  SL_E_FIRST_,
                                  SL_E_ANSWER_TOO_LONG + 1,
                                  INT32_MIN + 2000,
                                  INT32_MAX - 2000};

    (void)state;
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        assert_string_equal(sl_error_info(unknown[i])->name, "SL_E_INTERNAL");
    }
}

static void test_what_the_retry_logic_relies_on(void **state)
{
    (void)state;
    assert_int_equal(SL_OK, 0);
    assert_true(sl_error_info(SL_E_UPSTREAM_UNREACHABLE)->retryable);
    assert_true(sl_error_info(SL_E_UPSTREAM_RATE_LIMITED)->retryable);
    assert_false(sl_error_info(SL_E_UPSTREAM_REJECTED)->retryable);
    assert_false(sl_error_info(SL_E_INVALID_VALUE)->retryable);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_error_has_its_row),
        cmocka_unit_test(test_rows_are_fit_for_clients),
        cmocka_unit_test(test_codes_are_unique),
        cmocka_unit_test(test_unknown_numbers),
        cmocka_unit_test(test_what_the_retry_logic_relies_on),
    };

    return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
