/*
 * Those who read a turn: they come late, to a turn that is kept, they leave and come back, they are slow.
 * A finished turn goes when its time is over, when newer ones need its room, and with the loop.
 */
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "world.h"

struct reader {
    struct gw_follower follower;
    size_t offset;
    uint32_t last_seq; /* events up to this one are skipped */
    unsigned seen;
    bool stays; /* does not leave at the end */
};

static void on_reader_woken(struct gw_follower *follower)
{
    struct reader *reader = SL_CONTAINER_OF(follower, struct reader, follower);
    struct gw_event event;

    while (gw_turn_log_read(&follower->feed->log, &reader->offset, &event)) {
        if (event.seq > reader->last_seq) {
            assert_int_equal(event.seq, reader->last_seq + 1);
            reader->last_seq = event.seq;
            reader->seen++;
        }
    }
    if (follower->feed->log.ended && !reader->stays) {
        gw_feed_leave(follower, 0);
    }
}

static void follow(struct reader *reader, struct gw_feed *feed)
{
    reader->follower.wake = on_reader_woken;
    gw_feed_follow(feed, &reader->follower);
    on_reader_woken(&reader->follower);
}

static void start_streaming(void)
{
    world_start_turn("hi", false, GW_DISCONNECT_CANCEL);
    world_run();
    world_finish_profile(0, NULL);
    world_connect_upstream();
    world_send_delta("Hello");
    world_send_delta(" world");
}

/* One whole turn that is kept afterwards. */
static struct gw_turn *keep_a_turn(void)
{
    struct gw_turn *turn;

    start_streaming();
    turn = world.turn;
    world_complete();
    assert_int_equal(world_count(SL_EVENT_DONE), 1);
    assert_int_equal(world.turns.running, 0);
    return turn;
}

static bool is_there(const struct gw_turn *turn)
{
    SL_LIST_EACH(&world.turns.all, link, after)
    {
        if (link == &turn->link) {
            return true;
        }
    }
    return false;
}

static void test_a_kept_turn_is_read_again(void **state)
{
    struct reader whole = {.seen = 0}, rest = {.last_seq = 3};

    (void)state;
    world_open();
    world.config.chat.resume_window_s = 120;
    struct gw_turn *turn = keep_a_turn();
    const struct sl_uuid id = turn->id;
    assert_ptr_equal(gw_turns_find(&world.turns, &id, "ada", 3), turn);
    assert_null(gw_turns_find(&world.turns, &id, "eve", 3)); /* it is not theirs */
    follow(&whole, gw_turn_feed(turn));
    assert_int_equal(whole.seen, world.events_count);
    world_advance_ms(60000);
    follow(&rest, gw_turn_feed(turn));
    assert_int_equal(rest.seen, world.events_count - 3);
    world_advance_ms(59999);
    assert_true(is_there(turn));
    world_advance_ms(1);
    assert_false(is_there(turn));
    world_close();
}

static void test_expiry_waits_for_the_last_reader(void **state)
{
    struct reader one = {.stays = true}, two = {.stays = true};

    (void)state;
    world_open();
    world.config.chat.resume_window_s = 120;
    struct gw_turn *turn = keep_a_turn();
    follow(&one, gw_turn_feed(turn));
    follow(&two, gw_turn_feed(turn));
    world_advance_ms(120000);
    assert_true(is_there(turn));
    assert_int_equal(world.turns.kept_bytes, 0);
    gw_feed_leave(&one.follower, 0);
    world_run();
    assert_true(is_there(turn));
    gw_feed_leave(&two.follower, SL_E_CLIENT_GONE);
    world_run();
    assert_false(is_there(turn));
    world_close();
}

static void test_the_oldest_make_room(void **state)
{
    struct gw_turn *turns[3];

    (void)state;
    world_open();
    world.config.chat.resume_window_s = 120;
    turns[0] = keep_a_turn();
    world.turns.kept_max_bytes = 2 * turns[0]->counted_bytes + turns[0]->counted_bytes / 2;
    turns[1] = keep_a_turn();
    assert_true(is_there(turns[0]));
    turns[2] = keep_a_turn();
    assert_false(is_there(turns[0]));
    assert_true(is_there(turns[1]));
    assert_true(is_there(turns[2]));
    assert_int_equal(world.turns.kept_bytes, turns[1]->counted_bytes + turns[2]->counted_bytes);
    assert_int_equal(world.turns.kept_bytes, sl_counter_get(&world.stats.log_bytes));
    world.turns.kept_max_bytes = 100; /* not even one */
    (void)keep_a_turn();
    assert_true(sl_list_is_empty(&world.turns.all));
    world_close();
}

static void test_what_is_let_go_is_freed_with_the_rest(void **state)
{
    struct reader reader = {.stays = true};

    (void)state;
    world_open();
    world.config.chat.resume_window_s = 120;
    struct gw_turn *turn = keep_a_turn();
    follow(&reader, gw_turn_feed(turn));
    world_advance_ms(120000);
    gw_feed_leave(&reader.follower, 0);
    gw_turns_finish(&world.turns); /* before the turn's own task has run */
    assert_true(sl_list_is_empty(&world.turns.all));
    world_close();
}

static void test_coming_back_within_the_grace(void **state)
{
    struct reader reader = {.seen = 0};

    (void)state;
    world_open();
    start_streaming();
    gw_feed_leave(&world.follower, SL_E_CLIENT_GONE);
    world_advance_ms(4999);
    follow(&reader, world.feed);
    world_advance_ms(10000); /* the grace of the one who left is over, but somebody is there */
    assert_int_equal(world.turns.running, 1);
    gw_feed_leave(&reader.follower, SL_E_CLIENT_GONE);
    world_advance_ms(4999); /* and the next one has a whole one again */
    assert_non_null(world.calls[0]);
    world_advance_ms(1);
    assert_null(world.calls[0]);
    world_complete();
    assert_int_equal(world.answer_status, STORE_STATUS_CANCELLED);
    world_close();
}

static void test_a_slow_reader_does_not_cancel(void **state)
{
    (void)state;
    world_open();
    start_streaming();
    gw_feed_leave(&world.follower, SL_E_SLOW_READER);
    world_advance_ms(10000);
    world_send_delta("!");
    world_finish_upstream(0, "stop");
    world_complete();
    assert_int_equal(world.answer_status, STORE_STATUS_COMPLETE);
    world_close();
}

static void test_a_slow_reader_after_one_that_left_does_not_cancel(void **state)
{
    struct reader reader = {.seen = 0};

    (void)state;
    world_open();
    start_streaming();
    gw_feed_leave(&world.follower, SL_E_CLIENT_GONE);
    world_advance_ms(1000);
    follow(&reader, world.feed);
    world_advance_ms(6000);
    gw_feed_leave(&reader.follower, SL_E_SLOW_READER);
    world_advance_ms(10000);
    world_send_delta("!");
    world_advance_ms(10000);
    world_finish_upstream(0, "stop");
    world_complete();
    assert_int_equal(world.answer_status, STORE_STATUS_COMPLETE);
    world_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_kept_turn_is_read_again),
        cmocka_unit_test(test_expiry_waits_for_the_last_reader),
        cmocka_unit_test(test_the_oldest_make_room),
        cmocka_unit_test(test_what_is_let_go_is_freed_with_the_rest),
        cmocka_unit_test(test_coming_back_within_the_grace),
        cmocka_unit_test(test_a_slow_reader_does_not_cancel),
        cmocka_unit_test(test_a_slow_reader_after_one_that_left_does_not_cancel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
