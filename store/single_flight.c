/*
 * One read from Postgres for everybody who waits for the same key.
 *
 * Happy path: the first join starts the read, others append themselves to the waiters, the read is
 * done, the owner's `landed` takes the waiters one by one and finishes them, the flight is freed.
 *
 * Failure modes: a read that cannot be started is the joining caller's error. A waiter that finishes
 * may start new reads or cancel others: the flight is out of the table by then, and waiters are taken
 * one at a time, so both are safe. When the cache goes away the flights are cancelled and free
 * themselves when the reader calls back.
 *
 * Thread and ownership: single_flight.h.
 */
#include "single_flight.h"

#include <stdlib.h>
#include <string.h>

#include "pg_reader.h"

static struct store_flight *begin(const struct store_cache_key *key, const struct store_read *read,
                                  unsigned history_messages);
static void add_waiter(struct store_flight *flight, struct store_read *read);
static void on_read(struct sl_op *op, int status);
static void close_to_others(struct store_flight *flight);
static void free_flight(struct store_flight *flight);

void store_flights_init(struct store_flights *flights)
{
    store_key_table_init(&flights->table);
    flights->all = NULL;
}

int store_flights_join(struct store_flights *flights, const struct store_cache_key *key,
                       struct store_read *read)
{
    struct store_key_node *node = store_key_table_find(&flights->table, key->bytes, key->len);

    if (node != NULL) {
        add_waiter(SL_CONTAINER_OF(node, struct store_flight, node), read);
        return 0;
    }
    struct store_flight *flight = begin(key, read, flights->history_messages);
    if (flight == NULL) {
        return SL_E_NO_MEMORY;
    }
    int err = store_pg_reader_start(flights->reader, &flight->source);
    if (err != 0) {
        free(flight);
        return err;
    }
    flight->flights = flights;
    flight->joinable = true;
    store_key_table_put(&flights->table, &flight->node);
    flight->next = flights->all;
    flight->prev_next = &flights->all;
    if (flight->next != NULL) {
        flight->next->prev_next = &flight->next;
    }
    flights->all = flight;
    add_waiter(flight, read);
    return 0;
}

/* The flight has its own copy of the question, as the read that asked first may be cancelled. */
static struct store_flight *begin(const struct store_cache_key *key, const struct store_read *read,
                                  unsigned history_messages)
{
    struct store_flight *flight = calloc(1, sizeof(*flight));

    if (flight == NULL) {
        return NULL;
    }
    flight->key = *key;
    flight->node.key = flight->key.bytes;
    flight->node.key_len = flight->key.len;
    flight->waiters_tail = &flight->waiters;
    memcpy(flight->user, read->user, read->user_len);
    flight->source.op.done = on_read;
    flight->source.kind = read->kind;
    flight->source.user = flight->user;
    flight->source.user_len = read->user_len;
    flight->source.session = read->session;
    flight->source.limit = history_messages + 1; /* one may be the turn's own question */
    flight->source.without_turn = read->without_turn;
    flight->source.client = read->client;
    return flight;
}

static void add_waiter(struct store_flight *flight, struct store_read *read)
{
    read->attachment = flight;
    read->next = NULL;
    read->prev_next = flight->waiters_tail;
    *flight->waiters_tail = read;
    flight->waiters_tail = &read->next;
}

void store_flights_leave(struct store_read *read)
{
    struct store_flight *flight = read->attachment;

    *read->prev_next = read->next;
    if (read->next != NULL) {
        read->next->prev_next = read->prev_next;
    } else {
        flight->waiters_tail = read->prev_next;
    }
    read->prev_next = NULL;
    read->attachment = NULL;
}

struct store_read *store_flight_take_waiter(struct store_flight *flight)
{
    struct store_read *read = flight->waiters;

    if (read != NULL) {
        store_flights_leave(read);
    }
    return read;
}

void store_flights_outdate(struct store_flights *flights, const struct store_cache_key *key)
{
    struct store_key_node *node = store_key_table_find(&flights->table, key->bytes, key->len);

    if (node != NULL) {
        struct store_flight *flight = SL_CONTAINER_OF(node, struct store_flight, node);
        flight->outdated = true;
        close_to_others(flight);
    }
}

/* ---- landing ---- */

static void on_read(struct sl_op *op, int status)
{
    struct store_flight *flight = SL_CONTAINER_OF(op, struct store_flight, source.op);

    if (flight->flights != NULL) {
        close_to_others(flight);
        flight->flights->landed(flight->flights, flight, status);
    }
    free_flight(flight);
}

static void close_to_others(struct store_flight *flight)
{
    if (flight->joinable) {
        store_key_table_remove(&flight->flights->table, &flight->node);
        flight->joinable = false;
    }
}

static void free_flight(struct store_flight *flight)
{
    if (flight->flights != NULL) {
        *flight->prev_next = flight->next;
        if (flight->next != NULL) {
            flight->next->prev_next = flight->prev_next;
        }
    }
    store_read_dispose(&flight->source);
    free(flight);
}

void store_flights_dispose(struct store_flights *flights)
{
    while (flights->all != NULL) {
        struct store_flight *flight = flights->all;
        close_to_others(flight);
        flights->all = flight->next;
        flight->flights = NULL;
        store_pg_reader_cancel(flights->reader, &flight->source);
    }
    store_key_table_dispose(&flights->table);
}
