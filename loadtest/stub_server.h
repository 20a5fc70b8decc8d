/**
 * What all connections of the stub share.
 *
 * Thread: the only one. Ownership: llm_stub.c owns the struct; connections point to it.
 */
#pragma once

#include <stdint.h>

#include "buffer.h"
#include "stub_script.h"
#include "timers.h"

struct stub_conn;

struct stub_counters {
    uint64_t requests;  /* chat requests, whatever became of them */
    uint64_t completed; /* answered to the end, 200 */
    uint64_t refused;   /* answered to the end, another status */
    uint64_t cut;       /* closed or reset by the script */
    uint64_t aborted_by_client;
    uint64_t max_active_streams;
    uint64_t requests_with_key; /* chat requests with an authorization or x-api-key header */
    uint64_t accepted_connections;
    uint64_t last_request_bytes; /* body of the last chat request */
    uint64_t tokens_sent;        /* content and reasoning deltas of finished answers */
    uint64_t bytes_sent;
};

/** How often a directive with `times=N` has struck. Full: the oldest row is overwritten. */
struct stub_strike {
    uint64_t directive_hash;
    int64_t count;
};

enum { STUB_STRIKES_MAX = 256 };

struct stub_server {
    int epoll_fd;
    int listen_fd;
    int port;
    struct lt_timers timers;
    struct lt_timer accept_again; /* after running out of descriptors */
    struct stub_script presets;   /* of the command line */
    struct stub_counters counters;
    uint64_t active_streams; /* gauges: not touched by a reset */
    uint64_t open_connections;
    uint64_t numbered;          /* chat requests since the start: ids */
    struct lt_buffer last_head; /* of the last chat request, verbatim */
    struct lt_buffer last_body;
    struct stub_strike strikes[STUB_STRIKES_MAX];
    uint64_t strikes_used;
    struct stub_conn *doomed; /* closed, to be freed when no event can name them any more */
};
