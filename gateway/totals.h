/**
 * The figures of all loops, added up.
 *
 * Thread: any; it reads the loops' counters while they count (histogram.h). Ownership: the caller's.
 */
#pragma once

#include "sluice/store.h"
#include "stats.h"

struct gw_server;

struct gw_totals {
    struct gw_stats gateway;
    struct store_client_stats store;
    unsigned redis_up, database_up; /* loops whose link is up */
};

/** Adds every worker's figures to `totals`, which the caller has zeroed. The workers are initialized. */
void gw_totals_add_up(const struct gw_server *server, struct gw_totals *totals);
