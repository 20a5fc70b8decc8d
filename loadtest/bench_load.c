/*
 * The load: who starts a turn when, and what of it is counted.
 *
 *   WARMUP (closed loop, uncounted) -> MEASURE (closed or open loop) -> DRAIN -> over
 *
 * Closed loop: every user starts its next turn when the last one ends. Open loop: turns arrive at
 * random times of the given rate; an arrival that finds no idle user waits in a queue, and its
 * times are counted from when it should have started, so a slow server cannot hide by slowing the
 * load down (no coordinated omission).
 * Failure: failed turns are counted by kind and followed by a short pause of that user.
 * Thread: main. Ownership: see bench_load.h.
 */
#include "bench_load.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bench_user.h"
#include "clock.h"
#include "random.h"

enum { EVENTS_MAX = 512, PAUSE_AFTER_FAILURE_US = 10 * 1000 };

enum load_phase {
    WARMUP,
    MEASURE,
    DRAIN, /* nothing new starts */
};

struct load {
    const struct bench_options *options;
    struct bench_results *results;
    struct bench_crew crew;
    struct bench_user *users;
    struct bench_user *idle; /* open loop */
    enum load_phase phase;
    unsigned busy_users;
    unsigned cold_users; /* still warming up */
    uint64_t started;    /* counted turns so far */
    uint64_t begin_us, last_end_us;
    struct lt_random random;
    struct lt_timer arrival; /* open loop: the next one */
    struct lt_timer end;     /* of the measured time */
    struct lt_timer resume;  /* closed loop: users that paused after a failure */
    uint64_t *waiting;       /* open loop: scheduled times without an idle user, a ring */
    size_t waiting_first, waiting_count, waiting_capacity;
};

static void begin_measurement(struct load *load, uint64_t now_us);
static void on_arrival(struct lt_timer *timer, uint64_t now_us);
static void on_end(struct lt_timer *timer, uint64_t now_us);
static void on_resume(struct lt_timer *timer, uint64_t now_us);
static void turn_over(struct bench_user *user, uint64_t now_us);

#define LOAD_OF(timer, member)                                                                     \
    ((struct load *)(void *)((char *)(timer)-offsetof(struct load, member)))

static bool is_open_loop(const struct load *load)
{
    return load->options->rate > 0;
}

static bool all_started(const struct load *load)
{
    return load->options->turns != 0 && load->started >= load->options->turns;
}

/* --- starting turns --- */

static void start_turn(struct load *load, struct bench_user *user, uint64_t scheduled_us,
                       uint64_t now_us)
{
    struct lt_histogram *gaps = NULL;
    user->counted = load->phase != WARMUP; /* in DRAIN: it arrived before the end */
    if (user->counted) {
        gaps = &load->results->metrics[BENCH_GAP];
        load->started++;
        if (all_started(load) && !is_open_loop(load)) {
            load->phase = DRAIN;
        }
    }
    load->busy_users++;
    bench_user_start(user, scheduled_us, gaps, now_us);
}

static void park(struct load *load, struct bench_user *user)
{
    user->next_idle = load->idle;
    load->idle = user;
}

static struct bench_user *unpark(struct load *load)
{
    struct bench_user *user = load->idle;
    if (user != NULL) {
        load->idle = user->next_idle;
    }
    return user;
}

static void begin_measurement(struct load *load, uint64_t now_us)
{
    const struct bench_options *options = load->options;
    load->phase = MEASURE;
    load->begin_us = load->last_end_us = now_us;
    load->idle = NULL;
    if (options->seconds > 0) {
        lt_timers_arm(&load->crew.timers, &load->end, now_us + (uint64_t)(options->seconds * 1e6));
    }
    for (unsigned i = 0; i < options->concurrency; i++) {
        if (is_open_loop(load)) {
            park(load, &load->users[i]);
        } else if (load->phase == MEASURE) {
            start_turn(load, &load->users[i], now_us, now_us);
        }
    }
    if (is_open_loop(load)) {
        lt_timers_arm(&load->crew.timers, &load->arrival, now_us);
    }
}

/* --- the open loop --- */

static void queue_arrival(struct load *load, uint64_t scheduled_us)
{
    if (load->waiting_count == load->waiting_capacity) {
        size_t capacity = load->waiting_capacity != 0 ? load->waiting_capacity * 2 : 1024;
        uint64_t *waiting = calloc(capacity, sizeof(uint64_t));
        if (waiting == NULL) {
            fputs("out of memory\n", stderr);
            abort();
        }
        for (size_t i = 0; i < load->waiting_count; i++) {
            waiting[i] = load->waiting[(load->waiting_first + i) % load->waiting_capacity];
        }
        free(load->waiting);
        load->waiting = waiting;
        load->waiting_first = 0;
        load->waiting_capacity = capacity;
    }
    size_t last = (load->waiting_first + load->waiting_count++) % load->waiting_capacity;
    load->waiting[last] = scheduled_us;
}

static void start_waiting(struct load *load, uint64_t now_us)
{
    while (load->waiting_count != 0 && load->idle != NULL) {
        uint64_t scheduled_us = load->waiting[load->waiting_first];
        load->waiting_first = (load->waiting_first + 1) % load->waiting_capacity;
        load->waiting_count--;
        if ((double)(now_us - scheduled_us) > load->options->timeout_s * 1e6) {
            /* Its user would have given up by now; and an overloaded run comes to an end. */
            load->started++;
            load->results->turns++;
            load->results->failures[BENCH_TIMEOUT]++;
            load->last_end_us = now_us;
        } else {
            start_turn(load, unpark(load), scheduled_us, now_us);
        }
    }
}

static void on_arrival(struct lt_timer *timer, uint64_t now_us)
{
    struct load *load = LOAD_OF(timer, arrival);
    uint64_t due_us = timer->due_us;
    while (load->phase == MEASURE && due_us <= now_us) {
        if (load->options->turns != 0 &&
            load->started + load->waiting_count >= load->options->turns) {
            return;
        }
        queue_arrival(load, due_us);
        double gap_s = -log(lt_random_unit(&load->random)) / load->options->rate;
        due_us += (uint64_t)(gap_s * 1e6 + 0.5);
    }
    start_waiting(load, now_us);
    if (load->phase == MEASURE) {
        lt_timers_arm(&load->crew.timers, timer, due_us);
    }
}

/* --- the end of turns, and of the run --- */

static void record(struct load *load, const struct bench_user *user, uint64_t now_us)
{
    struct bench_results *results = load->results;
    const struct bench_marks *marks = &user->stream.marks;
    enum bench_failure failure = user->stream.failure;
    load->last_end_us = now_us;
    results->turns++;
    results->failures[failure]++;
    results->aborted += user->left;
    results->tokens += marks->tokens;
    if (failure == BENCH_STATUS && user->stream.status > 0 && user->stream.status < 600) {
        results->statuses[user->stream.status]++;
    }
    if (failure != BENCH_OK) {
        return;
    }
    const struct {
        enum bench_metric metric;
        uint64_t at_us;
    } rows[] = {
        {BENCH_HEAD, marks->head_us},
        {BENCH_SESSION_ID, marks->session_us},
        {BENCH_ACCEPTED, marks->accepted_us},
        {BENCH_FIRST_TOKEN, marks->first_token_us},
        {BENCH_TOTAL, marks->end_us},
        {BENCH_LATE, is_open_loop(load) ? user->started_us : 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].at_us != 0) {
            lt_histogram_record(&results->metrics[rows[i].metric],
                                rows[i].at_us - user->scheduled_us);
        }
    }
}

static void warm_on(struct load *load, struct bench_user *user, uint64_t now_us)
{
    load->results->warmup_failures += user->stream.failure != BENCH_OK;
    if (++user->warm_turns < load->options->warmup) {
        start_turn(load, user, now_us, now_us);
    } else if (--load->cold_users == 0) {
        begin_measurement(load, now_us);
    }
}

static void turn_over(struct bench_user *user, uint64_t now_us)
{
    struct load *load = user->crew->owner;
    load->busy_users--;
    if (!user->counted) {
        warm_on(load, user, now_us);
        return;
    }
    record(load, user, now_us);
    if (is_open_loop(load)) {
        park(load, user);
        start_waiting(load, now_us);
    } else if (user->stream.failure != BENCH_OK) {
        park(load, user); /* a server that refuses at once must not make us spin */
        if (load->resume.place == 0) {
            lt_timers_arm(&load->crew.timers, &load->resume, now_us + PAUSE_AFTER_FAILURE_US);
        }
    } else if (load->phase == MEASURE) {
        start_turn(load, user, now_us, now_us);
    }
}

static void on_resume(struct lt_timer *timer, uint64_t now_us)
{
    struct load *load = LOAD_OF(timer, resume);
    while (load->idle != NULL && load->phase == MEASURE) {
        start_turn(load, unpark(load), now_us, now_us);
    }
}

static void on_end(struct lt_timer *timer, uint64_t now_us)
{
    (void)now_us;
    LOAD_OF(timer, end)->phase = DRAIN;
}

static bool is_over(const struct load *load)
{
    if (load->busy_users != 0 || load->waiting_count != 0 || load->phase == WARMUP) {
        return false;
    }
    return load->phase == DRAIN || all_started(load);
}

static void loop(struct load *load)
{
    while (!is_over(load)) {
        struct epoll_event events[EVENTS_MAX];
        int count = lt_timers_wait(&load->crew.timers, load->crew.epoll_fd, events, EVENTS_MAX);
        for (int i = 0; i < count; i++) {
            bench_user_on_events(events[i].data.ptr, events[i].events);
        }
        lt_timers_run(&load->crew.timers, lt_clock_now_us());
    }
}

int bench_load_run(const struct bench_options *options, struct bench_results *results)
{
    struct load load = {
        .options = options,
        .results = results,
        .phase = WARMUP,
        .cold_users = options->concurrency,
        .random = {options->seed},
        .arrival = {.fire = on_arrival},
        .end = {.fire = on_end},
        .resume = {.fire = on_resume},
    };
    load.crew = (struct bench_crew){
        .options = options,
        .epoll_fd = epoll_create1(EPOLL_CLOEXEC),
        .turn_over = turn_over,
        .owner = &load,
    };
    load.users = calloc(options->concurrency, sizeof(*load.users));
    if (load.crew.epoll_fd < 0 || load.users == NULL) {
        perror("cannot start the load");
        return -1;
    }
    uint64_t now_us = lt_clock_now_us();
    for (unsigned i = 0; i < options->concurrency; i++) {
        bench_user_init(&load.users[i], &load.crew, i);
    }
    if (options->warmup == 0) {
        begin_measurement(&load, now_us);
    }
    for (unsigned i = 0; options->warmup != 0 && i < options->concurrency; i++) {
        start_turn(&load, &load.users[i], now_us, now_us);
    }
    loop(&load);
    results->seconds = (double)(load.last_end_us - load.begin_us) / 1e6;
    results->connections = load.crew.connections;
    results->reconnects = load.crew.reconnects;
    for (unsigned i = 0; i < options->concurrency; i++) {
        bench_user_finish(&load.users[i]);
    }
    lt_timers_finish(&load.crew.timers);
    free(load.waiting);
    free(load.users);
    close(load.crew.epoll_fd);
    return 0;
}
