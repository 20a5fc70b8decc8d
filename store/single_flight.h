/**
 * One read from Postgres for everybody who waits for the same key: a cache miss that many requests
 * run into at once becomes one query.
 *
 * A flight is alive from the first join until its read is done. It runs to its end even when nobody
 * waits any more, because what it brings still fills the cache. Thread: its loop's. Ownership: the
 * flights are the table's; the waiting reads are the callers', linked by their `next` and `prev_next`.
 */
#pragma once

#include "cache_key.h"
#include "key_table.h"
#include "sluice/store.h"

struct store_pg_reader;
struct store_flight;

struct store_flights {
    struct store_pg_reader *reader; /* set by the owner before init */
    unsigned history_messages;      /* rows that a flight for a history reads */
    /** The read is done: `flight->source` has its outputs when `status` is 0. The flight cannot be
     *  joined any more and is freed on return; all its waiters must have been taken by then. */
    void (*landed)(struct store_flights *flights, struct store_flight *flight, int status);
    /* private */
    struct store_key_table table;
    struct store_flight *all;
};

struct store_flight {
    struct store_key_node node;
    struct store_cache_key key;
    struct store_read source; /* the one read */
    bool outdated; /* its rows were changed under way: give them to the waiters, cache nothing */
    /* private */
    struct store_flights *flights; /* NULL: nobody is interested any more */
    bool joinable;
    struct store_read *waiters, **waiters_tail;
    struct store_flight *next, **prev_next;
    char user[STORE_USER_ID_MAX];
};

void store_flights_init(struct store_flights *flights);

/** Abandons the flights under way; nobody may wait for one. Before the reader is destroyed. */
void store_flights_dispose(struct store_flights *flights);

/**
 * Makes `read` wait for the flight of `key`, which is begun when there is none.
 * 0, SL_E_NO_MEMORY or an error of store_pg_reader_start.
 */
SL_MUST_CHECK int store_flights_join(struct store_flights *flights,
                                     const struct store_cache_key *key, struct store_read *read);

/** Takes a waiting read out, without a word to it. The others do not notice. */
void store_flights_leave(struct store_read *read);

/** Takes any waiting read out of a flight that landed, the oldest first; NULL when there is none. */
struct store_read *store_flight_take_waiter(struct store_flight *flight);

/** The rows behind `key` have changed: a flight under way is outdated and joined by nobody else. */
void store_flights_outdate(struct store_flights *flights, const struct store_cache_key *key);
