/*
 * How fast the journal acknowledges: appends per second and the time from append to acknowledgement, at
 * 1, 64 and 1,000 writers that each wait for theirs.
 *
 *     journal_bench FOLDER [SECONDS]
 *
 * Happy path: every writer is a slot; the sink, on the journal's thread, notes the time of its slot's
 * record and makes the slot ready; one thread appends the next record of every ready slot. So 1,000
 * writers need no 1,000 threads, and the queue is as full as it would be with them.
 *
 * Failure modes: any error ends the program. Thread: main appends, the journal's acknowledges.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "journal.h"

enum { WRITERS_MAX = 1000, CONTENT = 512, SAMPLES_MAX = 4 << 20 };

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned ready[WRITERS_MAX];
    size_t ready_count;
    uint64_t began_us[WRITERS_MAX];
    uint32_t *samples_us;
    size_t sample_count;
    uint64_t last_sequence;
} bench;

static uint64_t now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static bool on_sink(void *context, struct store_record *record)
{
    unsigned writer = record->slot;

    (void)context;
    (void)pthread_mutex_lock(&bench.mutex);
    if (bench.sample_count < SAMPLES_MAX) {
        bench.samples_us[bench.sample_count++] = (uint32_t)(now_us() - bench.began_us[writer]);
    }
    bench.ready[bench.ready_count++] = writer;
    bench.last_sequence = record->sequence;
    (void)pthread_cond_signal(&bench.changed);
    (void)pthread_mutex_unlock(&bench.mutex);
    store_record_destroy(record);
    return true;
}

static void on_spill(void *context, struct store_record *record)
{
    (void)context;
    store_record_destroy(record);
}

static void on_wake(void *context)
{
    (void)context;
}

static void append_one(struct store_journal *journal, unsigned writer)
{
    static char content[CONTENT];
    struct store_message message = {.role = STORE_ROLE_USER, .status = STORE_STATUS_COMPLETE};
    struct sl_uuid session = {{0}};
    struct store_record *record = NULL;

    memset(content, 'x', sizeof(content));
    message.content = (struct store_text){content, sizeof(content)};
    message.id.bytes[0] = 1;
    if (store_record_create_message("bench", 5, &session, &message, &record) != 0) {
        abort();
    }
    record->slot = writer;
    bench.began_us[writer] = now_us();
    if (store_journal_append(journal, record) != 0) {
        (void)fprintf(stderr, "journal_bench: an append was refused\n");
        exit(1);
    }
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void measure(struct store_journal *journal, unsigned writers, double seconds)
{
    uint64_t began_us = now_us(), end_us = began_us + (uint64_t)(seconds * 1e6);
    uint64_t syncs = sl_counter_get(&store_journal_figures(journal)->syncs);
    unsigned taken[WRITERS_MAX];
    size_t under_way = 0;

    bench.ready_count = bench.sample_count = 0;
    for (unsigned i = 0; i < writers; i++) {
        bench.ready[bench.ready_count++] = i;
    }
    for (bool goes_on = true; goes_on || under_way > 0;) {
        (void)pthread_mutex_lock(&bench.mutex);
        while (bench.ready_count == 0) {
            (void)pthread_cond_wait(&bench.changed, &bench.mutex);
        }
        size_t count = bench.ready_count;
        memcpy(taken, bench.ready, count * sizeof(taken[0]));
        bench.ready_count = 0;
        uint64_t committed = bench.last_sequence;
        (void)pthread_mutex_unlock(&bench.mutex);
        store_journal_committed(journal, committed);
        under_way -= under_way > 0 ? count : 0;
        goes_on = now_us() < end_us;
        for (size_t i = 0; goes_on && i < count; i++) {
            append_one(journal, taken[i]);
            under_way++;
        }
    }
    double took_s = (double)(now_us() - began_us) / 1e6;
    size_t n = bench.sample_count;
    qsort(bench.samples_us, n, sizeof(bench.samples_us[0]), by_size);
    (void)printf("%5u writers: %8.0f appends/s, ack p50 %6u us, p99 %6u us, max %7u us, "
                 "%.1f records per sync\n",
                 writers, (double)n / took_s, bench.samples_us[n / 2],
                 bench.samples_us[n * 99 / 100], bench.samples_us[n - 1],
                 (double)n /
                     (double)(sl_counter_get(&store_journal_figures(journal)->syncs) - syncs));
}

int main(int argc, char **argv)
{
    struct store_journal_options options = {.segment_bytes = 16 << 20,
                                            .retain_bytes = 64 << 20,
                                            .retain_s = 3600,
                                            .pending_bytes = 64 << 20,
                                            .sink = on_sink,
                                            .spill = on_spill,
                                            .wake = on_wake};
    struct store_journal *journal = NULL;
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 3;

    if (argc < 2 || seconds <= 0) {
        (void)fprintf(stderr, "usage: journal_bench FOLDER [SECONDS]\n");
        return 2;
    }
    (void)pthread_mutex_init(&bench.mutex, NULL);
    (void)pthread_cond_init(&bench.changed, NULL);
    bench.samples_us = malloc(SAMPLES_MAX * sizeof(bench.samples_us[0]));
    if (bench.samples_us == NULL || store_disk_posix_create(argv[1], &options.disk) != 0 ||
        store_journal_open(&options, &journal) != 0 || store_journal_start(journal) != 0) {
        (void)fprintf(stderr, "journal_bench: the journal cannot be opened in %s\n", argv[1]);
        return 1;
    }
    measure(journal, 1, seconds);
    measure(journal, 64, seconds);
    measure(journal, WRITERS_MAX, seconds);
    (void)store_journal_stop(journal, 1000);
    store_journal_destroy(journal);
    free(bench.samples_us);
    return 0;
}
