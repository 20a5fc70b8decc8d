/*
 * The overlay: what was added comes back for its own session only, sorted and cut, and nothing else
 * does; growing, removing in any order, and two threads at once.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "overlay.h"
#include "record.h"
#include "samples.h"

static struct store_overlay *overlay;

static int make_overlay(void **state)
{
    (void)state;
    return store_overlay_create(&overlay);
}

static int free_overlay(void **state)
{
    (void)state;
    store_overlay_destroy(overlay);
    return 0;
}

static struct store_record *add(const char *user, unsigned session, unsigned number,
                                const char *content)
{
    struct sl_uuid id = sample_id(session);
    struct store_message message = sample_message(number, content);
    struct store_record *record = NULL;

    assert_int_equal(store_record_create_message(user, strlen(user), &id, &message, &record), 0);
    store_overlay_add(overlay, record);
    return record;
}

static void drop(struct store_record *record)
{
    store_overlay_remove(overlay, record);
    store_record_destroy(record);
}

static struct store_message_set collect(const char *user, unsigned session, size_t limit)
{
    struct store_message_set set;
    struct sl_uuid id = sample_id(session);

    assert_int_equal(store_overlay_collect(overlay, user, strlen(user), &id, 0, NULL, limit, &set),
                     0);
    return set;
}

static bool has(const char *user, unsigned session)
{
    struct sl_uuid id = sample_id(session);
    return store_overlay_has(overlay, user, strlen(user), &id);
}

static void only_the_own_session_comes_back(void **state)
{
    struct store_record *records[] = {add("ann", 1, 10, "a"), add("ann", 2, 11, "b"),
                                      add("bob", 1, 12, "c"), add("an", 1, 13, "d")};
    struct store_message_set set = collect("ann", 1, 10);

    (void)state;
    assert_int_equal(set.count, 1);
    assert_int_equal(sample_number(&set.items[0].id), 10);
    assert_string_equal(set.items[0].content.base, "a");
    assert_null(set.items[0].model.base);
    store_message_set_dispose(&set);
    set = collect("carol", 1, 10);
    assert_int_equal(set.count, 0);
    store_message_set_dispose(&set);
    for (size_t i = 0; i < 4; i++) {
        drop(records[i]);
    }
}

static bool find_turn(const char *user, unsigned turn, unsigned *ret_session)
{
    struct sl_uuid id = sample_id(turn), session;
    bool found = store_overlay_find_turn(overlay, user, strlen(user), &id, &session);

    *ret_session = found ? sample_number(&session) : 0;
    return found;
}

static void a_turn_is_found_while_it_has_a_message(void **state)
{
    struct store_record *records[] = {add("ann", 1, 10, "question"), add("ann", 1, 10, "answer"),
                                      add("ann", 2, 11, "b"), add("bob", 3, 12, "c")};
    unsigned session;

    (void)state;
    assert_true(find_turn("ann", 10, &session));
    assert_int_equal(session, 1);
    assert_true(find_turn("ann", 11, &session));
    assert_int_equal(session, 2);
    assert_false(find_turn("ann", 12, &session)); /* another user's */
    assert_false(find_turn("an", 10, &session));
    assert_false(find_turn("ann", 1, &session)); /* a session's id is no turn's */
    drop(records[0]);
    assert_true(find_turn("ann", 10, &session));
    drop(records[1]);
    assert_false(find_turn("ann", 10, &session));
    drop(records[2]);
    drop(records[3]);
}

static void the_newest_come_back_oldest_first(void **state)
{
    static const unsigned order[] = {5, 2, 9, 1, 7, 3};
    struct store_record *records[6];

    (void)state;
    for (size_t i = 0; i < 6; i++) {
        records[i] = add("ann", 1, order[i], "x");
    }
    struct store_message_set set = collect("ann", 1, 3);
    assert_int_equal(set.count, 3);
    assert_int_equal(sample_number(&set.items[0].id), 5);
    assert_int_equal(sample_number(&set.items[1].id), 7);
    assert_int_equal(sample_number(&set.items[2].id), 9);
    store_message_set_dispose(&set);
    for (size_t i = 0; i < 6; i++) {
        drop(records[i]);
    }
}

static void the_cursor_is_strict(void **state)
{
    struct store_record *records[] = {add("ann", 1, 1, "a"), add("ann", 1, 2, "b"),
                                      add("ann", 1, 3, "c")};
    struct sl_uuid session = sample_id(1), before = sample_id(2);
    struct store_message_set set;

    (void)state;
    assert_int_equal(store_overlay_collect(overlay, "ann", 3, &session,
                                           records[1]->message.created_at_us, &before, 10, &set),
                     0);
    assert_int_equal(set.count, 1);
    assert_int_equal(sample_number(&set.items[0].id), 1);
    store_message_set_dispose(&set);
    /* same time, greater id: (time, id) decides */
    before = sample_id(200);
    assert_int_equal(store_overlay_collect(overlay, "ann", 3, &session,
                                           records[1]->message.created_at_us, &before, 10, &set),
                     0);
    assert_int_equal(set.count, 2);
    store_message_set_dispose(&set);
    for (size_t i = 0; i < 3; i++) {
        drop(records[i]);
    }
}

static void texts_are_copies(void **state)
{
    struct store_record *record = add("ann", 1, 1, "käse \xf0\x9f\xa7\x80");
    struct store_message_set set = collect("ann", 1, 1);

    (void)state;
    drop(record);
    assert_string_equal(set.items[0].content.base, "käse \xf0\x9f\xa7\x80");
    store_message_set_dispose(&set);
    assert_false(has("ann", 1));
}

static void removal_is_idempotent_and_exact(void **state)
{
    struct store_record *first = add("ann", 1, 1, "a"), *second = add("ann", 1, 2, "b");

    (void)state;
    store_overlay_remove(overlay, first);
    store_overlay_remove(overlay, first);
    assert_true(has("ann", 1));
    store_overlay_remove(overlay, second);
    assert_false(has("ann", 1));
    store_record_destroy(first);
    store_record_destroy(second);
}

static void it_grows_and_shrinks_with_nothing_lost(void **state)
{
    enum { MANY = 20000 };
    struct store_record **records = calloc(MANY, sizeof(records[0]));
    unsigned session;

    (void)state;
    for (unsigned i = 0; i < MANY; i++) {
        records[i] = add("ann", i / 2, i, "x");
    }
    for (unsigned i = 0; i < MANY; i += 2) {
        struct store_message_set set = collect("ann", i / 2, 10);
        assert_int_equal(set.count, 2);
        assert_int_equal(sample_number(&set.items[1].id), i + 1);
        store_message_set_dispose(&set);
        assert_true(find_turn("ann", i, &session));
        assert_int_equal(session, i / 2);
    }
    for (unsigned i = 0; i < MANY; i++) {
        unsigned at = (i * 7919U) % MANY; /* prime: every one once */
        drop(records[at]);
        records[at] = NULL;
        assert_int_equal(has("ann", at / 2), records[at ^ 1U] != NULL);
        assert_false(find_turn("ann", at, &session));
    }
    free(records);
}

static void *add_and_drop(void *argument)
{
    unsigned from = *(unsigned *)argument;

    for (unsigned i = 0; i < 2000; i++) {
        struct store_record *record = add("ann", i % 5, from + i, "text");
        struct store_message_set set = collect("ann", i % 5, 100);
        bool found = false;
        for (size_t k = 0; k < set.count; k++) {
            found = found || sample_number(&set.items[k].id) == from + i;
        }
        store_message_set_dispose(&set);
        drop(record);
        if (!found) {
            abort();
        }
    }
    return NULL;
}

static void threads_do_not_disturb_each_other(void **state)
{
    pthread_t threads[3];
    unsigned from[] = {0, 100000, 200000};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, add_and_drop, &from[i]), 0);
    }
    for (size_t i = 0; i < 3; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    for (unsigned i = 0; i < 5; i++) {
        assert_false(has("ann", i));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_the_own_session_comes_back, make_overlay,
                                        free_overlay),
        cmocka_unit_test_setup_teardown(a_turn_is_found_while_it_has_a_message, make_overlay,
                                        free_overlay),
        cmocka_unit_test_setup_teardown(the_newest_come_back_oldest_first, make_overlay,
                                        free_overlay),
        cmocka_unit_test_setup_teardown(the_cursor_is_strict, make_overlay, free_overlay),
        cmocka_unit_test_setup_teardown(texts_are_copies, make_overlay, free_overlay),
        cmocka_unit_test_setup_teardown(removal_is_idempotent_and_exact, make_overlay,
                                        free_overlay),
        cmocka_unit_test_setup_teardown(it_grows_and_shrinks_with_nothing_lost, make_overlay,
                                        free_overlay),
        cmocka_unit_test_setup_teardown(threads_do_not_disturb_each_other, make_overlay,
                                        free_overlay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
