/*
 * The error objects of the `openai` dialect.
 *
 * Happy path: the object's `code`, `status`, `type` and `message` are noted as verdicts (a status
 * number, retryable words, words of a spent quota), and the verdicts are weighed at the end.
 * Failure modes: a text that is not JSON is searched for the same words. Nothing of an error's text is
 * kept: it may quote the prompt. Thread: any. Ownership: keeps nothing.
 */
#include "openai_error.h"

#include <stdlib.h>
#include <string.h>

enum { TEXT_SIZE = 512, NESTING_MAX = 3 };

struct verdict {
    bool failed, retryable_words, spent;
    int status; /* 100 to 599, or 0 */
};

static bool read_verdict(struct gw_json *scan, unsigned nesting, struct verdict *verdict);
static bool read_object(struct gw_json *scan, unsigned nesting, struct verdict *verdict);
static void note_status(double number, struct verdict *verdict);
static void note_words(char *text, struct verdict *verdict);
static bool is_retryable(const struct verdict *verdict);

bool gw_openai_error_read(struct gw_json *scan, bool *ret_failed, bool *ret_retryable)
{
    struct verdict verdict = {.failed = false};

    if (!read_verdict(scan, 0, &verdict)) {
        return false;
    }
    if (verdict.failed) {
        *ret_failed = true;
        *ret_retryable = is_retryable(&verdict);
    }
    return true;
}

bool gw_openai_error_retryable(const char *text, size_t len)
{
    struct verdict verdict = {.failed = false};
    struct gw_json scan;
    char start[TEXT_SIZE];

    gw_json_init(&scan, text, len);
    gw_json_repair_utf8(&scan);
    if (read_verdict(&scan, 0, &verdict) && gw_json_end(&scan)) {
        return is_retryable(&verdict);
    }
    len = len < sizeof(start) - 1 ? len : sizeof(start) - 1;
    memcpy(start, text, len);
    start[len] = '\0';
    verdict = (struct verdict){.failed = true};
    note_words(start, &verdict);
    return is_retryable(&verdict);
}

static bool read_verdict(struct gw_json *scan, unsigned nesting, struct verdict *verdict)
{
    struct gw_json_string string;
    char text[TEXT_SIZE];
    double number;

    switch (gw_json_peek(scan)) {
    case GW_JSON_OBJECT:
        verdict->failed = true;
        return read_object(scan, nesting, verdict);
    case GW_JSON_STRING:
        if (!gw_json_read_string(scan, &string)) {
            return false;
        }
        verdict->failed = verdict->failed || string.len > 0;
        gw_json_string_copy(&string, text, sizeof(text));
        note_words(text, verdict);
        return true;
    case GW_JSON_NUMBER:
        if (!gw_json_read_number(scan, &number)) {
            return false;
        }
        verdict->failed = verdict->failed || number != 0;
        note_status(number, verdict);
        return true;
    case GW_JSON_TRUE:
    case GW_JSON_ARRAY:
        verdict->failed = true;
        return gw_json_skip(scan);
    default:
        return gw_json_skip(scan);
    }
}

static bool read_object(struct gw_json *scan, unsigned nesting, struct verdict *verdict)
{
    struct gw_json_string key;
    enum gw_json_step step = GW_JSON_STEP_BROKEN;
    bool ok = gw_json_enter(scan);

    while (ok && (step = gw_json_next_member(scan, &key)) == GW_JSON_STEP_MORE) {
        enum gw_json_type type = gw_json_peek(scan);
        bool is_text = type == GW_JSON_STRING &&
                       (gw_json_string_is(&key, "code") || gw_json_string_is(&key, "type") ||
                        gw_json_string_is(&key, "status") || gw_json_string_is(&key, "message"));
        bool is_status = type == GW_JSON_NUMBER &&
                         (gw_json_string_is(&key, "code") || gw_json_string_is(&key, "status"));
        /* older vLLM wraps the object once more */
        bool is_inner = (type == GW_JSON_OBJECT || type == GW_JSON_STRING) &&
                        gw_json_string_is(&key, "error") && nesting < NESTING_MAX;
        ok = is_text || is_status || is_inner ? read_verdict(scan, nesting + 1, verdict)
                                              : gw_json_skip(scan);
    }
    return ok && step == GW_JSON_STEP_END;
}

static void note_status(double number, struct verdict *verdict)
{
    if (number >= 100 && number < 600) {
        verdict->status = (int)number;
    }
}

/* Makes the text lower-case on the way. */
static void note_words(char *text, struct verdict *verdict)
{
    static const char *const retryable[] = {
        "rate limit",   "rate_limit",   "ratelimit",   "too many requests", "overload",
        "server_error", "server error", "servererror", "internal_error",    "api_error",
        "unavailable",  "bad gateway",  "at capacity",
    };
    static const char *const spent[] = {"insufficient_quota", "billing", "payment required"};
    char *end;

    long status = strtol(text, &end, 10);
    if (end == text + 3 && *end == '\0') {
        note_status((double)status, verdict);
    }
    for (char *c = text; *c != '\0'; c++) {
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c;
    }
    for (size_t i = 0; i < sizeof(retryable) / sizeof(retryable[0]); i++) {
        verdict->retryable_words = verdict->retryable_words || strstr(text, retryable[i]) != NULL;
    }
    for (size_t i = 0; i < sizeof(spent) / sizeof(spent[0]); i++) {
        verdict->spent = verdict->spent || strstr(text, spent[i]) != NULL;
    }
}

static bool is_retryable(const struct verdict *verdict)
{
    if (verdict->spent) {
        return false;
    }
    if (verdict->status != 0) {
        return verdict->status == 408 || verdict->status == 429 || verdict->status >= 500;
    }
    return verdict->retryable_words;
}
