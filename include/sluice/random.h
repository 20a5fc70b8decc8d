/**
 * Random numbers for spreading things in time and for choosing: reconnects, expiries, retries, upstreams.
 *
 * Thread: any. Not for secrets, although they come from the kernel.
 */
#pragma once

#include <stdint.h>

/** 64 random bits. */
uint64_t sl_random_u64(void);

/**
 * How long to wait before attempt number `attempt` (0 is the first retry): anything between 0 and
 * min(cap, base * 2^attempt), so that clients which lost the same server do not come back together
 * ("full jitter", AWS Architecture Blog, "Exponential Backoff And Jitter", 2015).
 */
uint64_t sl_random_backoff_us(unsigned attempt, uint64_t base_us, uint64_t cap_us);

/** `value` plus or minus up to `percent` (0 to 100) per cent. */
uint64_t sl_random_spread(uint64_t value, unsigned percent);
