/**
 * One virtual user: a kept connection that carries one turn at a time.
 *
 * Thread: the loop's. Ownership: the load owns the array of users; a user owns its socket.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bench_load.h"
#include "bench_stream.h"
#include "timers.h"

struct bench_user;

/** What users share, and whom they tell that a turn is over. */
struct bench_crew {
    const struct bench_options *options;
    struct lt_timers timers;
    int epoll_fd;
    uint64_t connections, reconnects;
    uint64_t turns_begun;
    /* Called once per turn, from an event or a timer; may start the next one. */
    void (*turn_over)(struct bench_user *user, uint64_t now_us);
    void *owner;
};

struct bench_user {
    struct bench_crew *crew;
    int fd;
    uint32_t interest;
    bool busy;
    bool fresh;           /* nothing was ever received on this connection */
    bool counted;         /* the turn belongs to the measurement; the load's own mark */
    bool left;            /* the turn was ended from here, as options->abort_after asked */
    uint64_t turn_number; /* of all users' turns */
    struct lt_timer timeout;
    struct lt_buffer request; /* the same bytes every turn */
    size_t request_sent;
    struct bench_stream stream;
    uint64_t scheduled_us; /* when the turn should have started */
    uint64_t started_us;   /* when it did */
    unsigned warm_turns;
    struct bench_user *next_idle;
};

void bench_user_init(struct bench_user *user, struct bench_crew *crew, unsigned number);
void bench_user_finish(struct bench_user *user);

/**
 * Starts a turn. turn_over comes later, never from inside this call. `gaps` as in
 * bench_stream_begin.
 */
void bench_user_start(struct bench_user *user, uint64_t scheduled_us, struct lt_histogram *gaps,
                      uint64_t now_us);

void bench_user_on_events(struct bench_user *user, uint32_t events);
