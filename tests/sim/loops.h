/**
 * Several loops, each on a thread of its own, with the production turns, claims and relays between them.
 *
 * The store answers at once and well; the model says what its script says (link-time substitution, as in
 * world.h). Thread: the test's, except what is said to run on a loop; nothing there may use cmocka's
 * assertions, which jump, so it records what it sees and the test looks at it later.
 */
#pragma once

#include <stdatomic.h>

#include "config.h"
#include "relay.h"
#include "stats.h"
#include "turn_state.h"
#include "user_turns.h"

enum { LOOPS_MAX = 4 };

/* What every model call answers: so many deltas ("0 ", "1 ", …), some at each turn of the loop. */
struct loops_script {
    unsigned deltas, per_drain;
    bool is_held; /* then it stays silent until loops_go_on, and ends only after that */
};

struct loops {
    unsigned count;
    struct gw_config config;
    struct loops_script script;
    struct gw_turns *turns[LOOPS_MAX];
    struct gw_stats *stats[LOOPS_MAX];
};

extern struct loops loops;

/** Something to do on a loop. */
struct loops_job {
    void (*run)(struct loops_job *job);
    unsigned index; /* set by loops_post: of the loop that it runs on */
    /* private */
    struct sl_message message;
};

void loops_open(unsigned count);
/** Waits until nothing is under way anywhere, stops the threads and checks that nothing is left. */
void loops_close(void);

/** Has the job done on a loop; does not wait for it. From any thread. */
void loops_post(unsigned index, struct loops_job *job);
/** The same, and waits until it is done. */
void loops_run(unsigned index, struct loops_job *job);
/** Waits until `is_true`, asked again and again on that loop, says so; the test fails after a while. */
void loops_wait(unsigned index, bool (*is_true)(unsigned index, void *context), void *context);
/** Waits until no turn runs and nothing is away. */
void loops_wait_until_quiet(void);
/** Waits until the counter has reached `value`. */
void loops_wait_for(const atomic_uint *counter, unsigned value);

/** On a loop: starts a turn of this user with this id; `key` NULL: none. It may be freed at the next drain. */
struct gw_turn *loops_start_turn(unsigned index, const struct sl_uuid *id, const char *user,
                                 const char *key);
/** The same from the test's thread; its id. */
struct sl_uuid loops_begin_turn(unsigned index, const char *user);
/** Every held answer of this loop goes on. */
void loops_go_on(unsigned index);

struct gw_user loops_user(const char *name);
