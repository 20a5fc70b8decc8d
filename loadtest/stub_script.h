/**
 * What the stub shall do for one request: presets of the command line, changed by the directive
 * `[[stub key=value ...]]` in the last user message. README.md has the table of keys.
 *
 * Thread: any. Ownership: the script holds copies except `text`, which points into the message.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    STUB_SCRIPT_WORD_MAX = 64,
    STUB_SCRIPT_ERROR_MAX = 160,
    STUB_SCRIPT_BYTES_MAX = 16 * 1024 * 1024,
};

enum stub_cut {
    STUB_CUT_NONE = 0,
    STUB_CUT_FIN,
    STUB_CUT_RST,
};

/* Counts and places are -1 when not given. "After K" means: K content deltas were sent. */
struct stub_script {
    /* pace, microseconds */
    int64_t delay_us, first_us, role_then_us, gap_us, jitter_us;

    /* the answer; the first one that is given counts, none: the demo text */
    const char *text; /* NULL: not given; not NUL-terminated */
    size_t text_len;
    int64_t tokens, long_bytes;
    bool utf8, echo, surrogates, lone_surrogate;

    /* what comes around it */
    int64_t reasoning, bigline_bytes;
    char reasoning_key[STUB_SCRIPT_WORD_MAX];
    char finish[STUB_SCRIPT_WORD_MAX]; /* empty: what fits the answer */
    char id[STUB_SCRIPT_WORD_MAX];     /* empty: a number of the stub's own */
    bool tool_calls, no_usage, usage_each, json;

    /* refused instead of answered */
    int64_t status, retry_after_s;
    bool html, empty, quota;
    enum stub_cut drop; /* closed without one byte of answer */

    /* broken on the way */
    int64_t head_bytes; /* of needless headers */
    int64_t stall_after, fin_after, rst_after, error_after, malformed_after;
    bool no_done, no_finish;
    enum stub_cut half_dead; /* how the kept connection dies when the next request arrives */

    /* framing */
    bool crlf, cr, nospace, multiline, bytes;
    int64_t split_seed;
    int64_t comments_us, pings_us; /* 0: between deltas only; else also this often in a silence */

    /* whom the faults strike: the stub on this port, the first N requests with this directive */
    int64_t at_port, times;
    uint64_t directive_hash; /* of the directive's text */
};

/** Nothing but the demo answer, without pauses. */
void stub_script_init(struct stub_script *script);

/**
 * Applies the first directive in `message`, if there is one, to the presets in `script`.
 * 0, or -1 with a sentence that names the key in `ret_error`; the script is then half changed.
 */
int stub_script_parse(struct stub_script *script, const char *message, size_t len,
                      char ret_error[STUB_SCRIPT_ERROR_MAX]);

/** Takes back pauses before the first token, refusals, breakages; keeps answer and framing. */
void stub_script_clear_faults(struct stub_script *script);
