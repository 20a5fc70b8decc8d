/*
 * UUID version 7 (RFC 9562 section 5.7) and the text form.
 *
 * The 48-bit time and the 12-bit counter in rand_a are one 60-bit number that only grows: a new id
 * takes max(now, last + 1). So ids of this process are strictly ordered, a clock that steps back
 * does not matter, and an overflowing counter simply borrows from the next millisecond.
 * rand_b comes from getrandom, in blocks, per thread. Thread: any; one compare-and-swap per id.
 */
#include "sluice/uuid.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static uint64_t next_stamp(void);
static void random_bytes(uint8_t *to, size_t n);
static int hex_value(char c);

struct sl_uuid sl_uuid_v7(void)
{
    struct sl_uuid uuid;
    uint64_t stamp = next_stamp();
    uint64_t ms = stamp >> 12;

    for (int i = 0; i < 6; i++) {
        uuid.bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
    }
    uuid.bytes[6] = (uint8_t)(0x70 | ((stamp >> 8) & 0x0f));
    uuid.bytes[7] = (uint8_t)stamp;
    random_bytes(uuid.bytes + 8, 8);
    uuid.bytes[8] = (uint8_t)(0x80 | (uuid.bytes[8] & 0x3f));
    return uuid;
}

int sl_uuid_parse(const char *text, size_t len, struct sl_uuid *ret_uuid)
{
    struct sl_uuid uuid;
    size_t at = 0;

    if (len != SL_UUID_TEXT_LEN) {
        return SL_E_INVALID_VALUE;
    }
    for (size_t i = 0; i < sizeof(uuid.bytes); i++) {
        if (at == 8 || at == 13 || at == 18 || at == 23) {
            if (text[at++] != '-') {
                return SL_E_INVALID_VALUE;
            }
        }
        int high = hex_value(text[at]), low = hex_value(text[at + 1]);
        if (high < 0 || low < 0) {
            return SL_E_INVALID_VALUE;
        }
        uuid.bytes[i] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    *ret_uuid = uuid;
    return 0;
}

void sl_uuid_format(const struct sl_uuid *uuid, char text[SL_UUID_TEXT_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    size_t at = 0;

    for (size_t i = 0; i < sizeof(uuid->bytes); i++) {
        if (at == 8 || at == 13 || at == 18 || at == 23) {
            text[at++] = '-';
        }
        text[at++] = digits[uuid->bytes[i] >> 4];
        text[at++] = digits[uuid->bytes[i] & 0x0f];
    }
    text[at] = '\0';
}

bool sl_uuid_equal(const struct sl_uuid *a, const struct sl_uuid *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

bool sl_uuid_is_nil(const struct sl_uuid *uuid)
{
    static const struct sl_uuid nil;
    return sl_uuid_equal(uuid, &nil);
}

static uint64_t next_stamp(void)
{
    static _Atomic uint64_t last;
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    uint64_t ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    uint64_t seen = atomic_load_explicit(&last, memory_order_relaxed);
    uint64_t stamp;
    do {
        stamp = ms << 12;
        if (stamp <= seen) {
            stamp = seen + 1;
        }
    } while (!atomic_compare_exchange_weak_explicit(&last, &seen, stamp, memory_order_relaxed,
                                                    memory_order_relaxed));
    return stamp;
}

static void random_bytes(uint8_t *to, size_t n)
{
    static _Thread_local uint8_t block[256]; /* getrandom gives up to 256 bytes uninterrupted */
    static _Thread_local size_t left;

    if (left < n) {
        if (getrandom(block, sizeof(block), 0) != (ssize_t)sizeof(block)) {
            abort(); /* only before the kernel's pool is ready, or a broken kernel */
        }
        left = sizeof(block);
    }
    left -= n;
    memcpy(to, block + left, n);
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}
