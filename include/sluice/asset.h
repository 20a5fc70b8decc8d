/**
 * A file that the build compiled into the binary (cmake/embed.cmake): migrations and web pages.
 *
 * Thread: any (constant data).
 */
#pragma once

#include <stddef.h>

struct sl_asset {
    const char *name;  /* the file's name without its folder */
    const char *bytes; /* followed by a NUL that `len` does not count */
    size_t len;
};
