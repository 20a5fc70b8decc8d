/*
 * The exporter's thread.
 *
 * Happy path: records wait in a list, at most tracing.queue_max spans of them; the thread wakes when a
 * batch is full or tracing.interval_ms have gone by since the first one came, takes up to tracing.batch_max spans, writes one JSON
 * document, posts it, and begins again.
 *
 * Failure modes: no room in the list, no answer within tracing.timeout_ms, any answer but 2xx: the spans
 * are dropped and counted, nothing is sent twice. At the end what waits is sent within FLUSH_MS.
 * Thread: the exporter's, but for push and destroy; `lock` guards what they share, and no I/O is done under
 * it. Ownership: the list owns the records, then the batch does.
 */
#include "trace_export.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "config.h"

enum {
    FLUSH_MS = 1000,
    POLL_MS = 1000,
    SPAN_MAX_BYTES = 4096, /* it has about 600 */
    TURN_SPANS_MAX = 16,
};

struct gw_trace_export {
    const struct gw_config *config;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* under the lock */
    struct gw_trace_record *first, **end;
    size_t waiting; /* spans */
    bool stopping;
    uint64_t flush_until_ms; /* set along with stopping */
    struct gw_trace_counts counts;
    /* the thread's */
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers;
};

static int make_handles(struct gw_trace_export *export);
static void free_parts(struct gw_trace_export *export);
static bool is_full(const struct gw_trace_export *export);
static void *run(void *context);
static struct gw_trace_record *take_batch(struct gw_trace_export *export, size_t *ret_spans);
static bool send_batch(struct gw_trace_export *export, struct gw_trace_record *batch);
static bool post(struct gw_trace_export *export, const struct sl_buffer *json);
static uint64_t flush_until(struct gw_trace_export *export);
static size_t ignore_body(char *bytes, size_t size, size_t count, void *context);
static uint64_t now_ms(void);

int gw_trace_export_create(const struct gw_config *config, struct gw_trace_export **ret_export)
{
    struct gw_trace_export *export = calloc(1, sizeof(*export));
    pthread_condattr_t attributes;

    if (export == NULL) {
        return SL_E_NO_MEMORY;
    }
    export->config = config;
    export->end = &export->first;
    export->flush_until_ms = UINT64_MAX;
    (void)pthread_mutex_init(&export->lock, NULL);
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&export->wake, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    int err = make_handles(export);
    if (err == 0 && pthread_create(&export->thread, NULL, run, export) != 0) {
        err = SL_E_NO_MEMORY;
    }
    if (err != 0) {
        free_parts(export);
        return err;
    }
    *ret_export = export;
    return 0;
}

/* As narrow as for the models (upstream.c). Certificates are verified by default. */
static int make_handles(struct gw_trace_export *export)
{
    export->multi = curl_multi_init();
    export->easy = curl_easy_init();
    export->headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (export->multi == NULL || export->easy == NULL || export->headers == NULL ||
        curl_slist_append(export->headers, "Expect:") == NULL) {
        return SL_E_NO_MEMORY;
    }
    (void)curl_easy_setopt(export->easy, CURLOPT_URL, export->config->tracing.url);
    (void)curl_easy_setopt(export->easy, CURLOPT_HTTPHEADER, export->headers);
    (void)curl_easy_setopt(export->easy, CURLOPT_POST, 1L);
    (void)curl_easy_setopt(export->easy, CURLOPT_WRITEFUNCTION, ignore_body);
    (void)curl_easy_setopt(export->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(export->easy, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(export->easy, CURLOPT_NOPROXY, "*");
    (void)curl_easy_setopt(export->easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(export->easy, CURLOPT_QUICK_EXIT, 1L);
    (void)curl_easy_setopt(export->easy, CURLOPT_TIMEOUT_MS,
                           (long)export->config->tracing.timeout_ms);
    return 0;
}

/* ---------------------------------------------------------------- from the loops */

void gw_trace_export_push(struct gw_trace_export *export, struct gw_trace_record *record)
{
    size_t spans = gw_trace_record_spans(record);

    record->next = NULL;
    (void)pthread_mutex_lock(&export->lock);
    if (export->waiting + spans <= export->config->tracing.queue_max) {
        bool was_empty = export->waiting == 0, was_full = is_full(export);
        *export->end = record;
        export->end = &record->next;
        export->waiting += spans;
        record = NULL;
        if (was_empty || (is_full(export) && !was_full)) {
            (void)pthread_cond_signal(&export->wake);
        }
    } else {
        sl_counter_add(&export->counts.dropped, spans);
    }
    (void)pthread_mutex_unlock(&export->lock);
    free(record);
}

/* A whole batch waits. Under the lock. */
static bool is_full(const struct gw_trace_export *export)
{
    return export->waiting >= export->config->tracing.batch_max;
}

const struct gw_trace_counts *gw_trace_export_counts(const struct gw_trace_export *export)
{
    static const struct gw_trace_counts none;

    return export != NULL ? &export->counts : &none;
}

/* ---------------------------------------------------------------- the thread */

static void *run(void *context)
{
    struct gw_trace_export *export = context;
    struct gw_trace_record *batch;
    size_t spans;

    while ((batch = take_batch(export, &spans)) != NULL) {
        bool is_sent = now_ms() < flush_until(export) && send_batch(export, batch);
        while (batch != NULL) {
            struct gw_trace_record *next = batch->next;
            free(batch);
            batch = next;
        }
        (void)pthread_mutex_lock(&export->lock);
        sl_counter_add(is_sent ? &export->counts.exported : &export->counts.dropped, spans);
        (void)pthread_mutex_unlock(&export->lock);
    }
    return NULL;
}

/* Waits for the next records. NULL: it is over and none are left. */
static struct gw_trace_record *take_batch(struct gw_trace_export *export, size_t *ret_spans)
{
    const struct gw_config *config = export->config;

    (void)pthread_mutex_lock(&export->lock);
    while (!export->stopping && export->waiting == 0) {
        (void)pthread_cond_wait(&export->wake, &export->lock);
    }
    uint64_t due_ms = now_ms() + config->tracing.interval_ms;
    const struct timespec due = {.tv_sec = (time_t)(due_ms / 1000),
                                 .tv_nsec = (long)(due_ms % 1000) * 1000000};
    while (!export->stopping && !is_full(export) && now_ms() < due_ms) {
        (void)pthread_cond_timedwait(&export->wake, &export->lock, &due);
    }
    struct gw_trace_record *batch = export->first, **end = &export->first;
    size_t spans = 0;
    while (*end != NULL &&
           (spans == 0 || spans + gw_trace_record_spans(*end) <= config->tracing.batch_max)) {
        spans += gw_trace_record_spans(*end);
        end = &(*end)->next;
    }
    export->first = *end;
    *end = NULL;
    if (export->first == NULL) {
        export->end = &export->first;
    }
    export->waiting -= spans;
    (void)pthread_mutex_unlock(&export->lock);
    *ret_spans = spans;
    return batch;
}

static bool send_batch(struct gw_trace_export *export, struct gw_trace_record *batch)
{
    struct sl_buffer json;

    /* a single turn may have more spans than a batch */
    sl_buffer_init(&json, (export->config->tracing.batch_max + TURN_SPANS_MAX) * SPAN_MAX_BYTES);
    int err = gw_trace_json_begin(&json);
    for (; err == 0 && batch != NULL; batch = batch->next) {
        err = gw_trace_json_add(&json, batch);
    }
    if (err == 0) {
        err = gw_trace_json_end(&json);
    }
    bool is_sent = err == 0 && post(export, &json);
    sl_buffer_dispose(&json);
    return is_sent;
}

/* By a multi handle, because a request that hangs can be called off there at any moment. */
static bool post(struct gw_trace_export *export, const struct sl_buffer *json)
{
    int running = 0, messages;
    long status = 0;
    bool is_done = false;

    (void)curl_easy_setopt(export->easy, CURLOPT_POSTFIELDS, json->base);
    (void)curl_easy_setopt(export->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)json->len);
    if (curl_multi_add_handle(export->multi, export->easy) != CURLM_OK) {
        return false;
    }
    do {
        uint64_t until_ms = flush_until(export), at_ms = now_ms();
        if (at_ms >= until_ms || curl_multi_perform(export->multi, &running) != CURLM_OK) {
            break;
        }
        uint64_t left_ms = until_ms - at_ms;
        if (running > 0) {
            (void)curl_multi_poll(export->multi, NULL, 0,
                                  left_ms < POLL_MS ? (int)left_ms : POLL_MS, NULL);
        }
    } while (running > 0);
    for (CURLMsg *message; (message = curl_multi_info_read(export->multi, &messages)) != NULL;) {
        is_done = message->msg == CURLMSG_DONE && message->data.result == CURLE_OK;
    }
    (void)curl_easy_getinfo(export->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_multi_remove_handle(export->multi, export->easy);
    return is_done && status >= 200 && status < 300;
}

/* When everything has to be over; UINT64_MAX: not yet. */
static uint64_t flush_until(struct gw_trace_export *export)
{
    (void)pthread_mutex_lock(&export->lock);
    uint64_t until_ms = export->flush_until_ms;
    (void)pthread_mutex_unlock(&export->lock);
    return until_ms;
}

static size_t ignore_body(char *bytes, size_t size, size_t count, void *context)
{
    (void)bytes, (void)context;
    return size * count;
}

static uint64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---------------------------------------------------------------- the end */

void gw_trace_export_destroy(struct gw_trace_export *export)
{
    if (export == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&export->lock);
    export->stopping = true;
    export->flush_until_ms = now_ms() + FLUSH_MS;
    (void)pthread_cond_signal(&export->wake);
    (void)pthread_mutex_unlock(&export->lock);
    (void)curl_multi_wakeup(export->multi);
    (void)pthread_join(export->thread, NULL);
    free_parts(export);
}

static void free_parts(struct gw_trace_export *export)
{
    curl_easy_cleanup(export->easy);
    if (export->multi != NULL) {
        (void)curl_multi_cleanup(export->multi);
    }
    curl_slist_free_all(export->headers);
    (void)pthread_cond_destroy(&export->wake);
    (void)pthread_mutex_destroy(&export->lock);
    free(export);
}
