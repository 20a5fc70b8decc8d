/**
 * The answer's text as a row of deltas, ready for the inside of a JSON string.
 *
 * Thread: any. Ownership: the struct owns its copy of the text; free it with stub_answer_finish.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "stub_chat.h"
#include "stub_script.h"

struct stub_answer {
    bool counted;       /* tok0 tok1 ..., else the words of `text` */
    uint64_t next;      /* deltas given so far */
    uint64_t tokens;    /* of a counted answer */
    size_t piece_bytes; /* > 0: pieces of this size instead of words */
    bool escaped;       /* `text` is JSON already, with '|' between the deltas */
    struct lt_buffer text;
    size_t at; /* in text */
};

/** Chooses the answer. `chat` and the script's text are not needed any more afterwards. */
void stub_answer_init(struct stub_answer *answer, const struct stub_script *script,
                      const struct stub_chat *chat);
void stub_answer_finish(struct stub_answer *answer);

/** Appends the next delta to `out`. False: the answer is over, nothing was appended. */
bool stub_answer_next(struct stub_answer *answer, struct lt_buffer *out);
