/*
 * The figures of all loops, added up into one plain copy. Thread: any.
 */
#include "totals.h"

#include "worker.h"

static void add_counters(sl_counter *into, const sl_counter *from, size_t count);

/* Both structs consist of counters alone (histograms are counters too), so they add up as arrays. */
void gw_totals_add_up(const struct gw_server *server, struct gw_totals *totals)
{
    for (unsigned i = 0; i < server->workers_count; i++) {
        const struct gw_worker *worker = &server->workers[i];
        add_counters((sl_counter *)&totals->gateway, (const sl_counter *)&worker->stats,
                     sizeof(worker->stats) / sizeof(sl_counter));
        add_counters((sl_counter *)&totals->store,
                     (const sl_counter *)store_client_stats(worker->store),
                     sizeof(totals->store) / sizeof(sl_counter));
        totals->redis_up += store_client_redis(worker->store) == STORE_LINK_UP;
        totals->database_up += store_client_database(worker->store) == STORE_LINK_UP;
    }
}

static void add_counters(sl_counter *into, const sl_counter *from, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        sl_counter_add(&into[i], sl_counter_get(&from[i]));
    }
}
