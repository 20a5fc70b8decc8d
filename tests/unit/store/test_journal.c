/*
 * The journal among threads: several append while a writer commits and falls behind; nothing is lost,
 * doubled or out of order over the switches between sink and backlog. And lock, stop, retention, replay.
 */
#include "journal_fixture.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "samples.h"

enum { THREADS = 4, PER_THREAD = 3000, SINK_MAX = 40 };

/* ---- a writer that is now fast, now slow ---- */

static struct {
    struct sim_disk *sim;
    struct store_journal *journal;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct store_record *sunk[SINK_MAX];
    size_t count;
    bool woken;
    atomic_uint durable;
    /* the writer's */
    uint64_t last_sequence;
    unsigned next_of[THREADS], delivered, from_backlog, switches;
} load;

static bool load_sink(void *context, struct store_record *record)
{
    (void)context;
    atomic_fetch_add(&load.durable, record->durable ? 1 : 0);
    (void)pthread_mutex_lock(&load.mutex);
    bool taken = load.count < SINK_MAX;
    if (taken) {
        load.sunk[load.count++] = record;
    } else {
        atomic_fetch_sub(&load.durable, record->durable ? 1 : 0); /* counted when it is spilled */
    }
    (void)pthread_mutex_unlock(&load.mutex);
    return taken;
}

static void load_spill(void *context, struct store_record *record)
{
    (void)context;
    atomic_fetch_add(&load.durable, 1);
    store_record_destroy(record);
}

static void load_wake(void *context)
{
    (void)context;
    (void)pthread_mutex_lock(&load.mutex);
    load.woken = true;
    (void)pthread_cond_signal(&load.changed);
    (void)pthread_mutex_unlock(&load.mutex);
}

static void deliver(struct store_record *record)
{
    unsigned number = sample_number(&record->session);

    if (record->sequence != load.last_sequence + 1 ||
        number % PER_THREAD != load.next_of[number / PER_THREAD]) {
        fail_msg("number %u with sequence %u after %u", number, (unsigned)record->sequence,
                 (unsigned)load.last_sequence);
    }
    load.last_sequence = record->sequence;
    load.next_of[number / PER_THREAD]++;
    load.delivered++;
    store_record_destroy(record);
}

static void write_some(void)
{
    struct store_record *records[SINK_MAX];
    size_t count;

    (void)pthread_mutex_lock(&load.mutex);
    while (load.count == 0 && !store_journal_has_backlog(load.journal) && !load.woken) {
        (void)pthread_cond_wait(&load.changed, &load.mutex);
    }
    load.woken = false;
    count = load.count;
    memcpy(records, load.sunk, count * sizeof(records[0]));
    load.count = 0;
    (void)pthread_mutex_unlock(&load.mutex);
    if (count == 0 && store_journal_has_backlog(load.journal)) {
        count = store_journal_read_backlog(load.journal, records, SINK_MAX, 20000);
        load.from_backlog += (unsigned)count;
        load.switches += count == 0 ? 1 : 0;
    }
    for (size_t i = 0; i < count; i++) {
        deliver(records[i]);
    }
    if (count > 0) {
        store_journal_committed(load.journal, load.last_sequence);
    }
    if (load.delivered % 7 < 3) {
        (void)usleep(200); /* falls behind; only makes switches likely */
    }
}

static void *append_many(void *context)
{
    unsigned thread = (unsigned)(uintptr_t)context;

    for (unsigned i = 0; i < PER_THREAD; i++) {
        struct sl_uuid session = sample_id(thread * PER_THREAD + i);
        struct store_message message = sample_message(i, "a message of no great length");
        struct store_record *record = NULL;
        if (store_record_create_message("ann", 3, &session, &message, &record) != 0) {
            abort();
        }
        while (store_journal_append(load.journal, record) != 0) {
            (void)usleep(100);
        }
        while (i % 100 == 99 && store_journal_has_backlog(load.journal)) {
            (void)usleep(200); /* lets the writer catch up, so that there is a switch back */
        }
    }
    return NULL;
}

static void nothing_is_lost_over_the_switches_of_the_backlog(void **state)
{
    pthread_t threads[THREADS];
    struct store_journal_options options = {.segment_bytes = 64 << 10,
                                            .retain_bytes = 256 << 10,
                                            .retain_s = 3600,
                                            .pending_bytes = 1 << 20,
                                            .sink = load_sink,
                                            .spill = load_spill,
                                            .wake = load_wake};

    (void)state;
    load.sim = sim_disk_create(1);
    options.disk = sim_disk_attach(load.sim);
    (void)pthread_mutex_init(&load.mutex, NULL);
    (void)pthread_cond_init(&load.changed, NULL);
    assert_int_equal(store_journal_open(&options, &load.journal), 0);
    assert_int_equal(store_journal_start(load.journal), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, append_many, (void *)(uintptr_t)i), 0);
    }
    while (load.delivered < THREADS * PER_THREAD || store_journal_has_backlog(load.journal)) {
        write_some();
    }
    for (unsigned i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    assert_int_equal(store_journal_stop(load.journal, 10000), 0);
    const struct store_journal_stats *stats = store_journal_figures(load.journal);
    print_message("%u records, %u of them read back, %u switches back, %u syncs\n", load.delivered,
                  load.from_backlog, load.switches, (unsigned)sl_counter_get(&stats->syncs));
    assert_int_equal(atomic_load(&load.durable), THREADS * PER_THREAD);
    assert_true(load.switches > 0);
    assert_true(load.from_backlog > 0 && load.from_backlog < THREADS * PER_THREAD);
    assert_int_equal(sl_counter_get(&stats->appends), THREADS * PER_THREAD);
    assert_int_equal(sl_counter_get(&stats->uncommitted_records), 0);
    assert_int_equal(sl_counter_get(&stats->waiting_records), 0);
    assert_int_equal(sl_counter_get(&stats->oldest_uncommitted_unix_us), 0);
    assert_true(sl_counter_get(&stats->syncs) < THREADS * PER_THREAD); /* groups */
    store_journal_destroy(load.journal);
    sim_disk_destroy(load.sim);
}

/* ---- with the fixture ---- */

static struct fixture fixture;

static int make_fixture(void **state)
{
    (void)state;
    fixture_init(&fixture, 1);
    return 0;
}

static int free_fixture(void **state)
{
    (void)state;
    fixture_finish(&fixture);
    return 0;
}

static void a_second_process_is_refused(void **state)
{
    struct store_journal *second = NULL;

    (void)state;
    assert_true(fixture_open(&fixture));
    struct store_journal_options options = fixture_options(&fixture);
    assert_int_equal(store_journal_open(&options, &second), SL_E_CONFLICT);
    assert_null(second);
    fixture_close(&fixture, 1000);
    options = fixture_options(&fixture);
    assert_int_equal(store_journal_open(&options, &second), 0);
    store_journal_destroy(second);
}

static void too_much_waiting_is_refused_and_stop_gives_back(void **state)
{
    struct store_journal_options options = fixture_options(&fixture);
    struct store_journal *journal = NULL;
    struct store_record *record = fixture_record(0);
    unsigned taken = 0;

    (void)state;
    options.pending_bytes = 3 * record->bytes;
    fixture.sink_max = 0;
    assert_int_equal(store_journal_open(&options, &journal), 0);
    while (store_journal_append(journal, record) == 0) { /* not started: nobody takes them */
        taken++;
        record = fixture_record(0);
    }
    assert_int_equal(taken, 3);
    assert_int_equal(store_journal_append(journal, record), SL_E_OVERLOADED);
    assert_int_equal(store_journal_stop(journal, 0), 3);
    assert_int_equal(store_journal_append(journal, record), SL_E_SHUTTING_DOWN);
    assert_int_equal(store_journal_stop(journal, 0), 0);
    store_record_destroy(record);
    store_journal_destroy(journal);
}

static bool take_three(void *context, struct store_record *record)
{
    unsigned *count = context;

    if (*count == 3) {
        return false;
    }
    assert_int_equal(fixture_number(record), *count);
    ++*count;
    store_record_destroy(record);
    return true;
}

static void what_recover_does_not_take_stays_a_backlog(void **state)
{
    struct store_record *records[8];
    unsigned count = 0;

    (void)state;
    assert_true(fixture_open(&fixture));
    fixture_append(&fixture, 0, 10);
    fixture_close(&fixture, 1000);
    struct store_journal_options options = fixture_options(&fixture);
    struct store_journal *journal = NULL;
    assert_int_equal(store_journal_open(&options, &journal), 0);
    assert_int_equal(sl_counter_get(&store_journal_figures(journal)->uncommitted_records), 10);
    assert_true(sl_counter_get(&store_journal_figures(journal)->oldest_uncommitted_unix_us) > 0);
    store_journal_recover(journal, take_three, &count);
    assert_int_equal(count, 3);
    assert_true(store_journal_has_backlog(journal));
    while (count < 10) {
        size_t got = store_journal_read_backlog(journal, records, 2, 1 << 20);
        assert_true(got > 0 && got <= 2);
        for (size_t i = 0; i < got; i++) {
            assert_int_equal(fixture_number(records[i]), count);
            assert_null(records[i]->origin);
            fixture_check_record(records[i]);
            store_record_destroy(records[i]);
            count++;
        }
    }
    assert_int_equal(store_journal_read_backlog(journal, records, 2, 1 << 20), 0);
    assert_false(store_journal_has_backlog(journal));
    store_journal_destroy(journal);
}

static bool count_all(void *context, struct store_record *record)
{
    unsigned *count = context;

    assert_int_equal(fixture_number(record), *count);
    fixture_check_record(record);
    store_record_destroy(record);
    return ++*count < 25;
}

static void a_replay_reads_what_another_process_writes(void **state)
{
    struct store_disk *disk = sim_disk_attach(fixture.sim);
    unsigned count = 0;

    (void)state;
    fixture.sink_max = 40;
    assert_true(fixture_open(&fixture));
    fixture_append(&fixture, 0, 20);
    fixture_commit(&fixture, 0); /* committed ones are what a replay is for */
    assert_int_equal(store_journal_scan(disk, 0, count_all, &count), 0);
    assert_int_equal(count, 20);
    fixture_append(&fixture, 20, 40);
    count = 0;
    assert_int_equal(store_journal_scan(disk, 0, count_all, &count), 0);
    assert_int_equal(count, 25); /* stopped by the callee */
    count = 0;
    assert_int_equal(store_journal_scan(disk, INT64_C(3900000000) * 1000000, count_all, &count), 0);
    assert_int_equal(count, 0);
    fixture_close(&fixture, 1000);
    disk->ops->destroy(disk);
}

static void only_committed_segments_are_deleted(void **state)
{
    (void)state;
    assert_true(fixture_open(&fixture));
    for (unsigned at = 0; at < 200; at += 10) {
        fixture_append(&fixture, at, at + 10);
    }
    const struct store_journal_stats *stats = store_journal_figures(fixture.journal);
    assert_int_equal(sl_counter_get(&stats->segments_deleted), 0);
    assert_true(sl_counter_get(&stats->segments) > 10);
    int64_t give_up_ms = sample_now_ms() + 10000;
    while (sl_counter_get(&stats->uncommitted_records) < 200 && sample_now_ms() < give_up_ms) {
        (void)usleep(1000); /* the gauges follow the acknowledgement */
    }
    assert_int_equal(sl_counter_get(&stats->uncommitted_records), 200);
    fixture_commit(&fixture, 0);
    while (sl_counter_get(&stats->segments) > 6 && sample_now_ms() < give_up_ms) {
        (void)usleep(1000); /* the checkpoint comes first, within a second */
    }
    assert_true(sl_counter_get(&stats->segments) <= 6); /* 4 retained, one active, one spare */
    fixture_check_table(&fixture, "retention");
    assert_int_equal(fixture.table_count, 200);
    fixture_close(&fixture, 1000);
}

int main(void)
{
#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, make_fixture, free_fixture)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost_over_the_switches_of_the_backlog),
        WITH_FIXTURE(a_second_process_is_refused),
        WITH_FIXTURE(too_much_waiting_is_refused_and_stop_gives_back),
        WITH_FIXTURE(what_recover_does_not_take_stays_a_backlog),
        WITH_FIXTURE(a_replay_reads_what_another_process_writes),
        WITH_FIXTURE(only_committed_segments_are_deleted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
