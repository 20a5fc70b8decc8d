/*
 * What the text values of the configuration must look like.
 *
 * Order: whole values as the table of keys has them, then the parts they are made of. Texts that are
 * printed again as YAML hold no character that YAML cannot carry (YAML 1.1 section 5.1).
 * Pure functions: no I/O, any thread, nothing owned.
 */
#include "config_forms.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stddef.h>
#include <string.h>

#include "sluice/text.h"

enum {
    LINE_MAX_BYTES = 4096,
    NAME_MAX_BYTES = 256,
    UPSTREAM_NAME_MAX_BYTES = 32,
    PROMPT_MAX_BYTES = 65536,
    SIGNING_SECRET_MIN_BYTES = 32, /* RFC 7518 section 3.2: as long as the hash of HS256 */
};

static bool accepts_address(const char *text);
static bool accepts_log_level(const char *text);
static bool accepts_redis_url(const char *text);
static bool accepts_line(const char *text);
static bool accepts_http_url(const char *text);
static bool accepts_origin(const char *text);
static bool accepts_header_token(const char *text);
static bool accepts_signing_secret(const char *text);
static bool accepts_name(const char *text);
static bool accepts_model(const char *text);
static bool accepts_upstream_name(const char *text);
static bool accepts_provider(const char *text);
static bool accepts_variable(const char *text);
static bool accepts_prompt(const char *text);
static bool is_authority(const char *text, size_t len, bool port_zero);
static bool is_host(const char *text, size_t len);
static bool is_port(const char *text, size_t len, bool zero);
static bool is_number(const char *text, unsigned long max);
static bool is_word(const char *text, const char *others);
static bool is_printable_ascii(const char *text);
static bool is_plain_text(const char *text, size_t max_bytes, bool lines);

const struct gw_config_form gw_config_forms_address = {
    accepts_address, "a numeric address and a port, as in 127.0.0.1:8080 or [::1]:8080"};
const struct gw_config_form gw_config_forms_log_level = {accepts_log_level, "debug, info or error"};
const struct gw_config_form gw_config_forms_redis_url = {
    accepts_redis_url, "redis://[:password@]host[:port][/db] or unix:///path"};
const struct gw_config_form gw_config_forms_database_url = {
    accepts_line, "a Postgres connection URI or string of at most 4096 bytes"};
const struct gw_config_form gw_config_forms_http_url = {
    accepts_http_url, "http:// or https:// with a host and no query, as in http://host:8000/v1"};
const struct gw_config_form gw_config_forms_origin = {
    accepts_origin, "\"*\" or scheme://host[:port] in lower case"};
const struct gw_config_form gw_config_forms_header_token = {
    accepts_header_token, "1 to 4096 printable ASCII characters without spaces"};
const struct gw_config_form gw_config_forms_signing_secret = {accepts_signing_secret,
                                                              "a secret of 32 to 4096 bytes"};
const struct gw_config_form gw_config_forms_name = {
    accepts_name, "a name of 1 to 256 bytes without control characters or commas"};
const struct gw_config_form gw_config_forms_model = {
    accepts_model, "a name or name=name of 1 to 256 bytes without control characters or commas"};
const struct gw_config_form gw_config_forms_upstream_name = {
    accepts_upstream_name, "1 to 32 letters, digits, hyphens and underscores"};
const struct gw_config_form gw_config_forms_provider = {accepts_provider, "openai or anthropic"};
const struct gw_config_form gw_config_forms_variable = {
    accepts_variable, "the name of an environment variable: letters, digits and underscores"};
const struct gw_config_form gw_config_forms_line = {
    accepts_line, "one line of at most 4096 bytes of UTF-8 without control characters"};
const struct gw_config_form gw_config_forms_prompt = {
    accepts_prompt, "UTF-8 text of at most 65536 bytes without control characters"};
const struct gw_config_form gw_config_forms_path = {
    accepts_line, "a path of at most 4096 bytes without control characters"};

static bool accepts_address(const char *text)
{
    const char *colon = strrchr(text, ':');
    char host[INET6_ADDRSTRLEN];
    unsigned char address[sizeof(struct in6_addr)];

    if (colon == NULL || !is_port(colon + 1, strlen(colon + 1), true)) {
        return false;
    }
    size_t len = (size_t)(colon - text);
    bool bracketed = len >= 2 && text[0] == '[' && text[len - 1] == ']';
    if (bracketed) {
        text++;
        len -= 2;
    }
    if (len >= sizeof(host)) {
        return false;
    }
    memcpy(host, text, len);
    host[len] = '\0';
    return inet_pton(bracketed ? AF_INET6 : AF_INET, host, address) == 1;
}

static bool accepts_log_level(const char *text)
{
    return strcmp(text, "debug") == 0 || strcmp(text, "info") == 0 || strcmp(text, "error") == 0;
}

/* The store reads the URL in detail; this catches what can be said in one line. */
static bool accepts_redis_url(const char *text)
{
    if (strlen(text) > LINE_MAX_BYTES || !is_printable_ascii(text)) {
        return false;
    }
    if (strncmp(text, "unix:///", 8) == 0) {
        return text[8] != '\0';
    }
    if (strncmp(text, "redis://", 8) != 0) {
        return false;
    }
    text += 8;
    const char *at = strrchr(text, '@');
    if (at != NULL) {
        /* without a colon it is open whether a name or a password is meant, and so whether to show it */
        if (memchr(text, ':', (size_t)(at - text)) == NULL) {
            return false;
        }
        text = at + 1;
    }
    size_t len = strcspn(text, "/");
    if (text[len] == '/' && text[len + 1] != '\0' && !is_number(text + len + 1, 65535)) {
        return false;
    }
    return is_authority(text, len, false);
}

static bool accepts_line(const char *text)
{
    return *text != '\0' && is_plain_text(text, LINE_MAX_BYTES, false);
}

static bool accepts_http_url(const char *text)
{
    if (strlen(text) > LINE_MAX_BYTES || !is_printable_ascii(text) || strpbrk(text, "?#") != NULL) {
        return false; /* paths are appended to it, so it can have no query */
    }
    if (strncmp(text, "http://", 7) == 0) {
        text += 7;
    } else if (strncmp(text, "https://", 8) == 0) {
        text += 8;
    } else {
        return false;
    }
    size_t len = strcspn(text, "/");
    const char *at = memrchr(text, '@', len);
    if (at != NULL) {
        len -= (size_t)(at + 1 - text);
        text = at + 1;
    }
    return is_authority(text, len, false);
}

/* RFC 6454 section 6.2; browsers send it in lower case and it is compared byte by byte. */
static bool accepts_origin(const char *text)
{
    const char *colon = strstr(text, "://");

    if (strcmp(text, "*") == 0) {
        return true;
    }
    if (colon == NULL || strlen(text) > LINE_MAX_BYTES || !islower((unsigned char)text[0])) {
        return false;
    }
    for (const char *at = text; at < colon; at++) {
        if (!isalnum((unsigned char)*at) && strchr("+-.", *at) == NULL) {
            return false;
        }
    }
    for (const char *at = text; *at != '\0'; at++) {
        if (isupper((unsigned char)*at)) {
            return false;
        }
    }
    return is_authority(colon + 3, strlen(colon + 3), false);
}

static bool accepts_header_token(const char *text)
{
    size_t len = strlen(text);

    return len >= 1 && len <= LINE_MAX_BYTES && is_printable_ascii(text);
}

static bool accepts_signing_secret(const char *text)
{
    size_t len = strlen(text);

    return len >= SIGNING_SECRET_MIN_BYTES && len <= LINE_MAX_BYTES;
}

/* A comma separates names in the environment, and would not survive there. */
static bool accepts_name(const char *text)
{
    return *text != '\0' && strchr(text, ',') == NULL && is_plain_text(text, NAME_MAX_BYTES, false);
}

/* Before the first equals sign what requests call it, after it what the upstream does. */
static bool accepts_model(const char *text)
{
    const char *equals = strchr(text, '=');

    return accepts_name(text) && (equals == NULL || (equals != text && equals[1] != '\0'));
}

static bool accepts_upstream_name(const char *text)
{
    size_t len = strlen(text);

    return len >= 1 && len <= UPSTREAM_NAME_MAX_BYTES && is_word(text, "-_");
}

static bool accepts_provider(const char *text)
{
    return strcmp(text, "openai") == 0 || strcmp(text, "anthropic") == 0;
}

/* POSIX.1-2017 section 8.1, and the lower case that shells accept, too */
static bool accepts_variable(const char *text)
{
    size_t len = strlen(text);

    return len >= 1 && len <= NAME_MAX_BYTES && !isdigit((unsigned char)text[0]) &&
           is_word(text, "_");
}

static bool accepts_prompt(const char *text)
{
    return is_plain_text(text, PROMPT_MAX_BYTES, true);
}

/* ------------------------------------------------------------------ parts */

/* host[:port], where a host in brackets is an IPv6 address */
static bool is_authority(const char *text, size_t len, bool port_zero)
{
    size_t host_len = len;

    if (len > 0 && text[0] == '[') {
        const char *end = memchr(text, ']', len);
        char host[INET6_ADDRSTRLEN];
        unsigned char address[sizeof(struct in6_addr)];

        if (end == NULL || (size_t)(end - text - 1) >= sizeof(host)) {
            return false;
        }
        memcpy(host, text + 1, (size_t)(end - text - 1));
        host[end - text - 1] = '\0';
        if (inet_pton(AF_INET6, host, address) != 1) {
            return false;
        }
        host_len = (size_t)(end - text) + 1;
    } else {
        const char *colon = memchr(text, ':', len);
        if (colon != NULL) {
            host_len = (size_t)(colon - text);
        }
        if (!is_host(text, host_len)) {
            return false;
        }
    }
    return host_len == len ||
           (text[host_len] == ':' && is_port(text + host_len + 1, len - host_len - 1, port_zero));
}

static bool is_host(const char *text, size_t len)
{
    if (len == 0 || len > 253) { /* RFC 1035 section 2.3.4, in its text form */
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)text[i]) && strchr(".-_", text[i]) == NULL) {
            return false;
        }
    }
    return true;
}

static bool is_port(const char *text, size_t len, bool zero)
{
    char digits[6];

    if (len == 0 || len >= sizeof(digits)) {
        return false;
    }
    memcpy(digits, text, len);
    digits[len] = '\0';
    return is_number(digits, 65535) && (zero || strspn(digits, "0") != len);
}

static bool is_number(const char *text, unsigned long max)
{
    unsigned long value = 0;

    if (*text == '\0' || strlen(text) > 9) {
        return false;
    }
    for (; *text != '\0'; text++) {
        if (!isdigit((unsigned char)*text)) {
            return false;
        }
        value = value * 10 + (unsigned long)(*text - '0');
    }
    return value <= max;
}

/* ASCII letters, digits and `others` */
static bool is_word(const char *text, const char *others)
{
    for (; *text != '\0'; text++) {
        if (!isalnum((unsigned char)*text) && strchr(others, *text) == NULL) {
            return false;
        }
    }
    return true;
}

static bool is_printable_ascii(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text <= 0x20 || *text >= 0x7f) {
            return false;
        }
    }
    return true;
}

/* `lines` allows tab and line feed. */
static bool is_plain_text(const char *text, size_t max_bytes, bool lines)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t len = strlen(text);

    if (len > max_bytes || !sl_utf8_valid(text, len)) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (at[i] == 0x7f || (at[i] < 0x20 && !(lines && (at[i] == '\n' || at[i] == '\t')))) {
            return false;
        }
        if (at[i] == 0xc2 && at[i + 1] < 0xa0) { /* U+0080 to U+009F */
            return false;
        }
        /* U+FEFF, U+FFFE and U+FFFF */
        if (at[i] == 0xef && ((at[i + 1] == 0xbb && at[i + 2] == 0xbf) ||
                              (at[i + 1] == 0xbf && at[i + 2] >= 0xbe))) {
            return false;
        }
    }
    return true;
}
