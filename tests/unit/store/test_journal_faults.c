/*
 * The disk fails at every single call, once and from there on, by EIO, ENOSPC and short writes: what was
 * acknowledged is never lost, and what fails once costs nothing at all. And a full disk, and a dead one
 * that comes back.
 */
#include "journal_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGES = 120 };

static uint64_t seed;

static int64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static uint64_t state_of(const struct fixture *fixture)
{
    return sl_counter_get(&store_journal_figures(fixture->journal)->state);
}

static void await_state(const struct fixture *fixture, enum store_journal_state state)
{
    int64_t give_up_ms = now_ms() + 20000;

    while (state_of(fixture) != state) {
        if (now_ms() > give_up_ms) {
            fail_msg("state %d was waited for in vain", (int)state);
        }
        (void)usleep(1000);
    }
}

static void run_script(struct fixture *fixture)
{
    unsigned at = 0, group = 0;

    while (at < MESSAGES) {
        unsigned to = at + 1 + group * 5 % 7;
        fixture_append(fixture, at, to < MESSAGES ? to : MESSAGES);
        at = to;
        if (++group % 3 == 0 || fixture->sunk_count == fixture->sink_max) {
            fixture_commit(fixture, group % 4);
        }
    }
}

/* returns whether the script got as far as that call */
static bool fail_at(uint64_t call, enum sim_fault fault, bool from_there_on)
{
    struct fixture *fixture = malloc(sizeof(*fixture));
    char where[80];

    assert_non_null(fixture);
    (void)snprintf(where, sizeof(where), "call %u, fault %d%s", (unsigned)call, (int)fault,
                   from_there_on ? " from there on" : "");
    fixture_init(fixture, seed + call);
    sim_disk_plan(fixture->sim, fault, call, from_there_on);
    bool opened = fixture_open(fixture);
    if (opened) {
        run_script(fixture);
        if (!from_there_on || fault == SIM_FAULT_SHORT_WRITE) {
            for (unsigned i = 0; i < MESSAGES; i++) {
                if (!fixture->acked[i]) {
                    fail_msg("%s: number %u was not acknowledged", where, i);
                }
            }
        }
        fixture_close(fixture, 0);
    }
    bool reached = sim_disk_calls(fixture->sim) >= call;
    sim_disk_restart(fixture->sim, (enum sim_loss)(call % SIM_LOSS_COUNT));
    assert_true(fixture_open(fixture));
    if (from_there_on && fault == SIM_FAULT_EIO) {
        fixture_check_acked(fixture, where); /* what could not be read came later */
    } else {
        fixture_check_table(fixture, where);
    }
    fixture_append(fixture, MESSAGES, MESSAGES + 3);
    fixture_commit(fixture, 0);
    assert_true(fixture->acked[MESSAGES + 2]);
    fixture_check_acked(fixture, where);
    fixture_close(fixture, 10000);
    fixture_finish(fixture);
    free(fixture);
    return reached;
}

static void fail_everywhere(enum sim_fault fault, bool from_there_on)
{
    uint64_t call = 1;

    while (fail_at(call, fault, from_there_on)) {
        call++;
    }
    print_message("%u calls failed, seed %llu\n", (unsigned)call - 1, (unsigned long long)seed);
    assert_true(call > 100);
}

static void one_io_error_costs_nothing(void **state)
{
    (void)state;
    fail_everywhere(SIM_FAULT_EIO, false);
}

static void io_errors_from_then_on_lose_nothing_acknowledged(void **state)
{
    (void)state;
    fail_everywhere(SIM_FAULT_EIO, true);
}

static void one_full_disk_costs_nothing(void **state)
{
    (void)state;
    fail_everywhere(SIM_FAULT_ENOSPC, false);
}

static void a_full_disk_from_then_on_loses_nothing_acknowledged(void **state)
{
    (void)state;
    fail_everywhere(SIM_FAULT_ENOSPC, true);
}

static void short_writes_cost_nothing(void **state)
{
    (void)state;
    fail_everywhere(SIM_FAULT_SHORT_WRITE, false);
    fail_everywhere(SIM_FAULT_SHORT_WRITE, true);
}

static void a_full_disk_closes_admission_first_and_reopens_within_a_second(void **state)
{
    struct fixture *fixture = malloc(sizeof(*fixture));
    unsigned at = 0;

    (void)state;
    assert_non_null(fixture);
    fixture_init(fixture, seed);
    fixture->segment_bytes = 64 << 10; /* the reserve must have room for more than one record */
    sim_disk_limit(fixture->sim, (3 * 64 << 10) + 200);
    assert_true(fixture_open(fixture));
    assert_int_equal(store_journal_admission(fixture->journal), 0);
    while (store_journal_admission(fixture->journal) == 0) {
        fixture_append(fixture, at, at + 1); /* nothing is committed: nothing can be deleted */
        at++;
        assert_true(at < 350);
    }
    assert_int_equal(store_journal_admission(fixture->journal), SL_E_STORAGE_UNAVAILABLE);
    assert_int_equal(state_of(fixture), STORE_JOURNAL_NEARLY_FULL);
    fixture_append(fixture, at, at + 1); /* a running turn's answer still becomes durable */
    assert_true(fixture->acked[at]);
    at++;
    sim_disk_limit(fixture->sim, 0);
    int64_t began_ms = now_ms();
    await_state(fixture, STORE_JOURNAL_OPEN);
    int64_t took_ms = now_ms() - began_ms;
    print_message("admission reopened after %d ms\n", (int)took_ms);
    assert_true(took_ms < 1000);
    assert_int_equal(store_journal_admission(fixture->journal), 0);
    fixture_commit(fixture, 0);
    fixture_check_table(fixture, "full disk");
    assert_int_equal(fixture->table_count, at);
    fixture_close(fixture, 1000);
    fixture_finish(fixture);
    free(fixture);
}

static void committed_segments_make_room_on_a_full_disk(void **state)
{
    struct fixture *fixture = malloc(sizeof(*fixture));

    (void)state;
    assert_non_null(fixture);
    fixture_init(fixture, seed);
    sim_disk_limit(fixture->sim, 4 * FIXTURE_SEGMENT);
    assert_true(fixture_open(fixture));
    for (unsigned at = 0; at < 150; at++) {
        fixture_append(fixture, at, at + 1);
        fixture_commit(fixture, 0);
        assert_true(fixture->acked[at]);
        assert_int_equal(store_journal_admission(fixture->journal), 0);
    }
    fixture_close(fixture, 1000);
    fixture_finish(fixture);
    free(fixture);
}

static void a_dead_disk_acknowledges_nothing_and_comes_back(void **state)
{
    struct fixture *fixture = malloc(sizeof(*fixture));

    (void)state;
    assert_non_null(fixture);
    fixture_init(fixture, seed);
    assert_true(fixture_open(fixture));
    fixture_append(fixture, 0, 5);
    sim_disk_plan(fixture->sim, SIM_FAULT_EIO, 1, true);
    fixture_append(fixture, 5, 8); /* straight to the sink */
    assert_int_equal(state_of(fixture), STORE_JOURNAL_FAILED);
    assert_int_equal(store_journal_admission(fixture->journal), SL_E_STORAGE_UNAVAILABLE);
    for (unsigned i = 5; i < 8; i++) {
        assert_false(fixture->acked[i]);
    }
    assert_int_equal(fixture->sunk_count, 8);
    sim_disk_plan(fixture->sim, SIM_FAULT_NONE, 0, false);
    await_state(fixture, STORE_JOURNAL_OPEN);
    fixture_append(fixture, 8, 11);
    assert_true(fixture->acked[10]);
    /* nothing was committed: the acknowledged ones, also those of the dead segment, come back */
    fixture_close(fixture, 1000);
    sim_disk_restart(fixture->sim, SIM_LOSS_ALL);
    assert_true(fixture_open(fixture));
    fixture_check_table(fixture, "dead disk");
    fixture_close(fixture, 1000);
    fixture_finish(fixture);
    free(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_io_error_costs_nothing),
        cmocka_unit_test(io_errors_from_then_on_lose_nothing_acknowledged),
        cmocka_unit_test(one_full_disk_costs_nothing),
        cmocka_unit_test(a_full_disk_from_then_on_loses_nothing_acknowledged),
        cmocka_unit_test(short_writes_cost_nothing),
        cmocka_unit_test(a_full_disk_closes_admission_first_and_reopens_within_a_second),
        cmocka_unit_test(committed_segments_make_room_on_a_full_disk),
        cmocka_unit_test(a_dead_disk_acknowledges_nothing_and_comes_back),
    };
    const char *given = getenv("SLUICE_TEST_SEED");

    seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
