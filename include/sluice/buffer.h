/**
 * A growable byte buffer that is born with its maximum.
 *
 * Thread: one at a time. Ownership: the struct is embedded in its owner; `base` belongs to the buffer.
 * The bytes may move with every append: keep offsets, not pointers. No terminating NUL is kept.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>

#include "sluice/error.h"

struct sl_buffer {
    char *base;
    size_t len;
    size_t capacity;
    size_t max; /* bytes; appends beyond it fail with SL_E_LIMIT and change nothing */
};

/** Makes an empty buffer that may hold up to `max` bytes. Allocates nothing yet. */
void sl_buffer_init(struct sl_buffer *buffer, size_t max);

/** Frees the bytes. The buffer is empty and usable afterwards, with the same maximum. */
void sl_buffer_dispose(struct sl_buffer *buffer);

/** Forgets the content, keeps the memory. */
void sl_buffer_clear(struct sl_buffer *buffer);

/** Gives back what is allocated beyond the content. */
void sl_buffer_trim(struct sl_buffer *buffer);

/** Drops the first `n` bytes (n <= len). */
void sl_buffer_consume(struct sl_buffer *buffer, size_t n);

/**
 * Makes room for `n` more bytes and returns where they go, or NULL when the maximum or the memory
 * does not allow it. The caller writes there and then adds to `len` itself.
 */
SL_MUST_CHECK char *sl_buffer_reserve(struct sl_buffer *buffer, size_t n);

/** Appends bytes. 0, SL_E_LIMIT or SL_E_NO_MEMORY; on failure nothing was appended. */
SL_MUST_CHECK int sl_buffer_append(struct sl_buffer *buffer, const void *bytes, size_t n);

/** Appends a NUL-terminated string. Errors as sl_buffer_append. */
SL_MUST_CHECK int sl_buffer_append_str(struct sl_buffer *buffer, const char *text);

/** Appends formatted text. The format is always a literal. Errors as sl_buffer_append. */
SL_MUST_CHECK int sl_buffer_appendf(struct sl_buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
