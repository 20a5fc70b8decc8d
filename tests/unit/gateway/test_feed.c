/* A feed: who is woken when, what its owner is told, and that followers may leave while they are woken. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "feed.h"
#include "sluice/op.h"

struct follower {
    struct gw_follower base;
    unsigned wakes;
    bool leaves; /* when it is woken */
};

static struct gw_feed feed;
static unsigned left_count, delivered_count;
static int last_reason;
static bool was_last; /* nobody was there any more when the owner was told */

static void on_left(struct gw_feed *of, int reason)
{
    assert_ptr_equal(of, &feed);
    left_count++;
    last_reason = reason;
    was_last = sl_list_is_empty(&of->followers);
}

static void on_token_delivered(struct gw_feed *of)
{
    assert_ptr_equal(of, &feed);
    delivered_count++;
}

static void on_wake(struct gw_follower *base)
{
    struct follower *follower = SL_CONTAINER_OF(base, struct follower, base);

    follower->wakes++;
    if (follower->leaves) {
        gw_feed_leave(base, 0);
    }
}

static int set_up(void **state)
{
    static const struct gw_feed_owner owner = {on_left, on_token_delivered};
    const struct sl_uuid turn = {{1}}, session = {{2}};

    (void)state;
    left_count = delivered_count = 0;
    gw_feed_init(&feed, &owner, &turn, &session, 65536);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    gw_feed_dispose(&feed);
    return 0;
}

static void append(enum sl_event_type type)
{
    assert_int_equal(gw_turn_log_append(&feed.log, type, "x", 1), 0);
}

static void follow(struct follower *follower)
{
    *follower = (struct follower){.base.wake = on_wake};
    gw_feed_follow(&feed, &follower->base);
}

static void test_it_knows_its_names(void **state)
{
    (void)state;
    assert_string_equal(feed.turn_id, "01000000-0000-0000-0000-000000000000");
    assert_string_equal(feed.session_id, "02000000-0000-0000-0000-000000000000");
    assert_int_equal(feed.error, 0);
    assert_int_equal(feed.log.last_seq, 0);
}

static void test_news_wake_everybody_once(void **state)
{
    struct follower one, two;

    (void)state;
    follow(&one);
    follow(&two);
    gw_feed_publish(&feed); /* nothing yet */
    assert_int_equal(one.wakes, 0);
    append(SL_EVENT_TOKEN);
    append(SL_EVENT_TOKEN);
    assert_int_equal(one.wakes, 0);
    gw_feed_publish(&feed);
    gw_feed_publish(&feed); /* it has been told */
    assert_int_equal(one.wakes, 1);
    assert_int_equal(two.wakes, 1);
    append(SL_EVENT_DONE);
    gw_feed_publish(&feed);
    assert_int_equal(one.wakes, 2);
    assert_int_equal(two.wakes, 2);
}

/* Whoever begins to follow reads what is there; being woken is for what comes after. */
static void test_a_late_follower_is_woken_by_what_is_new(void **state)
{
    struct follower late;

    (void)state;
    append(SL_EVENT_TOKEN);
    gw_feed_publish(&feed);
    follow(&late);
    assert_int_equal(late.wakes, 0);
    gw_feed_publish(&feed);
    assert_int_equal(late.wakes, 0);
    append(SL_EVENT_TOKEN);
    gw_feed_publish(&feed);
    assert_int_equal(late.wakes, 1);
}

static void test_the_owner_learns_who_leaves_and_why(void **state)
{
    struct follower one, two;

    (void)state;
    follow(&one);
    follow(&two);
    gw_feed_leave(&one.base, SL_E_SLOW_READER);
    assert_int_equal(left_count, 1);
    assert_int_equal(last_reason, SL_E_SLOW_READER);
    assert_false(was_last);
    gw_feed_leave(&one.base, SL_E_CLIENT_GONE); /* once is enough */
    assert_int_equal(left_count, 1);
    gw_feed_leave(&two.base, SL_E_CLIENT_GONE);
    assert_int_equal(left_count, 2);
    assert_int_equal(last_reason, SL_E_CLIENT_GONE);
    assert_true(was_last);
    assert_null(one.base.feed);
    append(SL_EVENT_TOKEN);
    gw_feed_publish(&feed);
    assert_int_equal(one.wakes + two.wakes, 0);
}

static void test_a_follower_can_come_back(void **state)
{
    struct follower one;

    (void)state;
    follow(&one);
    gw_feed_leave(&one.base, 0);
    gw_feed_follow(&feed, &one.base);
    append(SL_EVENT_TOKEN);
    gw_feed_publish(&feed);
    assert_int_equal(one.wakes, 1);
}

static void test_leaving_while_being_woken(void **state)
{
    struct follower followers[4];

    (void)state;
    for (unsigned who_leaves = 0; who_leaves < 16; who_leaves++) { /* every subset */
        for (unsigned i = 0; i < 4; i++) {
            follow(&followers[i]);
            followers[i].leaves = (who_leaves >> i & 1) != 0;
        }
        append(SL_EVENT_TOKEN);
        gw_feed_publish(&feed);
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(followers[i].wakes, 1);
            assert_int_equal(followers[i].base.feed == NULL, followers[i].leaves);
            gw_feed_leave(&followers[i].base, 0);
        }
        assert_true(sl_list_is_empty(&feed.followers));
    }
}

static void test_a_delivered_token_is_told(void **state)
{
    (void)state;
    gw_feed_token_delivered(&feed);
    assert_int_equal(delivered_count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_it_knows_its_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_news_wake_everybody_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_late_follower_is_woken_by_what_is_new, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_the_owner_learns_who_leaves_and_why, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_follower_can_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_leaving_while_being_woken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_delivered_token_is_told, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
