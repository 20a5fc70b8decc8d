/*
 * A circuit breaker in one atomic word.
 *
 * Happy path: a closed breaker admits by reading the word; a report counts into it. Every change
 * reads the word, works out the next one and swaps it in, and does it again when another thread was
 * faster. So no thread ever sees half a move, and of several that find the open time over, one
 * becomes the probe.
 *
 * The word, from its low end:
 *
 *   mode 2 | generation 10 | closed:  failures in a row 8 | window 12 | calls 16 | failed 16
 *                          | open:    until 52 (microseconds)
 *
 * The generation counts the closed periods; a call's ticket carries it. It comes round after 1,024
 * openings: a call that outlives so many may count once where it should not. The window's number
 * comes round after 11 hours. Beyond 65,535 calls in a window, the older ones count half.
 *
 * Half-open is a mode of its own only while the probe is out. No other memory depends on the word,
 * so relaxed order is enough. Thread: any. Ownership: see the header.
 */
#include "breaker.h"

#include <stddef.h>

enum { MODE_BITS = 2, GENERATION_BITS = 10, ROW_BITS = 8, WINDOW_BITS = 12, COUNT_BITS = 16 };
enum { HEAD_BITS = MODE_BITS + GENERATION_BITS, UNTIL_BITS = 64 - HEAD_BITS };
_Static_assert(HEAD_BITS + ROW_BITS + WINDOW_BITS + 2 * COUNT_BITS == 64, "one word");

#define MAX_OF(bits) ((UINT64_C(1) << (bits)) - 1)

enum mode { MODE_CLOSED, MODE_OPEN, MODE_PROBING };

struct word {
    uint64_t mode, generation;
    uint64_t row, window, calls, failed; /* closed */
    uint64_t until_us;                   /* open */
};

static bool count_call(struct word *word, const struct gw_breaker_limits *limits, uint64_t now_us,
                       bool failed);
static void enter_window(struct word *word, uint64_t now_us);
static bool end_probe(struct word *word, const struct gw_breaker_limits *limits, uint64_t now_us,
                      enum gw_breaker_outcome outcome);
static void open_breaker(struct word *word, const struct gw_breaker_limits *limits,
                         uint64_t now_us);
static struct word unpack(uint64_t bits);
static uint64_t pack(const struct word *word);
static uint64_t take_bits(uint64_t *bits, unsigned count);
static uint64_t load(const struct gw_breaker *breaker);
static bool swap(struct gw_breaker *breaker, uint64_t *seen, const struct word *next);

bool gw_breaker_is_usable(const struct gw_breaker *breaker, uint64_t now_us)
{
    struct word word = unpack(load(breaker));

    return word.mode == MODE_CLOSED || (word.mode == MODE_OPEN && now_us >= word.until_us);
}

bool gw_breaker_admit(struct gw_breaker *breaker, uint64_t now_us, uint32_t *ret_ticket)
{
    uint64_t seen = load(breaker);
    struct word word;

    do {
        word = unpack(seen);
        if (word.mode == MODE_CLOSED) {
            *ret_ticket = (uint32_t)word.generation;
            return true;
        }
        if (word.mode == MODE_PROBING || now_us < word.until_us) {
            return false;
        }
        word.mode = MODE_PROBING;
    } while (!swap(breaker, &seen, &word));
    *ret_ticket = GW_BREAKER_PROBE;
    return true;
}

void gw_breaker_report(struct gw_breaker *breaker, const struct gw_breaker_limits *limits,
                       uint64_t now_us, enum gw_breaker_outcome outcome, uint32_t ticket)
{
    bool is_probe = ticket == GW_BREAKER_PROBE, opens;
    uint64_t seen = load(breaker);
    struct word word;

    if (outcome == GW_BREAKER_UNKNOWN && !is_probe) {
        return;
    }
    do {
        word = unpack(seen);
        if (word.mode != (is_probe ? MODE_PROBING : MODE_CLOSED) ||
            (!is_probe && word.generation != ticket)) {
            return;
        }
        opens = is_probe ? end_probe(&word, limits, now_us, outcome)
                         : count_call(&word, limits, now_us, outcome == GW_BREAKER_FAILURE);
    } while (!swap(breaker, &seen, &word));
    if (opens) {
        (void)atomic_fetch_add_explicit(&breaker->opened, 1, memory_order_relaxed);
    }
}

/* True: one failure too many. A success never opens, whatever share of the calls failed. */
static bool count_call(struct word *word, const struct gw_breaker_limits *limits, uint64_t now_us,
                       bool failed)
{
    enter_window(word, now_us);
    if (word->calls == MAX_OF(COUNT_BITS)) {
        word->calls /= 2;
        word->failed /= 2;
    }
    word->calls++;
    if (!failed) {
        word->row = 0;
        return false;
    }
    word->failed++;
    word->row++; /* at its largest it opens, whatever the limit */
    if (word->row < limits->failures && word->row < MAX_OF(ROW_BITS) &&
        (word->calls < GW_BREAKER_RATE_CALLS_MIN || 2 * word->failed < word->calls)) {
        return false;
    }
    word->generation = (word->generation + 1) & MAX_OF(GENERATION_BITS);
    open_breaker(word, limits, now_us);
    return true;
}

/* Forgets the calls of an older window. One that has begun by another thread's clock is joined. */
static void enter_window(struct word *word, uint64_t now_us)
{
    uint64_t window = now_us / GW_BREAKER_RATE_WINDOW_US;

    if (word->window != ((window + 1) & MAX_OF(WINDOW_BITS)) &&
        word->window != (window & MAX_OF(WINDOW_BITS))) {
        word->window = window & MAX_OF(WINDOW_BITS);
        word->calls = 0;
        word->failed = 0;
    }
}

/* True: it opens again. */
static bool end_probe(struct word *word, const struct gw_breaker_limits *limits, uint64_t now_us,
                      enum gw_breaker_outcome outcome)
{
    switch (outcome) {
    case GW_BREAKER_SUCCESS:
        *word = (struct word){.mode = MODE_CLOSED, .generation = word->generation};
        return false;
    case GW_BREAKER_FAILURE:
        open_breaker(word, limits, now_us);
        return true;
    case GW_BREAKER_UNKNOWN:
        break;
    }
    word->mode = MODE_OPEN;
    word->until_us = 0; /* over for everybody, also for a thread whose clock is behind ours */
    return false;
}

static void open_breaker(struct word *word, const struct gw_breaker_limits *limits, uint64_t now_us)
{
    word->mode = MODE_OPEN;
    word->until_us = MAX_OF(UNTIL_BITS);
    if (now_us < word->until_us && limits->open_us < word->until_us - now_us) {
        word->until_us = now_us + limits->open_us;
    }
}

enum gw_breaker_state gw_breaker_state(const struct gw_breaker *breaker, uint64_t now_us)
{
    struct word word = unpack(load(breaker));

    if (word.mode == MODE_CLOSED) {
        return GW_BREAKER_CLOSED;
    }
    return word.mode == MODE_OPEN && now_us < word.until_us ? GW_BREAKER_OPEN
                                                            : GW_BREAKER_HALF_OPEN;
}

uint64_t gw_breaker_opened(const struct gw_breaker *breaker)
{
    return atomic_load_explicit(&breaker->opened, memory_order_relaxed);
}

const char *gw_breaker_state_name(enum gw_breaker_state state)
{
    static const char *const names[] = {"closed", "open", "half_open"};

    return names[state];
}

/* ------------------------------------------------------------------ the word */

static struct word unpack(uint64_t bits)
{
    struct word word = {.mode = take_bits(&bits, MODE_BITS)};

    word.generation = take_bits(&bits, GENERATION_BITS);
    if (word.mode == MODE_CLOSED) {
        word.row = take_bits(&bits, ROW_BITS);
        word.window = take_bits(&bits, WINDOW_BITS);
        word.calls = take_bits(&bits, COUNT_BITS);
        word.failed = take_bits(&bits, COUNT_BITS);
    } else {
        word.until_us = bits;
    }
    return word;
}

static uint64_t pack(const struct word *word)
{
    uint64_t rest = word->until_us;

    if (word->mode == MODE_CLOSED) {
        rest = word->failed << COUNT_BITS | word->calls;
        rest = (rest << WINDOW_BITS | word->window) << ROW_BITS | word->row;
    }
    return (rest << GENERATION_BITS | word->generation) << MODE_BITS | word->mode;
}

static uint64_t take_bits(uint64_t *bits, unsigned count)
{
    uint64_t value = *bits & MAX_OF(count);

    *bits >>= count;
    return value;
}

static uint64_t load(const struct gw_breaker *breaker)
{
    return atomic_load_explicit(&breaker->word, memory_order_relaxed);
}

/* False: another thread was faster (or the processor gave up), and `seen` is what is there now. */
static bool swap(struct gw_breaker *breaker, uint64_t *seen, const struct word *next)
{
    return atomic_compare_exchange_weak_explicit(&breaker->word, seen, pack(next),
                                                 memory_order_relaxed, memory_order_relaxed);
}
