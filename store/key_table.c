/*
 * A hash table of objects that are found by a string of bytes: chains, doubled when there are more
 * objects than buckets.
 *
 * The hash is FNV-1a with a random start value. User ids come out of signed tokens and every table
 * is bounded, so it need not withstand somebody who searches for collisions.
 *
 * Failure modes: the first 64 buckets abort when there is no memory (fixed size); a later doubling
 * that fails only leaves the chains longer. Thread and ownership: key_table.h.
 */
#include "key_table.h"

#include <stdlib.h>
#include <string.h>

#include "sluice/hash.h"
#include "sluice/random.h"

enum { BUCKETS_AT_FIRST = 64 };

static uint64_t hash_of(const struct store_key_table *table, const char *key, size_t key_len);
static void grow(struct store_key_table *table);

void store_key_table_init(struct store_key_table *table)
{
    *table = (struct store_key_table){.bucket_count = BUCKETS_AT_FIRST, .seed = sl_random_u64()};
    table->buckets = calloc(BUCKETS_AT_FIRST, sizeof(struct store_key_node *));
    if (table->buckets == NULL) {
        abort();
    }
}

void store_key_table_dispose(struct store_key_table *table)
{
    free(table->buckets);
    *table = (struct store_key_table){0};
}

void store_key_table_put(struct store_key_table *table, struct store_key_node *node)
{
    if (table->count >= table->bucket_count) {
        grow(table);
    }
    node->hash = hash_of(table, node->key, node->key_len);
    struct store_key_node **bucket = &table->buckets[node->hash & (table->bucket_count - 1)];
    node->next = *bucket;
    *bucket = node;
    table->count++;
}

struct store_key_node *store_key_table_find(const struct store_key_table *table, const char *key,
                                            size_t key_len)
{
    if (table->count == 0) {
        return NULL;
    }
    uint64_t hash = hash_of(table, key, key_len);
    struct store_key_node *node = table->buckets[hash & (table->bucket_count - 1)];
    while (node != NULL && (node->hash != hash || node->key_len != key_len ||
                            memcmp(node->key, key, key_len) != 0)) {
        node = node->next;
    }
    return node;
}

void store_key_table_remove(struct store_key_table *table, struct store_key_node *node)
{
    struct store_key_node **at = &table->buckets[node->hash & (table->bucket_count - 1)];

    while (*at != node) {
        at = &(*at)->next;
    }
    *at = node->next;
    node->next = NULL;
    table->count--;
}

struct store_key_node *store_key_table_any(const struct store_key_table *table)
{
    for (size_t i = 0; table->count > 0 && i < table->bucket_count; i++) {
        if (table->buckets[i] != NULL) {
            return table->buckets[i];
        }
    }
    return NULL;
}

static uint64_t hash_of(const struct store_key_table *table, const char *key, size_t key_len)
{
    return sl_hash_mix(sl_hash_add(SL_HASH_START ^ table->seed, key, key_len));
}

static void grow(struct store_key_table *table)
{
    size_t wider = table->bucket_count * 2;
    struct store_key_node **buckets = calloc(wider, sizeof(struct store_key_node *));

    if (buckets == NULL) {
        return;
    }
    for (size_t i = 0; i < table->bucket_count; i++) {
        struct store_key_node *node = table->buckets[i];
        while (node != NULL) {
            struct store_key_node *next = node->next;
            node->next = buckets[node->hash & (wider - 1)];
            buckets[node->hash & (wider - 1)] = node;
            node = next;
        }
    }
    free(table->buckets);
    table->buckets = buckets;
    table->bucket_count = wider;
}
