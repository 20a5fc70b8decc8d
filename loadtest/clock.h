/**
 * The one clock of both programs: monotonic microseconds.
 *
 * Only the event loops read it; parsers and players are given `now_us`, so tests need no clock.
 */
#pragma once

#include <stdint.h>
#include <time.h>

#define LT_NEVER_US UINT64_MAX

static inline uint64_t lt_clock_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}
