/**
 * Reads the process's figures once a second and adds what has happened to the ring (performance.h).
 *
 * Thread: main. Ownership: embedded in the process; the ring is the caller's.
 */
#pragma once

#include "performance.h"
#include "sluice/loop.h"

struct gw_sampler {
    /* private */
    struct sl_timer timer;
    const struct gw_server *server;
    uint64_t due_us;
    struct gw_performance_reading readings[2]; /* the last one of a sample, and the next */
    unsigned last;                             /* which is which */
};

/** Takes a sample every second from now on. The workers are initialized; `sampler` is zeroed memory. */
void gw_sampler_start(struct gw_sampler *sampler, const struct gw_server *server);

/** Before workers and store are gone. */
void gw_sampler_stop(struct gw_sampler *sampler);
