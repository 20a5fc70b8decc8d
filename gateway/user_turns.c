/*
 * Running turns by user: a table of atomic words, 48 bits of the user's hash and a count of 16.
 *
 * Happy path: the hash chooses a window of 16 words. Entering adds up the user's counts in it, and
 * then raises one of these by compare-and-swap, or claims a word whose count is 0. A swap that
 * fails means that somebody changed the word since: the window is looked at again. Leaving takes
 * one off; at 0 the word is anybody's.
 *
 * Why the promise of the header holds: a word keeps its user as long as its count is not 0, so a
 * turn that runs during the whole of a look is seen by it. Say that max + k turns run. Each of the
 * last k + 1 to get in saw fewer than max, so it had begun to look before the max-th got in: at
 * that moment all of them were inside, which takes k + 1 threads. (Of two that saw the same in the
 * same word, one fails and looks again, so it also takes different words.) This needs one order of
 * all loads and swaps, hence the default (sequentially consistent) ones.
 *
 * Failure modes: a full window, see the header. Thread: any. Ownership: see the header.
 */
#include "user_turns.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/random.h>

#include "sluice/hash.h"

enum { WINDOW = 16, WORDS_PER_TURN = 4, COUNT_MAX = UINT16_MAX };

struct gw_user_turns {
    size_t word_count; /* a power of two */
    uint64_t seed;
    _Atomic uint64_t words[];
};

static bool look(const _Atomic uint64_t *window, uint64_t hash, unsigned max, size_t *ret_at,
                 uint64_t *ret_seen);

int gw_user_turns_create(size_t turns_max, struct gw_user_turns **ret_turns)
{
    size_t word_count = WINDOW;

    if (turns_max > GW_USER_TURNS_MAX) {
        return SL_E_LIMIT;
    }
    while (word_count < WORDS_PER_TURN * turns_max) {
        word_count *= 2;
    }
    struct gw_user_turns *turns = calloc(1, sizeof(*turns) + word_count * sizeof(turns->words[0]));
    if (turns == NULL) {
        return SL_E_NO_MEMORY;
    }
    turns->word_count = word_count;
    (void)!getrandom(&turns->seed, sizeof(turns->seed), 0); /* without it: merely guessable */
    *ret_turns = turns;
    return 0;
}

bool gw_user_turns_enter(struct gw_user_turns *turns, const char *user, size_t user_len,
                         unsigned max, uint32_t *ret_ticket)
{
    uint64_t hash = sl_hash_mix(sl_hash_add(SL_HASH_START ^ turns->seed, user, user_len));
    size_t first = hash & (turns->word_count - 1) & ~(size_t)(WINDOW - 1);
    uint64_t seen, next;
    size_t at;

    max = max < COUNT_MAX ? max : COUNT_MAX;
    do {
        if (!look(&turns->words[first], hash, max, &at, &seen)) {
            return false;
        }
        if (at == WINDOW) {
            *ret_ticket = GW_USER_TURNS_UNCOUNTED;
            return true;
        }
        next = (hash & ~(uint64_t)COUNT_MAX) | ((seen & COUNT_MAX) + 1);
    } while (!atomic_compare_exchange_strong(&turns->words[first + at], &seen, next));
    *ret_ticket = (uint32_t)(first + at);
    return true;
}

/*
 * False: the user has `max` turns already. Otherwise which word to change and what was seen in it:
 * the user's own (also one that it has left) rather than the first free one; WINDOW: there is
 * neither.
 */
static bool look(const _Atomic uint64_t *window, uint64_t hash, unsigned max, size_t *ret_at,
                 uint64_t *ret_seen)
{
    uint64_t running = 0;

    *ret_at = WINDOW;
    *ret_seen = 0;
    for (size_t i = 0; i < WINDOW; i++) {
        uint64_t word = atomic_load(&window[i]), count = word & COUNT_MAX;
        bool is_own = (word ^ hash) <= COUNT_MAX;
        running += is_own ? count : 0;
        if (is_own || (count == 0 && *ret_at == WINDOW)) {
            *ret_at = i;
            *ret_seen = word;
        }
    }
    return running < max;
}

void gw_user_turns_leave(struct gw_user_turns *turns, uint32_t ticket)
{
    if (ticket != GW_USER_TURNS_UNCOUNTED) {
        (void)atomic_fetch_sub(&turns->words[ticket], 1);
    }
}

void gw_user_turns_destroy(struct gw_user_turns *turns)
{
    free(turns);
}
