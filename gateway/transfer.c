/*
 * One request to the model and its response.
 *
 * Happy path: a transfer (easy handle, parser, translator) is given the body and started. libcurl's
 * write callback feeds the SSE parser, whose events the provider turns into deltas, which go on at once.
 * When the upstream has said that the answer is complete, the call finishes; the transfer stays behind
 * until libcurl has read the end of the response, so that the connection goes back to the pool, and at
 * most for LINGER_MS.
 *
 * Failure modes: connect errors, HTTP errors, a stream that ends, breaks or turns to nonsense before it
 * was complete. An HTTP error is decided by its status as soon as the head is there; only a 429's body is
 * read (up to a bound, never forwarded), since it tells a spent quota from a moment of load. Completion
 * is decided by our parser, not by libcurl: a clean end of the body without a finish reason or end
 * marker is a truncated answer. Thread: its loop's. Ownership: see upstream.h.
 */
#include "transfer.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "config.h"
#include "curl_loop.h"
#include "upstream_error.h"

enum {
    LINGER_MS = 1000,
    HEAD_MAX_BYTES = 64 << 10,
    PLAIN_BODY_MAX = 4 << 20,
    ERROR_BODY_MAX = 64 << 10,
    RETRY_AFTER_MAX_S = 24 * 60 * 60,
};

static void on_resolved(struct sl_op *op, int status);
static int set_addresses(struct gw_transfer *transfer);
static int send_request(struct gw_transfer *transfer);
static int on_connected(void *context, char *peer, char *local, int peer_port, int local_port);
static size_t on_head_line(char *bytes, size_t size, size_t count, void *context);
static uint64_t read_retry_after(const char *text, size_t len);
static int on_head(struct gw_transfer *transfer);
static size_t on_body(char *bytes, size_t size, size_t count, void *context);
static int on_event(void *context, const struct gw_sse_event *event);
static int deliver(struct gw_transfer *transfer, const struct gw_delta *delta);
static int judge(struct gw_transfer *transfer, CURLcode result);
static int judge_status(long status);
static int judge_result(CURLcode result, const struct gw_transfer *transfer);
static bool is_finishing(const struct gw_transfer *transfer);
static void finish_later(struct gw_transfer *transfer, int status);
static void finish_call(struct sl_task *task);
static void on_linger_expired(struct sl_timer *timer);

void gw_transfer_set_callbacks(struct gw_transfer *transfer)
{
    CURL *easy = transfer->easy;

    transfer->linger.expired = on_linger_expired;
    transfer->finish.run = finish_call;
    transfer->resolve.op.done = on_resolved;
    (void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_head_line);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    (void)curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_connected);
    (void)curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
}

/* ---------------------------------------------------------------- the request */

int gw_upstream_start(struct gw_upstream *upstream, struct gw_upstream_call *call,
                      struct sl_buffer *body)
{
    struct gw_transfer *transfer = gw_transfer_take(upstream);

    if (transfer == NULL) {
        return SL_E_NO_MEMORY;
    }
    transfer->request = *body;
    sl_buffer_init(body, body->max);
    transfer->call = call;
    transfer->kind = GW_BODY_UNKNOWN;
    transfer->head_bytes = 0;
    transfer->complete = false;
    transfer->address_refused = false;
    transfer->stop = 0;
    gw_sse_parser_init(&transfer->parser, upstream->config->upstream.event_max_bytes, on_event,
                       transfer);
    gw_provider_stream_init(&transfer->stream, upstream->provider,
                            upstream->config->upstream.answer_max_bytes);
    sl_buffer_init(&transfer->plain, PLAIN_BODY_MAX);
    (void)curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDS, transfer->request.base);
    (void)curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDSIZE_LARGE,
                           (curl_off_t)transfer->request.len);
    (void)curl_easy_setopt(transfer->easy, CURLOPT_FRESH_CONNECT, 0L);
    call->transfer = transfer;
    sl_op_start(&call->op);
    int err = call->traceparent[0] != '\0' ? gw_transfer_set_trace(transfer, call) : 0;
    if (err == 0) {
        err = set_addresses(transfer);
    }
    if (err == 0) {
        err = send_request(transfer);
    } else if (err == SL_E_NOT_FOUND) {
        err = gw_resolve_start(upstream->resolver, upstream->loop, &transfer->resolve);
    }
    if (err != 0) {
        call->op.running = false;
        transfer->call = NULL;
        gw_transfer_release(transfer);
    }
    return err;
}

/* The host's first look-up is over; later ones are waited for by nobody. */
static void on_resolved(struct sl_op *op, int status)
{
    struct gw_transfer *transfer = SL_CONTAINER_OF(op, struct gw_transfer, resolve.op);

    if (transfer->finish_is_due) {
        finish_later(transfer, transfer->finish_status);
        return;
    }
    if (status == 0) {
        status = set_addresses(transfer);
    }
    if (status == 0) {
        status = send_request(transfer);
    }
    if (status != 0) {
        finish_later(transfer, status);
    }
}

/* What is known of the host's addresses. SL_E_NOT_FOUND: nothing yet. */
static int set_addresses(struct gw_transfer *transfer)
{
    char addresses[GW_RESOLVE_TEXT];
    uint64_t generation;

    if (transfer->upstream->resolver == NULL) {
        return 0;
    }
    return gw_resolver_peek(transfer->upstream->resolver, addresses, &generation)
               ? gw_transfer_set_addresses(transfer, addresses, generation)
               : SL_E_NOT_FOUND;
}

static int send_request(struct gw_transfer *transfer)
{
    transfer->active = true;
    if (gw_curl_loop_add(transfer->upstream->curl, transfer->easy) != 0) {
        transfer->active = false;
        return SL_E_NO_MEMORY;
    }
    return 0;
}

/* ---------------------------------------------------------------- inside libcurl: no policy here */

static int on_connected(void *context, char *peer, char *local, int peer_port, int local_port)
{
    struct gw_transfer *transfer = context;

    (void)peer, (void)local, (void)peer_port, (void)local_port;
    /* libcurl repeats by itself what a kept connection swallowed, but would take the next kept one, up to
     * five times over: those have most likely died with it, and a request that kills its server must not
     * kill it six times */
    (void)curl_easy_setopt(transfer->easy, CURLOPT_FRESH_CONNECT, 1L);
    if (transfer->call != NULL) {
        transfer->call->connected = true;
        transfer->call->connected_us = sl_loop_now_us(transfer->upstream->loop);
    }
    return CURL_PREREQFUNC_OK;
}

/* One line of the head, at its end the blank one. */
static size_t on_head_line(char *bytes, size_t size, size_t count, void *context)
{
    static const char retry_after[] = "retry-after:";
    struct gw_transfer *transfer = context;
    const size_t name_len = sizeof(retry_after) - 1;
    size_t len = size * count;

    transfer->head_bytes += len;
    if (transfer->head_bytes > HEAD_MAX_BYTES) {
        transfer->stop = SL_E_UPSTREAM_MALFORMED;
    } else if (transfer->call == NULL) {
        return len;
    } else if (len > name_len && strncasecmp(bytes, retry_after, name_len) == 0) {
        transfer->call->retry_after_us = read_retry_after(bytes + name_len, len - name_len);
    } else if (len <= 2 && (bytes[0] == '\r' || bytes[0] == '\n')) {
        transfer->stop = on_head(transfer);
    }
    return transfer->stop == 0 ? len : 0;
}

/* RFC 9110 section 10.2.3: seconds or a date. What cannot be read asks for nothing. */
static uint64_t read_retry_after(const char *text, size_t len)
{
    char value[64];
    char *end;

    while (len > 0 && (*text == ' ' || *text == '\t')) {
        text++;
        len--;
    }
    if (len >= sizeof(value)) {
        return 0;
    }
    memcpy(value, text, len);
    value[len] = '\0';
    double seconds = strtod(value, &end);
    if (end == value) {
        time_t at = curl_getdate(value, NULL);
        seconds = at == (time_t)-1 ? 0 : difftime(at, time(NULL));
    }
    if (!(seconds > 0)) {
        return 0;
    }
    return (uint64_t)((seconds < RETRY_AFTER_MAX_S ? seconds : RETRY_AFTER_MAX_S) * 1e6);
}

/* The head is complete: what kind of body follows, and does it matter? */
static int on_head(struct gw_transfer *transfer)
{
    static const char json_type[] = "application/json", html_type[] = "text/html";
    long status = 0;
    char *type = NULL;

    (void)curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200 || transfer->kind != GW_BODY_UNKNOWN) {
        return 0; /* 100 Continue and the like, before the real head; or trailers, behind the body */
    }
    (void)curl_easy_getinfo(transfer->easy, CURLINFO_CONTENT_TYPE, &type);
    transfer->call->http_status = (int)status;
    transfer->call->first_byte_us = sl_loop_now_us(transfer->upstream->loop);
    if (status == 429) {
        transfer->kind = GW_BODY_ERROR;
        sl_loop_arm(transfer->upstream->loop, &transfer->linger, LINGER_MS * 1000);
    } else if (status != 200) {
        transfer->kind = GW_BODY_IGNORED;
        finish_later(transfer, judge_status(status));
    } else if (type != NULL && strncasecmp(type, json_type, sizeof(json_type) - 1) == 0) {
        transfer->kind = GW_BODY_JSON; /* a server that ignored `stream` */
    } else if (type != NULL && strncasecmp(type, html_type, sizeof(html_type) - 1) == 0) {
        return SL_E_UPSTREAM_MALFORMED; /* some proxy's page */
    } else {
        transfer->kind = GW_BODY_EVENTS;
    }
    return 0;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *context)
{
    struct gw_transfer *transfer = context;
    size_t len = size * count;

    if (transfer->call == NULL || transfer->complete) {
        return len; /* the tail of a finished answer */
    }
    switch (transfer->kind) {
    case GW_BODY_EVENTS:
        transfer->stop = gw_sse_parser_feed(&transfer->parser, bytes, len);
        break;
    case GW_BODY_JSON:
        transfer->stop = sl_buffer_append(&transfer->plain, bytes, len);
        break;
    case GW_BODY_ERROR:
        if (transfer->plain.len + len <= ERROR_BODY_MAX) {
            transfer->stop = sl_buffer_append(&transfer->plain, bytes, len);
        }
        break;
    case GW_BODY_UNKNOWN:
    case GW_BODY_IGNORED:
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

static int on_event(void *context, const struct gw_sse_event *event)
{
    struct gw_transfer *transfer = context;
    struct gw_delta delta;

    if (transfer->complete) {
        return 0; /* whatever a server says behind the end */
    }
    int err = gw_provider_stream_event(&transfer->stream, event, &delta);
    return err != 0 ? err : deliver(transfer, &delta);
}

static int deliver(struct gw_transfer *transfer, const struct gw_delta *delta)
{
    struct gw_upstream_call *call = transfer->call;

    if (delta->failed_spent) {
        call->is_spent = true;
        return SL_E_UPSTREAM_RATE_LIMITED;
    }
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

void gw_transfer_on_done(void *context, CURL *easy, CURLcode result)
{
    struct gw_transfer *transfer = NULL;

    (void)context;
    (void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&transfer);
    transfer->active = false;
    sl_loop_disarm(transfer->upstream->loop, &transfer->linger);
    if (transfer->call == NULL) {
        gw_transfer_release(transfer);
    } else if (!is_finishing(transfer)) {
        finish_later(transfer, judge(transfer, result));
    }
}

/* Was that a whole answer? */
static int judge(struct gw_transfer *transfer, CURLcode result)
{
    struct gw_upstream_call *call = transfer->call;
    struct gw_delta delta;

    if (transfer->stop != 0) {
        return transfer->stop == SL_E_LIMIT ? SL_E_ANSWER_TOO_LONG : transfer->stop;
    }
    if (transfer->kind == GW_BODY_ERROR) {
        call->is_spent = gw_upstream_error_judge(transfer->plain.base, transfer->plain.len).spent;
        return judge_status(call->http_status);
    }
    if (result != CURLE_OK) {
        return judge_result(result, transfer);
    }
    int err = transfer->kind == GW_BODY_JSON
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
    if (status < 400) {
        return SL_E_UPSTREAM_MALFORMED; /* a redirect, which is not followed; no content */
    }
    return status >= 500 || status == 408 ? SL_E_UPSTREAM_FAILED : SL_E_UPSTREAM_REJECTED;
}

static int judge_result(CURLcode result, const struct gw_transfer *transfer)
{
    if (transfer->address_refused && !transfer->call->connected) {
        return SL_E_UPSTREAM_ADDRESS_REFUSED;
    }
    switch (result) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
        return SL_E_UPSTREAM_UNREACHABLE;
    case CURLE_OPERATION_TIMEDOUT:
        return SL_E_UPSTREAM_CONNECT_TIMEOUT;
    case CURLE_UNSUPPORTED_PROTOCOL: /* as libcurl calls an answer without a status line */
    case CURLE_WEIRD_SERVER_REPLY:
        return SL_E_UPSTREAM_MALFORMED;
    case CURLE_OUT_OF_MEMORY:
        return SL_E_NO_MEMORY;
    default:
        return transfer->call->connected ? SL_E_UPSTREAM_TRUNCATED : SL_E_UPSTREAM_UNREACHABLE;
    }
}

static bool is_finishing(const struct gw_transfer *transfer)
{
    return transfer->finish.prev_next != NULL;
}

static void finish_later(struct gw_transfer *transfer, int status)
{
    transfer->finish_status = status;
    sl_loop_defer(transfer->upstream->loop, &transfer->finish);
}

/*
 * Hands the call back. The rest of a response that is worth it is still read: after a whole answer, and
 * after an error status, whose connection is as good as any.
 */
static void finish_call(struct sl_task *task)
{
    struct gw_transfer *transfer = SL_CONTAINER_OF(task, struct gw_transfer, finish);
    struct gw_upstream_call *call = transfer->call;
    int status = transfer->finish_status;
    bool is_worth_reading =
        status == 0 || (transfer->kind == GW_BODY_IGNORED && status != SL_E_CANCELLED);

    if (transfer->resolve.op.running) {
        transfer->finish_is_due = true; /* the look-up hands itself back first */
        gw_resolve_cancel(&transfer->resolve);
        return;
    }
    transfer->finish_is_due = false;
    transfer->call = NULL;
    call->transfer = NULL;
    if (!transfer->active) {
        gw_transfer_release(transfer);
    } else if (is_worth_reading) {
        sl_loop_arm(transfer->upstream->loop, &transfer->linger, LINGER_MS * 1000);
    } else {
        gw_transfer_abort(transfer);
    }
    sl_op_finish(&call->op, status);
}

void gw_upstream_cancel(struct gw_upstream_call *call)
{
    if (!call->op.running || is_finishing(call->transfer) || call->transfer->finish_is_due) {
        return; /* the result is on its way */
    }
    finish_later(call->transfer, SL_E_CANCELLED);
}

/* The rest of the response is not worth waiting for. */
static void on_linger_expired(struct sl_timer *timer)
{
    struct gw_transfer *transfer = SL_CONTAINER_OF(timer, struct gw_transfer, linger);

    if (transfer->call == NULL) {
        gw_transfer_abort(transfer);
    } else if (!is_finishing(transfer)) {
        finish_later(transfer, judge(transfer, CURLE_OK)); /* a 429 whose body does not come */
    }
}

void gw_transfer_abort(struct gw_transfer *transfer)
{
    if (transfer->active) {
        gw_curl_loop_remove(transfer->upstream->curl, transfer->easy);
        transfer->active = false;
        gw_transfer_release(transfer);
    }
}
