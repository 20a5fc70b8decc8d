/* Turns per user: exact when one after the other, a full window, and several threads at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "user_turns.h"

static bool enter(struct gw_user_turns *turns, unsigned user, unsigned max, uint32_t *ret_ticket)
{
    char text[32];
    int len = snprintf(text, sizeof(text), "user-%u", user);

    return gw_user_turns_enter(turns, text, (size_t)len, max, ret_ticket);
}

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(*seed >> 33);
}

/* The smallest table is one window: every word is free if sixteen new users find one each. */
static void assert_every_word_is_zero(struct gw_user_turns *turns)
{
    uint32_t tickets[16];
    bool used[16] = {false};

    for (unsigned i = 0; i < 16; i++) {
        assert_true(enter(turns, 1000000 + i, 1, &tickets[i]));
        assert_in_range(tickets[i], 0, 15);
        assert_false(used[tickets[i]]);
        used[tickets[i]] = true;
    }
    for (unsigned i = 0; i < 16; i++) {
        gw_user_turns_leave(turns, tickets[i]);
    }
}

static void test_one_after_the_other(void **state)
{
    enum { USERS = 40, MAX = 5, RUNNING = 128 };
    struct gw_user_turns *turns = NULL;
    struct {
        unsigned user;
        uint32_t ticket;
    } running[RUNNING];
    unsigned counts[USERS] = {0}, refused = 0;
    size_t count = 0;
    uint64_t seed = 1;

    (void)state;
    assert_int_equal(gw_user_turns_create(RUNNING, &turns), 0);
    for (unsigned i = 0; i < 200000; i++) {
        unsigned user = next_random(&seed) % USERS, max = 1 + next_random(&seed) % MAX;
        uint32_t ticket = 0xdead;
        if (next_random(&seed) % 2 == 0 && count < RUNNING) {
            bool expected = counts[user] < max;
            assert_int_equal(enter(turns, user, max, &ticket), expected);
            if (expected) {
                assert_int_not_equal(ticket, GW_USER_TURNS_UNCOUNTED);
                running[count].user = user;
                running[count++].ticket = ticket;
                counts[user]++;
            } else {
                assert_int_equal(ticket, 0xdead);
                refused++;
            }
        } else if (count > 0) {
            size_t at = next_random(&seed) % count;
            gw_user_turns_leave(turns, running[at].ticket);
            counts[running[at].user]--;
            running[at] = running[--count];
        }
    }
    assert_true(refused > 1000);
    gw_user_turns_destroy(turns);
}

static void test_a_full_window_admits_uncounted(void **state)
{
    struct gw_user_turns *turns = NULL;
    uint32_t tickets[16], other, again;

    (void)state;
    assert_int_equal(gw_user_turns_create(4, &turns), 0); /* sixteen words, one window */
    for (unsigned i = 0; i < 16; i++) {
        assert_true(enter(turns, i, 1, &tickets[i]));
        assert_int_not_equal(tickets[i], GW_USER_TURNS_UNCOUNTED);
    }
    assert_true(enter(turns, 16, 1, &other));
    assert_int_equal(other, GW_USER_TURNS_UNCOUNTED);
    assert_true(enter(turns, 16, 1, &again)); /* not counted */
    gw_user_turns_leave(turns, other);
    gw_user_turns_leave(turns, again);
    for (unsigned i = 0; i < 16; i++) { /* those that are counted are none the worse for it */
        assert_false(enter(turns, i, 1, &other));
        assert_true(enter(turns, i, 2, &other));
        assert_int_equal(other, tickets[i]); /* its own word, not a free one */
        gw_user_turns_leave(turns, other);
    }
    for (unsigned i = 0; i < 16; i++) { /* also when one is free, before it or behind it */
        gw_user_turns_leave(turns, tickets[i]);
        assert_true(enter(turns, (i + 7) % 16, 2, &other));
        assert_int_equal(other, tickets[(i + 7) % 16]);
        gw_user_turns_leave(turns, other);
        assert_true(enter(turns, i, 1, &tickets[i]));
    }
    gw_user_turns_leave(turns, tickets[3]);
    assert_true(enter(turns, 16, 1, &other));
    assert_int_equal(other, tickets[3]);
    assert_false(enter(turns, 16, 1, &again));
    gw_user_turns_leave(turns, other);
    assert_true(enter(turns, 3, 1, &tickets[3]));
    for (unsigned i = 0; i < 16; i++) {
        gw_user_turns_leave(turns, tickets[i]);
    }
    assert_every_word_is_zero(turns);
    gw_user_turns_destroy(turns);
}

/* At the size it was made for, every turn another user's: nearly all find a word. */
static void test_the_promised_load(void **state)
{
    enum { TURNS = 4096, ROUNDS = 20 };
    struct gw_user_turns *turns = NULL;
    static uint32_t tickets[TURNS];
    unsigned uncounted = 0;

    (void)state;
    assert_int_equal(gw_user_turns_create(TURNS, &turns), 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < TURNS; i++) {
            assert_true(enter(turns, round * TURNS + i, 1, &tickets[i]));
            uncounted += tickets[i] == GW_USER_TURNS_UNCOUNTED;
        }
        for (unsigned i = 0; i < TURNS; i++) {
            gw_user_turns_leave(turns, tickets[i]);
        }
    }
    assert_in_range(uncounted, 0, 4); /* of 81,920; far below one on the average */
    gw_user_turns_destroy(turns);
}

static void test_limits(void **state)
{
    struct gw_user_turns *turns = NULL;
    uint32_t ticket = 0;

    (void)state;
    assert_int_equal(gw_user_turns_create(GW_USER_TURNS_MAX + 1, &turns), SL_E_LIMIT);
    assert_null(turns);
    assert_int_equal(gw_user_turns_create(0, &turns), 0);
    assert_false(enter(turns, 1, 0, &ticket));
    for (unsigned i = 0; i < UINT16_MAX; i++) { /* a count never runs into the hash */
        assert_true(enter(turns, 1, UINT32_MAX, &ticket));
    }
    assert_false(enter(turns, 1, UINT32_MAX, &ticket));
    for (unsigned i = 0; i < UINT16_MAX; i++) {
        gw_user_turns_leave(turns, ticket);
    }
    assert_every_word_is_zero(turns);
    assert_true(gw_user_turns_enter(turns, "ab", 1, 1, &ticket));
    assert_false(gw_user_turns_enter(turns, "ac", 1, 1, &ticket)); /* the length counts */
    gw_user_turns_destroy(turns);
    gw_user_turns_destroy(NULL);
}

/* ------------------------------------------------------------------ several threads */

enum { THREADS = 4, ROUNDS = 50000, USERS = 3, MAX = 3, HELD = 4 };

static struct {
    struct gw_user_turns *turns;
    atomic_uint running[USERS], overshot, uncounted, refused;
} shared;

static void *come_and_go(void *context)
{
    uint64_t seed = (uint64_t)(uintptr_t)context;
    struct {
        unsigned user;
        uint32_t ticket;
    } held[HELD];
    size_t count = 0;

    for (unsigned i = 0; i < ROUNDS || count > 0; i++) {
        unsigned user = next_random(&seed) % USERS;
        if (i < ROUNDS && count < HELD && next_random(&seed) % 2 == 0) {
            if (!enter(shared.turns, user, MAX, &held[count].ticket)) {
                (void)atomic_fetch_add(&shared.refused, 1);
                continue;
            }
            (void)atomic_fetch_add(&shared.uncounted,
                                   held[count].ticket == GW_USER_TURNS_UNCOUNTED);
            if (atomic_fetch_add(&shared.running[user], 1) >= MAX + THREADS - 1) {
                (void)atomic_fetch_add(&shared.overshot, 1);
            }
            held[count++].user = user;
        } else if (count > 0) {
            count--;
            (void)atomic_fetch_sub(&shared.running[held[count].user], 1);
            gw_user_turns_leave(shared.turns, held[count].ticket);
        }
    }
    return NULL;
}

static void test_several_threads_at_once(void **state)
{
    pthread_t threads[THREADS];

    (void)state;
    assert_int_equal(gw_user_turns_create(4, &shared.turns), 0);
    for (uintptr_t i = 0; i < THREADS; i++) {
        void *seed = (void *)(i + 1);
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, seed), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(shared.overshot, 0);
    assert_int_equal(shared.uncounted, 0);
    assert_true(shared.refused > 0);
    assert_every_word_is_zero(shared.turns);
    gw_user_turns_destroy(shared.turns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_after_the_other),
        cmocka_unit_test(test_a_full_window_admits_uncounted),
        cmocka_unit_test(test_the_promised_load),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_several_threads_at_once),
    };

    return cmocka_run_group_tests_name("user_turns", tests, NULL, NULL);
}
