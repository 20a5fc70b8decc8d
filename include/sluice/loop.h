/**
 * One thread's event loop: watched file descriptors, timers, tasks, and messages from other threads.
 *
 * The loop owns one epoll descriptor. It can run alone (sl_loop_run_once: tests, tools) or be nested
 * in another loop, which polls sl_loop_epoll_fd() and calls sl_loop_dispatch(); the gateway nests it
 * in h2o's evloop, which must not own the descriptors of libcurl, hiredis and libpq because it closes
 * every descriptor that it wraps.
 *
 * Order inside one turn of the loop: descriptors, messages, due timers, then tasks (the "drain").
 * Library callbacks only queue tasks; policy runs from tasks.
 *
 * Thread: everything here belongs to the loop's thread, except sl_loop_post. Ownership: watches,
 * timers, tasks and messages are embedded in their owners; the loop never frees them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sluice/error.h"

struct sl_loop;

enum { SL_READABLE = 1, SL_WRITABLE = 2, SL_HANGUP = 4 /* EPOLLRDHUP, EPOLLHUP or EPOLLERR */ };

struct sl_watch {
    void (*ready)(struct sl_watch *watch, unsigned events); /* set by the owner */
    /* private */
    int fd;
    unsigned events; /* 0: not watched */
};

struct sl_timer {
    void (*expired)(struct sl_timer *timer); /* set by the owner */
    /* private */
    uint64_t due_us;
    size_t heap_index; /* 1-based; 0: not armed. Zeroed memory is a valid idle timer */
};

struct sl_task {
    void (*run)(struct sl_task *task); /* set by the owner */
    /* private */
    struct sl_task *next, **prev_next; /* prev_next == NULL: not queued */
};

struct sl_message {
    void (*receive)(struct sl_message *message); /* set by the sender; runs on the loop's thread */
    /* private */
    struct sl_message *next;
};

/** Makes a loop. 0 or SL_E_NO_MEMORY (no descriptors left count as that). */
SL_MUST_CHECK int sl_loop_create(struct sl_loop **ret_loop);

/** Frees the loop. Watches, timers and tasks must be gone; undelivered messages are forgotten. NULL is accepted. */
void sl_loop_destroy(struct sl_loop *loop);

/** Microseconds of the monotonic clock, read freshly (or from the test clock). */
uint64_t sl_loop_now_us(const struct sl_loop *loop);

/** Tests only: replaces the clock by a variable that the test moves. */
void sl_loop_set_test_clock(struct sl_loop *loop, const uint64_t *now_us);

/**
 * Watches `fd` for `events` (SL_READABLE, SL_WRITABLE; SL_HANGUP is always reported, and alone it
 * watches only for that). Calling it again changes the events; level-triggered. The caller calls
 * sl_loop_unwatch before the descriptor is closed. 0 or SL_E_INTERNAL (epoll refused it).
 */
SL_MUST_CHECK int sl_loop_watch(struct sl_loop *loop, struct sl_watch *watch, int fd,
                                unsigned events);

/** Ends a watch. Idempotent; `ready` is not called again, not even for events already collected. */
void sl_loop_unwatch(struct sl_loop *loop, struct sl_watch *watch);

/**
 * The same for a descriptor that its owner has closed already, which ended the watch in the kernel
 * (epoll(7), Q6): its number may be another thread's by now and is not touched.
 */
void sl_loop_forget(struct sl_loop *loop, struct sl_watch *watch);

/** Arms or re-arms a timer to expire `delay_us` microseconds from now. Costs no system call. */
void sl_loop_arm(struct sl_loop *loop, struct sl_timer *timer, uint64_t delay_us);

/** Disarms a timer. Idempotent. */
void sl_loop_disarm(struct sl_loop *loop, struct sl_timer *timer);

/** Queues a task for this turn's drain (or the next one's, when called from a task). Idempotent. */
void sl_loop_defer(struct sl_loop *loop, struct sl_task *task);

/** Takes a queued task back. Idempotent. */
void sl_loop_undefer(struct sl_loop *loop, struct sl_task *task);

/** From any thread: delivers a message to the loop's thread, in order per sender. Never fails. */
void sl_loop_post(struct sl_loop *loop, struct sl_message *message);

/* ---- for whoever drives the loop ---- */

/** The descriptor that becomes readable when there is something for sl_loop_dispatch. */
int sl_loop_epoll_fd(const struct sl_loop *loop);

/** Called when the first task is queued while none was: lets an outer loop schedule the drain. */
void sl_loop_on_wake(struct sl_loop *loop, void (*wake)(void *context), void *context);

/** Collects descriptor events and messages without waiting, and calls their owners. */
void sl_loop_dispatch(struct sl_loop *loop);

/** Runs the timers that are due. Returns how many ran. */
size_t sl_loop_run_timers(struct sl_loop *loop);

/** Runs the tasks that are queued now. Tasks queued meanwhile wait for the next call. */
void sl_loop_drain(struct sl_loop *loop);

/** True while tasks are queued. */
bool sl_loop_has_tasks(const struct sl_loop *loop);

/** Milliseconds until the next timer is due, rounded up; at most `max_ms`. */
int sl_loop_wait_ms(const struct sl_loop *loop, int max_ms);

/** Alone: waits up to `max_ms` for something, then runs one whole turn. */
void sl_loop_run_once(struct sl_loop *loop, int max_ms);
