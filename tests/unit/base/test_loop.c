/* The event loop: timers on a test clock, tasks, messages from threads, and descriptors that come and go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sluice/loop.h"
#include "sluice/op.h"

enum {
    WAIT_MS = 5000 /* for what must happen; a failing test waits this long, a passing one never */
};

static struct sl_loop *loop;
static uint64_t clock_us;
static char trace[256]; /* one letter per callback, in order */

static void note(char letter)
{
    size_t len = strlen(trace);

    assert_true(len + 1 < sizeof(trace));
    trace[len] = letter;
    trace[len + 1] = '\0';
}

static int set_up(void **state)
{
    (void)state;
    trace[0] = '\0';
    clock_us = 1000000;
    return sl_loop_create(&loop);
}

static int set_up_with_clock(void **state)
{
    int err = set_up(state);

    if (err == 0) {
        sl_loop_set_test_clock(loop, &clock_us);
    }
    return err;
}

static int tear_down(void **state)
{
    (void)state;
    sl_loop_destroy(loop);
    return 0;
}

/* ---- timers ---- */

struct test_timer {
    struct sl_timer timer;
    char letter;
    struct test_timer *arms, *disarms;
    uint64_t arm_after_us;
};

static void expired(struct sl_timer *timer)
{
    struct test_timer *self = SL_CONTAINER_OF(timer, struct test_timer, timer);

    note(self->letter);
    if (self->arms != NULL) {
        sl_loop_arm(loop, &self->arms->timer, self->arm_after_us);
    }
    if (self->disarms != NULL) {
        sl_loop_disarm(loop, &self->disarms->timer);
    }
}

#define TIMER(l)                                                                                   \
    {                                                                                              \
        .timer = {.expired = expired}, .letter = (l)                                               \
    }

static void test_timers_run_in_order(void **state)
{
    struct test_timer a = TIMER('a'), b = TIMER('b'), c = TIMER('c');

    (void)state;
    sl_loop_arm(loop, &b.timer, 2000);
    sl_loop_arm(loop, &c.timer, 3000);
    sl_loop_arm(loop, &a.timer, 1000);
    assert_int_equal(sl_loop_run_timers(loop), 0);
    clock_us += 999;
    assert_int_equal(sl_loop_run_timers(loop), 0);
    clock_us += 1;
    assert_int_equal(sl_loop_run_timers(loop), 1);
    assert_string_equal(trace, "a");
    clock_us += 10000;
    assert_int_equal(sl_loop_run_timers(loop), 2);
    assert_string_equal(trace, "abc");
    assert_int_equal(sl_loop_run_timers(loop), 0);
}

static void test_timers_are_moved_and_taken_back(void **state)
{
    struct test_timer a = TIMER('a'), b = TIMER('b'), c = TIMER('c');

    (void)state;
    sl_loop_disarm(loop, &a.timer);
    sl_loop_arm(loop, &a.timer, 1000);
    sl_loop_arm(loop, &b.timer, 2000);
    sl_loop_arm(loop, &c.timer, 3000);
    sl_loop_arm(loop, &a.timer, 4000);
    sl_loop_arm(loop, &c.timer, 500);
    sl_loop_disarm(loop, &b.timer);
    sl_loop_disarm(loop, &b.timer);
    clock_us += 5000;
    assert_int_equal(sl_loop_run_timers(loop), 2);
    assert_string_equal(trace, "ca");
}

static void test_timers_change_timers(void **state)
{
    struct test_timer a = TIMER('a'), b = TIMER('b'), c = TIMER('c');

    (void)state;
    a.disarms = &b; /* due at the same time, so already collected if anything were */
    a.arms = &c;
    a.arm_after_us = 100;
    c.arms = &c;
    c.arm_after_us = 100;
    sl_loop_arm(loop, &a.timer, 1000);
    sl_loop_arm(loop, &b.timer, 1000);
    clock_us += 1000;
    assert_int_equal(sl_loop_run_timers(loop), 1);
    assert_string_equal(trace, "a");
    for (int i = 0; i < 3; i++) {
        clock_us += 100;
        assert_int_equal(sl_loop_run_timers(loop), 1);
    }
    assert_string_equal(trace, "accc");
    sl_loop_disarm(loop, &c.timer);
}

static void test_many_timers(void **state)
{
    enum { N = 2000 };
    static struct test_timer timers[N];
    uint32_t seed = 99;
    size_t armed = N;

    (void)state;
    memset(timers, 0, sizeof(timers));
    for (size_t i = 0; i < N; i++) {
        seed = seed * 1664525 + 1013904223;
        timers[i].timer.expired = expired;
        sl_loop_arm(loop, &timers[i].timer, seed % 100000);
    }
    for (size_t i = 0; i < N; i += 3) {
        sl_loop_disarm(loop, &timers[i].timer);
        armed--;
    }
    for (size_t i = 1; i < N; i += 3) {
        seed = seed * 1664525 + 1013904223;
        sl_loop_arm(loop, &timers[i].timer, seed % 100000);
    }
    size_t ran = 0;
    while (ran < armed) {
        trace[0] = '\0';
        uint64_t before_us = clock_us;
        clock_us += 50;
        for (size_t i = 0; i < N; i++) {
            /* nothing that was due has been left */
            assert_true(timers[i].timer.heap_index == 0 || timers[i].timer.due_us > before_us);
        }
        for (size_t i = 0; i < N; i++) {
            timers[i].letter = 'x';
        }
        ran += sl_loop_run_timers(loop);
        assert_true(clock_us < 1000000 + 200000);
    }
    assert_int_equal(ran, armed);
    assert_int_equal(sl_loop_wait_ms(loop, 77), 77);
}

static void test_waiting_time(void **state)
{
    struct test_timer a = TIMER('a');

    (void)state;
    assert_int_equal(sl_loop_wait_ms(loop, 50), 50);
    sl_loop_arm(loop, &a.timer, 10001);
    assert_int_equal(sl_loop_wait_ms(loop, 50), 11); /* up: not to wake before it is due */
    assert_int_equal(sl_loop_wait_ms(loop, 5), 5);
    clock_us += 10001;
    assert_int_equal(sl_loop_wait_ms(loop, 50), 0);
    clock_us += 10001;
    assert_int_equal(sl_loop_wait_ms(loop, 50), 0);
    sl_loop_disarm(loop, &a.timer);
    sl_loop_arm(loop, &a.timer, UINT64_C(1) << 60);
    assert_int_equal(sl_loop_wait_ms(loop, 50), 50);
    sl_loop_disarm(loop, &a.timer);
}

/* ---- tasks ---- */

struct test_task {
    struct sl_task task;
    char letter;
    struct test_task *defers, *undefers;
};

static void run(struct sl_task *task)
{
    struct test_task *self = SL_CONTAINER_OF(task, struct test_task, task);

    note(self->letter);
    if (self->defers != NULL) {
        sl_loop_defer(loop, &self->defers->task);
    }
    if (self->undefers != NULL) {
        sl_loop_undefer(loop, &self->undefers->task);
    }
}

#define TASK(l)                                                                                    \
    {                                                                                              \
        .task = {.run = run}, .letter = (l)                                                        \
    }

static unsigned wakes;

static void count_wake(void *context)
{
    assert_ptr_equal(context, &wakes);
    wakes++;
}

static void test_drain_order(void **state)
{
    struct test_task a = TASK('a'), b = TASK('b'), c = TASK('c');

    (void)state;
    assert_false(sl_loop_has_tasks(loop));
    sl_loop_defer(loop, &c.task);
    sl_loop_defer(loop, &a.task);
    sl_loop_defer(loop, &b.task);
    sl_loop_defer(loop, &c.task); /* queued already: keeps its place */
    assert_true(sl_loop_has_tasks(loop));
    sl_loop_drain(loop);
    assert_string_equal(trace, "cab");
    assert_false(sl_loop_has_tasks(loop));
    sl_loop_drain(loop);
    assert_string_equal(trace, "cab");
}

static void test_tasks_taken_back(void **state)
{
    struct test_task tasks[4] = {TASK('a'), TASK('b'), TASK('c'), TASK('d')};

    (void)state;
    /* every one of them, then some new ones: the queue's end must stay right */
    for (unsigned out = 0; out < 16; out++) {
        char expected[8] = "";
        trace[0] = '\0';
        for (size_t i = 0; i < 4; i++) {
            sl_loop_defer(loop, &tasks[i].task);
        }
        for (size_t i = 0; i < 4; i++) {
            if ((out >> i & 1) != 0) {
                sl_loop_undefer(loop, &tasks[i].task);
                sl_loop_undefer(loop, &tasks[i].task);
            } else {
                strncat(expected, &tasks[i].letter, 1);
            }
        }
        for (size_t i = 0; i < 4; i++) {
            if ((out >> i & 1) != 0) {
                sl_loop_defer(loop, &tasks[i].task);
                strncat(expected, &tasks[i].letter, 1);
            }
        }
        sl_loop_drain(loop);
        assert_string_equal(trace, expected);
        assert_false(sl_loop_has_tasks(loop));
    }
}

static void test_tasks_queued_by_tasks_wait(void **state)
{
    struct test_task a = TASK('a'), b = TASK('b'), c = TASK('c');

    (void)state;
    wakes = 0;
    sl_loop_on_wake(loop, count_wake, &wakes);
    a.defers = &a; /* forever: must not hold the loop */
    b.defers = &c;
    sl_loop_defer(loop, &a.task);
    assert_int_equal(wakes, 1);
    sl_loop_defer(loop, &b.task);
    assert_int_equal(wakes, 1);
    sl_loop_drain(loop);
    assert_string_equal(trace, "ab");
    assert_int_equal(wakes, 2); /* something is left: the outer loop must come back */
    sl_loop_drain(loop);
    assert_string_equal(trace, "abac");
    assert_int_equal(wakes, 3);
    a.defers = NULL;
    sl_loop_drain(loop);
    assert_string_equal(trace, "abaca");
    assert_int_equal(wakes, 3);
    assert_false(sl_loop_has_tasks(loop));
}

static void test_tasks_take_back_tasks(void **state)
{
    struct test_task a = TASK('a'), b = TASK('b'), c = TASK('c'), d = TASK('d');

    (void)state;
    a.undefers = &b;
    c.undefers = &d; /* the last one before the drain's own mark */
    sl_loop_defer(loop, &a.task);
    sl_loop_defer(loop, &b.task);
    sl_loop_defer(loop, &c.task);
    sl_loop_defer(loop, &d.task);
    sl_loop_drain(loop);
    assert_string_equal(trace, "ac");
    sl_loop_defer(loop, &d.task);
    sl_loop_drain(loop);
    assert_string_equal(trace, "acd");
    /* queued behind the mark, then taken back by the next one */
    a.undefers = NULL;
    a.defers = &b;
    c.undefers = &b;
    sl_loop_defer(loop, &a.task);
    sl_loop_defer(loop, &c.task);
    sl_loop_drain(loop);
    assert_string_equal(trace, "acdac");
    assert_false(sl_loop_has_tasks(loop));
    sl_loop_defer(loop, &d.task);
    sl_loop_drain(loop);
    assert_string_equal(trace, "acdacd");
}

/* ---- descriptors ---- */

struct test_watch {
    struct sl_watch watch;
    char letter;
    unsigned events;
    bool unwatches_itself;
    struct test_watch *unwatches;
    struct test_task *defers;
};

static void ready(struct sl_watch *watch, unsigned events)
{
    struct test_watch *self = SL_CONTAINER_OF(watch, struct test_watch, watch);

    note(self->letter);
    self->events = events;
    if (self->unwatches_itself) {
        sl_loop_unwatch(loop, &self->watch);
    }
    if (self->unwatches != NULL) {
        sl_loop_unwatch(loop, &self->unwatches->watch);
    }
    if (self->defers != NULL) {
        sl_loop_defer(loop, &self->defers->task);
    }
}

#define WATCH(l)                                                                                   \
    {                                                                                              \
        .watch = {.ready = ready}, .letter = (l)                                                   \
    }

static void make_pair(int pair[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
}

static void close_pair(int pair[2])
{
    (void)close(pair[0]);
    (void)close(pair[1]);
}

static void test_readiness(void **state)
{
    struct test_watch a = WATCH('a');
    int pair[2];

    (void)state;
    make_pair(pair);
    assert_int_equal(sl_loop_watch(loop, &a.watch, pair[0], SL_READABLE), 0);
    sl_loop_dispatch(loop);
    assert_string_equal(trace, "");
    assert_int_equal(write(pair[1], "x", 1), 1);
    sl_loop_dispatch(loop);
    assert_int_equal(a.events, SL_READABLE);
    sl_loop_dispatch(loop);
    assert_string_equal(trace, "aa"); /* level-triggered */
    assert_int_equal(sl_loop_watch(loop, &a.watch, pair[0], SL_READABLE | SL_WRITABLE), 0);
    sl_loop_dispatch(loop);
    assert_int_equal(a.events, SL_READABLE | SL_WRITABLE);
    assert_int_equal(sl_loop_watch(loop, &a.watch, pair[0], SL_WRITABLE), 0);
    sl_loop_dispatch(loop);
    assert_int_equal(a.events, SL_WRITABLE);
    /* only the hang-up is watched for */
    assert_int_equal(sl_loop_watch(loop, &a.watch, pair[0], 0), 0);
    trace[0] = '\0';
    sl_loop_dispatch(loop);
    assert_string_equal(trace, "");
    (void)shutdown(pair[1], SHUT_WR);
    sl_loop_dispatch(loop);
    assert_int_equal(a.events, SL_HANGUP);
    sl_loop_unwatch(loop, &a.watch);
    sl_loop_unwatch(loop, &a.watch);
    trace[0] = '\0';
    sl_loop_dispatch(loop);
    assert_string_equal(trace, "");
    close_pair(pair);
    assert_int_equal(sl_loop_watch(loop, &a.watch, -1, SL_READABLE), SL_E_INTERNAL);
}

static void test_watch_again_on_a_new_descriptor(void **state)
{
    struct test_watch a = WATCH('a');
    int first[2], second[2];

    (void)state;
    make_pair(first);
    make_pair(second);
    assert_int_equal(sl_loop_watch(loop, &a.watch, first[0], SL_READABLE), 0);
    sl_loop_unwatch(loop, &a.watch);
    close_pair(first);
    assert_int_equal(sl_loop_watch(loop, &a.watch, second[0], SL_READABLE), 0);
    assert_int_equal(write(second[1], "x", 1), 1);
    sl_loop_dispatch(loop);
    assert_string_equal(trace, "a");
    sl_loop_unwatch(loop, &a.watch);
    close_pair(second);
}

/* The number of a closed descriptor belongs to somebody else by the time its watch is forgotten. */
static void test_forget_touches_no_other_descriptor(void **state)
{
    struct test_watch a = WATCH('a'), b = WATCH('b');
    int first[2], second[2];

    (void)state;
    make_pair(first);
    assert_int_equal(sl_loop_watch(loop, &a.watch, first[0], SL_READABLE), 0);
    close_pair(first);
    make_pair(second);
    assert_int_equal(second[0], first[0]); /* POSIX: the lowest number that is free */
    assert_int_equal(sl_loop_watch(loop, &b.watch, second[0], SL_READABLE), 0);
    sl_loop_forget(loop, &a.watch);
    sl_loop_forget(loop, &a.watch);
    assert_int_equal(write(second[1], "x", 1), 1);
    sl_loop_dispatch(loop);
    assert_string_equal(trace, "b");
    sl_loop_unwatch(loop, &b.watch);
    close_pair(second);
}

/* Whichever of two ready watches is called first ends the other, which then must not be called. */
static void test_unwatch_during_dispatch(void **state)
{
    struct test_watch *a = calloc(1, sizeof(*a)), *b = calloc(1, sizeof(*b));
    int first[2], second[2];

    (void)state;
    assert_non_null(a);
    assert_non_null(b);
    *a = (struct test_watch)WATCH('a');
    *b = (struct test_watch)WATCH('b');
    a->unwatches = b;
    b->unwatches = a;
    make_pair(first);
    make_pair(second);
    assert_int_equal(sl_loop_watch(loop, &a->watch, first[0], SL_READABLE), 0);
    assert_int_equal(sl_loop_watch(loop, &b->watch, second[0], SL_READABLE), 0);
    assert_int_equal(write(first[1], "x", 1), 1);
    assert_int_equal(write(second[1], "x", 1), 1);
    sl_loop_dispatch(loop);
    assert_int_equal(strlen(trace), 1);
    struct test_watch *left = trace[0] == 'a' ? a : b;
    free(trace[0] == 'a' ? b : a); /* the address sanitizer would see a late call */
    left->unwatches = NULL;
    left->unwatches_itself = true;
    sl_loop_dispatch(loop);
    sl_loop_dispatch(loop);
    assert_int_equal(strlen(trace), 2);
    free(left);
    close_pair(first);
    close_pair(second);
}

static void test_one_turn_goes_descriptors_timers_tasks(void **state)
{
    struct test_watch w = WATCH('w');
    struct test_timer t = TIMER('t');
    struct test_task early = TASK('e'), late = TASK('l');
    int pair[2];

    (void)state;
    make_pair(pair);
    w.defers = &late;
    sl_loop_defer(loop, &early.task);
    sl_loop_arm(loop, &t.timer, 0);
    assert_int_equal(sl_loop_watch(loop, &w.watch, pair[0], SL_READABLE), 0);
    assert_int_equal(write(pair[1], "x", 1), 1);
    sl_loop_run_once(loop, WAIT_MS);
    assert_string_equal(trace, "wtel");
    sl_loop_unwatch(loop, &w.watch);
    close_pair(pair);
}

/* ---- messages ---- */

enum { SENDERS = 4, PER_SENDER = 5000 };

struct test_message {
    struct sl_message message;
    unsigned sender, number;
};

static unsigned next_number[SENDERS], received;

static void receive(struct sl_message *message)
{
    struct test_message *self = SL_CONTAINER_OF(message, struct test_message, message);

    assert_int_equal(self->number, next_number[self->sender]);
    next_number[self->sender]++;
    received++;
    free(self); /* the receiver owns it now */
}

static void *send_many(void *context)
{
    for (unsigned i = 0; i < PER_SENDER; i++) {
        struct test_message *message = calloc(1, sizeof(*message));
        if (message == NULL) {
            abort();
        }
        message->message.receive = receive;
        message->sender = *(unsigned *)context;
        message->number = i;
        sl_loop_post(loop, &message->message);
    }
    return NULL;
}

static void test_messages_from_threads(void **state)
{
    pthread_t threads[SENDERS];
    unsigned senders[SENDERS];

    (void)state;
    received = 0;
    memset(next_number, 0, sizeof(next_number));
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, send_many, &senders[i]), 0);
    }
    /* a lost wake-up would end in a turn that waits in vain */
    while (received < SENDERS * PER_SENDER) {
        unsigned before = received;
        sl_loop_run_once(loop, WAIT_MS);
        assert_true(received > before);
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(next_number[i], PER_SENDER);
    }
}

static struct sl_message again;

static void note_and_post(struct sl_message *message)
{
    note('m');
    if (message != &again) {
        sl_loop_post(loop, &again);
    }
}

static void test_posting_from_the_loop(void **state)
{
    struct sl_message first = {.receive = note_and_post};

    (void)state;
    again = (struct sl_message){.receive = note_and_post};
    sl_loop_post(loop, &first);
    sl_loop_run_once(loop, WAIT_MS);
    assert_string_equal(trace, "m");
    sl_loop_run_once(loop, WAIT_MS);
    assert_string_equal(trace, "mm");
}

/* Nested in an outer loop: the descriptor tells when there is something to dispatch. */
static void test_nested(void **state)
{
    struct pollfd outer = {.fd = sl_loop_epoll_fd(loop), .events = POLLIN};
    struct sl_message message = {.receive = note_and_post};

    (void)state;
    assert_int_equal(poll(&outer, 1, 0), 0);
    again = (struct sl_message){.receive = note_and_post};
    sl_loop_post(loop, &message);
    assert_int_equal(poll(&outer, 1, WAIT_MS), 1);
    sl_loop_dispatch(loop);
    assert_int_equal(poll(&outer, 1, WAIT_MS), 1);
    sl_loop_dispatch(loop);
    assert_string_equal(trace, "mm");
    assert_int_equal(poll(&outer, 1, 0), 0);
}

static void test_real_clock(void **state)
{
    struct test_timer a = TIMER('a');

    (void)state;
    uint64_t start_us = sl_loop_now_us(loop);
    sl_loop_arm(loop, &a.timer, 2000);
    while (trace[0] == '\0') {
        sl_loop_run_once(loop, WAIT_MS);
        assert_true(sl_loop_now_us(loop) - start_us < (uint64_t)WAIT_MS * 1000);
    }
    assert_true(sl_loop_now_us(loop) - start_us >= 2000);
}

#define ON_TEST_CLOCK(test) cmocka_unit_test_setup_teardown(test, set_up_with_clock, tear_down)
#define ON_REAL_CLOCK(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_TEST_CLOCK(test_timers_run_in_order),
        ON_TEST_CLOCK(test_timers_are_moved_and_taken_back),
        ON_TEST_CLOCK(test_timers_change_timers),
        ON_TEST_CLOCK(test_many_timers),
        ON_TEST_CLOCK(test_waiting_time),
        ON_TEST_CLOCK(test_drain_order),
        ON_TEST_CLOCK(test_tasks_taken_back),
        ON_TEST_CLOCK(test_tasks_queued_by_tasks_wait),
        ON_TEST_CLOCK(test_tasks_take_back_tasks),
        ON_TEST_CLOCK(test_readiness),
        ON_TEST_CLOCK(test_watch_again_on_a_new_descriptor),
        ON_TEST_CLOCK(test_forget_touches_no_other_descriptor),
        ON_TEST_CLOCK(test_unwatch_during_dispatch),
        ON_TEST_CLOCK(test_one_turn_goes_descriptors_timers_tasks),
        ON_REAL_CLOCK(test_messages_from_threads),
        ON_REAL_CLOCK(test_posting_from_the_loop),
        ON_REAL_CLOCK(test_nested),
        ON_REAL_CLOCK(test_real_clock),
    };

    return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
