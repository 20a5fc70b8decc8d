/**
 * The ordered events of one turn, and the only buffer between the upstream and the readers.
 *
 * Events are stored, not encoded bytes, so every wire format can be written from the same log, at any
 * time. Thread: its turn's loop. Ownership: embedded in the turn; event payloads point into the log
 * and are valid until the next append.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sluice/buffer.h"
#include "sluice/event.h"

struct gw_event {
    enum sl_event_type type;
    uint32_t seq;        /* 1, 2, 3 …, no hole */
    const char *payload; /* text events: UTF-8; all others: the inside of a JSON object */
    size_t payload_len;
};

struct gw_turn_log {
    uint32_t last_seq;
    uint32_t first_token_seq; /* the first TOKEN event; 0: none yet */
    size_t token_bytes, reasoning_bytes;
    uint32_t token_count; /* TOKEN and REASONING events: what the upstream sent as deltas */
    bool ended;           /* the last event is there; nothing may follow */
    /* private */
    struct sl_buffer bytes;
};

/* What text may not use of the log's maximum, so that the turn can always say how it ended. */
enum { GW_TURN_LOG_RESERVE = 8192 };

/** Makes an empty log that may hold `max_bytes` of events. */
void gw_turn_log_init(struct gw_turn_log *log, size_t max_bytes);
void gw_turn_log_dispose(struct gw_turn_log *log);

/** Appends an event. 0, SL_E_LIMIT or SL_E_NO_MEMORY. Not after the end. */
SL_MUST_CHECK int gw_turn_log_append(struct gw_turn_log *log, enum sl_event_type type,
                                     const char *payload, size_t payload_len);

/** Reads the event at `*offset` (0: the first) and moves the offset behind it; false: there is none yet. */
bool gw_turn_log_read(const struct gw_turn_log *log, size_t *offset, struct gw_event *ret_event);

/** True when the log has ended and a reader at `offset` has read all of it. */
bool gw_turn_log_is_read(const struct gw_turn_log *log, size_t offset);

/** Appends the text of all TOKEN (or REASONING) events to `into`: the answer. Errors as sl_buffer_append. */
SL_MUST_CHECK int gw_turn_log_text(const struct gw_turn_log *log, enum sl_event_type type,
                                   struct sl_buffer *into);
