/*
 * The circuit breaker against a plain model: every short sequence of events, long random walks for
 * the rate rule, and several threads at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "breaker.h"

enum { SECOND = 1000 * 1000 };

/* ------------------------------------------------------------------ the model and the world */

enum { CALLS_MAX = 64, STEPS = 20000 };

struct model {
    enum gw_breaker_state state; /* OPEN also when the time is over and no probe is out */
    unsigned row;
    unsigned period; /* how often it has opened from closed */
    uint64_t until_us, opened;
};

/* What was counted since the breaker closed. */
struct outcome_log {
    struct {
        uint64_t window;
        bool failed;
    } entries[STEPS];
    size_t count;
};

struct call {
    uint32_t ticket;
    bool is_probe;
    unsigned period;
};

struct world {
    struct gw_breaker breaker;
    struct model model;
    struct outcome_log *log; /* NULL: the sequences are too short for the rate rule */
    struct gw_breaker_limits limits;
    struct call calls[CALLS_MAX];
    size_t call_count;
    uint64_t now_us;
};

static enum gw_breaker_state state_of(const struct world *world)
{
    bool is_over = world->now_us >= world->model.until_us;

    return world->model.state == GW_BREAKER_OPEN && is_over ? GW_BREAKER_HALF_OPEN
                                                            : world->model.state;
}

static bool is_usable(const struct world *world)
{
    return world->model.state == GW_BREAKER_CLOSED ||
           (world->model.state == GW_BREAKER_OPEN && world->now_us >= world->model.until_us);
}

static void check(const struct world *world)
{
    uint64_t word = world->breaker.word;

    assert_int_equal(gw_breaker_state(&world->breaker, world->now_us), state_of(world));
    assert_int_equal(gw_breaker_is_usable(&world->breaker, world->now_us), is_usable(world));
    assert_int_equal(gw_breaker_opened(&world->breaker), world->model.opened);
    assert_true(word == world->breaker.word); /* asking changes nothing */
}

static void admit(struct world *world)
{
    struct call call = {.ticket = 0xdead, .period = world->model.period};
    bool expected = is_usable(world);

    assert_int_equal(gw_breaker_admit(&world->breaker, world->now_us, &call.ticket), expected);
    if (!expected) {
        assert_int_equal(call.ticket, 0xdead);
        return;
    }
    call.is_probe = world->model.state != GW_BREAKER_CLOSED;
    assert_int_equal(call.ticket == GW_BREAKER_PROBE, call.is_probe);
    if (call.is_probe) {
        world->model.state = GW_BREAKER_HALF_OPEN;
    }
    world->calls[world->call_count++] = call;
}

static void model_opens(struct world *world)
{
    world->model.state = GW_BREAKER_OPEN;
    world->model.until_us = world->now_us + world->limits.open_us;
    world->model.opened++;
}

static bool model_rate_rule(const struct world *world)
{
    const struct outcome_log *log = world->log;
    size_t calls = 0, failed = 0;

    for (size_t i = log == NULL ? 0 : log->count; i-- > 0;) {
        if (log->entries[i].window != world->now_us / GW_BREAKER_RATE_WINDOW_US) {
            break;
        }
        calls++;
        failed += log->entries[i].failed;
    }
    return calls >= 20 && failed * 2 >= calls;
}

static void model_reported(struct world *world, const struct call *call,
                           enum gw_breaker_outcome outcome)
{
    struct model *model = &world->model;

    if (call->is_probe && outcome == GW_BREAKER_SUCCESS) {
        model->state = GW_BREAKER_CLOSED;
        model->row = 0;
        if (world->log != NULL) {
            world->log->count = 0;
        }
    } else if (call->is_probe && outcome == GW_BREAKER_FAILURE) {
        model_opens(world);
    } else if (call->is_probe) {
        model->state = GW_BREAKER_OPEN;
        model->until_us = 0;
    } else if (model->state == GW_BREAKER_CLOSED && call->period == model->period &&
               outcome != GW_BREAKER_UNKNOWN) {
        bool failed = outcome == GW_BREAKER_FAILURE;
        if (world->log != NULL) {
            assert_true(world->log->count < STEPS);
            world->log->entries[world->log->count].window =
                world->now_us / GW_BREAKER_RATE_WINDOW_US;
            world->log->entries[world->log->count++].failed = failed;
        }
        model->row = failed ? model->row + 1 : 0;
        if (failed && (model->row >= world->limits.failures || model_rate_rule(world))) {
            model->period++;
            model_opens(world);
        }
    }
}

static void report(struct world *world, size_t at, enum gw_breaker_outcome outcome)
{
    struct call call = world->calls[at];

    world->call_count--;
    memmove(&world->calls[at], &world->calls[at + 1],
            (world->call_count - at) * sizeof(world->calls[0]));
    gw_breaker_report(&world->breaker, &world->limits, world->now_us, outcome, call.ticket);
    model_reported(world, &call, outcome);
}

/* ------------------------------------------------------------------ every short sequence */

enum { LENGTH = 10 };

struct coverage {
    uint64_t sequences;
    uint64_t states[3]; /* met at the end of a sequence */
    uint64_t late;      /* reports of calls from before an opening */
};

static void walk_all(const struct world *before, unsigned left, struct coverage *coverage)
{
    struct world world = *before;

    check(&world);
    if (left == 0) {
        coverage->sequences++;
        coverage->states[state_of(&world)]++;
        return;
    }
    admit(&world);
    walk_all(&world, left - 1, coverage);

    world = *before;
    world.now_us += SECOND;
    walk_all(&world, left - 1, coverage);

    /* the oldest or the newest call reports: what is late, and what is not */
    for (unsigned i = 0; i < (before->call_count > 1 ? 2 : before->call_count); i++) {
        for (int outcome = GW_BREAKER_SUCCESS; outcome <= GW_BREAKER_UNKNOWN; outcome++) {
            world = *before;
            size_t at = i == 0 ? 0 : world.call_count - 1;
            coverage->late +=
                !world.calls[at].is_probe && world.calls[at].period != world.model.period;
            report(&world, at, (enum gw_breaker_outcome)outcome);
            walk_all(&world, left - 1, coverage);
        }
    }
}

static void test_every_short_sequence(void **state)
{
    struct world world = {.limits = {.failures = 2, .open_us = 2 * SECOND}, .now_us = 77};
    struct coverage coverage = {0};

    (void)state;
    walk_all(&world, LENGTH, &coverage);
    print_message("%llu sequences, %llu late reports\n", (unsigned long long)coverage.sequences,
                  (unsigned long long)coverage.late);
    assert_true(coverage.sequences > 100000);
    assert_true(coverage.late > 1000);
    for (int i = GW_BREAKER_CLOSED; i <= GW_BREAKER_HALF_OPEN; i++) {
        assert_true(coverage.states[i] > 100);
    }
}

/* ------------------------------------------------------------------ long walks */

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(*seed >> 33);
}

/* About forty calls per window, of which `failing` per cent fail; many are under way together. */
static uint64_t walk_at_random(unsigned failing, unsigned failures)
{
    static struct outcome_log log;
    uint64_t seed = failing + 1;
    struct world world = {.limits = {.failures = failures, .open_us = 3 * SECOND}, .log = &log};

    log.count = 0;
    for (unsigned step = 0; step < STEPS; step++) {
        uint32_t dice = next_random(&seed) % 100;
        if (dice < 45 && world.call_count < CALLS_MAX) {
            admit(&world);
        } else if (dice < 90 && world.call_count > 0) {
            uint32_t luck = next_random(&seed) % 100;
            report(&world, next_random(&seed) % world.call_count,
                   luck < failing              ? GW_BREAKER_FAILURE
                   : (luck - failing) % 7 == 6 ? GW_BREAKER_UNKNOWN
                                               : GW_BREAKER_SUCCESS);
        } else {
            world.now_us += next_random(&seed) % (2 * SECOND);
        }
        check(&world);
    }
    return world.model.opened;
}

static void test_long_walks(void **state)
{
    (void)state;
    assert_int_equal(walk_at_random(10, 200), 0);
    assert_true(walk_at_random(45, 200) > 10); /* only the rate rule can have opened it */
    assert_true(walk_at_random(30, 3) > 10);
    for (unsigned failing = 0; failing <= 100; failing += 5) {
        (void)walk_at_random(failing, 1);
        (void)walk_at_random(failing, 5);
        (void)walk_at_random(failing, 255);
    }
}

/* ------------------------------------------------------------------ edges of the rules */

static void call(struct gw_breaker *breaker, const struct gw_breaker_limits *limits,
                 uint64_t now_us, enum gw_breaker_outcome outcome)
{
    uint32_t ticket;

    assert_true(gw_breaker_admit(breaker, now_us, &ticket));
    gw_breaker_report(breaker, limits, now_us, outcome, ticket);
}

static const struct gw_breaker_limits never_in_a_row = {.failures = 255, .open_us = SECOND};

static void test_the_rate_rule_wants_twenty_calls(void **state)
{
    struct gw_breaker breaker = {0};

    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        call(&breaker, &never_in_a_row, SECOND, GW_BREAKER_FAILURE);
    }
    for (unsigned i = 0; i < 9; i++) {
        call(&breaker, &never_in_a_row, SECOND, GW_BREAKER_SUCCESS);
    }
    struct gw_breaker same = breaker;
    call(&breaker, &never_in_a_row, 10 * SECOND - 1, GW_BREAKER_FAILURE);
    assert_int_equal(gw_breaker_state(&breaker, 10 * SECOND - 1), GW_BREAKER_OPEN);
    call(&same, &never_in_a_row, 10 * SECOND, GW_BREAKER_FAILURE); /* the next window */
    assert_int_equal(gw_breaker_state(&same, 10 * SECOND), GW_BREAKER_CLOSED);
}

static void test_exactly_half_is_enough(void **state)
{
    struct gw_breaker breaker = {0};

    (void)state;
    for (unsigned i = 0; i < 11; i++) {
        call(&breaker, &never_in_a_row, SECOND, GW_BREAKER_SUCCESS);
    }
    for (unsigned i = 0; i < 11; i++) {
        assert_int_equal(gw_breaker_state(&breaker, SECOND), GW_BREAKER_CLOSED);
        call(&breaker, &never_in_a_row, SECOND, GW_BREAKER_FAILURE);
    }
    assert_int_equal(gw_breaker_state(&breaker, SECOND), GW_BREAKER_OPEN);
}

static void test_a_success_never_opens(void **state)
{
    struct gw_breaker breaker = {0};

    (void)state;
    for (unsigned i = 0; i < 19; i++) {
        call(&breaker, &never_in_a_row, SECOND, GW_BREAKER_FAILURE);
    }
    call(&breaker, &never_in_a_row, SECOND, GW_BREAKER_SUCCESS);
    assert_int_equal(gw_breaker_state(&breaker, SECOND), GW_BREAKER_CLOSED);
    call(&breaker, &never_in_a_row, SECOND, GW_BREAKER_FAILURE);
    assert_int_equal(gw_breaker_state(&breaker, SECOND), GW_BREAKER_OPEN);
}

/* A loop whose clock is behind must not make the window of the others start afresh, nor an open
 * breaker that has just let go of a probe. */
static void test_a_clock_that_is_behind(void **state)
{
    struct gw_breaker breaker = {0};
    uint32_t ticket;

    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        call(&breaker, &never_in_a_row, i % 2 == 0 ? 20 * SECOND : 20 * SECOND - 50,
             i % 2 == 0 ? GW_BREAKER_SUCCESS : GW_BREAKER_FAILURE);
    }
    assert_int_equal(gw_breaker_state(&breaker, 20 * SECOND - 50), GW_BREAKER_OPEN);
    assert_true(gw_breaker_admit(&breaker, 21 * SECOND, &ticket));
    assert_int_equal(ticket, GW_BREAKER_PROBE);
    assert_int_equal(gw_breaker_state(&breaker, 21 * SECOND - 100), GW_BREAKER_HALF_OPEN);
    gw_breaker_report(&breaker, &never_in_a_row, 21 * SECOND, GW_BREAKER_UNKNOWN, ticket);
    assert_int_equal(gw_breaker_state(&breaker, 21 * SECOND - 100), GW_BREAKER_HALF_OPEN);
    assert_true(gw_breaker_is_usable(&breaker, 21 * SECOND - 100));
}

static void test_more_calls_than_can_be_counted(void **state)
{
    struct gw_breaker breaker = {0};
    unsigned further = 0;

    (void)state;
    for (unsigned i = 0; i < 300000; i++) {
        call(&breaker, &never_in_a_row, SECOND,
             i % 5 < 2 ? GW_BREAKER_FAILURE : GW_BREAKER_SUCCESS);
    }
    assert_int_equal(gw_breaker_opened(&breaker), 0); /* two in five */
    while (gw_breaker_is_usable(&breaker, SECOND)) {
        call(&breaker, &never_in_a_row, SECOND,
             further % 10 != 9 ? GW_BREAKER_FAILURE : GW_BREAKER_SUCCESS);
        further++;
    }
    assert_in_range(further, 100, 65535); /* the share decides: never 255 in a row */
}

static void test_limits_at_their_ends(void **state)
{
    struct gw_breaker_limits limits = {.failures = 0, .open_us = UINT64_MAX};
    struct gw_breaker breaker = {0};
    uint32_t ticket;

    (void)state;
    call(&breaker, &limits, SECOND, GW_BREAKER_FAILURE);
    assert_int_equal(gw_breaker_state(&breaker, (uint64_t)1 << 50), GW_BREAKER_OPEN);
    assert_false(gw_breaker_admit(&breaker, (uint64_t)1 << 50, &ticket));

    /* too large to be reached by counting: taken as 255; one window each keeps the rate rule out */
    struct gw_breaker patient = {0};
    limits.failures = 100000;
    for (uint64_t i = 0; i < 255; i++) {
        uint64_t now_us = i * GW_BREAKER_RATE_WINDOW_US;
        assert_int_equal(gw_breaker_state(&patient, now_us), GW_BREAKER_CLOSED);
        call(&patient, &limits, now_us, GW_BREAKER_FAILURE);
    }
    assert_int_equal(gw_breaker_opened(&patient), 1);
}

/* Over all the numbers that a generation can have, and once round. */
static void test_late_reports_after_many_openings(void **state)
{
    struct gw_breaker_limits limits = {.failures = 1, .open_us = SECOND};
    struct gw_breaker breaker = {0};
    uint64_t now_us = 0;
    uint32_t first;

    (void)state;
    assert_true(gw_breaker_admit(&breaker, now_us, &first));
    for (unsigned i = 0; i < 2500; i++) {
        uint32_t late;
        assert_true(gw_breaker_admit(&breaker, now_us, &late));
        assert_int_not_equal(late, GW_BREAKER_PROBE);
        call(&breaker, &limits, now_us, GW_BREAKER_FAILURE);
        assert_int_equal(gw_breaker_state(&breaker, now_us), GW_BREAKER_OPEN);
        if (i == 1023) { /* its number has come round: an open breaker does not mind even then */
            gw_breaker_report(&breaker, &limits, now_us, GW_BREAKER_FAILURE, first);
        }
        now_us += SECOND;
        call(&breaker, &limits, now_us, GW_BREAKER_SUCCESS);
        gw_breaker_report(&breaker, &limits, now_us, GW_BREAKER_FAILURE, late);
        assert_int_equal(gw_breaker_state(&breaker, now_us), GW_BREAKER_CLOSED);
    }
    assert_int_equal(gw_breaker_opened(&breaker), 2500);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(gw_breaker_state_name(GW_BREAKER_CLOSED), "closed");
    assert_string_equal(gw_breaker_state_name(GW_BREAKER_OPEN), "open");
    assert_string_equal(gw_breaker_state_name(GW_BREAKER_HALF_OPEN), "half_open");
}

/* ------------------------------------------------------------------ several threads */

enum { THREADS = 4, ROUNDS = 50000 };

static struct {
    struct gw_breaker breaker;
    _Atomic uint64_t now_us;
    atomic_int probes_out;
    atomic_uint two_probes, closings, probes_failed, probes_unknown;
} shared;

static const struct gw_breaker_limits shared_limits = {.failures = 3, .open_us = 20};

static void *hammer(void *context)
{
    uint64_t seed = (uint64_t)(uintptr_t)context;

    for (unsigned i = 0; i < ROUNDS; i++) {
        uint32_t ticket;
        uint64_t now_us = atomic_fetch_add(&shared.now_us, 1);
        if (!gw_breaker_admit(&shared.breaker, now_us, &ticket)) {
            continue;
        }
        enum gw_breaker_outcome outcome = (enum gw_breaker_outcome)(next_random(&seed) % 3);
        if (ticket == GW_BREAKER_PROBE) {
            if (atomic_fetch_add(&shared.probes_out, 1) != 0) {
                (void)atomic_fetch_add(&shared.two_probes, 1);
            }
            (void)atomic_fetch_add(outcome == GW_BREAKER_SUCCESS   ? &shared.closings
                                   : outcome == GW_BREAKER_FAILURE ? &shared.probes_failed
                                                                   : &shared.probes_unknown,
                                   1);
            (void)atomic_fetch_sub(&shared.probes_out, 1);
        }
        gw_breaker_report(&shared.breaker, &shared_limits, now_us, outcome, ticket);
    }
    return NULL;
}

static void test_one_probe_over_all_threads(void **state)
{
    pthread_t threads[THREADS];

    (void)state;
    for (uintptr_t i = 0; i < THREADS; i++) {
        void *seed = (void *)(i + 1);
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, seed), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(shared.two_probes, 0);
    assert_true(shared.closings > 10);
    assert_true(shared.probes_failed > 10);
    assert_true(shared.probes_unknown > 10);
    /* no move was lost or made twice: it opens from closed, closes, opens from closed … */
    bool is_closed = gw_breaker_state(&shared.breaker, 0) == GW_BREAKER_CLOSED;
    assert_int_equal(gw_breaker_opened(&shared.breaker) - shared.probes_failed,
                     shared.closings + (is_closed ? 0 : 1));
    if (!is_closed) { /* and the last probe has left no trace */
        assert_true(gw_breaker_is_usable(&shared.breaker, UINT64_MAX));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_short_sequence),
        cmocka_unit_test(test_long_walks),
        cmocka_unit_test(test_the_rate_rule_wants_twenty_calls),
        cmocka_unit_test(test_exactly_half_is_enough),
        cmocka_unit_test(test_a_success_never_opens),
        cmocka_unit_test(test_a_clock_that_is_behind),
        cmocka_unit_test(test_more_calls_than_can_be_counted),
        cmocka_unit_test(test_limits_at_their_ends),
        cmocka_unit_test(test_late_reports_after_many_openings),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_one_probe_over_all_threads),
    };

    return cmocka_run_group_tests_name("breaker", tests, NULL, NULL);
}
