/* W3C Trace Context. Thread and source: see the header. */
#include "trace_context.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "sluice/random.h"

enum { MEMBERS_MAX = 32, KEY_MAX = 256, VALUE_MAX = 256 };

static bool read_hex(const char *text, size_t digits, uint64_t *ret_value);
static bool is_member(const char *text, size_t len);
static bool is_key(const char *text, size_t len);
static void trim(const char **text, size_t *len);

int gw_trace_context_parse(const char *text, size_t len, struct gw_trace_context *ret_context)
{
    uint64_t version, high, low, parent, flags;

    trim(&text, &len);
    bool is_read = len >= GW_TRACEPARENT_LEN && read_hex(text, 2, &version) && text[2] == '-' &&
                   read_hex(text + 3, 16, &high) && read_hex(text + 19, 16, &low) &&
                   text[35] == '-' && read_hex(text + 36, 16, &parent) && text[52] == '-' &&
                   read_hex(text + 53, 2, &flags);
    if (!is_read || version == 0xff || (high | low) == 0 || parent == 0) {
        return SL_E_INVALID_VALUE;
    }
    if (len > GW_TRACEPARENT_LEN && (version == 0 || text[GW_TRACEPARENT_LEN] != '-')) {
        return SL_E_INVALID_VALUE;
    }
    *ret_context = (struct gw_trace_context){high, low, parent, (flags & 1) != 0};
    return 0;
}

/* The recommendation knows lower case only. */
static bool read_hex(const char *text, size_t digits, uint64_t *ret_value)
{
    uint64_t value = 0;

    for (size_t i = 0; i < digits; i++) {
        bool is_digit = text[i] >= '0' && text[i] <= '9';
        if (!is_digit && (text[i] < 'a' || text[i] > 'f')) {
            return false;
        }
        value = value << 4 | (uint64_t)(is_digit ? text[i] - '0' : text[i] - 'a' + 10);
    }
    *ret_value = value;
    return true;
}

void gw_trace_context_format(const struct gw_trace_context *context, uint64_t parent,
                             char text[GW_TRACEPARENT_SIZE])
{
    (void)snprintf(text, GW_TRACEPARENT_SIZE, "00-%016" PRIx64 "%016" PRIx64 "-%016" PRIx64 "-%02x",
                   context->id_high, context->id_low, parent, context->sampled ? 1U : 0U);
}

struct gw_trace_context gw_trace_context_begin(unsigned sample_percent)
{
    struct gw_trace_context context = {.id_high = sl_random_u64(), .id_low = sl_random_u64() | 1};

    context.sampled = context.id_high % 100 < sample_percent;
    return context;
}

/* ---------------------------------------------------------------- tracestate */

bool gw_trace_state_is_valid(const char *text, size_t len)
{
    const char *end = text + len;
    size_t members = 0;

    if (len > GW_TRACESTATE_MAX) {
        return false;
    }
    while (text < end) {
        const char *comma = memchr(text, ',', (size_t)(end - text));
        const char *member = text;
        size_t member_len = (size_t)((comma != NULL ? comma : end) - text);
        trim(&member, &member_len);
        if (member_len > 0 && (!is_member(member, member_len) || ++members > MEMBERS_MAX)) {
            return false;
        }
        text = comma != NULL ? comma + 1 : end;
    }
    return members > 0;
}

/* Blanks behind it are trimmed already, so the value ends in none. */
static bool is_member(const char *text, size_t len)
{
    const char *equals = memchr(text, '=', len);
    size_t key_len = equals != NULL ? (size_t)(equals - text) : 0;
    size_t value_len = equals != NULL ? len - key_len - 1 : 0;

    if (!is_key(text, key_len) || value_len == 0 || value_len > VALUE_MAX) {
        return false;
    }
    for (size_t i = key_len + 1; i < len; i++) {
        if (text[i] < ' ' || text[i] > '~' || text[i] == '=') {
            return false;
        }
    }
    return true;
}

/* Of one vendor, or tenant@vendor. */
static bool is_key(const char *text, size_t len)
{
    static const char others[] = "abcdefghijklmnopqrstuvwxyz0123456789_-*/@";
    const char *at = len > 0 ? memchr(text, '@', len) : NULL;

    if (len == 0 || len > KEY_MAX || memchr(others, text[0], 36) == NULL) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (memchr(others, text[i], sizeof(others) - 1) == NULL) {
            return false;
        }
    }
    /* one @ at most, with something behind it */
    return at == NULL ||
           (at + 1 < text + len && memchr(at + 1, '@', (size_t)(text + len - at) - 1) == NULL);
}

/* RFC 9110 section 5.5: blanks around a field's value are no part of it. */
static void trim(const char **text, size_t *len)
{
    while (*len > 0 && (**text == ' ' || **text == '\t')) {
        (*text)++;
        (*len)--;
    }
    while (*len > 0 && ((*text)[*len - 1] == ' ' || (*text)[*len - 1] == '\t')) {
        (*len)--;
    }
}
