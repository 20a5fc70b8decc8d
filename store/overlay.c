/*
 * The messages that are not in Postgres yet: chained hash tables whose links live in the records.
 *
 * Happy path: a save adds its record; reads collect what matches their session; the writer removes
 * the record once it is committed. All of a session's records share one chain, so "has it any left"
 * and "collect" walk that chain and nothing else.
 *
 * Turns have a table of their own, since after a restart without Postgres all clients ask for their
 * turns at once, and a walk over everything that is uncommitted, hundreds of thousands of records by
 * then, would hold up the saves of all loops each time.
 *
 * Failure modes: a table that cannot grow stays as it is, only slower. The number of records is
 * bounded by the writer's queue. The hash is seeded at random, since session ids come from clients.
 *
 * Thread: any; the mutex guards tables and links. Ownership: see the header.
 */
#include "overlay.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "record.h"
#include "sluice/hash.h"

enum { FIRST_BUCKETS = 1024 };

struct table {
    struct store_overlay_link **buckets;
    size_t bucket_count; /* a power of two */
};

struct store_overlay {
    pthread_mutex_t mutex;
    struct table by_session, by_turn; /* every record is in both */
    size_t record_count;
    uint64_t seed;
};

static struct store_overlay *writable(const struct store_overlay *overlay);
static uint64_t hash_of(const struct store_overlay *overlay, const char *user, size_t user_len,
                        const struct sl_uuid *id);
static void put(struct table *table, struct store_overlay_link *link, size_t record_count);
static void prepend(struct table *table, struct store_overlay_link *link);
static void grow(struct table *table);
static void take_out(struct store_overlay_link *link);
static const struct store_overlay_link *chain_of(const struct table *table, uint64_t hash);
static const struct store_record *record_by_session(const struct store_overlay_link *link);
static const struct store_record *record_by_turn(const struct store_overlay_link *link);
static bool is_of_user(const struct store_record *record, const char *user, size_t user_len);
static bool is_of_session(const struct store_record *record, uint64_t hash, const char *user,
                          size_t user_len, const struct sl_uuid *session);
static int copy_newest(const struct store_record **found, size_t count, size_t limit,
                       struct store_message_set *ret_set);
static int compare_records(const void *a, const void *b);

int store_overlay_create(struct store_overlay **ret_overlay)
{
    struct store_overlay *overlay = calloc(1, sizeof(*overlay));

    if (overlay == NULL) {
        return SL_E_NO_MEMORY;
    }
    overlay->by_session.bucket_count = overlay->by_turn.bucket_count = FIRST_BUCKETS;
    overlay->by_session.buckets = calloc(FIRST_BUCKETS, sizeof(struct store_overlay_link *));
    overlay->by_turn.buckets = calloc(FIRST_BUCKETS, sizeof(struct store_overlay_link *));
    if (overlay->by_session.buckets == NULL || overlay->by_turn.buckets == NULL) {
        free(overlay->by_session.buckets);
        free(overlay->by_turn.buckets);
        free(overlay);
        return SL_E_NO_MEMORY;
    }
    (void)!getrandom(&overlay->seed, sizeof(overlay->seed), 0); /* without it: merely guessable */
    (void)pthread_mutex_init(&overlay->mutex, NULL);
    *ret_overlay = overlay;
    return 0;
}

void store_overlay_destroy(struct store_overlay *overlay)
{
    if (overlay == NULL) {
        return;
    }
    (void)pthread_mutex_destroy(&overlay->mutex);
    free(overlay->by_session.buckets);
    free(overlay->by_turn.buckets);
    free(overlay);
}

/* Readers hold a const overlay; its mutex is the one thing that they change. */
static struct store_overlay *writable(const struct store_overlay *overlay)
{
    return (struct store_overlay *)(uintptr_t)overlay;
}

/* Over user and session (or turn), from a random start. */
static uint64_t hash_of(const struct store_overlay *overlay, const char *user, size_t user_len,
                        const struct sl_uuid *id)
{
    uint64_t hash = sl_hash_add(SL_HASH_START ^ overlay->seed, user, user_len);

    return sl_hash_mix(sl_hash_add(hash, id->bytes, sizeof(id->bytes)));
}

/* ---- add and remove ---- */

void store_overlay_add(struct store_overlay *overlay, struct store_record *record)
{
    struct store_overlay_link *by_session = &record->overlay_by_session;
    struct store_overlay_link *by_turn = &record->overlay_by_turn;

    by_session->hash = hash_of(overlay, record->user, record->user_len, &record->session);
    by_turn->hash = hash_of(overlay, record->user, record->user_len, &record->message.turn_id);
    (void)pthread_mutex_lock(&overlay->mutex);
    if (by_session->prev_next == NULL) {
        overlay->record_count++;
        put(&overlay->by_session, by_session, overlay->record_count);
        put(&overlay->by_turn, by_turn, overlay->record_count);
    }
    (void)pthread_mutex_unlock(&overlay->mutex);
}

static void put(struct table *table, struct store_overlay_link *link, size_t record_count)
{
    if (record_count > table->bucket_count) {
        grow(table);
    }
    prepend(table, link);
}

static void prepend(struct table *table, struct store_overlay_link *link)
{
    struct store_overlay_link **bucket = &table->buckets[link->hash & (table->bucket_count - 1)];

    link->next = *bucket;
    link->prev_next = bucket;
    if (*bucket != NULL) {
        (*bucket)->prev_next = &link->next;
    }
    *bucket = link;
}

static void grow(struct table *table)
{
    struct store_overlay_link **old = table->buckets;
    size_t old_count = table->bucket_count;
    struct store_overlay_link **buckets = calloc(old_count * 2, sizeof(buckets[0]));

    if (buckets == NULL) {
        return;
    }
    table->buckets = buckets;
    table->bucket_count = old_count * 2;
    for (size_t i = 0; i < old_count; i++) {
        for (struct store_overlay_link *link = old[i], *next; link != NULL; link = next) {
            next = link->next;
            prepend(table, link);
        }
    }
    free(old);
}

void store_overlay_remove(struct store_overlay *overlay, struct store_record *record)
{
    (void)pthread_mutex_lock(&overlay->mutex);
    if (record->overlay_by_session.prev_next != NULL) {
        take_out(&record->overlay_by_session);
        take_out(&record->overlay_by_turn);
        overlay->record_count--;
    }
    (void)pthread_mutex_unlock(&overlay->mutex);
}

static void take_out(struct store_overlay_link *link)
{
    *link->prev_next = link->next;
    if (link->next != NULL) {
        link->next->prev_next = link->prev_next;
    }
    link->prev_next = NULL;
}

/* ---- look ---- */

static const struct store_overlay_link *chain_of(const struct table *table, uint64_t hash)
{
    return table->buckets[hash & (table->bucket_count - 1)];
}

static const struct store_record *record_by_session(const struct store_overlay_link *link)
{
    return SL_CONTAINER_OF(link, struct store_record, overlay_by_session);
}

static const struct store_record *record_by_turn(const struct store_overlay_link *link)
{
    return SL_CONTAINER_OF(link, struct store_record, overlay_by_turn);
}

static bool is_of_user(const struct store_record *record, const char *user, size_t user_len)
{
    return record->user_len == user_len && memcmp(record->user, user, user_len) == 0;
}

static bool is_of_session(const struct store_record *record, uint64_t hash, const char *user,
                          size_t user_len, const struct sl_uuid *session)
{
    return record->overlay_by_session.hash == hash && is_of_user(record, user, user_len) &&
           sl_uuid_equal(&record->session, session);
}

bool store_overlay_has(const struct store_overlay *overlay, const char *user, size_t user_len,
                       const struct sl_uuid *session)
{
    struct store_overlay *locked = writable(overlay);
    uint64_t hash = hash_of(overlay, user, user_len, session);
    bool found = false;

    (void)pthread_mutex_lock(&locked->mutex);
    const struct store_overlay_link *link = chain_of(&locked->by_session, hash);
    for (; link != NULL && !found; link = link->next) {
        found = is_of_session(record_by_session(link), hash, user, user_len, session);
    }
    (void)pthread_mutex_unlock(&locked->mutex);
    return found;
}

bool store_overlay_find_turn(const struct store_overlay *overlay, const char *user, size_t user_len,
                             const struct sl_uuid *turn, struct sl_uuid *ret_session)
{
    struct store_overlay *locked = writable(overlay);
    uint64_t hash = hash_of(overlay, user, user_len, turn);
    bool found = false;

    (void)pthread_mutex_lock(&locked->mutex);
    const struct store_overlay_link *link = chain_of(&locked->by_turn, hash);
    for (; link != NULL && !found; link = link->next) {
        const struct store_record *record = record_by_turn(link);
        found = link->hash == hash && is_of_user(record, user, user_len) &&
                sl_uuid_equal(&record->message.turn_id, turn);
        if (found) {
            *ret_session = record->session;
        }
    }
    (void)pthread_mutex_unlock(&locked->mutex);
    return found;
}

int store_overlay_collect(const struct store_overlay *overlay, const char *user, size_t user_len,
                          const struct sl_uuid *session, int64_t before_us,
                          const struct sl_uuid *before_id, size_t limit,
                          struct store_message_set *ret_set)
{
    struct store_overlay *locked = writable(overlay);
    uint64_t hash = hash_of(overlay, user, user_len, session);
    const struct store_record **found = NULL;
    size_t count = 0, capacity = 0;
    int err = 0;

    memset(ret_set, 0, sizeof(*ret_set));
    (void)pthread_mutex_lock(&locked->mutex);
    const struct store_overlay_link *link = chain_of(&locked->by_session, hash);
    for (; link != NULL && err == 0; link = link->next) {
        const struct store_record *record = record_by_session(link);
        if (!is_of_session(record, hash, user, user_len, session) ||
            (before_id != NULL &&
             store_rows_compare(record->message.created_at_us, &record->message.id, before_us,
                                before_id) >= 0)) {
            continue;
        }
        if (count == capacity) {
            capacity = capacity == 0 ? 16 : capacity * 2;
            const struct store_record **more = realloc(found, capacity * sizeof(found[0]));
            if (more == NULL) {
                err = SL_E_NO_MEMORY;
                break;
            }
            found = more;
        }
        found[count++] = record;
    }
    if (err == 0 && count > 0 && limit > 0) {
        err = copy_newest(found, count, limit, ret_set);
    }
    (void)pthread_mutex_unlock(&locked->mutex);
    free(found);
    return err;
}

/* Under the mutex: the records cannot go away while their texts are copied. */
static int copy_newest(const struct store_record **found, size_t count, size_t limit,
                       struct store_message_set *ret_set)
{
    struct store_message_set set = {.count = count < limit ? count : limit};
    size_t bytes = 0;
    int err = 0;

    qsort(found, count, sizeof(found[0]), compare_records);
    found += count - set.count;
    for (size_t i = 0; i < set.count; i++) {
        bytes += store_rows_text_bytes(&found[i]->message) + 3;
    }
    sl_buffer_init(&set.text, bytes);
    set.items = malloc(set.count * sizeof(set.items[0]));
    if (set.items == NULL || sl_buffer_reserve(&set.text, bytes) == NULL) {
        err = SL_E_NO_MEMORY;
    }
    for (size_t i = 0; i < set.count && err == 0; i++) {
        set.items[i] = found[i]->message;
        err = store_rows_copy_texts(&set.text, &set.items[i]);
    }
    if (err != 0) {
        store_message_set_dispose(&set);
        return err;
    }
    *ret_set = set;
    return 0;
}

static int compare_records(const void *a, const void *b)
{
    const struct store_record *const *left = a, *const *right = b;
    return store_rows_compare_messages(&(*left)->message, &(*right)->message);
}
