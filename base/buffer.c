/*
 * A growable byte buffer with a maximum.
 *
 * Growth doubles, starting at 256 bytes, so that many small appends cost few reallocations. A
 * buffer is sized by a peer more often than not, so running out of memory is an error here, not an
 * abort. Thread: one at a time. Ownership: `base` belongs to the buffer.
 */
#include "sluice/buffer.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 256 };

static int grow(struct sl_buffer *buffer, size_t n);

void sl_buffer_init(struct sl_buffer *buffer, size_t max)
{
    *buffer = (struct sl_buffer){.max = max};
}

char *sl_buffer_reserve(struct sl_buffer *buffer, size_t n)
{
    if (buffer->capacity - buffer->len < n && grow(buffer, n) != 0) {
        return NULL;
    }
    return buffer->base + buffer->len;
}

int sl_buffer_append(struct sl_buffer *buffer, const void *bytes, size_t n)
{
    if (n == 0) {
        return 0;
    }
    if (buffer->capacity - buffer->len < n) {
        int err = grow(buffer, n);
        if (err != 0) {
            return err;
        }
    }
    memcpy(buffer->base + buffer->len, bytes, n);
    buffer->len += n;
    return 0;
}

int sl_buffer_append_str(struct sl_buffer *buffer, const char *text)
{
    return sl_buffer_append(buffer, text, strlen(text));
}

int sl_buffer_appendf(struct sl_buffer *buffer, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) {
        return SL_E_INTERNAL;
    }
    /* one more byte for vsnprintf's NUL, which is not counted in len */
    char *to = sl_buffer_reserve(buffer, (size_t)n + 1);
    if (to == NULL) {
        return SL_E_LIMIT;
    }
    va_start(args, format);
    (void)vsnprintf(to, (size_t)n + 1, format, args);
    va_end(args);
    buffer->len += (size_t)n;
    return 0;
}

void sl_buffer_trim(struct sl_buffer *buffer)
{
    if (buffer->len == 0) {
        sl_buffer_dispose(buffer);
    } else if (buffer->len < buffer->capacity) {
        char *smaller = realloc(buffer->base, buffer->len);
        if (smaller != NULL) { /* else it stays as large as it is */
            buffer->base = smaller;
            buffer->capacity = buffer->len;
        }
    }
}

void sl_buffer_consume(struct sl_buffer *buffer, size_t n)
{
    if (n == 0) {
        return;
    }
    memmove(buffer->base, buffer->base + n, buffer->len - n);
    buffer->len -= n;
}

void sl_buffer_clear(struct sl_buffer *buffer)
{
    buffer->len = 0;
}

void sl_buffer_dispose(struct sl_buffer *buffer)
{
    free(buffer->base);
    sl_buffer_init(buffer, buffer->max);
}

static int grow(struct sl_buffer *buffer, size_t n)
{
    if (n > buffer->max || buffer->len > buffer->max - n) {
        return SL_E_LIMIT;
    }
    size_t wanted = buffer->len + n;
    size_t capacity = buffer->capacity > 0 ? buffer->capacity : FIRST_CAPACITY;
    while (capacity < wanted && capacity <= SIZE_MAX / 2) {
        capacity *= 2;
    }
    if (capacity < wanted || capacity > buffer->max) {
        capacity = buffer->max;
    }
    char *base = realloc(buffer->base, capacity);
    if (base == NULL) {
        return SL_E_NO_MEMORY;
    }
    buffer->base = base;
    buffer->capacity = capacity;
    return 0;
}
