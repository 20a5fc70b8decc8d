/* What a SQLSTATE means: every state that the writer's policy names, its neighbours, and nonsense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pg_error.h"
#include "sluice/error.h"

static void each_state_has_its_class(void **state)
{
    static const struct {
        const char *sqlstate;
        enum store_pg_class meaning;
    } expected[] = {
        {NULL, STORE_PG_RECONNECT},    {"", STORE_PG_RECONNECT},
        {"08000", STORE_PG_RECONNECT}, {"08006", STORE_PG_RECONNECT},
        {"08P01", STORE_PG_RECONNECT}, {"57P01", STORE_PG_RECONNECT},
        {"57P02", STORE_PG_RECONNECT}, {"57P03", STORE_PG_RECONNECT},
        {"57P05", STORE_PG_RECONNECT}, {"25006", STORE_PG_RECONNECT},
        {"25P02", STORE_PG_RECONNECT}, {"26000", STORE_PG_RECONNECT},
        {"40001", STORE_PG_RETRY},     {"40P01", STORE_PG_RETRY},
        {"53100", STORE_PG_RETRY},     {"53200", STORE_PG_RETRY},
        {"53300", STORE_PG_RETRY},     {"55P03", STORE_PG_RETRY},
        {"58030", STORE_PG_RETRY},     {"57014", STORE_PG_RETRY_SMALLER},
        {"XX000", STORE_PG_RETRY_FEW}, {"XX001", STORE_PG_RETRY_FEW},
        {"22021", STORE_PG_BAD_ROW},   {"22P02", STORE_PG_BAD_ROW},
        {"22P05", STORE_PG_BAD_ROW},   {"22001", STORE_PG_BAD_ROW},
        {"23502", STORE_PG_BAD_ROW},   {"23503", STORE_PG_BAD_ROW},
        {"23505", STORE_PG_BAD_ROW},   {"23514", STORE_PG_BAD_ROW},
        {"54000", STORE_PG_BAD_ROW},   {"54023", STORE_PG_BAD_ROW},
        {"42P01", STORE_PG_SYSTEMIC},  {"42501", STORE_PG_SYSTEMIC},
        {"42703", STORE_PG_SYSTEMIC},  {"28000", STORE_PG_SYSTEMIC},
        {"28P01", STORE_PG_SYSTEMIC},  {"3D000", STORE_PG_SYSTEMIC},
        {"3F000", STORE_PG_SYSTEMIC},  {"0A000", STORE_PG_SYSTEMIC},
        {"25000", STORE_PG_SYSTEMIC},  {"55000", STORE_PG_SYSTEMIC},
        {"P0001", STORE_PG_SYSTEMIC},  {"ZZZZZ", STORE_PG_SYSTEMIC},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        if (store_pg_classify(expected[i].sqlstate) != expected[i].meaning) {
            print_error("%s\n", expected[i].sqlstate != NULL ? expected[i].sqlstate : "null");
            fail();
        }
    }
}

static void reads_tell_late_from_gone_from_refused(void **state)
{
    (void)state;
    assert_int_equal(store_pg_read_error("57014"), SL_E_DATABASE_TIMEOUT);
    assert_int_equal(store_pg_read_error(NULL), SL_E_DATABASE_UNAVAILABLE);
    assert_int_equal(store_pg_read_error("57P01"), SL_E_DATABASE_UNAVAILABLE);
    assert_int_equal(store_pg_read_error("53300"), SL_E_DATABASE_UNAVAILABLE);
    assert_int_equal(store_pg_read_error("42501"), SL_E_DATABASE_REFUSED);
    assert_int_equal(store_pg_read_error("22021"), SL_E_DATABASE_REFUSED);
    assert_int_equal(store_pg_read_error("XX000"), SL_E_DATABASE_REFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_state_has_its_class),
        cmocka_unit_test(reads_tell_late_from_gone_from_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
