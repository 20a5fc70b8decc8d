/** Runs a loop until a condition holds; fails the test after five seconds. For cmocka tests. */
#pragma once

#include <time.h>

#include "sluice/loop.h"

static inline double run_until_now(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

#define RUN_UNTIL(loop, condition)                                                                 \
    do {                                                                                           \
        double run_until_end = run_until_now() + 5;                                                \
        while (!(condition)) {                                                                     \
            if (run_until_now() > run_until_end) {                                                 \
                fail_msg("waited in vain for: %s", #condition);                                    \
            }                                                                                      \
            sl_loop_run_once(loop, 5);                                                             \
        }                                                                                          \
    } while (0)
