/**
 * One HTTP response that carries a turn: bytes in, times and a verdict out.
 *
 * Reads the head, the chunks, the SSE lines and the events of either protocol and checks that they
 * are complete and in order. No I/O and no clock. Thread: one at a time. Ownership: embedded in a
 * virtual user; all zero, then bench_stream_begin before each turn.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "chunk_decoder.h"
#include "histogram.h"

enum bench_protocol {
    BENCH_NATIVE, /* POST /api/v1/chat/message/stream */
    BENCH_DIRECT, /* POST /v1/chat/completions */
};

enum bench_failure {
    BENCH_OK = 0,
    BENCH_CONNECT,     /* no connection */
    BENCH_RESET,       /* the connection broke */
    BENCH_TIMEOUT,     /* the turn took longer than allowed */
    BENCH_STATUS,      /* not 200 */
    BENCH_BAD_HEAD,    /* not HTTP, or not an event stream */
    BENCH_BAD_CHUNK,   /* broken chunked encoding */
    BENCH_BAD_EVENT,   /* an event that is not the JSON it should be */
    BENCH_ORDER,       /* native: first event not session_id, or a hole in seq */
    BENCH_ERROR_EVENT, /* the stream says that it failed */
    BENCH_TRUNCATED,   /* the body ended without its last event */
    BENCH_AFTER_END,   /* something after the last event */
    BENCH_FAILURES,
};

/** Times in microseconds of the caller's clock, 0: did not happen. */
struct bench_marks {
    uint64_t head_us;
    uint64_t session_us;
    uint64_t accepted_us;
    uint64_t first_token_us;
    uint64_t last_token_us;
    uint64_t end_us; /* of the body */
    uint64_t tokens;
};

struct bench_stream {
    enum bench_protocol protocol;
    struct lt_histogram *gaps; /* NULL: do not record */
    struct bench_marks marks;
    enum bench_failure failure;
    int status;      /* 0 before the head */
    bool keep_alive; /* the connection can carry another turn */
    bool chunked;
    bool complete; /* the body ended as it should */
    bool saw_last; /* done, or [DONE] */
    uint64_t events;
    struct lt_chunk_decoder chunks;
    uint64_t body_left;    /* without chunks; UINT64_MAX: until the end of the connection */
    struct lt_buffer line; /* the unfinished line, of the head or of the body */
};

void bench_stream_begin(struct bench_stream *stream, enum bench_protocol protocol,
                        struct lt_histogram *gaps);
void bench_stream_finish(struct bench_stream *stream);

/** Reads what came at `now_us`. False: the turn is over, see `failure` and `complete`. */
bool bench_stream_read(struct bench_stream *stream, const char *bytes, size_t len, uint64_t now_us);

/** The peer closed the connection: settles what that means. */
void bench_stream_close(struct bench_stream *stream, uint64_t now_us);

/** A short name for reports, such as "truncated". */
const char *bench_failure_name(enum bench_failure failure);
