/* Lists with embedded links: order, removal from anywhere, walking while links are taken out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sluice/list.h"

enum { ITEMS = 5 };

static struct sl_link head, items[ITEMS];

static int set_up(void **state)
{
    (void)state;
    sl_list_init(&head);
    for (unsigned i = 0; i < ITEMS; i++) {
        items[i] = (struct sl_link){0};
    }
    return 0;
}

static void fill(void)
{
    for (unsigned i = 0; i < ITEMS; i++) {
        sl_list_append(&head, &items[i]);
    }
}

/* The list holds exactly the items of the set, in order, in both directions. */
static void expect(unsigned set)
{
    const struct sl_link *forward = head.next, *backward = head.prev;

    for (unsigned i = 0; i < ITEMS; i++) {
        assert_int_equal(sl_link_is_listed(&items[i]), set >> i & 1);
        if ((set >> i & 1) != 0) {
            assert_ptr_equal(forward, &items[i]);
            forward = forward->next;
        }
    }
    for (unsigned i = ITEMS; i-- > 0;) {
        if ((set >> i & 1) != 0) {
            assert_ptr_equal(backward, &items[i]);
            backward = backward->prev;
        }
    }
    assert_ptr_equal(forward, &head);
    assert_ptr_equal(backward, &head);
    assert_int_equal(sl_list_is_empty(&head), set == 0);
}

static void test_an_empty_list(void **state)
{
    unsigned walked = 0;

    (void)state;
    assert_true(sl_list_is_empty(&head));
    assert_null(sl_list_first(&head));
    SL_LIST_EACH(&head, link, after)
    {
        walked++;
    }
    assert_int_equal(walked, 0);
    assert_false(sl_link_is_listed(&items[0]));
    sl_link_remove(&items[0]); /* it is in none */
}

static void test_links_stay_in_order(void **state)
{
    unsigned at = 0;

    (void)state;
    fill();
    expect((1U << ITEMS) - 1);
    assert_ptr_equal(sl_list_first(&head), &items[0]);
    SL_LIST_EACH(&head, link, after)
    {
        assert_ptr_equal(link, &items[at++]);
    }
    assert_int_equal(at, ITEMS);
}

static void test_any_subset_can_be_taken_out(void **state)
{
    for (unsigned set = 0; set < 1U << ITEMS; set++) {
        assert_int_equal(set_up(state), 0);
        fill();
        for (unsigned i = 0; i < ITEMS; i++) {
            if ((set >> i & 1) == 0) {
                sl_link_remove(&items[i]);
                sl_link_remove(&items[i]);
            }
        }
        expect(set);
    }
}

static void test_the_link_at_hand_may_be_taken_out(void **state)
{
    for (unsigned set = 0; set < 1U << ITEMS; set++) {
        unsigned at = 0;
        assert_int_equal(set_up(state), 0);
        fill();
        SL_LIST_EACH(&head, link, after)
        {
            assert_ptr_equal(link, &items[at]);
            if ((set >> at & 1) == 0) {
                sl_link_remove(link);
            }
            at++;
        }
        assert_int_equal(at, ITEMS);
        expect(set);
    }
}

static void test_a_link_can_go_to_another_list(void **state)
{
    struct sl_link other;

    (void)state;
    sl_list_init(&other);
    fill();
    sl_link_remove(&items[1]);
    sl_list_append(&other, &items[1]);
    assert_ptr_equal(sl_list_first(&other), &items[1]);
    sl_link_remove(&items[1]);
    assert_true(sl_list_is_empty(&other));
    sl_list_append(&head, &items[1]); /* and back, to the end */
    assert_ptr_equal(head.prev, &items[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_an_empty_list, set_up),
        cmocka_unit_test_setup(test_links_stay_in_order, set_up),
        cmocka_unit_test_setup(test_any_subset_can_be_taken_out, set_up),
        cmocka_unit_test_setup(test_the_link_at_hand_may_be_taken_out, set_up),
        cmocka_unit_test_setup(test_a_link_can_go_to_another_list, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
