/* The resolver among threads: loops that come and go wait, cancel and peek while it answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "resolver_fixture.h"

enum { ROUNDS = 60, PER_ROUND = 40 };

/* A loop of its own for every round: it is gone before the resolver's thread may be. */
struct runner {
    pthread_t thread;
    struct sl_loop *loop;
    uint32_t seed;
    bool cancels;
    unsigned running, answered, failed, cancelled;
};

struct heap_ask {
    struct gw_resolve resolve;
    struct runner *runner;
};

static void on_heap_done(struct sl_op *op, int status)
{
    struct heap_ask *ask = SL_CONTAINER_OF(op, struct heap_ask, resolve.op);
    struct runner *runner = ask->runner;

    if (status == 0) {
        if (strcmp(ask->resolve.addresses, "192.0.2.1") != 0) {
            abort();
        }
        runner->answered++;
    } else if (status == SL_E_UPSTREAM_UNREACHABLE) {
        runner->failed++;
    } else if (status == SL_E_CANCELLED && runner->cancels) {
        runner->cancelled++;
    } else {
        abort();
    }
    runner->running--;
    memset(ask, 0xdd, sizeof(*ask));
    free(ask); /* the caller's again: nobody may touch it from here on */
}

static unsigned draw(struct runner *runner, unsigned below)
{
    runner->seed = runner->seed * 1664525 + 1013904223;
    return (runner->seed >> 16) % below;
}

static void run_round(struct runner *runner)
{
    struct heap_ask *asks[PER_ROUND];

    for (size_t i = 0; i < PER_ROUND; i++) {
        asks[i] = calloc(1, sizeof(*asks[i]));
        if (asks[i] == NULL) {
            abort();
        }
        asks[i]->runner = runner;
        asks[i]->resolve.op.done = on_heap_done;
        runner->running++;
        if (gw_resolve_start(resolver, runner->loop, &asks[i]->resolve) != 0) {
            abort();
        }
        /* none of this round's can be done: the loop has not been turned */
        if (runner->cancels && draw(runner, 2) == 0) {
            gw_resolve_cancel(&asks[draw(runner, (unsigned)i + 1)]->resolve);
        }
    }
    if (runner->cancels && draw(runner, 2) == 0) {
        (void)usleep(draw(runner, 400));
        for (size_t i = 0; i < PER_ROUND; i++) {
            gw_resolve_cancel(&asks[i]->resolve);
        }
    }
    for (unsigned turns = 0; runner->running > 0; turns++) {
        sl_loop_run_once(runner->loop, WAIT_MS);
        if (turns > PER_ROUND) {
            abort();
        }
    }
}

static void *run_rounds(void *argument)
{
    struct runner *runner = argument;

    for (unsigned i = 0; i < ROUNDS; i++) {
        if (sl_loop_create(&runner->loop) != 0) {
            abort();
        }
        run_round(runner);
        sl_loop_destroy(runner->loop);
    }
    return NULL;
}

static void start_runners(struct runner *runners, unsigned count, bool cancels)
{
    for (unsigned i = 0; i < count; i++) {
        runners[i] = (struct runner){.seed = i + 1, .cancels = cancels};
        assert_int_equal(pthread_create(&runners[i].thread, NULL, run_rounds, &runners[i]), 0);
    }
}

static void join_runners(struct runner *runners, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(pthread_join(runners[i].thread, NULL), 0);
        assert_int_equal(runners[i].answered + runners[i].failed + runners[i].cancelled,
                         ROUNDS * PER_ROUND);
    }
}

static void two_loops_wait_for_one_lookup(void **state)
{
    struct runner runners[2];
    struct ask ask = {0};

    (void)state;
    set_hangs(true);
    create(HOUR_MS, HOUR_MS);
    start_runners(runners, 2, false);
    start(&ask);
    set_hangs(false);
    join_runners(runners, 2);
    await_calls(&ask);
    assert_int_equal(runners[0].answered + runners[1].answered, 2 * ROUNDS * PER_ROUND);
    assert_int_equal(read_count(&dns.begun), 1);
}

/* The lookups fail as fast as they can, so the thread always finishes what the loops cancel. */
static void cancelling_races_with_the_answer(void **state)
{
    struct runner runners[3];

    (void)state;
    set_answer(NULL);
    create(0, 0);
    start_runners(runners, 3, true);
    join_runners(runners, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(runners[i].answered, 0);
        assert_true(runners[i].failed > 0 && runners[i].cancelled > 0); /* both sides have won */
    }
}

static atomic_bool peeking;

static void *peek_on(void *argument)
{
    char addresses[GW_RESOLVE_TEXT];
    uint64_t generation, newest = 0;

    (void)argument;
    while (atomic_load(&peeking)) {
        if (gw_resolver_peek(resolver, addresses, &generation)) {
            if (generation < newest || strcmp(addresses, "192.0.2.1") != 0) {
                abort();
            }
            newest = generation;
        }
    }
    return NULL;
}

static void all_at_once(void **state)
{
    struct runner runners[2];
    pthread_t peeker;

    (void)state;
    dns.flips = true;
    create(0, 0);
    atomic_store(&peeking, true);
    assert_int_equal(pthread_create(&peeker, NULL, peek_on, NULL), 0);
    start_runners(runners, 2, true);
    join_runners(runners, 2);
    atomic_store(&peeking, false);
    assert_int_equal(pthread_join(peeker, NULL), 0);
    (void)await_addresses("192.0.2.1");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(two_loops_wait_for_one_lookup),
        TEST(cancelling_races_with_the_answer),
        TEST(all_at_once),
    };

    return cmocka_run_group_tests(tests, start_first_thread, NULL);
}
