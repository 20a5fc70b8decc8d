/**
 * The journal's bytes: segment header and record, encoded and decoded. No I/O, no clock.
 *
 * All numbers are little-endian. Records begin at multiples of 8 and are padded with zeros to a
 * multiple of 8; the checksum (CRC32C, RFC 3720 appendix B.4) covers header, payload and padding, so
 * no bit of a record can change unnoticed. The salt is the segment's own random number: old bytes of
 * another segment, or bytes that somebody put into a message, never look like a record of this one.
 *
 *   segment header, 64 bytes                 record header, 64 bytes
 *    0 magic "SLJSEG01"                        0 magic u32      4 CRC32C u32
 *    8 version u32   12 CRC32C u32             8 salt u64
 *   16 number u64                             16 payload length u32   20 kind u16   22 version u16
 *   24 salt u64                               24 sequence u64
 *   32 created, Unix us i64                   32 recorded at, Unix us i64
 *   40 zeros                                  40 message id (or zeros)   56 zeros
 *
 * Thread: any (pure functions). Ownership: a view points into the bytes it was decoded from.
 */
#pragma once

#include "record.h"

enum {
    STORE_FORMAT_SEGMENT_HEADER = 64,
    STORE_FORMAT_RECORD_HEADER = 64,
    STORE_FORMAT_ALIGN = 8,
    STORE_FORMAT_PAYLOAD_MAX = 64 << 20,
};

/** Sequence and segment numbers are smaller: counting on from one that was read cannot overflow. */
#define STORE_FORMAT_NUMBER_MAX (UINT64_C(1) << 62)

/** CRC32C of `len` more bytes; begin with 0. Uses the CPU's instruction where there is one. */
uint32_t store_format_crc32c(uint32_t crc, const void *bytes, size_t len);
/** The same by tables only. */
uint32_t store_format_crc32c_tables(uint32_t crc, const void *bytes, size_t len);

struct store_format_segment {
    uint64_t number, salt;
    int64_t created_us;
};

void store_format_encode_segment(const struct store_format_segment *segment,
                                 uint8_t to[STORE_FORMAT_SEGMENT_HEADER]);
/** False: not an intact header. */
bool store_format_decode_segment(const uint8_t from[STORE_FORMAT_SEGMENT_HEADER],
                                 struct store_format_segment *ret_segment);

/** A record where it lies. */
struct store_format_view {
    enum store_record_kind kind;
    uint64_t salt, sequence;
    int64_t recorded_at_us;
    struct sl_uuid id;
    const uint8_t *base;    /* its first byte */
    size_t size;            /* with header and padding */
    const uint8_t *payload; /* base + header */
    size_t payload_len;
};

/** The bytes it takes in a segment; 0 when it is too large for any. */
size_t store_format_record_size(const struct store_record *record);

/** Writes store_format_record_size() bytes. */
void store_format_encode_record(const struct store_record *record, uint64_t salt, uint8_t *to);

/** Copies a record into a segment with another salt; `to` has view->size bytes. */
void store_format_copy_record(const struct store_format_view *view, uint64_t salt, uint8_t *to);

/**
 * Looks at the first STORE_FORMAT_RECORD_HEADER bytes: the size of the record that seems to begin
 * here, or 0. `salt` NULL: any.
 */
size_t store_format_peek_size(const uint8_t *from, const uint64_t *salt);

/** Checks the `len` bytes that a peek has promised. False: damaged. */
bool store_format_decode_record(const uint8_t *from, size_t len,
                                struct store_format_view *ret_view);

/** Makes the record again. 0, SL_E_NO_MEMORY or SL_E_INVALID_VALUE (intact, but not one of ours). */
SL_MUST_CHECK int store_format_rebuild(const struct store_format_view *view,
                                       struct store_record **ret_record);
