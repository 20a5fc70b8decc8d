/*
 * Turns that are followed and stopped from other loops, each loop on a thread of its own: every event in
 * order and once, whenever the visitor comes; who leaves, cancels or asks for what is not theirs.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "loops.h"

enum { LOOPS = 4, DELTAS = 300, READERS = 12, ROUNDS = 60, CANCEL_MOMENTS = 10 };

/* A visitor from another loop. Everything is its loop's until it is counted as done. */
struct reader {
    struct loops_job job;
    struct gw_relay relay;
    struct gw_follower follower;
    struct gw_user user;
    size_t offset;
    uint32_t last_seq;
    enum sl_event_type last_type;
    unsigned deltas;       /* that have come, as the script has them */
    bool is_in_order;      /* so far */
    bool is_stopped;       /* the last event says so */
    uint32_t leaves_after; /* this event; 0: stays to the end */
    int leave_reason;
    int turns_to_cancel; /* turns of its loop until it loses interest; negative: never */
    int status, error;
    char session_id[SL_UUID_TEXT_SIZE];
    atomic_uint *done; /* counts the operation, and once more the end of reading */
};

static void on_wake(struct gw_follower *follower)
{
    struct reader *reader = SL_CONTAINER_OF(follower, struct reader, follower);
    const struct gw_turn_log *log = &follower->feed->log;
    struct gw_event event;

    while (gw_turn_log_read(log, &reader->offset, &event)) {
        char text[16];
        reader->is_in_order = reader->is_in_order && event.seq == reader->last_seq + 1;
        reader->last_seq = event.seq;
        reader->last_type = event.type;
        if (event.type == SL_EVENT_TOKEN) {
            int len = snprintf(text, sizeof(text), "%u ", reader->deltas++);
            reader->is_in_order = reader->is_in_order && event.payload_len == (size_t)len &&
                                  memcmp(event.payload, text, event.payload_len) == 0;
        }
        static const char stopped[] = "\"finish_reason\":\"stopped\"";
        reader->is_stopped =
            event.type == SL_EVENT_DONE &&
            memmem(event.payload, event.payload_len, stopped, sizeof(stopped) - 1) != NULL;
        if (event.seq == reader->leaves_after) {
            gw_feed_leave(follower, reader->leave_reason);
            (void)atomic_fetch_add(reader->done, 1);
            return;
        }
    }
    if (log->ended) {
        reader->error = follower->feed->error;
        gw_feed_leave(follower, 0);
        (void)atomic_fetch_add(reader->done, 1);
    }
}

static void on_visited(struct sl_op *op, int status)
{
    struct reader *reader = SL_CONTAINER_OF(op, struct reader, relay.op);

    reader->status = status;
    if (status == 0 && reader->relay.wish == GW_RELAY_FOLLOW) {
        memcpy(reader->session_id, reader->relay.feed->session_id, sizeof(reader->session_id));
        gw_feed_follow(reader->relay.feed, &reader->follower);
        on_wake(&reader->follower);
    }
    (void)atomic_fetch_add(reader->done, 1); /* from here on it may be the test's again */
}

static void wait_to_cancel(struct loops_job *job)
{
    struct reader *reader = SL_CONTAINER_OF(job, struct reader, job);

    if (reader->turns_to_cancel-- > 0) {
        loops_post(job->index, job);
        return;
    }
    gw_relay_cancel(&reader->relay);
    gw_relay_cancel(&reader->relay); /* only asks, and twice is once */
    (void)atomic_fetch_add(reader->done, 1);
}

static void start_visit(struct loops_job *job)
{
    struct reader *reader = SL_CONTAINER_OF(job, struct reader, job);

    reader->relay.op.done = on_visited;
    reader->relay.turns = loops.turns[job->index];
    reader->relay.user = &reader->user;
    gw_relay_start(&reader->relay);
    if (reader->turns_to_cancel >= 0) {
        reader->job.run = wait_to_cancel;
        wait_to_cancel(job);
    }
}

static void prepare(struct reader *reader, const struct sl_uuid *turn_id, const char *user,
                    atomic_uint *done)
{
    *reader = (struct reader){
        .job.run = start_visit,
        .relay = {.wish = GW_RELAY_FOLLOW, .turn_id = *turn_id},
        .follower.wake = on_wake,
        .user = loops_user(user),
        .is_in_order = true,
        .turns_to_cancel = -1,
        .done = done,
    };
}

/* One visit that does not lead to reading. */
static int visit(unsigned index, const struct sl_uuid *turn_id, const char *user,
                 enum gw_relay_wish wish)
{
    struct reader reader;
    atomic_uint done = 0;

    prepare(&reader, turn_id, user, &done);
    reader.relay.wish = wish;
    loops_post(index, &reader.job);
    loops_wait_for(&done, 1);
    return reader.status;
}

static void expect_all_of_it(const struct reader *reader, unsigned deltas)
{
    assert_int_equal(reader->status, 0);
    assert_int_equal(reader->error, 0);
    assert_true(reader->is_in_order);
    assert_int_equal(reader->deltas, deltas);
    assert_int_equal(reader->last_type, SL_EVENT_DONE);
    assert_int_equal(strlen(reader->session_id), SL_UUID_TEXT_LEN);
}

static uint64_t turns_with(unsigned index, enum store_status status)
{
    return sl_counter_get(&loops.stats[index]->turns[status]);
}

/* ---------------------------------------------------------------- following */

static void test_every_event_once_and_in_order(void **state)
{
    static struct reader readers[READERS];
    atomic_uint done = 0;

    (void)state;
    loops_open(LOOPS);
    for (unsigned home = 0; home < 2; home++) {
        for (unsigned per_drain = 1; per_drain <= 7; per_drain += 3) {
            loops.script = (struct loops_script){.deltas = DELTAS, .per_drain = per_drain};
            atomic_store(&done, 0);
            struct sl_uuid id = loops_begin_turn(home, "ada");
            for (unsigned i = 0; i < READERS; i++) { /* they come while it is told */
                prepare(&readers[i], &id, "ada", &done);
                loops_post((home + 1 + i % (LOOPS - 1)) % LOOPS, &readers[i].job);
            }
            loops_wait_for(&done, 2 * READERS);
            for (unsigned i = 0; i < READERS; i++) {
                expect_all_of_it(&readers[i], DELTAS);
            }
        }
    }
    loops_close();
}

/* Short turns and visits at once: some find it before its first delta, some after its end. */
static void test_a_turn_may_end_at_any_moment_of_a_visit(void **state)
{
    static struct reader readers[LOOPS - 1];

    (void)state;
    loops_open(LOOPS);
    for (unsigned round = 0; round < ROUNDS; round++) {
        atomic_uint done = 0;
        loops.script = (struct loops_script){.deltas = round % 5, .per_drain = 2};
        struct sl_uuid id = loops_begin_turn(0, "ada");
        for (unsigned i = 0; i < LOOPS - 1; i++) {
            prepare(&readers[i], &id, "ada", &done);
            loops_post(i + 1, &readers[i].job);
        }
        loops_wait_for(&done, 2 * (LOOPS - 1));
        for (unsigned i = 0; i < LOOPS - 1; i++) {
            expect_all_of_it(&readers[i], round % 5);
        }
    }
    loops_close();
}

static void test_a_turn_that_is_over_and_kept(void **state)
{
    struct reader reader;
    atomic_uint done = 0;

    (void)state;
    loops_open(2);
    struct sl_uuid id = loops_begin_turn(0, "ada");
    loops_wait_until_quiet();
    prepare(&reader, &id, "ada", &done);
    loops_post(1, &reader.job);
    loops_wait_for(&done, 2);
    expect_all_of_it(&reader, loops.script.deltas);
    loops_close();
}

static void test_how_it_ended_is_told(void **state)
{
    struct reader reader;
    atomic_uint done = 0;

    (void)state;
    loops_open(2);
    loops.config.upstream.answer_max_bytes = 16;
    struct sl_uuid id = loops_begin_turn(0, "ada");
    prepare(&reader, &id, "ada", &done);
    loops_post(1, &reader.job);
    loops_wait_for(&done, 2);
    assert_int_equal(reader.error, SL_E_ANSWER_TOO_LONG);
    assert_int_equal(reader.last_type, SL_EVENT_ERROR);
    assert_true(reader.is_in_order);
    loops_close();
}

static void test_what_is_not_there(void **state)
{
    (void)state;
    loops_open(2);
    loops.script.is_held = true;
    struct sl_uuid id = loops_begin_turn(0, "ada");
    struct sl_uuid other = id;
    other.bytes[9] ^= 1;
    assert_int_equal(visit(1, &other, "ada", GW_RELAY_FOLLOW), SL_E_NOT_FOUND);
    assert_int_equal(visit(1, &other, "ada", GW_RELAY_STOP), SL_E_NOT_FOUND);
    assert_int_equal(visit(1, &id, "eve", GW_RELAY_FOLLOW), SL_E_NOT_FOUND);
    assert_int_equal(visit(1, &id, "eve", GW_RELAY_STOP), SL_E_NOT_FOUND);
    loops_go_on(0);
    loops_wait_until_quiet();
    assert_int_equal(turns_with(0, STORE_STATUS_COMPLETE), 1); /* nobody has stopped it */
    loops_close();
}

/* ---------------------------------------------------------------- leaving */

static bool has_turn_running(unsigned index, void *context)
{
    (void)context;
    return loops.turns[index]->running > 0;
}

static bool has_no_turn_running(unsigned index, void *context)
{
    return !has_turn_running(index, context);
}

/* Returns how the turn, whose only reader left in its middle, has ended. */
static enum store_status leave_in_the_middle(int reason)
{
    struct reader reader;
    atomic_uint done = 0;

    loops_open(2);
    loops.script = (struct loops_script){.deltas = DELTAS, .per_drain = 1, .is_held = true};
    struct sl_uuid id = loops_begin_turn(0, "ada");
    prepare(&reader, &id, "ada", &done);
    reader.leaves_after = DELTAS / 2;
    reader.leave_reason = reason;
    loops_post(1, &reader.job);
    loops_wait_for(&done, 2);
    assert_true(reader.is_in_order);
    assert_int_equal(reader.last_seq, DELTAS / 2);
    if (reason != SL_E_CLIENT_GONE) {
        loops_wait(0, has_turn_running, NULL);
        loops_go_on(0);
    }
    loops_wait(0, has_no_turn_running, NULL);
    bool is_cancelled = turns_with(0, STORE_STATUS_CANCELLED) == 1;
    assert_int_equal(turns_with(0, STORE_STATUS_COMPLETE), is_cancelled ? 0 : 1);
    loops_close();
    return is_cancelled ? STORE_STATUS_CANCELLED : STORE_STATUS_COMPLETE;
}

static void test_the_turn_learns_why_its_reader_left(void **state)
{
    (void)state;
    assert_int_equal(leave_in_the_middle(SL_E_CLIENT_GONE), STORE_STATUS_CANCELLED);
    assert_int_equal(leave_in_the_middle(SL_E_SLOW_READER), STORE_STATUS_COMPLETE);
}

/* The reader leaves inside the callback that has brought it there. */
static void test_leaving_at_once_is_leaving_for_that_reason(void **state)
{
    struct reader reader;
    atomic_uint done = 0;

    (void)state;
    loops_open(2);
    loops.script.is_held = true;
    struct sl_uuid id = loops_begin_turn(0, "ada");
    prepare(&reader, &id, "ada", &done);
    reader.leaves_after = 1; /* session_id, which is there when the visit is back */
    reader.leave_reason = SL_E_SLOW_READER;
    loops_post(1, &reader.job);
    loops_wait_for(&done, 2);
    loops_go_on(0);
    loops_wait_until_quiet();
    assert_int_equal(turns_with(0, STORE_STATUS_COMPLETE), 1);
    loops_close();
}

static void test_cancel_at_every_moment(void **state)
{
    unsigned cancelled = 0;

    (void)state;
    loops_open(2);
    loops.script = (struct loops_script){.deltas = 3, .per_drain = 1, .is_held = true};
    for (int moment = 0; moment < CANCEL_MOMENTS; moment++) {
        struct reader reader;
        atomic_uint done = 0;
        struct sl_uuid id = loops_begin_turn(0, "ada");
        prepare(&reader, &id, "ada", &done);
        reader.turns_to_cancel = moment;
        reader.leaves_after = 1;
        reader.leave_reason = SL_E_CLIENT_GONE;
        loops_post(1, &reader.job);
        loops_wait_for(&done, 2);
        loops_wait_until_quiet(); /* the turn has lost its only reader, so it ends, too */
        assert_int_equal(atomic_load(&done), reader.status == 0 ? 3 : 2);
        assert_true(reader.status == 0 || reader.status == SL_E_CANCELLED);
        cancelled += reader.status != 0;
        assert_int_equal(turns_with(0, STORE_STATUS_CANCELLED), moment + 1);
    }
    assert_true(cancelled > 0);
    loops_close();
}

/* ---------------------------------------------------------------- stopping */

static void test_stop_from_another_loop(void **state)
{
    struct reader reader;
    atomic_uint done = 0;

    (void)state;
    loops_open(3);
    loops.script.is_held = true;
    struct sl_uuid id = loops_begin_turn(0, "ada");
    prepare(&reader, &id, "ada", &done);
    loops_post(1, &reader.job);
    loops_wait_for(&done, 1);
    assert_int_equal(visit(2, &id, "ada", GW_RELAY_STOP), 0);
    assert_int_equal(visit(1, &id, "ada", GW_RELAY_STOP), 0); /* twice is once */
    loops_wait_for(&done, 2);
    assert_true(reader.is_in_order);
    assert_true(reader.is_stopped);
    assert_int_equal(turns_with(0, STORE_STATUS_STOPPED), 1);
    loops_wait_until_quiet();
    assert_int_equal(visit(2, &id, "ada", GW_RELAY_STOP), 0); /* over: nothing to stop */
    loops_close();
}

/* ---------------------------------------------------------------- what counts as away */

static bool has_something_away(unsigned index, void *context)
{
    (void)context;
    return loops.turns[index]->away > 0;
}

/* A loop that is stopped must not leave a copy behind, so one counts from the visit to the farewell. */
static void test_a_copy_that_is_followed_is_away(void **state)
{
    struct reader reader;
    atomic_uint done = 0;

    (void)state;
    loops_open(2);
    loops.script.is_held = true;
    struct sl_uuid id = loops_begin_turn(0, "ada");
    prepare(&reader, &id, "ada", &done);
    loops_post(1, &reader.job);
    loops_wait_for(&done, 1);
    for (int i = 0; i < 10; i++) { /* turns of the loop: the visit itself is long back */
        loops_wait(1, has_something_away, NULL);
    }
    loops_go_on(0);
    loops_wait_for(&done, 2);
    loops_close();
}

/* ---------------------------------------------------------------- together with claims */

/* What a repeated request does (turn_request.c): claims its key, then starts the turn or looks for it. */
struct repeat {
    struct loops_job job;
    struct gw_claim claim;
    struct gw_relay relay;
    struct gw_user user;
    const char *key;
    bool is_found, is_new;
    atomic_uint *done;
};

static void on_found(struct sl_op *op, int status)
{
    struct repeat *repeat = SL_CONTAINER_OF(op, struct repeat, relay.op);

    repeat->is_found = status == 0; /* nobody follows the copy, so it goes again */
    (void)atomic_fetch_add(repeat->done, 1);
}

static void on_claimed(struct sl_op *op, int status)
{
    struct repeat *repeat = SL_CONTAINER_OF(op, struct repeat, claim.op);
    struct gw_turns *turns = loops.turns[repeat->job.index];

    repeat->is_new = status == 0 && repeat->claim.is_new;
    if (repeat->is_new) {
        (void)loops_start_turn(repeat->job.index, &repeat->claim.turn_id, "ada", repeat->key);
    } else if (gw_turns_of(turns, &repeat->claim.turn_id) == turns) {
        repeat->is_found = gw_turns_find(turns, &repeat->claim.turn_id, "ada", 3) != NULL;
    } else {
        repeat->relay.op.done = on_found;
        repeat->relay.turns = turns;
        repeat->relay.turn_id = repeat->claim.turn_id;
        repeat->relay.user = &repeat->user;
        gw_relay_start(&repeat->relay);
        return;
    }
    (void)atomic_fetch_add(repeat->done, 1);
}

static void start_repeat(struct loops_job *job)
{
    struct repeat *repeat = SL_CONTAINER_OF(job, struct repeat, job);

    repeat->claim.op.done = on_claimed;
    repeat->claim.turns = loops.turns[job->index];
    repeat->claim.user = &repeat->user;
    repeat->claim.key = repeat->key;
    repeat->claim.turn_id = gw_turns_new_id(loops.turns[job->index]);
    gw_claim_start(&repeat->claim);
}

/* Whoever learns that a key is taken finds its turn, however close behind the first one. */
static void test_repeats_find_the_turn(void **state)
{
    static struct repeat repeats[READERS];

    (void)state;
    loops_open(LOOPS);
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned news = 0;
        char key[16];
        atomic_uint done = 0;
        (void)snprintf(key, sizeof(key), "key-%u", round);
        for (unsigned i = 0; i < READERS; i++) {
            repeats[i] = (struct repeat){
                .job.run = start_repeat, .user = loops_user("ada"), .key = key, .done = &done};
            loops_post((round + i) % LOOPS, &repeats[i].job);
        }
        loops_wait_for(&done, READERS);
        for (unsigned i = 0; i < READERS; i++) {
            news += repeats[i].is_new;
            assert_true(repeats[i].is_new || repeats[i].is_found);
        }
        assert_int_equal(news, 1);
        loops_wait_until_quiet();
    }
    loops_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_event_once_and_in_order),
        cmocka_unit_test(test_a_turn_may_end_at_any_moment_of_a_visit),
        cmocka_unit_test(test_a_turn_that_is_over_and_kept),
        cmocka_unit_test(test_how_it_ended_is_told),
        cmocka_unit_test(test_what_is_not_there),
        cmocka_unit_test(test_the_turn_learns_why_its_reader_left),
        cmocka_unit_test(test_leaving_at_once_is_leaving_for_that_reason),
        cmocka_unit_test(test_cancel_at_every_moment),
        cmocka_unit_test(test_stop_from_another_loop),
        cmocka_unit_test(test_a_copy_that_is_followed_is_away),
        cmocka_unit_test(test_repeats_find_the_turn),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
