/**
 * A fast, well mixed 64-bit hash of bytes, for tables and shares. Not for secrets, and without a random
 * start not against somebody who looks for collisions.
 *
 * Thread: any (pure functions).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Where a hash begins; xored with a seed it gives another, independent order of the same bytes. */
#define SL_HASH_START 0xcbf29ce484222325U

/** FNV-1a over more bytes. Its low bits depend on low bits only: finish with sl_hash_mix. */
static inline uint64_t sl_hash_add(uint64_t hash, const void *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3U;
    }
    return hash;
}

/** The finalizer of MurmurHash3: every bit of the result depends on every bit. */
static inline uint64_t sl_hash_mix(uint64_t hash)
{
    hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccdU;
    hash = (hash ^ (hash >> 33)) * 0xc4ceb9fe1a85ec53U;
    return hash ^ (hash >> 33);
}
