/*
 * JSON strings where they stand in a text: checking and decoding.
 *
 * Checking goes eight bytes at a time while nothing special comes; most strings are plain and need no
 * decoding at all. Decoding yields pieces: runs that are copied as they are, and single escapes.
 * Both are linear in the string, whatever it holds.
 *
 * Failure modes: what RFC 8259 section 7 and Unicode table 3-7 do not allow; see the header for what
 * is kept or replaced instead. Thread: any (pure functions). Ownership: the text is the caller's.
 */
#include "json_string.h"

#include <endian.h>

#include "sluice/text.h"

enum { LITERAL_SIZE = 64 };

static const char *plain_run(const char *at, const char *end);
static const char *high_run(const char *at, const char *end, bool repair_utf8,
                            struct gw_json_string *string);
static size_t read_escape(const char *at, const char *end, uint32_t *ret_code);
static int32_t read_hex4(const char *at, const char *end);
static bool is_surrogate(uint32_t code);
static size_t next_piece(const struct gw_json_string *string, size_t at, char scratch[4],
                         const char **ret_piece, size_t *ret_piece_len);
static size_t escapeless_run(const char *at, const char *end);
static size_t careful_run(const char *at, const char *end);
static size_t encode(uint32_t code, char to[4]);

/* ---- checking ---- */

enum gw_json_fault gw_json_string_check(const char *text, const char *end, bool repair_utf8,
                                        struct gw_json_string *ret_string,
                                        const char **ret_stopped_at)
{
    struct gw_json_string string = {.base = text, .plain = true};
    enum gw_json_fault fault = GW_JSON_FINE;
    const char *at = text;

    for (;;) {
        at = plain_run(at, end);
        if (at == end) {
            fault = GW_JSON_FAULT_SYNTAX;
            break;
        }
        if (*at == '"') {
            break;
        }
        if ((unsigned char)*at >= 0x80) {
            at = high_run(at, end, repair_utf8, &string);
            if (at < end && (unsigned char)*at >= 0x80) {
                fault = GW_JSON_FAULT_UTF8;
                break;
            }
            continue;
        }
        uint32_t code = 0;
        size_t used = *at == '\\' ? read_escape(at, end, &code) : 0;
        if (used == 0) {
            fault = *at == '\\' ? GW_JSON_FAULT_SYNTAX : GW_JSON_FAULT_CONTROL;
            break;
        }
        string.plain = false;
        if (is_surrogate(code) && string.lone_at == NULL) {
            string.lone_at = at;
        }
        at += used;
    }
    *ret_stopped_at = at;
    if (fault == GW_JSON_FINE) {
        string.len = (size_t)(at - text);
        *ret_string = string;
    }
    return fault;
}

/* The end of the run of ASCII characters that stand for themselves: eight at a time, as long as they last. */
static const char *plain_run(const char *at, const char *end)
{
    const uint64_t ones = 0x0101010101010101, highs = 0x8080808080808080;

    while (end - at >= 8) {
        uint64_t word;
        memcpy(&word, at, sizeof(word));
        word = le64toh(word);
        /* A high bit set in `special` marks a byte over 0x7f, below 0x20, a quote or a backslash.
         * A borrow can only mark a byte after a true one, and only the first one counts. */
        uint64_t quotes = word ^ (ones * '"'), slashes = word ^ (ones * '\\');
        uint64_t special = (word | ((word - ones * 0x20) & ~word) | ((quotes - ones) & ~quotes) |
                            ((slashes - ones) & ~slashes)) &
                           highs;
        if (special != 0) {
            return at + __builtin_ctzll(special) / 8;
        }
        at += 8;
    }
    while (at < end && (unsigned char)*at >= 0x20 && (unsigned char)*at < 0x80 && *at != '"' &&
           *at != '\\') {
        at++;
    }
    return at;
}

/* The end of the run of bytes over 0x7f, or where it is not well-formed. */
static const char *high_run(const char *at, const char *end, bool repair_utf8,
                            struct gw_json_string *string)
{
    const char *run_end = at;

    while (run_end < end && (unsigned char)*run_end >= 0x80) {
        run_end++;
    }
    at += sl_utf8_valid_prefix(at, (size_t)(run_end - at));
    if (at < run_end && repair_utf8) {
        string->plain = false;
        string->ill_formed = true; /* decoding finds the ill-formed bytes again */
        return run_end;
    }
    return at;
}

/*
 * Reads the escape at `at`; both escapes of a surrogate pair are one. Returns the bytes used, 0 when
 * it is not valid; half a pair comes back as it is.
 */
static size_t read_escape(const char *at, const char *end, uint32_t *ret_code)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";

    if (end - at < 2) {
        return 0;
    }
    if (at[1] != 'u') {
        const char *found = at[1] != '\0' ? strchr(from, at[1]) : NULL;
        if (found == NULL) {
            return 0;
        }
        *ret_code = (uint32_t)to[found - from];
        return 2;
    }
    int32_t first = read_hex4(at + 2, end);
    if (first < 0) {
        return 0;
    }
    *ret_code = (uint32_t)first;
    if (first < 0xd800 || first > 0xdbff || end - at < 12 || at[6] != '\\' || at[7] != 'u') {
        return 6;
    }
    int32_t second = read_hex4(at + 8, end);
    if (second < 0xdc00 || second > 0xdfff) {
        return 6;
    }
    *ret_code = 0x10000 + (((uint32_t)first & 0x3ff) << 10 | ((uint32_t)second & 0x3ff));
    return 12;
}

static int32_t read_hex4(const char *at, const char *end)
{
    int32_t value = 0;

    if (end - at < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        int32_t digit;
        if (c >= '0' && c <= '9') {
            digit = c - '0';
        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            digit = (c | 0x20) - 'a' + 10;
        } else {
            return -1;
        }
        value = value << 4 | digit;
    }
    return value;
}

static bool is_surrogate(uint32_t code)
{
    return code >= 0xd800 && code <= 0xdfff;
}

/* ---- decoding ---- */

int gw_json_string_append(const struct gw_json_string *string, struct sl_buffer *to)
{
    size_t start = to->len;
    char scratch[4];
    const char *piece;
    size_t piece_len;

    if (string->plain) {
        return sl_buffer_append(to, string->base, string->len);
    }
    for (size_t at = 0; at < string->len;) {
        at += next_piece(string, at, scratch, &piece, &piece_len);
        int err = sl_buffer_append(to, piece, piece_len);
        if (err != 0) {
            to->len = start;
            return err;
        }
    }
    return 0;
}

void gw_json_string_copy(const struct gw_json_string *string, char *to, size_t size)
{
    size_t len = 0;
    char scratch[4];
    const char *piece;
    size_t piece_len;

    for (size_t at = 0; at < string->len;) {
        at += next_piece(string, at, scratch, &piece, &piece_len);
        if (piece == scratch && piece_len == 3 && !sl_utf8_valid(scratch, 3)) {
            memcpy(scratch, "\xef\xbf\xbd", 3); /* half a surrogate pair */
        }
        size_t fits = sl_utf8_cut(piece, piece_len, size - 1 - len);
        memcpy(to + len, piece, fits);
        len += fits;
        if (fits < piece_len) {
            break;
        }
    }
    to[len] = '\0';
}

bool gw_json_string_is_decoded(const struct gw_json_string *string, const char *literal)
{
    char text[LITERAL_SIZE];

    gw_json_string_copy(string, text, sizeof(text));
    return strcmp(text, literal) == 0;
}

/* The decoded form of what stands at `at`: a run as it is, or one escape or ill-formed byte. Returns the bytes used. */
static size_t next_piece(const struct gw_json_string *string, size_t at, char scratch[4],
                         const char **ret_piece, size_t *ret_piece_len)
{
    const char *base = string->base + at, *end = string->base + string->len;
    uint32_t code = 0xfffd;
    size_t used = 1;

    size_t run = string->ill_formed ? careful_run(base, end) : escapeless_run(base, end);
    if (run > 0) {
        *ret_piece = base;
        *ret_piece_len = run;
        return run;
    }
    if (*base == '\\') {
        used = read_escape(base, end, &code);
    }
    *ret_piece = scratch;
    *ret_piece_len = encode(code, scratch);
    return used;
}

static size_t escapeless_run(const char *at, const char *end)
{
    const char *slash = memchr(at, '\\', (size_t)(end - at));

    return (size_t)((slash != NULL ? slash : end) - at);
}

/* Plain ASCII, or one well-formed character; 0 at an escape and at an ill-formed byte. */
static size_t careful_run(const char *at, const char *end)
{
    const char *run_end = plain_run(at, end);

    if (run_end > at) {
        return (size_t)(run_end - at);
    }
    for (size_t n = 2; n <= 4 && n <= (size_t)(end - at); n++) {
        if (*at != '\\' && sl_utf8_valid(at, n)) {
            return n;
        }
    }
    return 0;
}

static size_t encode(uint32_t code, char to[4])
{
    if (code == 0) {
        code = 0xfffd;
    }
    if (code < 0x80) {
        to[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        to[0] = (char)(0xc0 | code >> 6);
        to[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        to[0] = (char)(0xe0 | code >> 12);
        to[1] = (char)(0x80 | (code >> 6 & 0x3f));
        to[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | code >> 18);
    to[1] = (char)(0x80 | (code >> 12 & 0x3f));
    to[2] = (char)(0x80 | (code >> 6 & 0x3f));
    to[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}
