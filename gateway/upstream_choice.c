/*
 * Who is asked, in two passes: which rank is the best one that is there, then whom of it the dice
 * say. Thread: any (pure functions).
 */
#include "upstream_choice.h"

#include <string.h>

#include "sluice/hash.h"

static bool is_left(const struct gw_candidate *candidate);
static int compare_ranks(const struct gw_candidate *a, const struct gw_candidate *b);

bool gw_upstream_canary_takes(const char *upstream_name, unsigned percent, const char *user,
                              size_t user_len)
{
    uint64_t seed = sl_hash_mix(sl_hash_add(SL_HASH_START, upstream_name, strlen(upstream_name)));
    uint64_t hash = sl_hash_mix(sl_hash_add(SL_HASH_START ^ seed, user, user_len));

    return ((hash >> 32) * 100) >> 32 < percent;
}

size_t gw_upstream_choose(const struct gw_candidate *candidates, size_t count, uint32_t random)
{
    const struct gw_candidate *best = NULL;
    uint64_t total = 0;

    for (size_t i = 0; i < count; i++) {
        if (!is_left(&candidates[i])) {
            continue;
        }
        int order = best == NULL ? -1 : compare_ranks(&candidates[i], best);
        if (order < 0) {
            best = &candidates[i];
            total = 0;
        }
        total += order <= 0 ? candidates[i].weight : 0;
    }
    uint64_t point = (random * total) >> 32; /* below the total */
    for (size_t i = 0; best != NULL && i < count; i++) {
        if (!is_left(&candidates[i]) || compare_ranks(&candidates[i], best) != 0) {
            continue;
        }
        if (point < candidates[i].weight) {
            return i;
        }
        point -= candidates[i].weight;
    }
    return SIZE_MAX;
}

static bool is_left(const struct gw_candidate *candidate)
{
    return !candidate->excluded && candidate->canary != GW_CANARY_PASSES;
}

/* Of two that are left: negative when `a` is asked before `b`, 0 when weight decides. */
static int compare_ranks(const struct gw_candidate *a, const struct gw_candidate *b)
{
    if (a->resting != b->resting) {
        return a->resting ? 1 : -1;
    }
    if (a->canary != b->canary) {
        return a->canary == GW_CANARY_TAKES ? -1 : 1;
    }
    return (a->priority > b->priority) - (a->priority < b->priority);
}
