/*
 * One record on its way to Postgres, and the origin that hears of it.
 *
 * Happy path: a loop makes a record and hands it on; the thread that has made it durable or written
 * it puts it into one of the origin's two lists and posts the origin's one message; the loop takes
 * both lists and calls back, durable ones first, so a record that is in both is freed last.
 *
 * Failure modes: none after creation. A closed origin frees what comes back.
 * Thread: any; the origin's mutex guards the lists and `loop`. Ownership: see the header.
 */
#include "record.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sluice/op.h"

struct store_origin {
    pthread_mutex_t mutex;
    struct sl_loop *loop; /* NULL: closed */
    const struct store_origin_callbacks *callbacks;
    void *context;
    struct sl_message message;
    bool posted;
    struct store_record *durable, **durable_tail;
    struct store_record *committed, **committed_tail;
};

static struct store_record *allocate(size_t texts, const char *user, size_t user_len,
                                     char **ret_texts);
static void place_text(struct store_text *text, char **texts);
static void post_locked(struct store_origin *origin);
static void receive(struct sl_message *message);

/* ---- records ---- */

int store_record_create_message(const char *user, size_t user_len, const struct sl_uuid *session,
                                const struct store_message *message,
                                struct store_record **ret_record)
{
    size_t size =
        message->content.len + message->model.len + message->finish_reason.len + 3 /* NULs */;
    char *texts;
    struct store_record *record = allocate(size, user, user_len, &texts);

    if (record == NULL) {
        return SL_E_NO_MEMORY;
    }
    record->kind = STORE_RECORD_MESSAGE;
    record->session = *session;
    record->message = *message;
    place_text(&record->message.content, &texts);
    place_text(&record->message.model, &texts);
    place_text(&record->message.finish_reason, &texts);
    *ret_record = record;
    return 0;
}

int store_record_create(enum store_record_kind kind, const char *user, size_t user_len,
                        const struct sl_uuid *session, struct store_text text,
                        struct store_record **ret_record)
{
    char *texts;
    struct store_record *record = allocate(text.len + 1, user, user_len, &texts);

    if (record == NULL) {
        return SL_E_NO_MEMORY;
    }
    record->kind = kind;
    if (session != NULL) {
        record->session = *session;
    }
    record->text = text;
    place_text(&record->text, &texts);
    *ret_record = record;
    return 0;
}

void store_record_destroy(struct store_record *record)
{
    free(record);
}

static struct store_record *allocate(size_t texts, const char *user, size_t user_len,
                                     char **ret_texts)
{
    size_t bytes = sizeof(struct store_record) + user_len + 1 + texts;
    struct store_record *record = malloc(bytes);
    struct timespec now;

    if (record == NULL) {
        return NULL;
    }
    memset(record, 0, sizeof(*record));
    char *at = (char *)(record + 1);
    memcpy(at, user, user_len);
    at[user_len] = '\0';
    record->user = at;
    record->user_len = user_len;
    record->bytes = bytes;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    record->recorded_at_us = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
    *ret_texts = at + user_len + 1;
    return record;
}

static void place_text(struct store_text *text, char **texts)
{
    if (text->base == NULL) {
        text->len = 0;
        return;
    }
    memcpy(*texts, text->base, text->len);
    (*texts)[text->len] = '\0';
    text->base = *texts;
    *texts += text->len + 1;
}

void store_record_durable(struct store_record *record)
{
    struct store_origin *origin = record->origin;

    if (record->durable) {
        return;
    }
    record->durable = true;
    if (origin == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&origin->mutex);
    if (origin->loop != NULL) {
        record->durable_next = NULL;
        *origin->durable_tail = record;
        origin->durable_tail = &record->durable_next;
        post_locked(origin);
    }
    (void)pthread_mutex_unlock(&origin->mutex);
}

void store_record_committed(struct store_record *record, int status)
{
    struct store_origin *origin = record->origin;
    bool wanted = false;

    record->status = status;
    if (origin != NULL) {
        (void)pthread_mutex_lock(&origin->mutex);
        wanted = origin->loop != NULL;
        if (wanted) {
            record->committed_next = NULL;
            *origin->committed_tail = record;
            origin->committed_tail = &record->committed_next;
            post_locked(origin);
        }
        (void)pthread_mutex_unlock(&origin->mutex);
    }
    if (!wanted) {
        store_record_destroy(record);
    }
}

/* ---- origins ---- */

int store_origin_create(struct sl_loop *loop, const struct store_origin_callbacks *callbacks,
                        void *context, struct store_origin **ret_origin)
{
    struct store_origin *origin = calloc(1, sizeof(*origin));

    if (origin == NULL) {
        return SL_E_NO_MEMORY;
    }
    (void)pthread_mutex_init(&origin->mutex, NULL);
    origin->loop = loop;
    origin->callbacks = callbacks;
    origin->context = context;
    origin->message.receive = receive;
    origin->durable_tail = &origin->durable;
    origin->committed_tail = &origin->committed;
    *ret_origin = origin;
    return 0;
}

static void post_locked(struct store_origin *origin)
{
    if (!origin->posted) {
        origin->posted = true;
        sl_loop_post(origin->loop, &origin->message);
    }
}

static void receive(struct sl_message *message)
{
    struct store_origin *origin = SL_CONTAINER_OF(message, struct store_origin, message);

    (void)pthread_mutex_lock(&origin->mutex);
    struct store_record *durable = origin->durable, *committed = origin->committed;
    origin->durable = NULL;
    origin->durable_tail = &origin->durable;
    origin->committed = NULL;
    origin->committed_tail = &origin->committed;
    origin->posted = false;
    (void)pthread_mutex_unlock(&origin->mutex);

    while (durable != NULL) {
        struct store_record *next = durable->durable_next;
        origin->callbacks->durable(origin->context, durable);
        durable = next;
    }
    while (committed != NULL) {
        struct store_record *next = committed->committed_next; /* the callee frees the record */
        origin->callbacks->committed(origin->context, committed);
        committed = next;
    }
}

void store_origin_close(struct store_origin *origin)
{
    (void)pthread_mutex_lock(&origin->mutex);
    struct store_record *committed = origin->committed;
    origin->durable = NULL;
    origin->durable_tail = &origin->durable;
    origin->committed = NULL;
    origin->committed_tail = &origin->committed;
    origin->loop = NULL;
    (void)pthread_mutex_unlock(&origin->mutex);
    while (committed != NULL) {
        struct store_record *next = committed->committed_next;
        store_record_destroy(committed);
        committed = next;
    }
}

void store_origin_destroy(struct store_origin *origin)
{
    if (origin == NULL) {
        return;
    }
    store_origin_close(origin);
    (void)pthread_mutex_destroy(&origin->mutex);
    free(origin);
}
