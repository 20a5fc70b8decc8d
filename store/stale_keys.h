/**
 * The Redis keys that this loop must not believe, because a write to them failed.
 *
 * A key is in the set from the moment its content may be wrong until Redis has confirmed that it was
 * dropped. The set is bounded. A key that does not fit cannot be dropped later, so from then on *no*
 * key is believed until `believe_none_us` have passed since the last one that did not fit; the
 * longest expiry that the cache uses is given there, so everything wrong has expired by then.
 * The price is that this loop reads from Postgres meanwhile.
 *
 * Pure but for memory: no I/O and no clock of its own. Thread: one at a time. Ownership: copies.
 */
#pragma once

#include <stdbool.h>

#include "key_table.h"

struct store_stale_key {
    struct store_key_node node;                /* readable: key, key_len */
    bool dropping;                             /* a DEL is under way; otherwise it waits for one */
    struct store_stale_key *next, **prev_next; /* in the list of the waiting */
    char bytes[];
};

struct store_stale_keys {
    struct store_key_table table;
    struct store_stale_key *waiting, **waiting_tail;
    unsigned keys_max;
    uint64_t believe_none_us;
    uint64_t none_until_us; /* 0: never overflowed */
};

void store_stale_keys_init(struct store_stale_keys *stale, unsigned keys_max,
                           uint64_t believe_none_us);
void store_stale_keys_dispose(struct store_stale_keys *stale);

/** From now on the key is not believed; it waits for a DEL, also when one is under way already. */
void store_stale_keys_mark(struct store_stale_keys *stale, const char *key, size_t key_len,
                           uint64_t now_us);

/** True when the key must not be read. */
bool store_stale_keys_has(const struct store_stale_keys *stale, const char *key, size_t key_len,
                          uint64_t now_us);

/** The oldest key that waits for its DEL, now counted as dropping; NULL when none waits. */
struct store_stale_key *store_stale_keys_take(struct store_stale_keys *stale);

/** Says how the DEL of `take` ended. After a success the key is believed again, unless it was marked meanwhile. */
void store_stale_keys_dropped(struct store_stale_keys *stale, const char *key, size_t key_len,
                              bool success);
