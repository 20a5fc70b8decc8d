/**
 * A growable byte buffer and JSON string output.
 *
 * Thread: one at a time. Ownership: the struct is embedded in its owner, `base` belongs to the
 * buffer; all zero is an empty buffer. Bytes may move with every append: keep offsets.
 * Errors: none; running out of memory ends the program. Whoever appends what a peer sent
 * bounds it first.
 */
#pragma once

#include <stddef.h>

struct lt_buffer {
    char *base;
    size_t len;
    size_t capacity;
};

void lt_buffer_free(struct lt_buffer *buffer);

/** Makes room for `n` more bytes and returns where they go; the caller adds to `len` itself. */
char *lt_buffer_reserve(struct lt_buffer *buffer, size_t n);

void lt_buffer_append(struct lt_buffer *buffer, const void *bytes, size_t n);
void lt_buffer_append_str(struct lt_buffer *buffer, const char *text);
void lt_buffer_appendf(struct lt_buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/** Appends `text` escaped for the inside of a JSON string; bytes from 0x80 up pass as they are. */
void lt_buffer_append_json(struct lt_buffer *buffer, const char *text, size_t len);

/** As above, and with the quotes around it. */
void lt_buffer_append_quoted(struct lt_buffer *buffer, const char *text);

/** Drops the first `n` bytes (n <= len); gives a large block back once nothing is left. */
void lt_buffer_consume(struct lt_buffer *buffer, size_t n);
