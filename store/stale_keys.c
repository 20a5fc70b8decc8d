/*
 * The Redis keys that this loop must not believe.
 *
 *      (absent) --mark--> waiting --take--> dropping --dropped ok--> (absent)
 *                            ^                 |
 *                            '-- mark, failed -'
 *
 * Failure modes: no room and no memory are the same: no key at all is believed for a while (see
 * stale_keys.h). Thread and ownership: stale_keys.h.
 */
#include "stale_keys.h"

#include <stdlib.h>
#include <string.h>

#include "sluice/op.h"

static struct store_stale_key *find(const struct store_stale_keys *stale, const char *key,
                                    size_t key_len);
static void wait_for_drop(struct store_stale_keys *stale, struct store_stale_key *entry);
static void stop_waiting(struct store_stale_keys *stale, struct store_stale_key *entry);

void store_stale_keys_init(struct store_stale_keys *stale, unsigned keys_max,
                           uint64_t believe_none_us)
{
    *stale = (struct store_stale_keys){.keys_max = keys_max, .believe_none_us = believe_none_us};
    stale->waiting_tail = &stale->waiting;
    store_key_table_init(&stale->table);
}

void store_stale_keys_mark(struct store_stale_keys *stale, const char *key, size_t key_len,
                           uint64_t now_us)
{
    struct store_stale_key *entry = find(stale, key, key_len);

    if (entry == NULL && stale->table.count < stale->keys_max) {
        entry = calloc(1, sizeof(*entry) + key_len);
        if (entry != NULL) {
            memcpy(entry->bytes, key, key_len);
            entry->node.key = entry->bytes;
            entry->node.key_len = key_len;
            store_key_table_put(&stale->table, &entry->node);
        }
    }
    if (entry == NULL) {
        stale->none_until_us = now_us + stale->believe_none_us;
        return;
    }
    entry->dropping = false;
    wait_for_drop(stale, entry);
}

bool store_stale_keys_has(const struct store_stale_keys *stale, const char *key, size_t key_len,
                          uint64_t now_us)
{
    return now_us < stale->none_until_us || find(stale, key, key_len) != NULL;
}

struct store_stale_key *store_stale_keys_take(struct store_stale_keys *stale)
{
    struct store_stale_key *entry = stale->waiting;

    if (entry != NULL) {
        stop_waiting(stale, entry);
        entry->dropping = true;
    }
    return entry;
}

void store_stale_keys_dropped(struct store_stale_keys *stale, const char *key, size_t key_len,
                              bool success)
{
    struct store_stale_key *entry = find(stale, key, key_len);

    if (entry == NULL || !entry->dropping) {
        return; /* marked again meanwhile: it waits for another DEL */
    }
    entry->dropping = false;
    if (!success) {
        wait_for_drop(stale, entry);
        return;
    }
    store_key_table_remove(&stale->table, &entry->node);
    free(entry);
}

void store_stale_keys_dispose(struct store_stale_keys *stale)
{
    struct store_key_node *node;

    while ((node = store_key_table_any(&stale->table)) != NULL) {
        store_key_table_remove(&stale->table, node);
        free(SL_CONTAINER_OF(node, struct store_stale_key, node));
    }
    store_key_table_dispose(&stale->table);
    stale->waiting = NULL;
}

static struct store_stale_key *find(const struct store_stale_keys *stale, const char *key,
                                    size_t key_len)
{
    struct store_key_node *node = store_key_table_find(&stale->table, key, key_len);

    return node != NULL ? SL_CONTAINER_OF(node, struct store_stale_key, node) : NULL;
}

static void wait_for_drop(struct store_stale_keys *stale, struct store_stale_key *entry)
{
    if (entry->prev_next != NULL) {
        return;
    }
    entry->next = NULL;
    entry->prev_next = stale->waiting_tail;
    *stale->waiting_tail = entry;
    stale->waiting_tail = &entry->next;
}

static void stop_waiting(struct store_stale_keys *stale, struct store_stale_key *entry)
{
    *entry->prev_next = entry->next;
    if (entry->next != NULL) {
        entry->next->prev_next = entry->prev_next;
    } else {
        stale->waiting_tail = entry->prev_next;
    }
    entry->prev_next = NULL;
}
