/**
 * What the files of the facade (store.c, save.c) know of each other: the two structs behind
 * sluice/store.h.
 *
 * Thread: a client is its loop's; of a store, the origins are guarded by the mutex, everything else
 * is constant after store_create or safe for any thread. Ownership: see each field.
 */
#pragma once

#include <pthread.h>

#include "sluice/store.h"

struct store_cache;
struct store_connector;
struct store_dead_letters;
struct store_disk;
struct store_journal;
struct store_local_profiles;
struct store_origin;
struct store_overlay;
struct store_pg_reader;
struct store_record;
struct store_writer;

struct store {
    struct store_config config; /* strings are ours */
    struct store_connector *connector;
    struct store_overlay *overlay;
    struct store_local_profiles *local;
    struct store_journal *journal;
    struct store_disk *dead_letter_disk;
    struct store_dead_letters *dead_letters;
    struct store_writer *writer;
    pthread_mutex_t mutex;
    struct store_origin **origins; /* of all clients there ever were: records may still come back */
    size_t origin_count;
};

/* A save that waits. A record names it by index and generation, never by its address. */
struct store_slot {
    struct store_save *save; /* NULL: free */
    uint32_t generation;     /* counts the saves that had this slot */
    uint32_t next_free;
};

struct store_client {
    struct store *store;
    struct sl_loop *loop;
    struct store_pg_reader *reader;
    struct store_cache *cache;
    struct store_origin *origin; /* the store's; closed by the client */
    struct store_slot *slots;
    uint32_t slot_count, first_free; /* first_free == slot_count: none is free */
    struct store_client_stats stats;
};

/** In save.c: what a client does with records that come back. */
struct store_origin_callbacks;
extern const struct store_origin_callbacks store_save_callbacks;
