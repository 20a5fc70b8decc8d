/*
 * The error bodies of upstreams.
 *
 * Happy path: the object's `code`, `status`, `type` and `message` are noted as signs (a status
 * number, retryable words, words of a spent quota), and the signs are weighed at the end. A message
 * may quote anything, so its word on retrying counts less than that of the fields which name the error.
 * Failure modes: a text that is not JSON is searched for the same words. Nothing of an error's text is
 * kept: it may quote the prompt. Thread: any. Ownership: keeps nothing.
 */
#include "upstream_error.h"

#include <stdlib.h>
#include <string.h>

enum { TEXT_SIZE = 512, NESTING_MAX = 3 };

struct signs {
    bool failed;
    bool named_retryable, told_retryable; /* by code, type or status; by a sentence */
    bool refused;                         /* named as the request's own fault */
    bool spent;
    int status; /* 100 to 599, or 0 */
};

static bool read_value(struct gw_json *scan, unsigned nesting, struct signs *signs);
static bool read_object(struct gw_json *scan, unsigned nesting, struct signs *signs);
static bool read_words(struct gw_json *scan, bool *retryable, struct signs *signs);
static bool read_status(struct gw_json *scan, struct signs *signs);
static void note_words(char *text, bool *retryable, struct signs *signs);
static void note_status(double number, struct signs *signs);
static bool has_one_of(const char *text, const char *const *words);
static bool is_refusal(const char *text);
static struct gw_error_verdict weigh(const struct signs *signs);

/* The texts are made lower-case before they are searched. */
static const char *const retryable_words[] = {
    "rate limit",   "rate_limit",   "ratelimit",   "too many requests", "overload",
    "server_error", "server error", "servererror", "internal_error",    "api_error",
    "unavailable",  "bad gateway",  "at capacity", "timeout_error",     NULL,
};
static const char *const spent_words[] = {
    "insufficient_quota",
    "exceeded your current quota",
    "billing_", /* billing_error, billing_hard_limit_reached */
    "billing hard limit",
    "credit balance is too low",
    "insufficient balance",
    "insufficient credit",
    "spend limit",
    "spending limit",
    "payment required",
    NULL,
};
static const char *const refusals[] = {
    "invalid_request_error", "authentication_error", "permission_error",
    "not_found_error",       "request_too_large",    NULL,
};

bool gw_upstream_error_read(struct gw_json *scan, bool *ret_failed,
                            struct gw_error_verdict *ret_verdict)
{
    struct signs signs = {.failed = false};

    if (!read_value(scan, 0, &signs)) {
        return false;
    }
    if (signs.failed) {
        *ret_failed = true;
        *ret_verdict = weigh(&signs);
    }
    return true;
}

struct gw_error_verdict gw_upstream_error_judge(const char *text, size_t len)
{
    struct signs signs = {.failed = false};
    struct gw_json scan;
    char start[TEXT_SIZE];

    if (len == 0) {
        return weigh(&signs);
    }
    gw_json_init(&scan, text, len);
    gw_json_repair_utf8(&scan);
    if (!read_value(&scan, 0, &signs) || !gw_json_end(&scan)) {
        len = len < sizeof(start) - 1 ? len : sizeof(start) - 1;
        memcpy(start, text, len);
        start[len] = '\0';
        note_words(start, &signs.told_retryable, &signs); /* beside what was read up to the cut */
    }
    return weigh(&signs);
}

static bool read_value(struct gw_json *scan, unsigned nesting, struct signs *signs)
{
    switch (gw_json_peek(scan)) {
    case GW_JSON_OBJECT:
        signs->failed = true;
        return read_object(scan, nesting, signs);
    case GW_JSON_STRING:
        return read_words(scan, &signs->told_retryable, signs);
    case GW_JSON_NUMBER:
        return read_status(scan, signs);
    case GW_JSON_TRUE:
    case GW_JSON_ARRAY:
        signs->failed = true;
        return gw_json_skip(scan);
    default:
        return gw_json_skip(scan);
    }
}

static bool read_object(struct gw_json *scan, unsigned nesting, struct signs *signs)
{
    struct gw_json_string key;
    enum gw_json_step step = GW_JSON_STEP_BROKEN;
    bool ok = gw_json_enter(scan);

    while (ok && (step = gw_json_next_member(scan, &key)) == GW_JSON_STEP_MORE) {
        enum gw_json_type type = gw_json_peek(scan);
        bool is_code = gw_json_string_is(&key, "code") || gw_json_string_is(&key, "status");
        if (type == GW_JSON_NUMBER && is_code) {
            ok = read_status(scan, signs);
        } else if (type == GW_JSON_STRING && (is_code || gw_json_string_is(&key, "type"))) {
            ok = read_words(scan, &signs->named_retryable, signs);
        } else if (type == GW_JSON_STRING && gw_json_string_is(&key, "message")) {
            ok = read_words(scan, &signs->told_retryable, signs);
        } else if ((type == GW_JSON_OBJECT || type == GW_JSON_STRING) &&
                   gw_json_string_is(&key, "error") && nesting < NESTING_MAX) {
            ok = read_value(scan, nesting + 1, signs); /* older vLLM wraps the object once more */
        } else {
            ok = gw_json_skip(scan);
        }
    }
    return ok && step == GW_JSON_STEP_END;
}

static bool read_words(struct gw_json *scan, bool *retryable, struct signs *signs)
{
    struct gw_json_string string;
    char text[TEXT_SIZE];

    if (!gw_json_read_string(scan, &string)) {
        return false;
    }
    signs->failed = signs->failed || string.len > 0;
    gw_json_string_copy(&string, text, sizeof(text));
    note_words(text, retryable, signs);
    return true;
}

static bool read_status(struct gw_json *scan, struct signs *signs)
{
    double number;

    if (!gw_json_read_number(scan, &number)) {
        return false;
    }
    signs->failed = signs->failed || number != 0;
    note_status(number, signs);
    return true;
}

static void note_words(char *text, bool *retryable, struct signs *signs)
{
    char *end;

    long status = strtol(text, &end, 10);
    if (end == text + 3 && *end == '\0') {
        note_status((double)status, signs);
    }
    for (char *c = text; *c != '\0'; c++) {
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c;
    }
    *retryable = *retryable || has_one_of(text, retryable_words);
    signs->spent = signs->spent || has_one_of(text, spent_words);
    signs->refused = signs->refused || is_refusal(text);
}

static void note_status(double number, struct signs *signs)
{
    if (number >= 100 && number < 600) {
        signs->status = (int)number;
    }
}

static bool has_one_of(const char *text, const char *const *words)
{
    while (*words != NULL && strstr(text, *words) == NULL) {
        words++;
    }
    return *words != NULL;
}

static bool is_refusal(const char *text)
{
    size_t i = 0;

    while (refusals[i] != NULL && strcmp(text, refusals[i]) != 0) {
        i++;
    }
    return refusals[i] != NULL;
}

static struct gw_error_verdict weigh(const struct signs *signs)
{
    struct gw_error_verdict verdict = {.spent = signs->spent || signs->status == 402};

    if (verdict.spent) {
        return verdict;
    }
    if (signs->status != 0) {
        verdict.retryable = signs->status == 408 || signs->status == 429 || signs->status >= 500;
    } else {
        verdict.retryable = signs->named_retryable || (signs->told_retryable && !signs->refused);
    }
    return verdict;
}
