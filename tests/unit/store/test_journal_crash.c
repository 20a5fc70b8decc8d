/*
 * A script of 200 messages is stopped before, in the middle of and after every single call on the disk;
 * what was acknowledged until then is in the table after a restart: once, unchanged, in order.
 */
#include "journal_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MESSAGES = 200 };

static uint64_t seed;

/* the script: groups of 1 to 7; the sink is emptied now and then, so that backlogs come and go */
static void run_script(struct fixture *fixture)
{
    unsigned at = 0, group = 0;

    while (at < MESSAGES && !sim_disk_crashed(fixture->sim)) {
        unsigned to = at + 1 + group * 5 % 7;
        fixture_append(fixture, at, to < MESSAGES ? to : MESSAGES);
        at = to;
        if (++group % 3 == 0) {
            fixture_commit(fixture, group % 4);
        }
    }
}

/* returns whether the script was stopped at all */
static bool crash_at(uint64_t call, enum sim_fault fault, enum sim_loss loss)
{
    struct fixture *fixture = malloc(sizeof(*fixture));
    char where[80];

    assert_non_null(fixture);
    (void)snprintf(where, sizeof(where), "call %u, fault %d, loss %d, seed %llu", (unsigned)call,
                   (int)fault, (int)loss, (unsigned long long)seed);
    fixture_init(fixture, seed + call);
    sim_disk_plan(fixture->sim, fault, call, false);
    if (fixture_open(fixture)) {
        run_script(fixture);
        fixture_close(fixture, sim_disk_crashed(fixture->sim) ? 0 : 10000);
    }
    bool crashed = sim_disk_crashed(fixture->sim);
    sim_disk_restart(fixture->sim, loss);

    /* what the sink held and did not commit is gone with the process; the next run brings it */
    assert_true(fixture_open(fixture));
    fixture_check_table(fixture, where);
    uint64_t highest = fixture->last_sequence;
    fixture_append(fixture, MESSAGES, MESSAGES + 3);
    fixture_commit(fixture, 0);
    assert_true(fixture->last_sequence > highest);
    fixture_check_table(fixture, where);
    for (unsigned i = MESSAGES; i < MESSAGES + 3; i++) {
        assert_true(fixture->acked[i]);
    }
    fixture_close(fixture, 10000);

    sim_disk_restart(fixture->sim, SIM_LOSS_ALL);
    size_t before = fixture->table_count;
    assert_true(fixture_open(fixture));
    assert_int_equal(fixture->last_sequence, 0); /* all was committed, the checkpoint says so */
    assert_int_equal(fixture->table_count, before);
    fixture_close(fixture, 10000);
    fixture_finish(fixture);
    free(fixture);
    return crashed;
}

static void crash_everywhere(enum sim_fault fault)
{
    uint64_t call = 1, points = 0;

    for (;; call++) {
        bool crashed = crash_at(call, fault, (enum sim_loss)(call % SIM_LOSS_COUNT));
        if (!crashed) {
            break;
        }
        crashed = crash_at(call, fault, (enum sim_loss)((call + 1) % SIM_LOSS_COUNT));
        points++;
    }
    print_message("%u points of stopping, seed %llu\n", (unsigned)points, (unsigned long long)seed);
    assert_true(points > 300);
}

static void nothing_acknowledged_is_lost_before_a_call(void **state)
{
    (void)state;
    crash_everywhere(SIM_FAULT_CRASH_BEFORE);
}

static void nothing_acknowledged_is_lost_in_the_middle_of_a_call(void **state)
{
    (void)state;
    crash_everywhere(SIM_FAULT_CRASH_MIDDLE);
}

static void nothing_acknowledged_is_lost_after_a_call(void **state)
{
    (void)state;
    crash_everywhere(SIM_FAULT_CRASH_AFTER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_acknowledged_is_lost_before_a_call),
        cmocka_unit_test(nothing_acknowledged_is_lost_in_the_middle_of_a_call),
        cmocka_unit_test(nothing_acknowledged_is_lost_after_a_call),
    };
    const char *given = getenv("SLUICE_TEST_SEED");

    seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
