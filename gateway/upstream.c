/*
 * One upstream: its URL, its headers, its libcurl handles and what is fixed about them.
 *
 * Handles are made when they are first needed and then recycled; what happens on one is in transfer.c.
 * The options are as narrow as the purpose: HTTP/1.1 POSTs to one configured URL, no redirect, no proxy,
 * no cookies, certificates verified, and no connection to a private address that was not asked for.
 *
 * Failure modes: no memory. Thread: its loop's. Ownership: see the header.
 */
#include "upstream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address_guard.h"
#include "config.h"
#include "curl_loop.h"
#include "transfer.h"

enum {
    TEXT_MAX_BYTES = 16384,
    IDLE_CONNECTION_MAX_S = 60, /* below what servers and their proxies commonly allow */
};

static int split_url(const char *url, char **ret_host, unsigned *ret_port);
static int build_url(struct gw_upstream *upstream, const struct gw_upstream_config *endpoint);
static int build_headers(struct gw_upstream *upstream, const struct gw_upstream_config *endpoint);
static int add_header(struct gw_upstream *upstream, const char *text);
static struct gw_transfer *new_transfer(struct gw_upstream *upstream);
static void set_options(struct gw_transfer *transfer);
static void forget_trace(struct gw_transfer *transfer);
static curl_socket_t open_socket(void *context, curlsocktype purpose,
                                 struct curl_sockaddr *address);

int gw_upstream_init_process(void)
{
    return curl_global_init(CURL_GLOBAL_ALL) == CURLE_OK ? 0 : SL_E_INTERNAL;
}

int gw_upstream_make_resolver(const struct gw_config *config,
                              const struct gw_upstream_config *endpoint,
                              struct gw_resolver **ret_resolver)
{
    char *host;
    unsigned port;
    int err = split_url(endpoint->url, &host, &port);

    if (err != 0) {
        return err;
    }
    if (gw_resolver_is_needed(host)) {
        err = gw_resolver_create(host, port, config->upstream.dns_refresh_s, ret_resolver);
    }
    curl_free(host);
    return err;
}

/* The URL was checked when it was loaded, so libcurl can read it. `*ret_host` is freed by curl_free. */
static int split_url(const char *url, char **ret_host, unsigned *ret_port)
{
    CURLU *parts = curl_url();
    char *host = NULL, *port = NULL;

    bool is_read = parts != NULL && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
                   curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                   curl_url_get(parts, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK;
    if (is_read) {
        *ret_host = host;
        *ret_port = (unsigned)strtoul(port, NULL, 10);
    } else {
        curl_free(host);
    }
    curl_free(port);
    curl_url_cleanup(parts);
    return is_read ? 0 : SL_E_NO_MEMORY;
}

int gw_upstream_create(struct sl_loop *loop, const struct gw_config *config,
                       const struct gw_upstream_config *endpoint,
                       const struct gw_provider *provider, struct gw_resolver *resolver,
                       struct gw_upstream **ret_upstream)
{
    struct gw_upstream *upstream = calloc(1, sizeof(*upstream));

    if (upstream == NULL) {
        return SL_E_NO_MEMORY;
    }
    upstream->loop = loop;
    upstream->config = config;
    upstream->provider = provider;
    upstream->resolver = resolver;
    upstream->private_allowed =
        config->upstream.allow_private_addresses || gw_address_url_is_private(endpoint->url);
    int err = build_url(upstream, endpoint);
    if (err == 0) {
        err = build_headers(upstream, endpoint);
    }
    if (err == 0) {
        err = gw_curl_loop_create(loop, config->upstream.connections_max, gw_transfer_on_done,
                                  upstream, &upstream->curl);
    }
    if (err != 0) {
        gw_upstream_destroy(upstream);
        return err;
    }
    *ret_upstream = upstream;
    return 0;
}

static int build_url(struct gw_upstream *upstream, const struct gw_upstream_config *endpoint)
{
    struct sl_buffer text;

    sl_buffer_init(&text, TEXT_MAX_BYTES);
    if (sl_buffer_appendf(&text, "%s%s%c", endpoint->url, upstream->provider->path, 0) != 0) {
        return SL_E_NO_MEMORY;
    }
    upstream->url = text.base;
    if (upstream->resolver == NULL) {
        return 0;
    }
    char *host;
    unsigned port;
    int err = split_url(endpoint->url, &host, &port);
    if (err == 0) {
        sl_buffer_init(&text, TEXT_MAX_BYTES);
        err = sl_buffer_appendf(&text, "%s:%u:%c", host, port, 0);
        upstream->host_port = text.base;
        curl_free(host);
    }
    return err;
}

static int build_headers(struct gw_upstream *upstream, const struct gw_upstream_config *endpoint)
{
    static const char *const fixed[] = {
        "Content-Type: application/json", "Accept: text/event-stream",
        "Accept-Encoding: identity", /* an absent header allows every coding */
        "Expect:",                   /* a 100-continue round trip would cost milliseconds */
    };
    struct sl_buffer text;
    int err = 0;

    for (size_t i = 0; err == 0 && i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        err = add_header(upstream, fixed[i]);
    }
    for (const char *const *more = upstream->provider->headers; err == 0 && *more != NULL; more++) {
        err = add_header(upstream, *more);
    }
    if (err != 0 || endpoint->api_key == NULL || endpoint->api_key[0] == '\0') {
        return err;
    }
    sl_buffer_init(&text, TEXT_MAX_BYTES);
    err = sl_buffer_appendf(&text, "%s%s%c", upstream->provider->key_prefix, endpoint->api_key, 0);
    if (err == 0) {
        err = add_header(upstream, text.base);
        explicit_bzero(text.base, text.len);
    }
    sl_buffer_dispose(&text);
    return err;
}

static int add_header(struct gw_upstream *upstream, const char *text)
{
    struct curl_slist *headers = curl_slist_append(upstream->headers, text);

    if (headers == NULL) {
        return SL_E_NO_MEMORY;
    }
    upstream->headers = headers;
    return 0;
}

/* ---------------------------------------------------------------- handles */

struct gw_transfer *gw_transfer_take(struct gw_upstream *upstream)
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
    set_options(transfer);
    gw_transfer_set_callbacks(transfer);
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
    (void)curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    (void)curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, transfer);
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
    (void)curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long)IDLE_CONNECTION_MAX_S);
    /* our resolver looks names up; should libcurl ever do, it must not join a thread that hangs */
    (void)curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    /* our own timers decide; these only keep libcurl's defaults from being shorter or endless */
    (void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                           (long)upstream->config->upstream.connect_timeout_ms + 1000);
    (void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 0L);
}

/* Where libcurl would connect to: not into our own network, unless the configuration says so. */
static curl_socket_t open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct gw_transfer *transfer = context;

    (void)purpose;
    if (!transfer->upstream->private_allowed && gw_address_is_private(&address->addr)) {
        transfer->address_refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* Per handle, since libcurl reads the list whenever a transfer starts. */
int gw_transfer_set_addresses(struct gw_transfer *transfer, const char *addresses,
                              uint64_t generation)
{
    struct sl_buffer text;

    if (transfer->addresses != NULL && transfer->addresses_generation == generation) {
        return 0;
    }
    sl_buffer_init(&text, TEXT_MAX_BYTES);
    int err = sl_buffer_appendf(&text, "%s%s%c", transfer->upstream->host_port, addresses, 0);
    struct curl_slist *list = err == 0 ? curl_slist_append(NULL, text.base) : NULL;
    sl_buffer_dispose(&text);
    if (list == NULL) {
        return SL_E_NO_MEMORY;
    }
    (void)curl_easy_setopt(transfer->easy, CURLOPT_RESOLVE, list);
    curl_slist_free_all(transfer->addresses);
    transfer->addresses = list;
    transfer->addresses_generation = generation;
    return 0;
}

/* The fixed headers, one of which is the key, are shared and not copied. */
int gw_transfer_set_trace(struct gw_transfer *transfer, const struct gw_upstream_call *call)
{
    char line[sizeof("traceparent: ") + GW_TRACESTATE_MAX];

    (void)snprintf(line, sizeof(line), "traceparent: %s", call->traceparent);
    transfer->trace = curl_slist_append(NULL, line);
    struct curl_slist *last = transfer->trace;
    if (last != NULL && call->trace_state != NULL) {
        (void)snprintf(line, sizeof(line), "tracestate: %s", call->trace_state);
        last->next = curl_slist_append(NULL, line);
        last = last->next;
    }
    if (last == NULL) {
        curl_slist_free_all(transfer->trace);
        transfer->trace = NULL;
        return SL_E_NO_MEMORY;
    }
    last->next = transfer->upstream->headers;
    (void)curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, transfer->trace);
    return 0;
}

static void forget_trace(struct gw_transfer *transfer)
{
    struct curl_slist *last = transfer->trace;

    if (last == NULL) {
        return;
    }
    while (last->next != transfer->upstream->headers) {
        last = last->next;
    }
    last->next = NULL;
    curl_slist_free_all(transfer->trace);
    transfer->trace = NULL;
    (void)curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, transfer->upstream->headers);
}

void gw_transfer_release(struct gw_transfer *transfer)
{
    struct gw_upstream *upstream = transfer->upstream;

    forget_trace(transfer);
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
    for (size_t i = 0; i < upstream->all_count; i++) {
        struct gw_transfer *transfer = upstream->all[i];
        gw_transfer_abort(transfer);
        curl_easy_cleanup(transfer->easy);
        curl_slist_free_all(transfer->addresses);
        free(transfer);
    }
    gw_curl_loop_destroy(upstream->curl);
    curl_slist_free_all(upstream->headers);
    free(upstream->url);
    free(upstream->host_port);
    free(upstream->all);
    free(upstream);
}
