/**
 * A hash table of objects that are found by a string of bytes.
 *
 * Intrusive: the object embeds a `struct store_key_node` and keeps the key's bytes alive while it is
 * in the table. Thread: one at a time. Ownership: nothing but the array of buckets; all objects are
 * their owners'. The table has no maximum of its own: whoever puts things in bounds them.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct store_key_node {
    const char *key; /* set by the owner before put */
    size_t key_len;
    /* private */
    uint64_t hash;
    struct store_key_node *next;
};

struct store_key_table {
    struct store_key_node **buckets;
    size_t bucket_count; /* a power of two */
    size_t count;        /* readable */
    uint64_t seed;
};

void store_key_table_init(struct store_key_table *table);

/** Frees the buckets; the objects must be out or are forgotten. Idempotent. */
void store_key_table_dispose(struct store_key_table *table);

/** Puts an object in. Its key must not be there already. */
void store_key_table_put(struct store_key_table *table, struct store_key_node *node);

/** The object with this key, or NULL. */
struct store_key_node *store_key_table_find(const struct store_key_table *table, const char *key,
                                            size_t key_len);

/** Takes an object out that is in. */
void store_key_table_remove(struct store_key_table *table, struct store_key_node *node);

/** Any object of the table, or NULL when it is empty: for taking all of them out. */
struct store_key_node *store_key_table_any(const struct store_key_table *table);
