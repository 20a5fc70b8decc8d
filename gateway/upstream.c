/*
 * One streaming request to the model, by libcurl.
 *
 * Happy path: a transfer (easy handle, parser, translator) is taken from the spare list, given the body,
 * and started. libcurl's write callback feeds the SSE parser, whose events the provider turns into
 * deltas, which go to the turn at once. When the upstream has said that the answer is complete, the
 * call finishes; the transfer stays behind until libcurl has read the end of the response, so that the
 * connection goes back to the pool, and at most for LINGER_MS.
 *
 * Failure modes: connect errors, HTTP errors (the body is read up to a bound and never forwarded), a
 * stream that ends, breaks or turns to nonsense before it was complete. Completion is decided by our
 * parser, not by libcurl: a clean end of the body without a finish reason or end marker is a truncated
 * answer. Thread: its loop's. Ownership: see the header.
 */
#include "upstream.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config.h"
#include "curl_loop.h"
#include "provider.h"

enum { LINGER_MS = 1000, PLAIN_BODY_MAX = 4 << 20 };

enum body_kind { BODY_UNKNOWN, BODY_EVENTS, BODY_JSON, BODY_IGNORED };

struct gw_transfer {
    CURL *easy;
    struct gw_upstream *upstream;
    struct gw_upstream_call *call; /* NULL: the call is over, the rest is read and dropped */
    struct gw_transfer *next;      /* while spare */
    struct sl_timer linger;
    struct sl_task finish; /* hands the call back from a task, never from inside libcurl */
    int finish_status;
    bool active; /* in the multi handle */
    enum body_kind kind;
    struct sl_buffer request, plain;
    struct gw_sse_parser parser;
    struct gw_provider_stream stream;
    bool complete; /* a finish reason or the end marker was seen */
    int stop;      /* why our callbacks refused to go on; 0: they did not */
};

struct gw_upstream {
    struct sl_loop *loop;
    const struct gw_config *config;
    struct gw_curl_loop *curl;
    struct curl_slist *headers;
    char *url;
    struct gw_transfer *spare;
    struct gw_upstream *older;
    struct gw_transfer **all; /* every transfer, for the end */
    size_t all_count, all_capacity;
};

static int build_url_and_headers(struct gw_upstream *upstream);
static struct gw_transfer *take_transfer(struct gw_upstream *upstream);
static struct gw_transfer *new_transfer(struct gw_upstream *upstream);
static void set_options(struct gw_transfer *transfer);
static int on_connected(void *context, char *peer, char *local, int peer_port, int local_port);
static size_t on_body(char *bytes, size_t size, size_t count, void *context);
static enum body_kind kind_of_body(struct gw_transfer *transfer);
static int on_event(void *context, const struct gw_sse_event *event);
static int deliver(struct gw_transfer *transfer, const struct gw_delta *delta);
static void on_transfer_done(void *context, CURL *easy, CURLcode result);
static int judge(struct gw_transfer *transfer, CURLcode result);
static int judge_status(long status);
static int judge_result(CURLcode result, const struct gw_upstream_call *call);
static void finish_later(struct gw_transfer *transfer, int status);
static void finish_call(struct sl_task *task);
static void on_linger_expired(struct sl_timer *timer);
static void release(struct gw_transfer *transfer);

int gw_upstream_init_process(void)
{
    return curl_global_init(CURL_GLOBAL_ALL) == CURLE_OK ? 0 : SL_E_INTERNAL;
}

int gw_upstream_create(struct sl_loop *loop, const struct gw_config *config,
                       struct gw_upstream *older, struct gw_upstream **ret_upstream)
{
    struct gw_upstream *upstream = calloc(1, sizeof(*upstream));

    if (upstream == NULL) {
        return SL_E_NO_MEMORY;
    }
    upstream->loop = loop;
    upstream->config = config;
    int err = build_url_and_headers(upstream);
    if (err == 0) {
        err = gw_curl_loop_create(loop, config->upstream.connections_max, on_transfer_done,
                                  upstream, &upstream->curl);
    }
    if (err != 0) {
        gw_upstream_destroy(upstream);
        return err;
    }
    upstream->older = older;
    *ret_upstream = upstream;
    return 0;
}

static int build_url_and_headers(struct gw_upstream *upstream)
{
    static const char *const fixed[] = {
        "Content-Type: application/json", "Accept: text/event-stream",
        "Expect:", /* a 100-continue round trip would cost milliseconds */
    };
    struct sl_buffer text;

    sl_buffer_init(&text, 16384);
    if (sl_buffer_appendf(&text, "%s/chat/completions%c", upstream->config->upstream.url, 0) != 0) {
        return SL_E_NO_MEMORY;
    }
    upstream->url = text.base;
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        struct curl_slist *headers = curl_slist_append(upstream->headers, fixed[i]);
        if (headers == NULL) {
            return SL_E_NO_MEMORY;
        }
        upstream->headers = headers;
    }
    const char *key = upstream->config->upstream.api_key;
    if (key == NULL || key[0] == '\0') {
        return 0;
    }
    sl_buffer_init(&text, 16384);
    int err = sl_buffer_appendf(&text, "Authorization: Bearer %s%c", key, 0);
    if (err == 0) {
        struct curl_slist *headers = curl_slist_append(upstream->headers, text.base);
        err = headers == NULL ? SL_E_NO_MEMORY : 0;
        upstream->headers = headers == NULL ? upstream->headers : headers;
        explicit_bzero(text.base, text.len);
    }
    sl_buffer_dispose(&text);
    return err;
}

/* ---------------------------------------------------------------- one request */

int gw_upstream_start(struct gw_upstream *upstream, struct gw_upstream_call *call,
                      struct sl_buffer *body)
{
    struct gw_transfer *transfer = take_transfer(upstream);

    if (transfer == NULL) {
        return SL_E_NO_MEMORY;
    }
    sl_buffer_dispose(&transfer->request);
    transfer->request = *body;
    sl_buffer_init(body, body->max);
    transfer->call = call;
    transfer->kind = BODY_UNKNOWN;
    transfer->complete = false;
    transfer->stop = 0;
    gw_sse_parser_init(&transfer->parser, upstream->config->upstream.event_max_bytes, on_event,
                       transfer);
    gw_provider_stream_init(&transfer->stream, gw_provider_find("openai"),
                            upstream->config->upstream.answer_max_bytes);
    sl_buffer_init(&transfer->plain, PLAIN_BODY_MAX);
    (void)curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDS, transfer->request.base);
    (void)curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDSIZE_LARGE,
                           (curl_off_t)transfer->request.len);
    sl_op_start(&call->op);
    call->transfer = transfer;
    transfer->active = true;
    if (gw_curl_loop_add(upstream->curl, transfer->easy) != 0) {
        transfer->active = false;
        call->op.running = false;
        transfer->call = NULL;
        release(transfer);
        return SL_E_NO_MEMORY;
    }
    return 0;
}

static struct gw_transfer *take_transfer(struct gw_upstream *upstream)
{
    struct gw_transfer *transfer = upstream->spare;

    if (transfer != NULL) {
        upstream->spare = transfer->next;
        return transfer;
    }
    return new_transfer(upstream);
}

static struct gw_transfer *new_transfer(struct gw_upstream *upstream)
{
    if (upstream->all_count == upstream->all_capacity) {
        size_t capacity = upstream->all_capacity > 0 ? upstream->all_capacity * 2 : 64;
        struct gw_transfer **all = realloc(upstream->all, capacity * sizeof(struct gw_transfer *));
        if (all == NULL) {
            return NULL;
        }
        upstream->all = all;
        upstream->all_capacity = capacity;
    }
    struct gw_transfer *transfer = calloc(1, sizeof(*transfer));
    if (transfer == NULL) {
        return NULL;
    }
    transfer->easy = curl_easy_init();
    if (transfer->easy == NULL) {
        free(transfer);
        return NULL;
    }
    transfer->upstream = upstream;
    transfer->linger.expired = on_linger_expired;
    transfer->finish.run = finish_call;
    set_options(transfer);
    upstream->all[upstream->all_count++] = transfer;
    return transfer;
}

/* Fixed for the life of a handle. faults.md section 6 gives the reason of each. */
static void set_options(struct gw_transfer *transfer)
{
    const struct gw_upstream *upstream = transfer->upstream;
    CURL *easy = transfer->easy;

    (void)curl_easy_setopt(easy, CURLOPT_URL, upstream->url);
    (void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, upstream->headers);
    (void)curl_easy_setopt(easy, CURLOPT_POST, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    (void)curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_connected);
    (void)curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "https");
    (void)curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    (void)curl_easy_setopt(easy, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    (void)curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_QUICK_EXIT,
                           1L); /* never joins a hanging resolver thread */
    /* our own timers decide; these only keep libcurl's defaults from being shorter or endless */
    (void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                           (long)upstream->config->upstream.connect_timeout_ms + 1000);
    (void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 0L);
}

/* ---------------------------------------------------------------- inside libcurl: no policy here */

static int on_connected(void *context, char *peer, char *local, int peer_port, int local_port)
{
    struct gw_transfer *transfer = context;

    (void)peer, (void)local, (void)peer_port, (void)local_port;
    if (transfer->call != NULL) {
        transfer->call->connected = true;
        transfer->call->connected_us = sl_loop_now_us(transfer->upstream->loop);
        transfer->call->events->on_progress(transfer->call);
    }
    return CURL_PREREQFUNC_OK;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *context)
{
    struct gw_transfer *transfer = context;
    size_t len = size * count;

    if (transfer->call == NULL) {
        return len; /* the tail of a finished answer */
    }
    if (transfer->kind == BODY_UNKNOWN) {
        transfer->call->first_byte_us = sl_loop_now_us(transfer->upstream->loop);
        transfer->kind = kind_of_body(transfer);
    }
    switch (transfer->kind) {
    case BODY_EVENTS:
        transfer->stop = gw_sse_parser_feed(&transfer->parser, bytes, len);
        break;
    case BODY_JSON:
        transfer->stop = sl_buffer_append(&transfer->plain, bytes, len);
        break;
    case BODY_UNKNOWN:
    case BODY_IGNORED:
        break;
    }
    if (transfer->complete && transfer->stop == 0) {
        struct gw_delta rest;
        transfer->stop = gw_provider_stream_finish(&transfer->stream, &rest);
        if (transfer->stop == 0) {
            transfer->stop = deliver(transfer, &rest);
        }
        finish_later(transfer, transfer->stop);
    }
    return transfer->stop == 0 ? len : CURL_WRITEFUNC_ERROR;
}

static enum body_kind kind_of_body(struct gw_transfer *transfer)
{
    static const char json_type[] = "application/json";
    long status = 0;
    char *type = NULL;

    (void)curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(transfer->easy, CURLINFO_CONTENT_TYPE, &type);
    transfer->call->http_status = (int)status;
    if (status != 200) {
        return BODY_IGNORED;
    }
    if (type != NULL && strncasecmp(type, json_type, sizeof(json_type) - 1) == 0) {
        return BODY_JSON; /* a server that ignored `stream` */
    }
    return BODY_EVENTS;
}

static int on_event(void *context, const struct gw_sse_event *event)
{
    struct gw_transfer *transfer = context;
    struct gw_delta delta;

    if (transfer->complete && transfer->call == NULL) {
        return 0;
    }
    int err = gw_provider_stream_event(&transfer->stream, event, &delta);
    return err != 0 ? err : deliver(transfer, &delta);
}

static int deliver(struct gw_transfer *transfer, const struct gw_delta *delta)
{
    struct gw_upstream_call *call = transfer->call;

    if (delta->failed) {
        return delta->failed_retryable ? SL_E_UPSTREAM_FAILED : SL_E_UPSTREAM_REJECTED;
    }
    if (delta->has_usage) {
        call->has_usage = true;
        call->prompt_tokens = delta->prompt_tokens;
        call->completion_tokens = delta->completion_tokens;
    }
    if (delta->has_finish) {
        call->has_finish = true;
        memcpy(call->finish_reason, delta->finish_reason, sizeof(call->finish_reason));
    }
    transfer->complete = transfer->complete || delta->ended;
    return call->events->on_delta(call, delta);
}

/* ---------------------------------------------------------------- the end, from tasks */

static void on_transfer_done(void *context, CURL *easy, CURLcode result)
{
    struct gw_transfer *transfer = NULL;

    (void)context;
    (void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&transfer);
    transfer->active = false;
    sl_loop_disarm(transfer->upstream->loop, &transfer->linger);
    if (transfer->call == NULL) {
        release(transfer);
        return;
    }
    if (transfer->finish.prev_next == NULL) {
        finish_later(transfer, judge(transfer, result));
    }
}

/* Was that a whole answer? */
static int judge(struct gw_transfer *transfer, CURLcode result)
{
    struct gw_upstream_call *call = transfer->call;
    struct gw_delta delta;
    long status = 0;

    if (transfer->stop != 0) {
        return transfer->stop == SL_E_LIMIT ? SL_E_ANSWER_TOO_LONG : transfer->stop;
    }
    (void)curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    call->http_status = (int)status;
    if (status != 0 && status != 200) {
        return judge_status(status);
    }
    if (result != CURLE_OK) {
        return judge_result(result, call);
    }
    int err = transfer->kind == BODY_JSON
                  ? gw_provider_stream_body(&transfer->stream, transfer->plain.base,
                                            transfer->plain.len, &delta)
                  : gw_provider_stream_finish(&transfer->stream, &delta);
    if (err == 0) {
        err = deliver(transfer, &delta);
    }
    if (err != 0) {
        return err;
    }
    return transfer->complete || call->has_finish ? 0 : SL_E_UPSTREAM_TRUNCATED;
}

static int judge_status(long status)
{
    if (status == 429) {
        return SL_E_UPSTREAM_RATE_LIMITED;
    }
    return status >= 500 || status == 408 ? SL_E_UPSTREAM_FAILED : SL_E_UPSTREAM_REJECTED;
}

static int judge_result(CURLcode result, const struct gw_upstream_call *call)
{
    switch (result) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
        return SL_E_UPSTREAM_UNREACHABLE;
    case CURLE_OPERATION_TIMEDOUT:
        return SL_E_UPSTREAM_CONNECT_TIMEOUT;
    case CURLE_OUT_OF_MEMORY:
        return SL_E_NO_MEMORY;
    default:
        return call->connected ? SL_E_UPSTREAM_TRUNCATED : SL_E_UPSTREAM_UNREACHABLE;
    }
}

static void finish_later(struct gw_transfer *transfer, int status)
{
    transfer->finish_status = status;
    sl_loop_defer(transfer->upstream->loop, &transfer->finish);
}

static void finish_call(struct sl_task *task)
{
    struct gw_transfer *transfer = SL_CONTAINER_OF(task, struct gw_transfer, finish);
    struct gw_upstream_call *call = transfer->call;
    int status = transfer->finish_status;

    transfer->call = NULL;
    call->transfer = NULL;
    if (!transfer->active) {
        release(transfer);
    } else if (status == 0) {
        sl_loop_arm(transfer->upstream->loop, &transfer->linger, LINGER_MS * 1000);
    } else {
        gw_curl_loop_remove(transfer->upstream->curl, transfer->easy);
        transfer->active = false;
        release(transfer);
    }
    sl_op_finish(&call->op, status);
}

void gw_upstream_cancel(struct gw_upstream_call *call)
{
    if (!call->op.running || call->transfer->finish.prev_next != NULL) {
        return; /* the result is on its way */
    }
    finish_later(call->transfer, SL_E_CANCELLED);
}

/* The upstream said it was done but keeps the response open: its connection is not worth waiting for. */
static void on_linger_expired(struct sl_timer *timer)
{
    struct gw_transfer *transfer = SL_CONTAINER_OF(timer, struct gw_transfer, linger);

    gw_curl_loop_remove(transfer->upstream->curl, transfer->easy);
    transfer->active = false;
    release(transfer);
}

static void release(struct gw_transfer *transfer)
{
    struct gw_upstream *upstream = transfer->upstream;

    sl_loop_disarm(upstream->loop, &transfer->linger);
    sl_loop_undefer(upstream->loop, &transfer->finish);
    gw_sse_parser_dispose(&transfer->parser);
    gw_provider_stream_dispose(&transfer->stream);
    sl_buffer_dispose(&transfer->plain);
    sl_buffer_dispose(&transfer->request);
    transfer->next = upstream->spare;
    upstream->spare = transfer;
}

void gw_upstream_destroy(struct gw_upstream *upstream)
{
    if (upstream == NULL) {
        return;
    }
    gw_upstream_destroy(upstream->older);
    for (size_t i = 0; i < upstream->all_count; i++) {
        struct gw_transfer *transfer = upstream->all[i];
        if (transfer->active) {
            gw_curl_loop_remove(upstream->curl, transfer->easy);
            transfer->active = false;
            release(transfer);
        }
        curl_easy_cleanup(transfer->easy);
        free(transfer);
    }
    gw_curl_loop_destroy(upstream->curl);
    curl_slist_free_all(upstream->headers);
    free(upstream->url);
    free(upstream->all);
    free(upstream);
}
