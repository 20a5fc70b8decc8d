/**
 * Rows of the store as the JSON of the session routes (wire.md section 3).
 *
 * Pure. Thread: any.
 */
#pragma once

#include "sluice/store.h"

enum { GW_CURSOR_SIZE = 49 /* 16 hex digits of time, 32 of id, NUL */ };

/** Writes the opaque cursor that stands for "after this row". */
void gw_cursor_format(int64_t at_us, const struct sl_uuid *id, char text[GW_CURSOR_SIZE]);

/** Reads one. 0 or SL_E_INVALID_VALUE. */
SL_MUST_CHECK int gw_cursor_parse(const char *text, size_t len, int64_t *ret_at_us,
                                  struct sl_uuid *ret_id);

/**
 * Appends {"sessions":[…],"next_cursor":…} or {"messages":[…],"next_cursor":…}. `fields` names the keys
 * to write, comma separated (len 0: all); unknown names are ignored. Errors as sl_buffer_append.
 */
SL_MUST_CHECK int gw_rows_sessions(const struct store_read *read, struct store_text fields,
                                   struct sl_buffer *json);
SL_MUST_CHECK int gw_rows_messages(const struct store_read *read, struct store_text fields,
                                   struct sl_buffer *json);
