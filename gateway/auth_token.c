/*
 * What a token says: its shape, its header and its claims.
 *
 * In the order of a check: the header field's value, the token's three parts, the JOSE header and the
 * key it leads to; then, after the caller has checked the signature, the payload; then the clock.
 *
 * The shape is checked here and not left to cjose 0.6.2.1, which ends base64 at the first "=" and so
 * takes anything after it, cuts at the first two dots only, accepts EC signatures of any length and
 * verifies with whatever algorithm the header names. Failure has one form: no.
 * Thread: any. Ownership: nothing is kept.
 */
#include "auth_token.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "auth_keys.h"
#include "sluice/text.h"

/* RFC 8259 section 6: whole numbers up to here survive any JSON implementation; also no sum overflows. */
#define TIME_LIMIT_S 9007199254740991.0

static bool split(const char *token, size_t len, size_t ret_parts[3]);
static bool is_base64url(const char *part, size_t len);
static int base64url_value(char c);
static json_t *decode_header(const char *part, size_t len);
static bool is_type_of_ours(json_t *typ);
static bool read_times(json_t *claims, struct gw_auth_claims *to);
static bool read_time(json_t *claim, bool round_up, int64_t *ret_unix_s);
static bool read_subject(json_t *claims, struct gw_user *user);
static bool is_text(json_t *claim, const char *wanted);
static bool names_audience(json_t *aud, const char *wanted);

const char *gw_auth_token_find(const char *header, size_t header_len, size_t *ret_len)
{
    static const char scheme[] = "Bearer";
    size_t at = sizeof(scheme) - 1;

    if (header == NULL || header_len <= at || strncasecmp(header, scheme, at) != 0 ||
        header[at] != ' ') {
        return NULL;
    }
    while (at < header_len && header[at] == ' ') {
        at++;
    }
    if (at == header_len || header_len - at > GW_TOKEN_MAX) {
        return NULL;
    }
    *ret_len = header_len - at;
    return header + at;
}

const struct gw_auth_key *gw_auth_token_key(const struct gw_auth_keys *keys, const char *token,
                                            size_t len)
{
    size_t parts[3];

    if (!split(token, len, parts)) {
        return NULL;
    }
    json_t *header = decode_header(token, parts[0]);
    json_t *kid = json_object_get(header, "kid"), *typ = json_object_get(header, "typ");
    const char *alg = json_string_value(json_object_get(header, "alg"));
    const struct gw_auth_key *key = NULL;

    /* crit: we understand no extension, so there is none that could be understood (RFC 7515 4.1.11) */
    if (alg != NULL && (kid == NULL || json_is_string(kid)) &&
        (typ == NULL || is_type_of_ours(typ)) && json_object_get(header, "crit") == NULL) {
        key = gw_auth_keys_find(keys, alg, json_string_value(kid));
    }
    json_decref(header);
    if (key != NULL && parts[2] != (key->signature_len * 4 + 2) / 3) {
        return NULL;
    }
    return key;
}

/* Exactly three parts, each of them base64url and none empty. Gives their lengths. */
static bool split(const char *token, size_t len, size_t ret_parts[3])
{
    for (int i = 0; i < 3; i++) {
        const char *dot = i < 2 ? memchr(token, '.', len) : token + len;
        if (dot == NULL) {
            return false;
        }
        ret_parts[i] = (size_t)(dot - token);
        if (!is_base64url(token, ret_parts[i])) {
            return false;
        }
        if (i < 2) {
            token = dot + 1;
            len -= ret_parts[i] + 1;
        }
    }
    return true;
}

/* The alphabet of RFC 4648 section 5, no padding, unused bits zero: one spelling per value. */
static bool is_base64url(const char *part, size_t len)
{
    static const int unused[] = {0, 0x3f, 0x0f, 0x03}; /* by the number of characters over */

    if (len == 0 || len % 4 == 1) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (base64url_value(part[i]) < 0) {
            return false;
        }
    }
    return (base64url_value(part[len - 1]) & unused[len % 4]) == 0;
}

static int base64url_value(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* The caller owns the object; NULL when the part is not one, or names a member twice. */
static json_t *decode_header(const char *part, size_t len)
{
    uint8_t *bytes = NULL;
    size_t bytes_len = 0;

    if (!cjose_base64url_decode(part, len, &bytes, &bytes_len, NULL)) {
        return NULL;
    }
    json_t *header = json_loadb((const char *)bytes, bytes_len, JSON_REJECT_DUPLICATES, NULL);
    free(bytes);
    return header;
}

/* A token of another kind, such as a logout token, is no access token (RFC 8725 section 3.11). */
static bool is_type_of_ours(json_t *typ)
{
    const char *text = json_string_value(typ);

    if (text != NULL && strncasecmp(text, "application/", 12) == 0) {
        text += 12; /* RFC 7515 section 4.1.9 */
    }
    return text != NULL && (strcasecmp(text, "JWT") == 0 || strcasecmp(text, "at+jwt") == 0);
}

int gw_auth_token_claims(const struct gw_auth_keys *keys, const void *payload, size_t len,
                         struct gw_auth_claims *ret_claims)
{
    struct gw_auth_claims read = {0};
    json_t *claims = json_loadb(payload, len, JSON_REJECT_DUPLICATES, NULL);

    bool good =
        json_is_object(claims) && read_times(claims, &read) && read_subject(claims, &read.user) &&
        (keys->issuer == NULL || is_text(json_object_get(claims, "iss"), keys->issuer)) &&
        (keys->audience == NULL || names_audience(json_object_get(claims, "aud"), keys->audience));
    json_decref(claims);
    if (!good) {
        return SL_E_INVALID_TOKEN;
    }
    *ret_claims = read;
    return 0;
}

static bool read_times(json_t *claims, struct gw_auth_claims *to)
{
    json_t *nbf = json_object_get(claims, "nbf"), *iat = json_object_get(claims, "iat");
    int64_t issued = INT64_MIN;

    to->not_before_unix_s = INT64_MIN;
    if (!read_time(json_object_get(claims, "exp"), false, &to->expires_unix_s) ||
        (nbf != NULL && !read_time(nbf, true, &to->not_before_unix_s)) ||
        (iat != NULL && !read_time(iat, true, &issued))) {
        return false;
    }
    if (issued > to->not_before_unix_s) {
        to->not_before_unix_s = issued;
    }
    return true;
}

/* RFC 7519 section 2: a number, possibly with a fraction; rounded so that the token is valid no longer. */
static bool read_time(json_t *claim, bool round_up, int64_t *ret_unix_s)
{
    if (!json_is_number(claim)) {
        return false;
    }
    double seconds = json_number_value(claim);
    if (!(seconds >= -TIME_LIMIT_S && seconds <= TIME_LIMIT_S)) {
        return false;
    }
    *ret_unix_s = (int64_t)(round_up ? ceil(seconds) : floor(seconds));
    return true;
}

static bool read_subject(json_t *claims, struct gw_user *user)
{
    json_t *sub = json_object_get(claims, "sub");
    const char *text = json_string_value(sub);
    size_t len = json_string_length(sub);

    if (text == NULL || len == 0 || len > STORE_USER_ID_MAX || !sl_utf8_valid(text, len)) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            return false;
        }
    }
    memcpy(user->id, text, len);
    user->id[len] = '\0';
    user->id_len = len;
    return true;
}

static bool is_text(json_t *claim, const char *wanted)
{
    return json_is_string(claim) && strcmp(json_string_value(claim), wanted) == 0;
}

static bool names_audience(json_t *aud, const char *wanted)
{
    json_t *one;
    size_t i;

    json_array_foreach(aud, i, one)
    {
        if (is_text(one, wanted)) {
            return true;
        }
    }
    return is_text(aud, wanted);
}

bool gw_auth_token_is_current(const struct gw_auth_claims *claims, unsigned leeway_s,
                              int64_t now_unix_s)
{
    if (now_unix_s >= claims->expires_unix_s + leeway_s) {
        return false;
    }
    return claims->not_before_unix_s == INT64_MIN ||
           now_unix_s >= claims->not_before_unix_s - leeway_s;
}
