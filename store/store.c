/*
 * The store's front: what is made and ended together, and which way a read goes.
 *
 * Start: the connector thread, the overlay, the in-process profiles and the writer belong to the
 * process; each loop makes a client with its Postgres reader and its cache. Reads of profile and
 * history go through the cache, which asks the reader on a miss; lists and turns go to the reader at
 * once. Saves are in save.c.
 *
 * End: clients stop hearing (their origins are closed), then the writer, then everything that the
 * writer could still hand a record to.
 *
 * Failure modes: only what cannot work at all fails at creation: an URL that cannot be read, memory.
 * Servers that are down are not a failure here.
 * Thread: store_* on the main thread, client functions on the client's loop. Ownership: client.h.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "cache.h"
#include "client.h"
#include "connector.h"
#include "connector_forget.h"
#include "dead_letter.h"
#include "journal.h"
#include "local_profiles.h"
#include "overlay.h"
#include "pg_reader.h"
#include "record.h"
#include "redis_url.h"
#include "writer.h"

enum {
    PENDING_BYTES = 64 << 20, /* handed over and not on disk yet */
    STOP_WITHOUT_DATABASE_MS = 1000,
    STOP_STEP_MS = 2,
    JOURNAL_STOP_MS = 5000,
    WRITER_SILENCE_MS = 40 * 1000, /* longer than the writer's statement_timeout */
};

static int copy_config(struct store *store, const struct store_config *config);
static int start_threads(struct store *store);
static int open_journal(struct store *store);
static bool take_up(void *context, struct store_record *record);
static bool offer_to_writer(void *context, struct store_record *record);
static void leave_on_disk(void *context, struct store_record *record);
static void wake_writer(void *context);
static int add_origin(struct store_client *client);
static bool is_cached(enum store_read_kind kind);
static int start_preload(struct store_preload *preload, struct store_client *client,
                         struct store_read *read);
static void on_profile_loaded(struct sl_op *op, int status);
static void on_history_loaded(struct sl_op *op, int status);
static void end_preload_read(struct store_preload *preload, struct store_read *read, int status);

/* ---- process ---- */

int store_create(const struct store_config *config, struct store **ret_store)
{
    struct store_redis_url redis;
    struct store *store;
    int err = store_redis_url_parse(config->redis_url, &redis);

    if (err != 0) {
        return err;
    }
    store = calloc(1, sizeof(*store));
    if (store == NULL) {
        return SL_E_NO_MEMORY;
    }
    (void)pthread_mutex_init(&store->mutex, NULL);
    err = copy_config(store, config);
    if (err == 0) {
        err = start_threads(store);
    }
    if (err != 0) {
        store_destroy(store);
        return err;
    }
    *ret_store = store;
    return 0;
}

static int copy_config(struct store *store, const struct store_config *config)
{
    store->config = *config;
    store->config.redis_url = strdup(config->redis_url);
    store->config.database_url = strdup(config->database_url);
    store->config.journal_dir = strdup(config->journal_dir);
    bool copied = store->config.redis_url != NULL && store->config.database_url != NULL &&
                  store->config.journal_dir != NULL;
    return copied ? 0 : SL_E_NO_MEMORY;
}

static int start_threads(struct store *store)
{
    int err = store_overlay_create(&store->overlay);

    if (err == 0) {
        err = store_local_profiles_create(store->config.local_profiles_max, &store->local);
    }
    if (err == 0) {
        err = store_connector_create(&store->connector);
    }
    if (err == 0) {
        err = open_journal(store);
    }
    if (err == 0) {
        struct store_writer_options options = {
            .database_url = store->config.database_url,
            .batch_rows = store->config.writer_batch_rows,
            .batch_bytes = store->config.writer_batch_bytes,
            .queue_bytes = store->config.writer_queue_bytes,
            .silence_ms = WRITER_SILENCE_MS,
            .overlay = store->overlay,
            .journal = store->journal,
            .held = true, /* until what an earlier process left is queued, in front of everything */
            .refuse = store_dead_letter_append_on_writer_thread,
            .refuse_context = store->dead_letters,
        };
        err = store_writer_create(&options, &store->writer);
    }
    if (err == 0) {
        store_journal_recover(store->journal, take_up, store);
        store_writer_release(store->writer);
        err = store_journal_start(store->journal);
    }
    return err;
}

static int open_journal(struct store *store)
{
    struct store_journal_options options = {
        .segment_bytes = store->config.journal_segment_bytes,
        .retain_bytes = store->config.journal_retain_bytes,
        .retain_s = store->config.journal_retain_s,
        .pending_bytes = PENDING_BYTES,
        .sink = offer_to_writer,
        .spill = leave_on_disk,
        .wake = wake_writer,
        .context = store,
    };

    if (store_disk_posix_create(store->config.journal_dir, &options.disk) != 0) {
        return SL_E_STORAGE_UNAVAILABLE;
    }
    int err = store_journal_open(&options, &store->journal);
    if (err == 0) { /* after the lock: from now on the folder is this process's */
        err = store_disk_posix_create(store->config.journal_dir, &store->dead_letter_disk) == 0
                  ? store_dead_letter_open(store->dead_letter_disk, &store->dead_letters)
                  : SL_E_STORAGE_UNAVAILABLE;
    }
    return err;
}

/* ---- between journal and writer ---- */

/* At the start: what an earlier process could not write, readable again before the first request. */
static bool take_up(void *context, struct store_record *record)
{
    struct store *store = context;

    if (record->kind == STORE_RECORD_MESSAGE) {
        store_overlay_add(store->overlay, record);
    }
    if (store_writer_submit(store->writer, record) == 0) {
        return true;
    }
    store_overlay_remove(store->overlay, record);
    return false;
}

static bool offer_to_writer(void *context, struct store_record *record)
{
    struct store *store = context;

    return store_writer_submit(store->writer, record) == 0;
}

/* Its memory is wanted: until the writer reads it back, only Redis knows it. */
static void leave_on_disk(void *context, struct store_record *record)
{
    struct store *store = context;

    store_overlay_remove(store->overlay, record);
    store_record_committed(record, SL_E_STORAGE_UNAVAILABLE);
}

static void wake_writer(void *context)
{
    struct store *store = context;

    store_writer_nudge(store->writer);
}

size_t store_stop(struct store *store, unsigned timeout_ms)
{
    const struct store_journal_stats *journal = store_journal_figures(store->journal);
    const struct store_writer_stats *writer = store_writer_figures(store->writer);
    unsigned waited_ms = 0;

    /* without a database there is nothing to wait for: the journal has everything */
    if (sl_counter_get(&writer->connected) == 0 && store_journal_admission(store->journal) == 0 &&
        timeout_ms > STOP_WITHOUT_DATABASE_MS) {
        timeout_ms = STOP_WITHOUT_DATABASE_MS;
    }
    /* first what is on its way from the journal to the writer, which refuses it once it drains */
    while (waited_ms < timeout_ms && sl_counter_get(&journal->waiting_records) +
                                             sl_counter_get(&journal->uncommitted_records) >
                                         0) {
        (void)usleep(1000 * STOP_STEP_MS);
        waited_ms += STOP_STEP_MS;
    }
    size_t left = store_writer_stop(store->writer, timeout_ms - waited_ms);
    return left + store_journal_stop(store->journal, JOURNAL_STOP_MS);
}

void store_destroy(struct store *store)
{
    if (store == NULL) {
        return;
    }
    if (store->writer != NULL) {
        (void)store_writer_stop(store->writer, 0); /* before the journal: it reads its backlog */
    }
    store_journal_destroy(store->journal); /* before the writer's memory: it offers records to it */
    store_writer_destroy(store->writer);
    store_dead_letter_close(store->dead_letters);
    if (store->dead_letter_disk != NULL) {
        store->dead_letter_disk->ops->destroy(store->dead_letter_disk);
    }
    store_connector_destroy(store->connector);
    for (size_t i = 0; i < store->origin_count; i++) {
        store_origin_destroy(store->origins[i]);
    }
    free(store->origins);
    store_local_profiles_destroy(store->local);
    store_overlay_destroy(store->overlay);
    free((char *)(uintptr_t)store->config.redis_url);
    free((char *)(uintptr_t)store->config.database_url);
    free((char *)(uintptr_t)store->config.journal_dir);
    (void)pthread_mutex_destroy(&store->mutex);
    free(store);
}

const struct store_writer_stats *store_writer_stats(const struct store *store)
{
    return store_writer_figures(store->writer);
}

void store_journal_summary(const struct store *store, struct store_journal_summary *ret_summary)
{
    const struct store_journal_stats *stats = store_journal_figures(store->journal);
    uint64_t oldest_us = sl_counter_get(&stats->oldest_uncommitted_unix_us);
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    double age_s = (double)now.tv_sec + (double)now.tv_nsec / 1e9 - (double)oldest_us / 1e6;
    *ret_summary = (struct store_journal_summary){
        .health = (enum store_journal_health)sl_counter_get(&stats->state),
        .appends = sl_counter_get(&stats->appends),
        .bytes = sl_counter_get(&stats->bytes),
        .syncs = sl_counter_get(&stats->syncs),
        .write_errors = sl_counter_get(&stats->write_errors),
        .quarantined_records = sl_counter_get(&stats->quarantined_records),
        .torn_tails = sl_counter_get(&stats->torn_tails),
        .replayed_records = sl_counter_get(&stats->replayed_records),
        .waiting_records = sl_counter_get(&stats->waiting_records),
        .backlog_records = sl_counter_get(&stats->backlog_records),
        .uncommitted_records = sl_counter_get(&stats->uncommitted_records),
        .disk_bytes = sl_counter_get(&stats->disk_bytes),
        .segments = sl_counter_get(&stats->segments),
        .oldest_uncommitted_s = oldest_us != 0 && age_s > 0 ? age_s : 0,
        .sync_us = &stats->sync_us,
        .ack_us = &stats->ack_us,
    };
}

uint64_t store_journal_disk_free_bytes(const struct store *store)
{
    struct statvfs about;

    if (statvfs(store->config.journal_dir, &about) < 0) {
        return 0;
    }
    return (uint64_t)about.f_bavail * about.f_frsize;
}

/* ---- client ---- */

int store_client_create(struct store *store, struct sl_loop *loop, struct store_client **ret_client)
{
    struct store_client *client = calloc(1, sizeof(*client));
    int err;

    if (client == NULL) {
        return SL_E_NO_MEMORY;
    }
    client->store = store;
    client->loop = loop;
    err = store_pg_reader_create(loop, store->connector, store->overlay, &store->config,
                                 &client->stats, &client->reader);
    if (err == 0) {
        err = store_cache_create(loop, store->connector, &store->config, store->local,
                                 client->reader, &client->stats, &client->cache);
    }
    if (err == 0) {
        err = add_origin(client);
    }
    if (err != 0) {
        store_client_destroy(client);
        return err;
    }
    *ret_client = client;
    return 0;
}

static int add_origin(struct store_client *client)
{
    struct store *store = client->store;
    int err = store_origin_create(client->loop, &store_save_callbacks, client, &client->origin);

    if (err != 0) {
        return err;
    }
    (void)pthread_mutex_lock(&store->mutex);
    struct store_origin **origins =
        realloc(store->origins, (store->origin_count + 1) * sizeof(origins[0]));
    if (origins != NULL) {
        store->origins = origins;
        origins[store->origin_count++] = client->origin;
    }
    (void)pthread_mutex_unlock(&store->mutex);
    if (origins == NULL) {
        store_origin_destroy(client->origin);
        client->origin = NULL;
        return SL_E_NO_MEMORY;
    }
    return 0;
}

void store_client_destroy(struct store_client *client)
{
    if (client == NULL) {
        return;
    }
    store_connector_forget(client->store->connector, client->loop);
    if (client->origin != NULL) {
        store_origin_close(client->origin);
    }
    store_cache_destroy(client->cache);
    store_pg_reader_destroy(client->reader);
    free(client->slots);
    free(client);
}

const struct store_client_stats *store_client_stats(const struct store_client *client)
{
    return &client->stats;
}

enum store_link store_client_redis(const struct store_client *client)
{
    return store_cache_link(client->cache);
}

enum store_link store_client_database(const struct store_client *client)
{
    return store_pg_reader_link(client->reader);
}

/* ---- reads ---- */

static bool is_cached(enum store_read_kind kind)
{
    return kind == STORE_READ_PROFILE || kind == STORE_READ_HISTORY;
}

int store_read_start(struct store_client *client, struct store_read *read)
{
    read->client = client;
    return is_cached(read->kind) ? store_cache_read(client->cache, read)
                                 : store_pg_reader_start(client->reader, read);
}

void store_read_cancel(struct store_read *read)
{
    if (!read->op.running) {
        return;
    }
    if (is_cached(read->kind)) {
        store_cache_cancel(read->client->cache, read);
    } else {
        store_pg_reader_cancel(read->client->reader, read);
    }
}

void store_history_append(struct store_client *client, const char *user, size_t user_len,
                          const struct sl_uuid *session, const struct store_message *added,
                          size_t added_count, const struct store_message *window,
                          size_t window_count)
{
    store_cache_append(client->cache, user, user_len, session, added, added_count, window,
                       window_count);
}

/* ---- admission ---- */

int store_admission(const struct store_client *client)
{
    return store_journal_admission(client->store->journal);
}

/* ---- preload ---- */

int store_preload_start(struct store_client *client, struct store_preload *preload,
                        const char *user, size_t user_len, const struct sl_uuid *session)
{
    preload->status = 0;
    preload->waiting = 0;
    preload->profile = (struct store_read){.op.done = on_profile_loaded,
                                           .kind = STORE_READ_PROFILE,
                                           .user = user,
                                           .user_len = user_len};
    preload->history = (struct store_read){.op.done = on_history_loaded,
                                           .kind = STORE_READ_HISTORY,
                                           .user = user,
                                           .user_len = user_len,
                                           .limit = client->store->config.history_messages};
    int err = start_preload(preload, client, &preload->profile);
    if (session != NULL) {
        preload->history.session = *session;
        int history_err = start_preload(preload, client, &preload->history);
        err = err != 0 ? err : history_err;
    }
    if (preload->waiting == 0) {
        return err;
    }
    preload->status = err;
    sl_op_start(&preload->op);
    return 0;
}

static int start_preload(struct store_preload *preload, struct store_client *client,
                         struct store_read *read)
{
    int err = store_read_start(client, read);

    if (err == 0) {
        preload->waiting++;
    }
    return err;
}

static void on_profile_loaded(struct sl_op *op, int status)
{
    struct store_read *read = SL_CONTAINER_OF(op, struct store_read, op);
    end_preload_read(SL_CONTAINER_OF(read, struct store_preload, profile), read, status);
}

static void on_history_loaded(struct sl_op *op, int status)
{
    struct store_read *read = SL_CONTAINER_OF(op, struct store_read, op);
    end_preload_read(SL_CONTAINER_OF(read, struct store_preload, history), read, status);
}

static void end_preload_read(struct store_preload *preload, struct store_read *read, int status)
{
    store_read_dispose(read);
    if (preload->status == 0) {
        preload->status = status;
    }
    if (--preload->waiting == 0) {
        sl_op_finish(&preload->op, preload->status);
    }
}
