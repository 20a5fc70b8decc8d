/* The keys that are not believed: marking, dropping, and what happens when there are too many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "stale_keys.h"

static struct store_stale_keys stale;

static int set_up(void **state)
{
    (void)state;
    store_stale_keys_init(&stale, 3, 1000);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    store_stale_keys_dispose(&stale);
    return 0;
}

static void mark(const char *key, uint64_t now_us)
{
    store_stale_keys_mark(&stale, key, strlen(key), now_us);
}

static bool has(const char *key, uint64_t now_us)
{
    return store_stale_keys_has(&stale, key, strlen(key), now_us);
}

static void take(const char *expected)
{
    struct store_stale_key *entry = store_stale_keys_take(&stale);

    assert_non_null(entry);
    assert_int_equal(entry->node.key_len, strlen(expected));
    assert_memory_equal(entry->node.key, expected, strlen(expected));
}

static void dropped(const char *key, bool success)
{
    store_stale_keys_dropped(&stale, key, strlen(key), success);
}

static void a_key_is_stale_until_its_drop_is_confirmed(void **state)
{
    (void)state;
    assert_false(has("a", 0));
    assert_null(store_stale_keys_take(&stale));
    mark("a", 0);
    mark("b", 0);
    mark("a", 0);
    assert_true(has("a", 0));
    take("a");
    take("b");
    assert_null(store_stale_keys_take(&stale)); /* marked twice, waits once */
    assert_true(has("a", 0));
    dropped("a", false);
    take("a");
    dropped("a", true);
    assert_false(has("a", 0));
    dropped("a", true); /* a second confirmation means nothing */
    dropped("never", true);
    dropped("b", true);
    assert_false(has("b", 0));
}

static void a_mark_during_the_drop_is_not_lost(void **state)
{
    (void)state;
    mark("a", 0);
    take("a");
    mark("a", 0);
    dropped("a", true); /* that DEL may have run before what the mark is about */
    assert_true(has("a", 0));
    take("a");
    dropped("a", true);
    assert_false(has("a", 0));
}

static void too_many_make_everything_stale_for_a_while(void **state)
{
    (void)state;
    mark("a", 0);
    mark("b", 0);
    mark("c", 0);
    assert_false(has("x", 0));
    mark("d", 500);
    assert_true(has("x", 500));
    assert_true(has("x", 1499));
    assert_false(has("x", 1500));
    assert_true(has("a", 1500)); /* this one is still known by name */
    mark("e", 1500);
    assert_true(has("x", 2499));
    assert_false(has("x", 2500));
    mark("b", 2500); /* one that is in needs no room */
    assert_false(has("x", 2500));
    take("a");
    dropped("a", true);
    mark("d", 2500); /* and now there is some */
    assert_false(has("x", 2500));
    assert_true(has("d", 2500));
    take("b");
    take("c");
    take("d");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_key_is_stale_until_its_drop_is_confirmed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_mark_during_the_drop_is_not_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(too_many_make_everything_stale_for_a_while, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
