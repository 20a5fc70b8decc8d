/**
 * Halves of surrogate pairs in a text that comes in pieces.
 *
 * JSON escapes characters beyond U+FFFF as two halves, and a model server may cut between them. The
 * decoder keeps a half as three bytes of WTF-8; here halves are joined, held back for the next
 * piece, or replaced, so that only well-formed UTF-8 goes on. Thread: any (pure functions).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "sluice/buffer.h"

enum { GW_SURROGATE_BYTES = 3 /* one half in WTF-8 */ };

/** Appends a half that gw_surrogates_settle held back; 0 appends nothing. Errors as sl_buffer_append. */
SL_MUST_CHECK int gw_surrogates_put_back(struct sl_buffer *text, uint16_t held);

/**
 * Joins the pairs in `text`, which is UTF-8 but for the halves, and replaces lone halves by U+FFFD. A
 * high half at the very end is taken off and returned, unless this is the last piece; else 0.
 */
uint16_t gw_surrogates_settle(struct sl_buffer *text, bool last);
