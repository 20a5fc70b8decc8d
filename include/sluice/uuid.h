/**
 * UUIDs: version 7 made here (RFC 9562 section 5.7), any version accepted from outside.
 *
 * Thread: any.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sluice/error.h"

enum { SL_UUID_TEXT_LEN = 36, SL_UUID_TEXT_SIZE = 37 };

struct sl_uuid {
    uint8_t bytes[16];
};

/**
 * Makes a version 7 UUID. Within this process each is greater than the one before (method 1 of
 * RFC 9562 section 6.2: a counter in rand_a; when the clock steps back the last time is kept).
 */
struct sl_uuid sl_uuid_v7(void);

/** Reads the 36-character form, either case. 0, or SL_E_INVALID_VALUE for anything else. */
SL_MUST_CHECK int sl_uuid_parse(const char *text, size_t len, struct sl_uuid *ret_uuid);

/** Writes the lower-case 36-character form and a NUL. */
void sl_uuid_format(const struct sl_uuid *uuid, char text[SL_UUID_TEXT_SIZE]);

bool sl_uuid_equal(const struct sl_uuid *a, const struct sl_uuid *b);
bool sl_uuid_is_nil(const struct sl_uuid *uuid);
