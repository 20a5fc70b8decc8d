/*
 * Random numbers for spreading things in time. See sluice/random.h.
 *
 * Failure modes: none; getrandom gives up to 256 bytes without interruption once the kernel's pool
 * is ready. Thread: any.
 */
#include "sluice/random.h"

#include <stdlib.h>
#include <sys/random.h>

static uint64_t random_up_to(uint64_t most);

uint64_t sl_random_u64(void)
{
    uint64_t bits;

    if (getrandom(&bits, sizeof(bits), 0) != (ssize_t)sizeof(bits)) {
        abort(); /* only before the kernel's pool is ready, or a broken kernel */
    }
    return bits;
}

uint64_t sl_random_backoff_us(unsigned attempt, uint64_t base_us, uint64_t cap_us)
{
    uint64_t most = base_us;

    for (unsigned i = 0; i < attempt && most < cap_us; i++) {
        most *= 2;
    }
    return random_up_to(most < cap_us ? most : cap_us);
}

uint64_t sl_random_spread(uint64_t value, unsigned percent)
{
    uint64_t swing = value / 100 * percent + value % 100 * percent / 100;

    return value - swing + random_up_to(2 * swing);
}

/* A number from 0 to `most`. The modulo's bias does not matter for delays. */
static uint64_t random_up_to(uint64_t most)
{
    return sl_random_u64() % (most + 1);
}
