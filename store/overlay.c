/*
 * The messages that are not in Postgres yet: a chained hash table whose links live in the records.
 *
 * Happy path: a save adds its record; reads collect what matches their session; the writer removes
 * the record once it is committed. All of a session's records share one chain, so "has it any left"
 * and "collect" walk that chain and nothing else.
 *
 * Failure modes: a table that cannot grow stays as it is, only slower. The number of records is
 * bounded by the writer's queue. The hash is seeded at random, since session ids come from clients.
 *
 * Thread: any; the mutex guards table and links. Ownership: see the header.
 */
#include "overlay.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "record.h"

enum { FIRST_BUCKETS = 1024 };

struct store_overlay {
    pthread_mutex_t mutex;
    struct store_record **buckets;
    size_t bucket_count; /* a power of two */
    size_t record_count;
    uint64_t seed;
};

static struct store_overlay *writable(const struct store_overlay *overlay);
static uint64_t hash_of(const struct store_overlay *overlay, const char *user, size_t user_len,
                        const struct sl_uuid *session);
static void link_record(struct store_overlay *overlay, struct store_record *record);
static void grow(struct store_overlay *overlay);
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
    overlay->bucket_count = FIRST_BUCKETS;
    overlay->buckets = calloc(overlay->bucket_count, sizeof(overlay->buckets[0]));
    if (overlay->buckets == NULL) {
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
    free(overlay->buckets);
    free(overlay);
}

/* Readers hold a const overlay; its mutex is the one thing that they change. */
static struct store_overlay *writable(const struct store_overlay *overlay)
{
    return (struct store_overlay *)(uintptr_t)overlay;
}

/* FNV-1a over user and session from a random start, then a final mix of the high bits. */
static uint64_t hash_of(const struct store_overlay *overlay, const char *user, size_t user_len,
                        const struct sl_uuid *session)
{
    const uint64_t prime = 0x100000001b3;
    uint64_t hash = 0xcbf29ce484222325 ^ overlay->seed;

    for (size_t i = 0; i < user_len; i++) {
        hash = (hash ^ (unsigned char)user[i]) * prime;
    }
    for (size_t i = 0; i < sizeof(session->bytes); i++) {
        hash = (hash ^ session->bytes[i]) * prime;
    }
    return hash ^ hash >> 29;
}

/* ---- add and remove ---- */

void store_overlay_add(struct store_overlay *overlay, struct store_record *record)
{
    record->overlay_hash = hash_of(overlay, record->user, record->user_len, &record->session);
    (void)pthread_mutex_lock(&overlay->mutex);
    if (record->overlay_prev_next == NULL) {
        overlay->record_count++;
        if (overlay->record_count > overlay->bucket_count) {
            grow(overlay);
        }
        link_record(overlay, record);
    }
    (void)pthread_mutex_unlock(&overlay->mutex);
}

static void link_record(struct store_overlay *overlay, struct store_record *record)
{
    struct store_record **bucket =
        &overlay->buckets[record->overlay_hash & (overlay->bucket_count - 1)];

    record->overlay_next = *bucket;
    record->overlay_prev_next = bucket;
    if (*bucket != NULL) {
        (*bucket)->overlay_prev_next = &record->overlay_next;
    }
    *bucket = record;
}

static void grow(struct store_overlay *overlay)
{
    struct store_record **old = overlay->buckets;
    size_t old_count = overlay->bucket_count;
    struct store_record **buckets = calloc(old_count * 2, sizeof(buckets[0]));

    if (buckets == NULL) {
        return;
    }
    overlay->buckets = buckets;
    overlay->bucket_count = old_count * 2;
    for (size_t i = 0; i < old_count; i++) {
        for (struct store_record *record = old[i], *next; record != NULL; record = next) {
            next = record->overlay_next;
            link_record(overlay, record);
        }
    }
    free(old);
}

void store_overlay_remove(struct store_overlay *overlay, struct store_record *record)
{
    (void)pthread_mutex_lock(&overlay->mutex);
    if (record->overlay_prev_next != NULL) {
        *record->overlay_prev_next = record->overlay_next;
        if (record->overlay_next != NULL) {
            record->overlay_next->overlay_prev_next = record->overlay_prev_next;
        }
        record->overlay_prev_next = NULL;
        overlay->record_count--;
    }
    (void)pthread_mutex_unlock(&overlay->mutex);
}

/* ---- look ---- */

static bool is_of_session(const struct store_record *record, uint64_t hash, const char *user,
                          size_t user_len, const struct sl_uuid *session)
{
    return record->overlay_hash == hash && record->user_len == user_len &&
           memcmp(record->user, user, user_len) == 0 && sl_uuid_equal(&record->session, session);
}

bool store_overlay_has(const struct store_overlay *overlay, const char *user, size_t user_len,
                       const struct sl_uuid *session)
{
    struct store_overlay *locked = writable(overlay);
    uint64_t hash = hash_of(overlay, user, user_len, session);
    bool found = false;

    (void)pthread_mutex_lock(&locked->mutex);
    const struct store_record *record = locked->buckets[hash & (locked->bucket_count - 1)];
    for (; record != NULL && !found; record = record->overlay_next) {
        found = is_of_session(record, hash, user, user_len, session);
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
    const struct store_record *record = locked->buckets[hash & (locked->bucket_count - 1)];
    for (; record != NULL && err == 0; record = record->overlay_next) {
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
