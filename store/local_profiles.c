/*
 * A small in-process cache of profiles, used while Redis does not answer.
 *
 * Happy path: put replaces or adds an entry at the head of the list and lets the tail fall out when
 * there are too many; get finds it in the table, checks its age and moves it to the head.
 *
 * Failure modes: an entry that finds no memory is not remembered, and neither is what was known
 * before about that user. A maximum of 0 remembers nothing.
 *
 * Thread: any, one mutex. Ownership: copies; a reader gets its own.
 */
#include <stdint.h> /* before local_profiles.h, which uses its types */

#include "local_profiles.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "key_table.h"
#include "sluice/op.h"

struct profile_entry {
    struct store_key_node node;
    struct profile_entry *newer, *older;
    uint64_t expires_us;
    bool found;
    size_t json_len;
    char bytes[]; /* the user id, then the profile */
};

struct store_local_profiles {
    pthread_mutex_t mutex; /* over everything below */
    unsigned entries_max;
    struct store_key_table table;
    struct profile_entry *newest, *oldest; /* by last use */
};

static struct profile_entry *make_entry(const char *user, size_t user_len, bool found,
                                        const char *json, size_t json_len);
static struct profile_entry *find(const struct store_local_profiles *local, const char *user,
                                  size_t user_len);
static void add_newest(struct store_local_profiles *local, struct profile_entry *entry);
static void unlink_entry(struct store_local_profiles *local, struct profile_entry *entry);
static void remove_entry(struct store_local_profiles *local, struct profile_entry *entry);

int store_local_profiles_create(unsigned entries_max, struct store_local_profiles **ret_local)
{
    struct store_local_profiles *local = calloc(1, sizeof(*local));

    if (local == NULL) {
        return SL_E_NO_MEMORY;
    }
    (void)pthread_mutex_init(&local->mutex, NULL);
    local->entries_max = entries_max;
    store_key_table_init(&local->table);
    *ret_local = local;
    return 0;
}

void store_local_profiles_put(struct store_local_profiles *local, const char *user, size_t user_len,
                              bool found, const char *json, size_t json_len, uint64_t now_us,
                              uint64_t ttl_us)
{
    struct profile_entry *entry = NULL;

    if (local->entries_max > 0) {
        entry = make_entry(user, user_len, found, json, found ? json_len : 0);
    }
    (void)pthread_mutex_lock(&local->mutex);
    struct profile_entry *before = find(local, user, user_len);
    if (before != NULL) {
        remove_entry(local, before);
    }
    if (entry != NULL) {
        entry->expires_us = now_us + ttl_us;
        store_key_table_put(&local->table, &entry->node);
        add_newest(local, entry);
    }
    while (local->table.count > local->entries_max) {
        remove_entry(local, local->oldest);
    }
    (void)pthread_mutex_unlock(&local->mutex);
}

bool store_local_profiles_get(struct store_local_profiles *local, const char *user, size_t user_len,
                              uint64_t now_us, bool *ret_found, struct sl_buffer *ret_json)
{
    bool known = false;

    (void)pthread_mutex_lock(&local->mutex);
    struct profile_entry *entry = find(local, user, user_len);
    if (entry != NULL && now_us >= entry->expires_us) {
        remove_entry(local, entry);
        entry = NULL;
    }
    if (entry != NULL &&
        sl_buffer_append(ret_json, entry->bytes + entry->node.key_len, entry->json_len) == 0) {
        unlink_entry(local, entry);
        add_newest(local, entry);
        *ret_found = entry->found;
        known = true;
    }
    (void)pthread_mutex_unlock(&local->mutex);
    return known;
}

void store_local_profiles_drop(struct store_local_profiles *local, const char *user,
                               size_t user_len)
{
    (void)pthread_mutex_lock(&local->mutex);
    struct profile_entry *entry = find(local, user, user_len);
    if (entry != NULL) {
        remove_entry(local, entry);
    }
    (void)pthread_mutex_unlock(&local->mutex);
}

void store_local_profiles_destroy(struct store_local_profiles *local)
{
    if (local == NULL) {
        return;
    }
    while (local->oldest != NULL) {
        remove_entry(local, local->oldest);
    }
    store_key_table_dispose(&local->table);
    (void)pthread_mutex_destroy(&local->mutex);
    free(local);
}

/* ---- entries; the caller holds the mutex, except for make_entry ---- */

static struct profile_entry *make_entry(const char *user, size_t user_len, bool found,
                                        const char *json, size_t json_len)
{
    struct profile_entry *entry = calloc(1, sizeof(*entry) + user_len + json_len);

    if (entry == NULL) {
        return NULL;
    }
    memcpy(entry->bytes, user, user_len);
    if (json_len > 0) {
        memcpy(entry->bytes + user_len, json, json_len);
    }
    entry->node.key = entry->bytes;
    entry->node.key_len = user_len;
    entry->found = found;
    entry->json_len = json_len;
    return entry;
}

static struct profile_entry *find(const struct store_local_profiles *local, const char *user,
                                  size_t user_len)
{
    struct store_key_node *node = store_key_table_find(&local->table, user, user_len);

    return node != NULL ? SL_CONTAINER_OF(node, struct profile_entry, node) : NULL;
}

static void add_newest(struct store_local_profiles *local, struct profile_entry *entry)
{
    entry->newer = NULL;
    entry->older = local->newest;
    if (local->newest != NULL) {
        local->newest->newer = entry;
    } else {
        local->oldest = entry;
    }
    local->newest = entry;
}

static void unlink_entry(struct store_local_profiles *local, struct profile_entry *entry)
{
    if (entry->newer != NULL) {
        entry->newer->older = entry->older;
    } else {
        local->newest = entry->older;
    }
    if (entry->older != NULL) {
        entry->older->newer = entry->newer;
    } else {
        local->oldest = entry->newer;
    }
}

static void remove_entry(struct store_local_profiles *local, struct profile_entry *entry)
{
    unlink_entry(local, entry);
    store_key_table_remove(&local->table, &entry->node);
    free(entry);
}
