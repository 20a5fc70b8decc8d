/**
 * Reads from Postgres on one pipelined connection per loop.
 *
 * Thread: its loop's. Ownership: reads are the callers' (op.h). A read that is late completes with
 * SL_E_DATABASE_TIMEOUT and leaves a tombstone, so that its late result finds no freed memory.
 */
#pragma once

#include "sluice/store.h"

struct store_connector;
struct store_overlay;
struct store_pg_reader;

SL_MUST_CHECK int store_pg_reader_create(struct sl_loop *loop, struct store_connector *connector,
                                         const struct store_overlay *overlay,
                                         const struct store_config *config,
                                         struct store_client_stats *stats,
                                         struct store_pg_reader **ret_reader);
void store_pg_reader_destroy(struct store_pg_reader *reader);

/**
 * Starts a read of any kind; HISTORY and MESSAGES are merged with the overlay, a TURN that the overlay
 * knows needs no Postgres. Errors: store_read_start.
 */
SL_MUST_CHECK int store_pg_reader_start(struct store_pg_reader *reader, struct store_read *read);
void store_pg_reader_cancel(struct store_pg_reader *reader, struct store_read *read);

/** For /readyz and metrics; any thread. */
enum store_link store_pg_reader_link(const struct store_pg_reader *reader);
