/**
 * The two texts of a delta, gathered from one upstream event and settled before they go on.
 *
 * Dialects only say which JSON strings belong to the answer and which to the reasoning. Halves of
 * surrogate pairs are joined, held back until the next event or replaced here, each text has its
 * maximum, and memory that one large event needed is given back after it.
 *
 * Usage, per event: gw_delta_texts_begin, any number of adds, gw_delta_texts_end. An event may be
 * given up at any point in between; what was held back before it is then still held.
 * Thread: one at a time. Ownership: embedded in the caller; deltas point into it until the next begin.
 */
#pragma once

#include "delta.h"
#include "json_string.h"

struct gw_delta_texts {
    /* private */
    struct sl_buffer content, reasoning;
    uint16_t content_high,
        reasoning_high; /* a high surrogate that waits for its other half; 0: none */
    size_t max_bytes;
};

/** `max_bytes` is that of each text of one event. */
void gw_delta_texts_init(struct gw_delta_texts *texts, size_t max_bytes);

/** Empties the texts and puts back what was held, in front of what comes. 0 or SL_E_NO_MEMORY. */
SL_MUST_CHECK int gw_delta_texts_begin(struct gw_delta_texts *texts);

/** Appends a string's decoded text; one without text is accepted. 0, SL_E_ANSWER_TOO_LONG or SL_E_NO_MEMORY. */
SL_MUST_CHECK int gw_delta_texts_add_content(struct gw_delta_texts *texts,
                                             const struct gw_json_string *string);
SL_MUST_CHECK int gw_delta_texts_add_reasoning(struct gw_delta_texts *texts,
                                               const struct gw_json_string *string);

/**
 * Settles the texts and points the delta at them; `last`: nothing follows, so nothing is held back.
 * 0 or SL_E_ANSWER_TOO_LONG.
 */
SL_MUST_CHECK int gw_delta_texts_end(struct gw_delta_texts *texts, bool last,
                                     struct gw_delta *delta);

/** Frees the memory and forgets what was held. The texts are usable afterwards. */
void gw_delta_texts_dispose(struct gw_delta_texts *texts);
