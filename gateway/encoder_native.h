/**
 * Sluice's own wire format: each event is one SSE event with one line of JSON (wire.md section 1).
 *
 * Pure. Thread: any.
 */
#pragma once

#include "turn_log.h"

/**
 * Appends the bytes of one event. `id_prefix` is the turn's id when the client declared that it reads
 * `id:` lines (Accept: text/event-stream), else NULL. Errors as sl_buffer_append; on failure nothing
 * was appended.
 */
SL_MUST_CHECK int gw_encoder_native_event(const struct gw_event *event, const char *id_prefix,
                                          struct sl_buffer *out);

/**
 * Appends a heartbeat comment. With `id:` lines it ends with a single LF, because some decoders
 * dispatch an empty event on a blank line once they have seen an id (wire.md section 1).
 */
SL_MUST_CHECK int gw_encoder_native_heartbeat(bool with_ids, struct sl_buffer *out);
