/**
 * The inside of an upstream, for the two files that make it up: upstream.c (handles, options,
 * addresses) and transfer.c (one request and its response). Nobody else includes this.
 */
#pragma once

#include <curl/curl.h>

#include "provider.h"
#include "resolver.h"
#include "sse_parser.h"
#include "upstream.h"

enum gw_body_kind { GW_BODY_UNKNOWN, GW_BODY_EVENTS, GW_BODY_JSON, GW_BODY_ERROR, GW_BODY_IGNORED };

struct gw_transfer {
    CURL *easy;
    struct gw_upstream *upstream;
    struct gw_upstream_call *call; /* NULL: the call is over, the rest is read and dropped */
    struct gw_transfer *next;      /* while spare */
    struct gw_resolve resolve;
    struct curl_slist *addresses; /* what libcurl was told about the host */
    uint64_t addresses_generation;
    struct curl_slist
        *trace; /* this request's own headers; the last one leads on to the fixed ones */
    struct sl_timer linger; /* how long we wait for the rest of a response that is decided */
    struct sl_task finish;  /* hands the call back from a task, never from inside libcurl */
    int finish_status;
    bool finish_is_due; /* the call waits only for the look-up to hand itself back */
    bool active;        /* in the multi handle */
    enum gw_body_kind kind;
    size_t head_bytes;
    struct sl_buffer request, plain;
    struct gw_sse_parser parser;
    struct gw_provider_stream stream;
    bool complete;        /* the end marker was seen: what follows means nothing */
    bool address_refused; /* the host's address is private, and that was not allowed */
    int stop;             /* why our callbacks refused to go on; 0: they did not */
};

struct gw_upstream {
    struct sl_loop *loop;
    const struct gw_config *config;
    const struct gw_provider *provider;
    struct gw_resolver *resolver;
    struct gw_curl_loop *curl;
    struct curl_slist *headers;
    char *url;
    char *host_port; /* "host:port:", how libcurl is told addresses; NULL: no resolver */
    bool private_allowed;
    struct gw_transfer *spare;
    struct gw_transfer **all; /* every transfer, for the end */
    size_t all_count, all_capacity;
};

/* upstream.c */
/** A transfer with its fixed options, recycled or new; NULL: no memory. */
struct gw_transfer *gw_transfer_take(struct gw_upstream *upstream);
/** Gives it back. It is not in the multi handle and serves no call. */
void gw_transfer_release(struct gw_transfer *transfer);
/** Tells libcurl the addresses ("a,b") of the upstream's host. 0 or SL_E_NO_MEMORY. */
SL_MUST_CHECK int gw_transfer_set_addresses(struct gw_transfer *transfer, const char *addresses,
                                            uint64_t generation);

/** Lets the call's trace go along with its request, until it is released. 0 or SL_E_NO_MEMORY. */
SL_MUST_CHECK int gw_transfer_set_trace(struct gw_transfer *transfer,
                                        const struct gw_upstream_call *call);

/* transfer.c */
/** Sets what of the options leads back into transfer.c. */
void gw_transfer_set_callbacks(struct gw_transfer *transfer);
/** libcurl is done with a transfer. From a task. */
void gw_transfer_on_done(void *context, CURL *easy, CURLcode result);
/** Breaks off whatever is under way. */
void gw_transfer_abort(struct gw_transfer *transfer);
