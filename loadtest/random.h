/**
 * A small seeded generator (splitmix64), so that a run can be repeated exactly.
 *
 * Thread: one at a time. Not for secrets.
 */
#pragma once

#include <stdint.h>

struct lt_random {
    uint64_t state; /* any value is a good seed */
};

static inline uint64_t lt_random_next(struct lt_random *random)
{
    random->state += 0x9e3779b97f4a7c15u;
    uint64_t z = random->state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/** A number in 0 .. limit-1; limit > 0. The bias of the modulo is of no matter here. */
static inline uint64_t lt_random_below(struct lt_random *random, uint64_t limit)
{
    return lt_random_next(random) % limit;
}

/** A number in (0, 1], so that its logarithm exists. */
static inline double lt_random_unit(struct lt_random *random)
{
    return ((double)(lt_random_next(random) >> 11) + 1.0) * 0x1.0p-53;
}
