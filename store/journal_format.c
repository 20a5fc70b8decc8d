/*
 * The journal's bytes: segment header and record, encoded and decoded.
 *
 * Happy path: a record's fields are laid out one after the other, the checksum is put in last.
 * Failure modes: anything that does not check out is "damaged"; a record that is intact but holds
 * values we do not know is refused by rebuild only. Lengths are checked before they are used.
 * Thread: any. Ownership: none; views point into the caller's bytes.
 */
#include "journal_format.h"

#include <pthread.h>
#include <string.h>

#define RECORD_MAGIC UINT32_C(0x314a4c53) /* "SLJ1" */
#define POLYNOMIAL UINT32_C(0x82f63b78)   /* Castagnoli, reflected */
#define NULL_TEXT UINT32_C(0xffffffff)

static const char segment_magic[8] = {'S', 'L', 'J', 'S', 'E', 'G', '0', '1'};

enum { FORMAT_VERSION = 1, CRC_AT_SEGMENT = 12, CRC_AT_RECORD = 4 };

/* ---- CRC32C ---- */

static uint32_t tables[8][256];
static bool has_instruction;
static pthread_once_t prepared = PTHREAD_ONCE_INIT;

static void prepare(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? POLYNOMIAL : 0);
        }
        tables[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++) {
        for (int t = 1; t < 8; t++) {
            tables[t][i] = (tables[t - 1][i] >> 8) ^ tables[0][tables[t - 1][i] & 0xff];
        }
    }
#if defined(__x86_64__)
    has_instruction = __builtin_cpu_supports("sse4.2") != 0;
#endif
}

static uint64_t load_u64(const uint8_t *from)
{
    uint64_t value = 0;

    for (int i = 7; i >= 0; i--) {
        value = value << 8 | from[i];
    }
    return value;
}

/* eight bytes a step, one table each ("slicing-by-8", Kounavis and Berry, 2005) */
static uint32_t crc_by_tables(uint32_t crc, const uint8_t *at, size_t len)
{
    for (; len >= 8; len -= 8, at += 8) {
        uint64_t word = load_u64(at) ^ crc;
        crc = tables[7][word & 0xff] ^ tables[6][word >> 8 & 0xff] ^ tables[5][word >> 16 & 0xff] ^
              tables[4][word >> 24 & 0xff] ^ tables[3][word >> 32 & 0xff] ^
              tables[2][word >> 40 & 0xff] ^ tables[1][word >> 48 & 0xff] ^ tables[0][word >> 56];
    }
    for (; len > 0; len--, at++) {
        crc = (crc >> 8) ^ tables[0][(crc ^ *at) & 0xff];
    }
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_by_instruction(uint32_t crc,
                                                                     const uint8_t *at, size_t len)
{
    uint64_t wide = crc;

    for (; len >= 8; len -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, sizeof(word));
        wide = __builtin_ia32_crc32di(wide, word);
    }
    crc = (uint32_t)wide;
    for (; len > 0; len--, at++) {
        crc = __builtin_ia32_crc32qi(crc, *at);
    }
    return crc;
}
#endif

uint32_t store_format_crc32c_tables(uint32_t crc, const void *bytes, size_t len)
{
    (void)pthread_once(&prepared, prepare);
    return ~crc_by_tables(~crc, bytes, len);
}

uint32_t store_format_crc32c(uint32_t crc, const void *bytes, size_t len)
{
    (void)pthread_once(&prepared, prepare);
#if defined(__x86_64__)
    if (has_instruction) {
        return ~crc_by_instruction(~crc, bytes, len);
    }
#endif
    return ~crc_by_tables(~crc, bytes, len);
}

/* ---- numbers ---- */

static uint8_t *put_u16(uint8_t *to, uint16_t value)
{
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
    return to + 2;
}

static uint8_t *put_u32(uint8_t *to, uint32_t value)
{
    return put_u16(put_u16(to, (uint16_t)value), (uint16_t)(value >> 16));
}

static uint8_t *put_u64(uint8_t *to, uint64_t value)
{
    return put_u32(put_u32(to, (uint32_t)value), (uint32_t)(value >> 32));
}

static uint8_t *put_bytes(uint8_t *to, const void *bytes, size_t len)
{
    if (len > 0) {
        memcpy(to, bytes, len);
    }
    return to + len;
}

static uint32_t load_u32(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 |
           (uint32_t)from[3] << 24;
}

/* the checksum of `len` bytes without the four at `crc_at`, which hold it */
static uint32_t checksum(const uint8_t *bytes, size_t len, size_t crc_at)
{
    uint32_t crc = store_format_crc32c(0, bytes, crc_at);
    return store_format_crc32c(crc, bytes + crc_at + 4, len - crc_at - 4);
}

/* ---- segment header ---- */

void store_format_encode_segment(const struct store_format_segment *segment,
                                 uint8_t to[STORE_FORMAT_SEGMENT_HEADER])
{
    memset(to, 0, STORE_FORMAT_SEGMENT_HEADER);
    (void)put_bytes(to, segment_magic, sizeof(segment_magic));
    (void)put_u32(to + 8, FORMAT_VERSION);
    (void)put_u64(to + 16, segment->number);
    (void)put_u64(to + 24, segment->salt);
    (void)put_u64(to + 32, (uint64_t)segment->created_us);
    (void)put_u32(to + CRC_AT_SEGMENT, checksum(to, STORE_FORMAT_SEGMENT_HEADER, CRC_AT_SEGMENT));
}

bool store_format_decode_segment(const uint8_t from[STORE_FORMAT_SEGMENT_HEADER],
                                 struct store_format_segment *ret_segment)
{
    if (memcmp(from, segment_magic, sizeof(segment_magic)) != 0 ||
        load_u32(from + 8) != FORMAT_VERSION ||
        load_u32(from + CRC_AT_SEGMENT) !=
            checksum(from, STORE_FORMAT_SEGMENT_HEADER, CRC_AT_SEGMENT)) {
        return false;
    }
    ret_segment->number = load_u64(from + 16);
    ret_segment->salt = load_u64(from + 24);
    ret_segment->created_us = (int64_t)load_u64(from + 32);
    return true;
}

/* ---- records: out ---- */

static size_t text_size(const struct store_text *text)
{
    return 4 + (text->base != NULL ? text->len : 0);
}

static uint8_t *put_text(uint8_t *to, const struct store_text *text)
{
    if (text->base == NULL) {
        return put_u32(to, NULL_TEXT);
    }
    return put_bytes(put_u32(to, (uint32_t)text->len), text->base, text->len);
}

enum { MESSAGE_FIXED = 16 + 16 + 1 + 1 + 8 + 4 + 4 + 8 };

static size_t payload_size(const struct store_record *record)
{
    size_t size = 4 + record->user_len + sizeof(record->session.bytes);

    if (record->kind != STORE_RECORD_MESSAGE) {
        return size + text_size(&record->text);
    }
    return size + MESSAGE_FIXED + text_size(&record->message.content) +
           text_size(&record->message.model) + text_size(&record->message.finish_reason);
}

static size_t padded(size_t payload_len)
{
    return (STORE_FORMAT_RECORD_HEADER + payload_len + STORE_FORMAT_ALIGN - 1) &
           ~(size_t)(STORE_FORMAT_ALIGN - 1);
}

size_t store_format_record_size(const struct store_record *record)
{
    size_t len = payload_size(record);
    return len > STORE_FORMAT_PAYLOAD_MAX ? 0 : padded(len);
}

static uint8_t *put_message(uint8_t *to, const struct store_message *message)
{
    uint64_t ttft;

    memcpy(&ttft, &message->ttft_ms, sizeof(ttft));
    to = put_bytes(to, message->id.bytes, sizeof(message->id.bytes));
    to = put_bytes(to, message->turn_id.bytes, sizeof(message->turn_id.bytes));
    *to++ = (uint8_t)message->role;
    *to++ = (uint8_t)message->status;
    to = put_u64(to, (uint64_t)message->created_at_us);
    to = put_u32(to, (uint32_t)message->prompt_tokens);
    to = put_u32(to, (uint32_t)message->completion_tokens);
    to = put_u64(to, ttft);
    to = put_text(to, &message->content);
    to = put_text(to, &message->model);
    return put_text(to, &message->finish_reason);
}

void store_format_encode_record(const struct store_record *record, uint64_t salt, uint8_t *to)
{
    size_t len = payload_size(record), size = padded(len);
    uint8_t *at = to + STORE_FORMAT_RECORD_HEADER;

    memset(to, 0, STORE_FORMAT_RECORD_HEADER);
    (void)put_u32(to, RECORD_MAGIC);
    (void)put_u64(to + 8, salt);
    (void)put_u32(to + 16, (uint32_t)len);
    (void)put_u16(to + 20, (uint16_t)record->kind);
    (void)put_u16(to + 22, FORMAT_VERSION);
    (void)put_u64(to + 24, record->sequence);
    (void)put_u64(to + 32, (uint64_t)record->recorded_at_us);
    if (record->kind == STORE_RECORD_MESSAGE) {
        (void)put_bytes(to + 40, record->message.id.bytes, sizeof(record->message.id.bytes));
    }
    at = put_u32(at, (uint32_t)record->user_len);
    at = put_bytes(at, record->user, record->user_len);
    at = put_bytes(at, record->session.bytes, sizeof(record->session.bytes));
    at = record->kind == STORE_RECORD_MESSAGE ? put_message(at, &record->message)
                                              : put_text(at, &record->text);
    memset(at, 0, (size_t)(to + size - at));
    (void)put_u32(to + CRC_AT_RECORD, checksum(to, size, CRC_AT_RECORD));
}

void store_format_copy_record(const struct store_format_view *view, uint64_t salt, uint8_t *to)
{
    memcpy(to, view->base, view->size);
    (void)put_u64(to + 8, salt);
    (void)put_u32(to + CRC_AT_RECORD, checksum(to, view->size, CRC_AT_RECORD));
}

/* ---- records: in ---- */

size_t store_format_peek_size(const uint8_t *from, const uint64_t *salt)
{
    uint32_t len = load_u32(from + 16);

    if (load_u32(from) != RECORD_MAGIC || len > STORE_FORMAT_PAYLOAD_MAX ||
        (salt != NULL && load_u64(from + 8) != *salt)) {
        return 0;
    }
    return padded(len);
}

bool store_format_decode_record(const uint8_t *from, size_t len, struct store_format_view *ret_view)
{
    uint64_t sequence = load_u64(from + 24);

    if (load_u32(from + CRC_AT_RECORD) != checksum(from, len, CRC_AT_RECORD) || sequence == 0 ||
        sequence >= STORE_FORMAT_NUMBER_MAX) {
        return false;
    }
    *ret_view = (struct store_format_view){
        .kind = (enum store_record_kind)((unsigned)from[20] | (unsigned)from[21] << 8),
        .salt = load_u64(from + 8),
        .sequence = sequence,
        .recorded_at_us = (int64_t)load_u64(from + 32),
        .base = from,
        .size = len,
        .payload = from + STORE_FORMAT_RECORD_HEADER,
        .payload_len = load_u32(from + 16),
    };
    memcpy(ret_view->id.bytes, from + 40, sizeof(ret_view->id.bytes));
    return true;
}

/* what is left to read; `bad` once something did not fit */
struct input {
    const uint8_t *at;
    size_t len;
    bool bad;
};

static const uint8_t *take(struct input *input, size_t len)
{
    static const uint8_t zeros[16];
    const uint8_t *at = input->at;

    if (len > input->len) {
        input->bad = true;
        input->len = 0;
        return zeros; /* no caller reads more than 16 bytes of what it was refused */
    }
    input->at += len;
    input->len -= len;
    return at;
}

static struct store_text take_text(struct input *input)
{
    struct store_text text = {.base = NULL};
    uint32_t len = load_u32(take(input, 4));

    if (len != NULL_TEXT) {
        text.base = (const char *)take(input, len);
        text.len = input->bad ? 0 : len;
    }
    return text;
}

static void take_message(struct input *input, struct store_message *message)
{
    memcpy(message->id.bytes, take(input, 16), 16);
    memcpy(message->turn_id.bytes, take(input, 16), 16);
    message->role = (enum store_role) * take(input, 1);
    message->status = (enum store_status) * take(input, 1);
    message->created_at_us = (int64_t)load_u64(take(input, 8));
    message->prompt_tokens = (int32_t)load_u32(take(input, 4));
    message->completion_tokens = (int32_t)load_u32(take(input, 4));
    uint64_t ttft = load_u64(take(input, 8));
    memcpy(&message->ttft_ms, &ttft, sizeof(ttft));
    message->content = take_text(input);
    message->model = take_text(input);
    message->finish_reason = take_text(input);
    input->bad |= message->role < STORE_ROLE_USER || message->role > STORE_ROLE_ASSISTANT ||
                  message->status < STORE_STATUS_COMPLETE || message->status > STORE_STATUS_FAILED;
}

int store_format_rebuild(const struct store_format_view *view, struct store_record **ret_record)
{
    struct input input = {.at = view->payload, .len = view->payload_len};
    struct store_message message = {.role = 0};
    struct store_text text = {.base = NULL};
    struct store_record *record = NULL;
    struct sl_uuid session;
    uint32_t user_len = load_u32(take(&input, 4));
    const char *user = (const char *)take(&input, user_len);

    memcpy(session.bytes, take(&input, sizeof(session.bytes)), sizeof(session.bytes));
    if (view->kind == STORE_RECORD_MESSAGE) {
        take_message(&input, &message);
    } else {
        text = take_text(&input);
    }
    if (input.bad || input.len != 0 || view->kind < STORE_RECORD_MESSAGE ||
        view->kind > STORE_RECORD_DELETE) {
        return SL_E_INVALID_VALUE;
    }
    int err = view->kind == STORE_RECORD_MESSAGE
                  ? store_record_create_message(user, user_len, &session, &message, &record)
                  : store_record_create(view->kind, user, user_len, &session, text, &record);
    if (err != 0) {
        return err;
    }
    record->sequence = view->sequence;
    record->recorded_at_us = view->recorded_at_us;
    record->durable = true;
    *ret_record = record;
    return 0;
}
