/*
 * The event loop: epoll, a timer heap, a task queue and a mailbox.
 *
 * One turn: (1) dispatch collects descriptor events and messages and calls their owners, (2) due
 * timers run, (3) the drain runs the queued tasks. Owners may watch, unwatch, arm and defer at any
 * moment, also for each other: events already collected for a watch that is gone are dropped by
 * comparing the watch in the collected array, so nothing stale is ever called.
 *
 * Failure modes: epoll refusing a descriptor is the only error after creation. The timer heap
 * grows with the number of armed timers; it aborts when memory for it runs out, as its size is
 * bounded by the connection and turn limits.
 *
 * Thread: the loop's own, except sl_loop_post. Ownership: nothing embedded is freed here.
 */
#include "sluice/loop.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "sluice/op.h"
#include "timer_heap.h"

enum { EVENTS_PER_DISPATCH = 256 };

struct sl_loop {
    int epoll_fd;
    const uint64_t *test_clock;
    struct timer_heap timers;
    struct sl_task *tasks, **tasks_tail;
    struct sl_task *draining; /* what is left of the drain under way */
    void (*wake)(void *context);
    void *wake_context;
    struct epoll_event collected[EVENTS_PER_DISPATCH];
    int collected_count, collected_at;
    struct {
        pthread_mutex_t mutex;
        struct sl_message *first, **tail;
        int event_fd;
        struct sl_watch watch;
    } mailbox;
};

static void receive_messages(struct sl_watch *watch, unsigned events);

int sl_loop_create(struct sl_loop **ret_loop)
{
    struct sl_loop *loop = calloc(1, sizeof(*loop));

    if (loop == NULL) {
        return SL_E_NO_MEMORY;
    }
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        goto err_after_alloc;
    }
    loop->mailbox.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->mailbox.event_fd < 0) {
        goto err_after_epoll;
    }
    loop->tasks_tail = &loop->tasks;
    loop->mailbox.tail = &loop->mailbox.first;
    (void)pthread_mutex_init(&loop->mailbox.mutex, NULL);
    loop->mailbox.watch.ready = receive_messages;
    if (sl_loop_watch(loop, &loop->mailbox.watch, loop->mailbox.event_fd, SL_READABLE) != 0) {
        goto err_after_eventfd;
    }
    *ret_loop = loop;
    return 0;

err_after_eventfd:
    (void)close(loop->mailbox.event_fd);
err_after_epoll:
    (void)close(loop->epoll_fd);
err_after_alloc:
    free(loop);
    return SL_E_NO_MEMORY;
}

/* ---- descriptors ---- */

int sl_loop_watch(struct sl_loop *loop, struct sl_watch *watch, int fd, unsigned events)
{
    /* SL_HANGUP stands for "watched at all", so that 0 can mean "not watched" */
    unsigned wanted = events | SL_HANGUP;

    if (watch->events == wanted && watch->fd == fd) {
        return 0;
    }
    struct epoll_event event = {.events = EPOLLRDHUP, .data.ptr = watch};
    event.events |= (events & SL_READABLE) != 0 ? (uint32_t)EPOLLIN : 0;
    event.events |= (events & SL_WRITABLE) != 0 ? (uint32_t)EPOLLOUT : 0;
    int op = watch->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    assert(watch->events == 0 || watch->fd == fd);
    if (epoll_ctl(loop->epoll_fd, op, fd, &event) != 0) {
        return SL_E_INTERNAL;
    }
    watch->fd = fd;
    watch->events = wanted;
    return 0;
}

void sl_loop_unwatch(struct sl_loop *loop, struct sl_watch *watch)
{
    if (watch->events == 0) {
        return;
    }
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    sl_loop_forget(loop, watch);
}

void sl_loop_forget(struct sl_loop *loop, struct sl_watch *watch)
{
    watch->events = 0;
    for (int i = loop->collected_at; i < loop->collected_count; i++) {
        if (loop->collected[i].data.ptr == watch) {
            loop->collected[i].data.ptr = NULL;
        }
    }
}

void sl_loop_dispatch(struct sl_loop *loop)
{
    int n = epoll_wait(loop->epoll_fd, loop->collected, EVENTS_PER_DISPATCH, 0);

    loop->collected_count = n > 0 ? n : 0;
    for (loop->collected_at = 0; loop->collected_at < loop->collected_count;) {
        struct epoll_event *event = &loop->collected[loop->collected_at++];
        struct sl_watch *watch = event->data.ptr;
        if (watch == NULL) {
            continue;
        }
        unsigned events = 0;
        events |= (event->events & EPOLLIN) != 0 ? SL_READABLE : 0U;
        events |= (event->events & EPOLLOUT) != 0 ? SL_WRITABLE : 0U;
        events |= (event->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0 ? SL_HANGUP : 0U;
        watch->ready(watch, events);
    }
    loop->collected_count = 0;
}

/* ---- messages from other threads ---- */

void sl_loop_post(struct sl_loop *loop, struct sl_message *message)
{
    message->next = NULL;
    (void)pthread_mutex_lock(&loop->mailbox.mutex);
    bool was_empty = loop->mailbox.first == NULL;
    *loop->mailbox.tail = message;
    loop->mailbox.tail = &message->next;
    (void)pthread_mutex_unlock(&loop->mailbox.mutex);
    if (was_empty) {
        uint64_t one = 1;
        /* cannot fail: the counter is nowhere near its maximum */
        ssize_t written = write(loop->mailbox.event_fd, &one, sizeof(one));
        (void)written;
    }
}

static void receive_messages(struct sl_watch *watch, unsigned events)
{
    struct sl_loop *loop = SL_CONTAINER_OF(watch, struct sl_loop, mailbox.watch);
    uint64_t count;

    (void)events;
    ssize_t got = read(loop->mailbox.event_fd, &count, sizeof(count));
    (void)got;
    (void)pthread_mutex_lock(&loop->mailbox.mutex);
    struct sl_message *message = loop->mailbox.first;
    loop->mailbox.first = NULL;
    loop->mailbox.tail = &loop->mailbox.first;
    (void)pthread_mutex_unlock(&loop->mailbox.mutex);
    while (message != NULL) {
        struct sl_message *next = message->next; /* receive may free the message */
        message->receive(message);
        message = next;
    }
}

/* ---- timers ---- */

uint64_t sl_loop_now_us(const struct sl_loop *loop)
{
    struct timespec now;

    if (loop->test_clock != NULL) {
        return *loop->test_clock;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void sl_loop_set_test_clock(struct sl_loop *loop, const uint64_t *now_us)
{
    loop->test_clock = now_us;
}

void sl_loop_arm(struct sl_loop *loop, struct sl_timer *timer, uint64_t delay_us)
{
    timer->due_us = sl_loop_now_us(loop) + delay_us;
    timer_heap_put(&loop->timers, timer);
}

void sl_loop_disarm(struct sl_loop *loop, struct sl_timer *timer)
{
    timer_heap_remove(&loop->timers, timer);
}

size_t sl_loop_run_timers(struct sl_loop *loop)
{
    uint64_t now_us = sl_loop_now_us(loop);
    size_t ran = 0;
    struct sl_timer *timer;

    while ((timer = timer_heap_first(&loop->timers)) != NULL && timer->due_us <= now_us) {
        timer_heap_remove(&loop->timers, timer);
        timer->expired(timer);
        ran++;
    }
    return ran;
}

int sl_loop_wait_ms(const struct sl_loop *loop, int max_ms)
{
    const struct sl_timer *timer = timer_heap_first(&loop->timers);

    if (timer == NULL) {
        return max_ms;
    }
    uint64_t now_us = sl_loop_now_us(loop);
    uint64_t left_ms = timer->due_us > now_us ? (timer->due_us - now_us + 999) / 1000 : 0;
    return left_ms < (uint64_t)max_ms ? (int)left_ms : max_ms;
}

/* ---- tasks ---- */

void sl_loop_on_wake(struct sl_loop *loop, void (*wake)(void *context), void *context)
{
    loop->wake = wake;
    loop->wake_context = context;
}

void sl_loop_defer(struct sl_loop *loop, struct sl_task *task)
{
    if (task->prev_next != NULL) {
        return;
    }
    bool was_empty = loop->tasks == NULL; /* during a drain too: it is for the next one */
    task->next = NULL;
    task->prev_next = loop->tasks_tail;
    *loop->tasks_tail = task;
    loop->tasks_tail = &task->next;
    if (was_empty && loop->wake != NULL) {
        loop->wake(loop->wake_context);
    }
}

void sl_loop_undefer(struct sl_loop *loop, struct sl_task *task)
{
    if (task->prev_next == NULL) {
        return;
    }
    *task->prev_next = task->next;
    if (task->next != NULL) {
        task->next->prev_next = task->prev_next;
    } else if (loop->tasks_tail == &task->next) {
        loop->tasks_tail = task->prev_next;
    }
    task->prev_next = NULL;
}

bool sl_loop_has_tasks(const struct sl_loop *loop)
{
    return loop->tasks != NULL;
}

void sl_loop_drain(struct sl_loop *loop)
{
    /* What is queued from here on waits for the next drain, so a task that queues itself again cannot
     * hold the loop. */
    assert(loop->draining == NULL);
    loop->draining = loop->tasks;
    loop->tasks = NULL;
    loop->tasks_tail = &loop->tasks;
    if (loop->draining != NULL) {
        loop->draining->prev_next = &loop->draining;
    }
    while (loop->draining != NULL) {
        struct sl_task *task = loop->draining;
        sl_loop_undefer(loop, task);
        task->run(task);
    }
}

/* ---- alone, and the end ---- */

void sl_loop_run_once(struct sl_loop *loop, int max_ms)
{
    struct epoll_event event;
    int wait_ms = loop->tasks != NULL ? 0 : sl_loop_wait_ms(loop, max_ms);

    if (wait_ms > 0) {
        (void)epoll_wait(loop->epoll_fd, &event, 1,
                         wait_ms); /* level-triggered: seen again below */
    }
    sl_loop_dispatch(loop);
    (void)sl_loop_run_timers(loop);
    sl_loop_drain(loop);
}

int sl_loop_epoll_fd(const struct sl_loop *loop)
{
    return loop->epoll_fd;
}

void sl_loop_destroy(struct sl_loop *loop)
{
    if (loop == NULL) {
        return;
    }
    sl_loop_unwatch(loop, &loop->mailbox.watch);
    (void)close(loop->mailbox.event_fd);
    (void)close(loop->epoll_fd);
    (void)pthread_mutex_destroy(&loop->mailbox.mutex);
    timer_heap_dispose(&loop->timers);
    free(loop);
}
