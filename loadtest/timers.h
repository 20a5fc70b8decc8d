/**
 * A heap of one-shot timers, and the wait of an epoll loop that ends at the next one.
 *
 * Thread: one at a time. Ownership: a timer is embedded in its owner, who disarms it before freeing
 * the memory; the heap holds only pointers.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

struct lt_timer;
typedef void (*lt_timer_fn)(struct lt_timer *timer, uint64_t now_us);

struct lt_timer {
    lt_timer_fn fire; /* set by the owner before the first arm; may arm or disarm any timer */
    uint64_t due_us;
    size_t place; /* 1-based place in the heap, 0: not armed */
};

struct lt_timers {
    struct lt_timer **heap;
    size_t count;
    size_t capacity;
};

void lt_timers_finish(struct lt_timers *timers);

/** Arms or moves the timer. LT_NEVER_US disarms it. */
void lt_timers_arm(struct lt_timers *timers, struct lt_timer *timer, uint64_t due_us);
void lt_timers_disarm(struct lt_timers *timers, struct lt_timer *timer);

/** Fires, oldest first, all due at `now_us`. What is armed meanwhile waits for the next call. */
void lt_timers_run(struct lt_timers *timers, uint64_t now_us);

/**
 * epoll_wait that ends at the next timer, exact to the microsecond (epoll_wait(2) knows only
 * milliseconds). Returns the number of events, 0 also after a signal.
 */
int lt_timers_wait(const struct lt_timers *timers, int epoll_fd, struct epoll_event *events,
                   int max_events);
