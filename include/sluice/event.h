/**
 * The events of a turn, as wire.md section 1 names them.
 *
 * Thread: any (constant data).
 */
#pragma once

#include <stdbool.h>

enum sl_event_type {
    SL_EVENT_SESSION_ID = 1,
    SL_EVENT_ACCEPTED,
    SL_EVENT_SOURCES,
    SL_EVENT_WARNING,
    SL_EVENT_TOKEN,
    SL_EVENT_REASONING,
    SL_EVENT_DONE,
    SL_EVENT_ERROR,
};

/** The `type` on the wire. */
static inline const char *sl_event_name(enum sl_event_type type)
{
    static const char *const names[] = {"",      "session_id", "accepted", "sources", "warning",
                                        "token", "reasoning",  "done",     "error"};
    return names[type];
}

/** True for the two events whose payload is text; all others carry the inside of a JSON object. */
static inline bool sl_event_is_text(enum sl_event_type type)
{
    return type == SL_EVENT_TOKEN || type == SL_EVENT_REASONING;
}

static inline bool sl_event_is_terminal(enum sl_event_type type)
{
    return type == SL_EVENT_DONE || type == SL_EVENT_ERROR;
}
