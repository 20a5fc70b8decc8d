/*
 * Growable bytes: doubles its block, escapes JSON, gives large empty blocks back.
 *
 * Failure: no memory -> message and abort; there is nothing a test tool could do better.
 * Thread: one at a time. Ownership: see buffer.h.
 */
#include "buffer.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 256, KEEP_EMPTY_MAX = 64 * 1024 };

void lt_buffer_free(struct lt_buffer *buffer)
{
    free(buffer->base);
    *buffer = (struct lt_buffer){0};
}

char *lt_buffer_reserve(struct lt_buffer *buffer, size_t n)
{
    size_t need = buffer->len + n;
    if (need > buffer->capacity) {
        size_t capacity = buffer->capacity != 0 ? buffer->capacity : FIRST_CAPACITY;
        while (capacity < need) {
            capacity *= 2;
        }
        char *base = realloc(buffer->base, capacity);
        if (base == NULL) {
            fputs("out of memory\n", stderr);
            abort();
        }
        buffer->base = base;
        buffer->capacity = capacity;
    }
    return buffer->base + buffer->len;
}

void lt_buffer_append(struct lt_buffer *buffer, const void *bytes, size_t n)
{
    if (n != 0) {
        memcpy(lt_buffer_reserve(buffer, n), bytes, n);
        buffer->len += n;
    }
}

void lt_buffer_append_str(struct lt_buffer *buffer, const char *text)
{
    lt_buffer_append(buffer, text, strlen(text));
}

void lt_buffer_appendf(struct lt_buffer *buffer, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    va_list again;
    va_copy(again, arguments);
    size_t room = 128;
    int written = vsnprintf(lt_buffer_reserve(buffer, room), room, format, arguments);
    if (written >= 0 && (size_t)written >= room) {
        room = (size_t)written + 1;
        written = vsnprintf(lt_buffer_reserve(buffer, room), room, format, again);
    }
    if (written > 0) {
        buffer->len += (size_t)written;
    }
    va_end(again);
    va_end(arguments);
}

static size_t escape_byte(char *to, unsigned char byte)
{
    static const char hex[] = "0123456789abcdef";
    char letter;
    switch (byte) {
    case '"':
    case '\\':
        letter = (char)byte;
        break;
    case '\n':
        letter = 'n';
        break;
    case '\r':
        letter = 'r';
        break;
    case '\t':
        letter = 't';
        break;
    default:
        memcpy(to, "\\u00", 4);
        to[4] = hex[byte >> 4];
        to[5] = hex[byte & 15];
        return 6;
    }
    to[0] = '\\';
    to[1] = letter;
    return 2;
}

void lt_buffer_append_json(struct lt_buffer *buffer, const char *text, size_t len)
{
    char *const start = lt_buffer_reserve(buffer, len * 6);
    char *to = start;
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte >= 0x20 && byte != '"' && byte != '\\') {
            *to++ = (char)byte;
        } else {
            to += escape_byte(to, byte);
        }
    }
    buffer->len += (size_t)(to - start);
}

void lt_buffer_append_quoted(struct lt_buffer *buffer, const char *text)
{
    lt_buffer_append(buffer, "\"", 1);
    lt_buffer_append_json(buffer, text, strlen(text));
    lt_buffer_append(buffer, "\"", 1);
}

void lt_buffer_consume(struct lt_buffer *buffer, size_t n)
{
    buffer->len -= n;
    if (buffer->len != 0) {
        memmove(buffer->base, buffer->base + n, buffer->len);
    } else if (buffer->capacity > KEEP_EMPTY_MAX) {
        lt_buffer_free(buffer);
    }
}
