/* Ambiguous request framing: one pass over the raw head, counting. Pure; see the header. */
#include "framing.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

struct line {
    const char *base;
    size_t len;
};

struct seen {
    unsigned hosts, lengths, codings;
};

static bool next_line(const char **at, const char *end, struct line *ret_line);
static bool count_field(const struct line *line, struct seen *seen);
static bool is_token(const char *text, size_t len);
static bool name_is(const char *name, size_t len, const char *wanted);

int gw_framing_check(const char *head, size_t len, int minor, size_t max_bytes)
{
    const char *at = head, *end = head + len;
    struct seen seen = {0};
    struct line line;

    if (!next_line(&at, end, &line)) {
        return SL_E_BAD_FRAMING;
    }
    if (line.len == 0 &&
        !next_line(&at, end, &line)) { /* one empty line before the request is tolerated */
        return SL_E_BAD_FRAMING;
    }
    for (;;) {
        if (!next_line(&at, end, &line)) {
            return SL_E_BAD_FRAMING;
        }
        if (line.len == 0) {
            break;
        }
        if (!count_field(&line, &seen)) {
            return SL_E_BAD_FRAMING;
        }
    }
    if ((size_t)(at - head) > max_bytes) {
        return SL_E_HEAD_TOO_LARGE;
    }
    bool host_ok = minor == 0 ? seen.hosts <= 1 : seen.hosts == 1;
    bool body_ok = seen.lengths + seen.codings <= 1 && (minor != 0 || seen.codings == 0);
    return host_ok && body_ok ? 0 : SL_E_BAD_FRAMING;
}

/* A line that ends in CRLF. A bare LF, a stray CR or NUL, and a head without end are refused. */
static bool next_line(const char **at, const char *end, struct line *ret_line)
{
    const char *lf = memchr(*at, '\n', (size_t)(end - *at));

    if (lf == NULL || lf == *at || lf[-1] != '\r') {
        return false;
    }
    ret_line->base = *at;
    ret_line->len = (size_t)(lf - 1 - *at);
    *at = lf + 1;
    return memchr(ret_line->base, '\r', ret_line->len) == NULL &&
           memchr(ret_line->base, '\0', ret_line->len) == NULL;
}

/* False for a folded line and for a name that is not a plain token right up to its colon. */
static bool count_field(const struct line *line, struct seen *seen)
{
    const char *colon = memchr(line->base, ':', line->len);

    if (colon == NULL) {
        return false;
    }
    size_t name_len = (size_t)(colon - line->base);
    if (!is_token(line->base, name_len)) {
        return false;
    }
    seen->hosts += name_is(line->base, name_len, "host");
    seen->lengths += name_is(line->base, name_len, "content-length");
    seen->codings += name_is(line->base, name_len, "transfer-encoding");
    return true;
}

/* RFC 9110 section 5.6.2 */
static bool is_token(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && (c == '\0' || strchr("!#$%&'*+-.^_`|~", c) == NULL)) {
            return false;
        }
    }
    return len > 0;
}

static bool name_is(const char *name, size_t len, const char *wanted)
{
    return len == strlen(wanted) && strncasecmp(name, wanted, len) == 0;
}
