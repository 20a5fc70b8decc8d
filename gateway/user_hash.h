/**
 * A fast, well mixed 64-bit hash of a user's id, for tables and shares. Not for secrets.
 *
 * Thread: any (a pure function).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/**
 * FNV-1a, then the finalizer of MurmurHash3, since FNV's own low bits depend on low bits only.
 * Another `basis` gives another, independent order of the same users.
 */
static inline uint64_t gw_user_hash(uint64_t basis, const char *user, size_t user_len)
{
    uint64_t hash = 0xcbf29ce484222325U ^ basis;

    for (size_t i = 0; i < user_len; i++) {
        hash = (hash ^ (unsigned char)user[i]) * 0x100000001b3U;
    }
    hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccdU;
    hash = (hash ^ (hash >> 33)) * 0xc4ceb9fe1a85ec53U;
    return hash ^ (hash >> 33);
}
