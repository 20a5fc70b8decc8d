/*
 * Timer heap: a binary heap in which every timer knows its place, so moving one is O(log n).
 *
 * Happy path: arm -> wait (sleeps until the root is due) -> run (pops and fires).
 * Failure: no memory -> abort. Thread: the loop's. Ownership: see timers.h.
 */
#include "timers.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"

static void put(struct lt_timers *timers, size_t place, struct lt_timer *timer)
{
    timers->heap[place - 1] = timer;
    timer->place = place;
}

static void sift_up(struct lt_timers *timers, struct lt_timer *timer)
{
    size_t place = timer->place;
    while (place > 1) {
        struct lt_timer *parent = timers->heap[place / 2 - 1];
        if (parent->due_us <= timer->due_us) {
            break;
        }
        put(timers, place, parent);
        place /= 2;
    }
    put(timers, place, timer);
}

static void sift_down(struct lt_timers *timers, struct lt_timer *timer)
{
    size_t place = timer->place;
    for (;;) {
        size_t child = place * 2;
        if (child > timers->count) {
            break;
        }
        if (child < timers->count &&
            timers->heap[child]->due_us < timers->heap[child - 1]->due_us) {
            child++;
        }
        if (timer->due_us <= timers->heap[child - 1]->due_us) {
            break;
        }
        put(timers, place, timers->heap[child - 1]);
        place = child;
    }
    put(timers, place, timer);
}

void lt_timers_arm(struct lt_timers *timers, struct lt_timer *timer, uint64_t due_us)
{
    if (due_us == LT_NEVER_US) {
        lt_timers_disarm(timers, timer);
        return;
    }
    timer->due_us = due_us;
    if (timer->place == 0) {
        if (timers->count == timers->capacity) {
            timers->capacity = timers->capacity != 0 ? timers->capacity * 2 : 64;
            timers->heap = reallocarray(timers->heap, timers->capacity, sizeof(struct lt_timer *));
            if (timers->heap == NULL) {
                fputs("out of memory\n", stderr);
                abort();
            }
        }
        put(timers, ++timers->count, timer);
    }
    sift_up(timers, timer);
    sift_down(timers, timer);
}

void lt_timers_disarm(struct lt_timers *timers, struct lt_timer *timer)
{
    size_t place = timer->place;
    if (place == 0) {
        return;
    }
    timer->place = 0;
    struct lt_timer *last = timers->heap[--timers->count];
    if (last != timer) {
        put(timers, place, last);
        sift_up(timers, last);
        sift_down(timers, last);
    }
}

int lt_timers_wait(const struct lt_timers *timers, int epoll_fd, struct epoll_event *events,
                   int max_events)
{
    static bool have_pwait2 = true;
    int64_t wait_us = -1;
    if (timers->count != 0) {
        uint64_t now_us = lt_clock_now_us();
        uint64_t due_us = timers->heap[0]->due_us;
        wait_us = due_us > now_us ? (int64_t)(due_us - now_us) : 0;
    }
    int count = -1;
    if (have_pwait2) {
        struct timespec timeout = {.tv_sec = wait_us / 1000000,
                                   .tv_nsec = wait_us % 1000000 * 1000};
        count = epoll_pwait2(epoll_fd, events, max_events, wait_us < 0 ? NULL : &timeout, NULL);
        have_pwait2 = count >= 0 || (errno != ENOSYS && errno != EPERM);
    }
    if (!have_pwait2) {
        /* Linux before 5.11, or a sandbox that does not know the call. */
        int64_t wait_ms = wait_us < 0 ? -1 : (wait_us + 999) / 1000;
        count = epoll_wait(epoll_fd, events, max_events, wait_ms > 60000 ? 60000 : (int)wait_ms);
    }
    return count < 0 ? 0 : count;
}

void lt_timers_run(struct lt_timers *timers, uint64_t now_us)
{
    /* At most as many as there were: a timer that re-arms itself for now cannot starve the I/O. */
    for (size_t budget = timers->count; budget != 0 && timers->count != 0; budget--) {
        struct lt_timer *timer = timers->heap[0];
        if (timer->due_us > now_us) {
            break;
        }
        lt_timers_disarm(timers, timer);
        timer->fire(timer, now_us);
    }
}

void lt_timers_finish(struct lt_timers *timers)
{
    free(timers->heap);
    *timers = (struct lt_timers){0};
}
