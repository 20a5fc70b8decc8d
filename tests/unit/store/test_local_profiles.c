/* The in-process profiles: what is found, what expires, what falls out. Time is an argument. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "local_profiles.h"

#include <pthread.h>

static struct store_local_profiles *local;
static struct sl_buffer json;
static bool found;

static int set_up(void **state)
{
    (void)state;
    sl_buffer_init(&json, 1 << 20);
    return store_local_profiles_create(3, &local);
}

static int tear_down(void **state)
{
    (void)state;
    store_local_profiles_destroy(local);
    sl_buffer_dispose(&json);
    return 0;
}

static void put(const char *user, const char *text, uint64_t now_us, uint64_t ttl_us)
{
    store_local_profiles_put(local, user, strlen(user), text != NULL, text,
                             text != NULL ? strlen(text) : 0, now_us, ttl_us);
}

static bool get(const char *user, uint64_t now_us)
{
    sl_buffer_clear(&json);
    return store_local_profiles_get(local, user, strlen(user), now_us, &found, &json);
}

static bool holds(const char *text)
{
    return json.len == strlen(text) && memcmp(json.base, text, json.len) == 0;
}

static void remembers_profiles_and_their_absence(void **state)
{
    (void)state;
    assert_false(get("ann", 0));
    put("ann", "{\"a\":1}", 0, 100);
    put("bob", NULL, 0, 100);
    assert_true(get("ann", 50));
    assert_true(found);
    assert_true(holds("{\"a\":1}"));
    assert_true(get("bob", 50));
    assert_false(found);
    assert_int_equal(json.len, 0);
    assert_false(get("an", 50));
    assert_false(get("anna", 50));
    put("ann", "{}", 10, 100); /* replaces */
    assert_true(get("ann", 50));
    assert_true(holds("{}"));
    put("ann", NULL, 10, 100);
    assert_true(get("ann", 50));
    assert_false(found);
}

static void appends_to_what_is_there(void **state)
{
    (void)state;
    put("ann", "{}", 0, 100);
    assert_int_equal(sl_buffer_append_str(&json, "x="), 0);
    assert_true(store_local_profiles_get(local, "ann", 3, 0, &found, &json));
    assert_true(holds("x={}"));
    struct sl_buffer small;
    sl_buffer_init(&small, 1);
    assert_false(store_local_profiles_get(local, "ann", 3, 0, &found, &small)); /* does not fit */
    assert_int_equal(small.len, 0);
}

static void forgets_what_is_too_old(void **state)
{
    (void)state;
    put("ann", "{}", 1000, 100);
    assert_true(get("ann", 1099));
    assert_false(get("ann", 1100));
    assert_false(get("ann", 1000)); /* it is gone, not hidden */
}

static void drops_the_least_recently_used(void **state)
{
    (void)state;
    put("a", "1", 0, 100);
    put("b", "2", 0, 100);
    put("c", "3", 0, 100);
    assert_true(get("a", 1)); /* b is the oldest now */
    put("d", "4", 1, 100);
    assert_false(get("b", 2));
    assert_true(get("a", 2));
    assert_true(get("c", 2));
    assert_true(get("d", 2));
    store_local_profiles_drop(local, "c", 1);
    store_local_profiles_drop(local, "c", 1);
    store_local_profiles_drop(local, "nobody", 6);
    assert_false(get("c", 2));
    put("e", "5", 2, 100); /* in the room of c */
    assert_true(get("a", 3));
    assert_true(get("d", 3));
}

static void may_hold_nothing_at_all(void **state)
{
    struct store_local_profiles *none;

    (void)state;
    assert_int_equal(store_local_profiles_create(0, &none), 0);
    store_local_profiles_put(none, "a", 1, true, "{}", 2, 0, 100);
    assert_false(store_local_profiles_get(none, "a", 1, 0, &found, &json));
    store_local_profiles_destroy(none);
    store_local_profiles_destroy(NULL);
}

static void stays_bounded_with_many_users(void **state)
{
    struct store_local_profiles *many;
    char user[32];
    unsigned left = 0;

    (void)state;
    assert_int_equal(store_local_profiles_create(500, &many), 0);
    for (unsigned i = 0; i < 5000; i++) {
        (void)snprintf(user, sizeof(user), "user-%u", i);
        store_local_profiles_put(many, user, strlen(user), true, user, strlen(user), 0, 100);
    }
    for (unsigned i = 0; i < 5000; i++) {
        (void)snprintf(user, sizeof(user), "user-%u", i);
        sl_buffer_clear(&json);
        if (store_local_profiles_get(many, user, strlen(user), 0, &found, &json)) {
            assert_true(holds(user));
            assert_true(i >= 4500);
            left++;
        }
    }
    assert_int_equal(left, 500);
    store_local_profiles_destroy(many);
}

static void *hammer(void *argument)
{
    unsigned seed = *(const unsigned *)argument;
    struct sl_buffer mine;

    sl_buffer_init(&mine, 100);
    for (unsigned i = 0; i < 20000; i++) {
        char user = (char)('a' + (i * 7 + seed) % 6);
        bool is_there;
        sl_buffer_clear(&mine);
        if (i % 3 == 0) {
            store_local_profiles_put(local, &user, 1, true, &user, 1, 0, 100);
        } else if (i % 11 == 0) {
            store_local_profiles_drop(local, &user, 1);
        } else if (store_local_profiles_get(local, &user, 1, 0, &is_there, &mine) &&
                   (mine.len != 1 || mine.base[0] != user)) {
            sl_buffer_dispose(&mine);
            return argument;
        }
    }
    sl_buffer_dispose(&mine);
    return NULL;
}

static void serves_several_threads(void **state)
{
    pthread_t threads[3];
    unsigned seeds[3] = {0, 1, 2};

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, &seeds[i]), 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        void *wrong;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(remembers_profiles_and_their_absence, set_up, tear_down),
        cmocka_unit_test_setup_teardown(appends_to_what_is_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(forgets_what_is_too_old, set_up, tear_down),
        cmocka_unit_test_setup_teardown(drops_the_least_recently_used, set_up, tear_down),
        cmocka_unit_test_setup_teardown(may_hold_nothing_at_all, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stays_bounded_with_many_users, set_up, tear_down),
        cmocka_unit_test_setup_teardown(serves_several_threads, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
