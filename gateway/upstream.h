/**
 * One upstream as one loop sees it: streaming requests to its endpoint, by libcurl.
 *
 * Thread: its loop's. Ownership: a call is embedded in who asks (op.h); the libcurl handle behind it
 * belongs to the upstream, which recycles it and may keep it a moment longer than the call, to read
 * the end of the response so that the connection can be used again.
 */
#pragma once

#include "delta.h"
#include "sluice/loop.h"
#include "sluice/op.h"
#include "trace_context.h"

struct gw_config;
struct gw_provider;
struct gw_resolver;
struct gw_transfer;
struct gw_upstream;
struct gw_upstream_call;
struct gw_upstream_config;

struct gw_upstream_events {
    /**
     * Text arrived. Runs inside libcurl's callback: it may append to a log and wake a task, nothing
     * else. Not 0: the call ends with that error.
     */
    int (*on_delta)(struct gw_upstream_call *call, const struct gw_delta *delta);
};

struct gw_upstream_call {
    struct sl_op op;
    const struct gw_upstream_events *events; /* input */
    char traceparent[GW_TRACEPARENT_SIZE];   /* input: goes along as a header; "": nothing does */
    const char *trace_state;                 /* input, until done: goes with it; NULL: none */
    /* outputs, as they become known */
    bool connected;
    uint64_t connected_us, first_byte_us; /* loop clock; 0: not yet */
    int http_status;                      /* 0: none yet */
    uint64_t retry_after_us;              /* what the upstream asked for; 0: nothing */
    bool is_spent;                        /* a quota is used up: asking again does not help */
    bool has_finish, has_usage;
    char finish_reason[GW_FINISH_REASON_SIZE];
    int32_t prompt_tokens, completion_tokens;
    /* private */
    struct gw_transfer *transfer;
};

/** Once per process, before any thread. 0 or SL_E_INTERNAL (the TLS library cannot start). */
SL_MUST_CHECK int gw_upstream_init_process(void);

/**
 * The resolver for an entry's host; NULL when its URL holds an address. It can be shared by all loops.
 * 0 or SL_E_NO_MEMORY.
 */
SL_MUST_CHECK int gw_upstream_make_resolver(const struct gw_config *config,
                                            const struct gw_upstream_config *endpoint,
                                            struct gw_resolver **ret_resolver);

/**
 * Makes the handles for one entry of the configured list. `resolver` (NULL: the URL names an address)
 * stays its owner's. 0 or SL_E_NO_MEMORY.
 */
SL_MUST_CHECK int gw_upstream_create(struct sl_loop *loop, const struct gw_config *config,
                                     const struct gw_upstream_config *endpoint,
                                     const struct gw_provider *provider,
                                     struct gw_resolver *resolver,
                                     struct gw_upstream **ret_upstream);
/** No call may be under way. NULL is accepted. */
void gw_upstream_destroy(struct gw_upstream *upstream);

/**
 * Sends the request. The body's bytes move into the transfer: `body` is empty afterwards.
 * Done with 0 only when the upstream has said that the answer is complete (a finish reason or the
 * end marker) and the transfer did not fail before that; otherwise with the SL_E_UPSTREAM_… error, or
 * SL_E_CANCELLED. There are no timers here: whoever asks keeps them. Start: 0 or SL_E_NO_MEMORY.
 */
SL_MUST_CHECK int gw_upstream_start(struct gw_upstream *upstream, struct gw_upstream_call *call,
                                    struct sl_buffer *body);
void gw_upstream_cancel(struct gw_upstream_call *call);
