/*
 * Claims of keys between loops on threads: of any number of equal requests one is new, a key can be given
 * back, a claim can be cancelled at every moment, and nobody meets another user's key.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "loops.h"

enum { LOOPS = 4, ASKERS = 100, KEYS = 12, CANCEL_MOMENTS = 12 };

/* One request. Everything is its loop's until it is counted as done. */
struct asker {
    struct loops_job job;
    struct gw_claim claim;
    struct gw_user user;
    const char *key;
    int turns_to_cancel; /* turns of its loop until it loses interest; negative: never */
    int status;
    atomic_uint *done;
};

static void on_claimed(struct sl_op *op, int status)
{
    struct asker *asker = SL_CONTAINER_OF(op, struct asker, claim.op);

    asker->status = status;
    (void)atomic_fetch_add(asker->done, 1);
}

static void wait_to_cancel(struct loops_job *job)
{
    struct asker *asker = SL_CONTAINER_OF(job, struct asker, job);

    if (asker->turns_to_cancel-- > 0) {
        loops_post(job->index, job);
        return;
    }
    gw_claim_cancel(&asker->claim);
    gw_claim_cancel(&asker->claim); /* only asks, and twice is once */
    (void)atomic_fetch_add(asker->done, 1);
}

static void start_claim(struct loops_job *job)
{
    struct asker *asker = SL_CONTAINER_OF(job, struct asker, job);

    asker->claim.op.done = on_claimed;
    asker->claim.turns = loops.turns[job->index];
    asker->claim.user = &asker->user;
    asker->claim.key = asker->key;
    asker->claim.turn_id = gw_turns_new_id(loops.turns[job->index]);
    gw_claim_start(&asker->claim);
    if (asker->turns_to_cancel >= 0) {
        asker->job.run = wait_to_cancel;
        wait_to_cancel(job);
    }
}

static void prepare(struct asker *asker, const char *user, const char *key, atomic_uint *done)
{
    *asker = (struct asker){
        .job.run = start_claim,
        .claim.content_hash = 1,
        .user = loops_user(user),
        .key = key,
        .turns_to_cancel = -1,
        .done = done,
    };
}

/* One claim, from start to end. */
static struct asker claim(unsigned index, const char *user, const char *key, uint64_t content)
{
    struct asker asker;
    atomic_uint done = 0;

    prepare(&asker, user, key, &done);
    asker.claim.content_hash = content;
    loops_post(index, &asker.job);
    loops_wait_for(&done, 1);
    return asker;
}

struct release {
    struct loops_job job;
    const struct gw_user *user;
    const char *key;
    struct sl_uuid turn_id;
};

static void do_release(struct loops_job *job)
{
    struct release *release = SL_CONTAINER_OF(job, struct release, job);

    gw_claims_release(loops.turns[job->index], release->user, release->key, &release->turn_id);
}

static void give_back(unsigned index, const struct asker *asker, const struct sl_uuid *turn_id)
{
    struct release release = {
        .job.run = do_release, .user = &asker->user, .key = asker->key, .turn_id = *turn_id};

    loops_run(index, &release.job);
    loops_wait_until_quiet();
}

/* ---------------------------------------------------------------- */

static void test_of_many_one_is_new(void **state)
{
    static struct asker askers[ASKERS];

    (void)state;
    loops_open(LOOPS);
    for (unsigned round = 0; round < KEYS; round++) { /* each key may live on another loop */
        char key[16];
        const struct asker *winner = NULL;
        atomic_uint done = 0;
        (void)snprintf(key, sizeof(key), "key-%u", round);
        for (unsigned i = 0; i < ASKERS; i++) {
            prepare(&askers[i], "ada", key, &done);
            loops_post(i % LOOPS, &askers[i].job);
        }
        loops_wait_for(&done, ASKERS);
        for (unsigned i = 0; i < ASKERS; i++) {
            assert_int_equal(askers[i].status, 0);
            if (askers[i].claim.is_new) {
                assert_null(winner);
                winner = &askers[i];
            }
        }
        assert_non_null(winner);
        for (unsigned i = 0; i < ASKERS; i++) {
            assert_true(sl_uuid_equal(&askers[i].claim.turn_id, &winner->claim.turn_id));
        }
    }
    loops_close();
}

static void test_other_content_is_refused(void **state)
{
    (void)state;
    loops_open(2);
    for (unsigned index = 0; index < 2; index++) {
        const char *key = index == 0 ? "one" : "two";
        assert_true(claim(index, "ada", key, 1).claim.is_new);
        assert_int_equal(claim(0, "ada", key, 2).status, SL_E_UNPROCESSABLE);
        assert_int_equal(claim(1, "ada", key, 2).status, SL_E_UNPROCESSABLE);
        struct asker same = claim(1 - index, "ada", key, 1);
        assert_int_equal(same.status, 0);
        assert_false(same.claim.is_new);
    }
    loops_close();
}

static void test_a_key_that_was_given_back_is_new(void **state)
{
    (void)state;
    loops_open(LOOPS);
    for (unsigned index = 0; index < LOOPS; index++) {
        struct asker first = claim(index, "ada", "k", 1);
        const struct sl_uuid other = sl_uuid_v7();
        assert_true(first.claim.is_new);
        give_back(index, &first, &other); /* another turn's: nothing happens */
        assert_false(claim(index, "ada", "k", 1).claim.is_new);
        give_back(index, &first, &first.claim.turn_id);
        struct asker second = claim((index + 1) % LOOPS, "ada", "k", 2);
        assert_true(second.claim.is_new);
        give_back(index, &second, &second.claim.turn_id);
    }
    loops_close();
}

static void test_users_do_not_meet(void **state)
{
    static const struct {
        const char *user, *key;
    } pairs[] = {{"ada", "k"}, {"eve", "k"}, {"ad", "ak"}, {"adak", ""}, {"ada", "kk"}};

    (void)state;
    loops_open(2);
    for (unsigned i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        assert_true(claim(i % 2, pairs[i].user, pairs[i].key, i).claim.is_new);
    }
    loops_close();
}

/* Whoever loses interest leaves nothing behind, at whatever moment. */
static void test_cancel_at_every_moment(void **state)
{
    unsigned cancelled = 0;

    (void)state;
    loops_open(2);
    for (int moment = 0; moment < CANCEL_MOMENTS; moment++) {
        for (unsigned round = 0; round < KEYS; round++) {
            char key[32];
            struct asker asker;
            atomic_uint done = 0;
            (void)snprintf(key, sizeof(key), "key-%d-%u", moment, round);
            prepare(&asker, "ada", key, &done);
            asker.turns_to_cancel = moment;
            loops_post(round % 2, &asker.job);
            loops_wait_for(&done, 2); /* the callback has run once, and the cancel too */
            loops_wait_until_quiet();
            assert_int_equal(atomic_load(&done), 2);
            if (asker.status == SL_E_CANCELLED) {
                cancelled++;
            } else {
                assert_int_equal(asker.status, 0);
                assert_true(asker.claim.is_new);
                give_back(round % 2, &asker, &asker.claim.turn_id);
            }
            assert_true(claim(1 - round % 2, "ada", key, 1).claim.is_new);
        }
    }
    assert_true(cancelled >= KEYS); /* at least those that were cancelled at once */
    loops_close();
}

static void test_a_cancelled_repeat_takes_nothing_away(void **state)
{
    (void)state;
    loops_open(2);
    struct asker owner = claim(0, "ada", "k", 1);
    for (int moment = 0; moment < CANCEL_MOMENTS; moment++) {
        struct asker asker;
        atomic_uint done = 0;
        prepare(&asker, "ada", "k", &done);
        asker.turns_to_cancel = moment;
        loops_post((unsigned)moment % 2, &asker.job);
        loops_wait_for(&done, 2);
        loops_wait_until_quiet();
        struct asker last = claim(1, "ada", "k", 1);
        assert_false(last.claim.is_new);
        assert_true(sl_uuid_equal(&last.claim.turn_id, &owner.claim.turn_id));
    }
    loops_close();
}

struct birth {
    struct loops_job job;
    struct sl_uuid id;
};

static void give_birth(struct loops_job *job)
{
    (void)loops_start_turn(job->index, &SL_CONTAINER_OF(job, struct birth, job)->id, "ada", "k");
}

static void test_a_key_lasts_as_long_as_its_turn(void **state)
{
    (void)state;
    for (unsigned index = 0; index < 2; index++) {
        loops_open(2);
        struct asker owner = claim(index, "ada", "k", 1);
        struct birth birth = {.job.run = give_birth, .id = owner.claim.turn_id};
        loops_run(index, &birth.job);
        loops_wait_until_quiet();
        assert_false(claim(1 - index, "ada", "k", 1).claim.is_new); /* over, but kept */
        loops_close();

        loops_open(2);
        loops.config.chat.resume_window_s = 0;
        owner = claim(index, "ada", "k", 1);
        birth.id = owner.claim.turn_id;
        loops_run(index, &birth.job);
        loops_wait_until_quiet();
        assert_true(claim(1 - index, "ada", "k", 1).claim.is_new);
        loops_close();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_of_many_one_is_new),
        cmocka_unit_test(test_other_content_is_refused),
        cmocka_unit_test(test_a_key_that_was_given_back_is_new),
        cmocka_unit_test(test_users_do_not_meet),
        cmocka_unit_test(test_cancel_at_every_moment),
        cmocka_unit_test(test_a_cancelled_repeat_takes_nothing_away),
        cmocka_unit_test(test_a_key_lasts_as_long_as_its_turn),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
