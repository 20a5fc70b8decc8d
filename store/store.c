/*
 * The store's front: what is made and ended together, and which way a read goes.
 *
 * Start: the connector thread, the overlay, the in-process profiles and the writer belong to the
 * process; each loop makes a client with its Postgres reader and its cache. Reads of profile and
 * history go through the cache, which asks the reader on a miss; lists go to the reader at once.
 * Saves are in save.c.
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

#include "cache.h"
#include "client.h"
#include "connector.h"
#include "connector_forget.h"
#include "local_profiles.h"
#include "overlay.h"
#include "pg_reader.h"
#include "record.h"
#include "redis_url.h"
#include "writer.h"

enum {
    RESERVE_PART = 8, /* of the queue is kept for the answers of turns that are running */
    WRITER_SILENCE_MS = 40 * 1000, /* longer than the writer's statement_timeout */
};

static int copy_config(struct store *store, const struct store_config *config);
static int start_threads(struct store *store);
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
    return store->config.redis_url != NULL && store->config.database_url != NULL ? 0
                                                                                 : SL_E_NO_MEMORY;
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
        struct store_writer_options options = {
            .database_url = store->config.database_url,
            .batch_rows = store->config.writer_batch_rows,
            .batch_bytes = store->config.writer_batch_bytes,
            .queue_bytes = store->config.writer_queue_bytes,
            .silence_ms = WRITER_SILENCE_MS,
            .overlay = store->overlay,
        };
        err = store_writer_create(&options, &store->writer);
    }
    return err;
}

size_t store_stop(struct store *store, unsigned timeout_ms)
{
    return store_writer_stop(store->writer, timeout_ms);
}

void store_destroy(struct store *store)
{
    if (store == NULL) {
        return;
    }
    store_writer_destroy(store->writer);
    store_connector_destroy(store->connector);
    for (size_t i = 0; i < store->origin_count; i++) {
        store_origin_destroy(store->origins[i]);
    }
    free(store->origins);
    store_local_profiles_destroy(store->local);
    store_overlay_destroy(store->overlay);
    free((char *)(uintptr_t)store->config.redis_url);
    free((char *)(uintptr_t)store->config.database_url);
    (void)pthread_mutex_destroy(&store->mutex);
    free(store);
}

const struct store_writer_stats *store_writer_stats(const struct store *store)
{
    return store_writer_figures(store->writer);
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
    const struct store_writer_stats *writer = store_writer_figures(client->store->writer);
    size_t max = client->store->config.writer_queue_bytes;

    return sl_counter_get(&writer->bytes_waiting) < max - max / RESERVE_PART ? 0 : SL_E_OVERLOADED;
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
