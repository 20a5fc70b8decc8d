/*
 * The records that wait for the writer.
 *
 * Happy path: loops push, the writer peeks at the first records, writes them and settles them. It
 * waits in poll on wake_fd together with its socket, so one descriptor says: there is a record,
 * hurry up, or stop.
 *
 * Failure modes: a full queue refuses. Thread: see the header; the mutex guards all of it. The depth
 * figures are written under the mutex and so have one writer at a time.
 */
#include "writer_queue.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static void publish_depth(struct store_writer_queue *queue);
static void wake_writer(struct store_writer_queue *queue);
static void append(struct store_writer_queue *queue, struct store_record *record);
static int64_t now_ms(void);

int store_writer_queue_init(struct store_writer_queue *queue, size_t bytes_max,
                            struct store_writer_stats *stats)
{
    pthread_condattr_t monotonic;

    *queue = (struct store_writer_queue){.bytes_max = bytes_max, .stats = stats};
    queue->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (queue->wake_fd < 0) {
        return SL_E_NO_MEMORY;
    }
    queue->tail = &queue->first;
    (void)pthread_mutex_init(&queue->mutex, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&queue->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    return 0;
}

void store_writer_queue_finish(struct store_writer_queue *queue)
{
    (void)pthread_cond_destroy(&queue->changed);
    (void)pthread_mutex_destroy(&queue->mutex);
    (void)close(queue->wake_fd);
}

/* ---- any thread ---- */

int store_writer_queue_push(struct store_writer_queue *queue, struct store_record *record)
{
    int err = 0;

    (void)pthread_mutex_lock(&queue->mutex);
    if (queue->closed) {
        err = SL_E_SHUTTING_DOWN;
    } else if (record->bytes > queue->bytes_max - queue->bytes) {
        err = SL_E_OVERLOADED;
    } else {
        bool was_empty = queue->first == NULL;
        append(queue, record);
        publish_depth(queue);
        if (was_empty) {
            wake_writer(queue);
        }
    }
    (void)pthread_mutex_unlock(&queue->mutex);
    return err;
}

static void append(struct store_writer_queue *queue, struct store_record *record)
{
    record->queue_next = NULL;
    *queue->tail = record;
    queue->tail = &record->queue_next;
    queue->count++;
    queue->bytes += record->bytes;
}

void store_writer_queue_nudge(struct store_writer_queue *queue)
{
    wake_writer(queue);
}

void store_writer_queue_drain(struct store_writer_queue *queue, unsigned timeout_ms)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(timeout_ms / 1000);
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    (void)pthread_mutex_lock(&queue->mutex);
    queue->closed = true;
    queue->hurry = queue->count > 0;
    wake_writer(queue);
    while (queue->count > 0 &&
           pthread_cond_timedwait(&queue->changed, &queue->mutex, &until) != ETIMEDOUT) {
    }
    (void)pthread_mutex_unlock(&queue->mutex);
}

void store_writer_queue_stop(struct store_writer_queue *queue)
{
    (void)pthread_mutex_lock(&queue->mutex);
    queue->closed = true;
    queue->stopped = true;
    wake_writer(queue);
    (void)pthread_mutex_unlock(&queue->mutex);
}

static void wake_writer(struct store_writer_queue *queue)
{
    uint64_t one = 1;
    /* cannot fail: the counter is nowhere near its maximum */
    ssize_t written = write(queue->wake_fd, &one, sizeof(one));
    (void)written;
}

static void publish_depth(struct store_writer_queue *queue)
{
    atomic_store_explicit(&queue->stats->records_waiting, queue->count, memory_order_relaxed);
    atomic_store_explicit(&queue->stats->bytes_waiting, queue->bytes, memory_order_relaxed);
}

/* ---- the writer thread ---- */

void store_writer_queue_refill(struct store_writer_queue *queue,
                               struct store_record *const *records, size_t count)
{
    (void)pthread_mutex_lock(&queue->mutex);
    for (size_t i = 0; i < count; i++) {
        append(queue, records[i]);
    }
    publish_depth(queue);
    (void)pthread_mutex_unlock(&queue->mutex);
}

size_t store_writer_queue_peek(struct store_writer_queue *queue, struct store_record **ret_records,
                               size_t rows, size_t bytes)
{
    size_t count = 0, taken = 0;

    (void)pthread_mutex_lock(&queue->mutex);
    for (struct store_record *record = queue->first; record != NULL && count < rows;
         record = record->queue_next) {
        if (count > 0 && taken + record->bytes > bytes) {
            break;
        }
        taken += record->bytes;
        ret_records[count++] = record;
    }
    (void)pthread_mutex_unlock(&queue->mutex);
    return count;
}

void store_writer_queue_settle(struct store_writer_queue *queue, size_t count)
{
    (void)pthread_mutex_lock(&queue->mutex);
    for (size_t i = 0; i < count; i++) {
        struct store_record *record = queue->first;
        queue->first = record->queue_next;
        queue->count--;
        queue->bytes -= record->bytes;
    }
    if (queue->first == NULL) {
        queue->tail = &queue->first;
    }
    publish_depth(queue);
    (void)pthread_cond_broadcast(&queue->changed);
    (void)pthread_mutex_unlock(&queue->mutex);
}

void store_writer_queue_pause(struct store_writer_queue *queue, unsigned delay_ms)
{
    int64_t until_ms = now_ms() + delay_ms;

    for (;;) {
        (void)pthread_mutex_lock(&queue->mutex);
        bool enough = queue->stopped || queue->hurry;
        queue->hurry = false;
        (void)pthread_mutex_unlock(&queue->mutex);
        int64_t left_ms = until_ms - now_ms();
        if (enough || left_ms <= 0) {
            return;
        }
        struct pollfd wake = {.fd = queue->wake_fd, .events = POLLIN};
        if (poll(&wake, 1, (int)left_ms) > 0) {
            (void)store_writer_queue_wake(queue);
        }
    }
}

bool store_writer_queue_wake(struct store_writer_queue *queue)
{
    uint64_t count;
    ssize_t got = read(queue->wake_fd, &count, sizeof(count));

    (void)got; /* nothing there is fine too */
    (void)pthread_mutex_lock(&queue->mutex);
    bool goes_on = !queue->stopped;
    (void)pthread_mutex_unlock(&queue->mutex);
    return goes_on;
}

static int64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
