/**
 * Rows of a binary result, read into the outputs of a read.
 *
 * Thread: the connection's loop. Ownership: everything is copied; the result stays the caller's.
 */
#pragma once

#include <libpq-fe.h>

#include "rows.h"

/**
 * Fills the outputs of `read` (which must be empty) from the result of store_pg_send_read with
 * `limit` + 1 rows. Messages are merged with `overlay`: each id once, the newest `limit` of both,
 * oldest first for HISTORY and newest first otherwise. On failure the outputs are empty.
 * 0, SL_E_NO_MEMORY or SL_E_INTERNAL (a result that is not the statement's).
 */
SL_MUST_CHECK int store_pg_rows_read(const PGresult *result,
                                     const struct store_message_set *overlay, unsigned limit,
                                     struct store_read *read);
