/*
 * What was wrong with a JSON request body.
 *
 * Happy path: (1) the scanner walks the members of the body and stops at the first fault, (2) the key
 * it was at is the answer. Where the scanner finds nothing, jansson hit one of its own limits
 * (duplicate keys, the range of numbers, NUL in keys), and its byte position tells the key.
 *
 * Thread: any. Ownership: keeps nothing.
 */
#include "request_fault.h"

#include <jansson.h>
#include <stdio.h>

#include "json_scan.h"

static void walk(struct gw_json *scan, struct gw_json_string *key);
static int explain_fault(const char *body, const struct gw_json *scan,
                         const struct gw_json_string *key, struct gw_request_error *error);
static int explain_refusal(const char *body, size_t len, const json_error_t *refusal,
                           struct gw_request_error *error);
static int refuse_key(struct gw_request_error *error, const struct gw_json_string *key,
                      const char *what);

int gw_request_fault_explain(const char *body, size_t len, const json_error_t *refusal,
                             struct gw_request_error *error)
{
    struct gw_json scan;
    struct gw_json_string key = {.base = NULL};

    if (json_error_code(refusal) == json_error_out_of_memory) {
        return SL_E_NO_MEMORY;
    }
    gw_json_init(&scan, body, len);
    walk(&scan, &key);
    if (scan.fault != GW_JSON_FINE || scan.lone_at != NULL) {
        return explain_fault(body, &scan, &key, error);
    }
    return explain_refusal(body, len, refusal, error);
}

/* Up to the first fault or half a surrogate pair. `key` gets the member at fault; base NULL: none. */
static void walk(struct gw_json *scan, struct gw_json_string *key)
{
    enum gw_json_step step = GW_JSON_STEP_MORE;
    bool fine = true;

    if (gw_json_peek(scan) != GW_JSON_OBJECT) {
        fine = gw_json_skip(scan);
        step = GW_JSON_STEP_END;
    } else if (!gw_json_enter(scan)) {
        return;
    }
    while (fine && step == GW_JSON_STEP_MORE) {
        key->base = NULL; /* between two values no member is at fault */
        step = gw_json_next_member(scan, key);
        if (step == GW_JSON_STEP_MORE) {
            fine = gw_json_skip(scan) && scan->lone_at == NULL;
        }
    }
    if (fine && step == GW_JSON_STEP_END) {
        key->base = NULL;
        (void)!gw_json_end(scan); /* the fault that it may find is kept in the scan */
    }
}

static int explain_fault(const char *body, const struct gw_json *scan,
                         const struct gw_json_string *key, struct gw_request_error *error)
{
    /* half a pair was noted before any fault, so it came first */
    if (scan->lone_at != NULL) {
        return refuse_key(error, key, "contains a lone surrogate");
    }
    switch (scan->fault) {
    case GW_JSON_FAULT_UTF8:
        return refuse_key(error, key, "is not valid UTF-8");
    case GW_JSON_FAULT_DEPTH:
        return refuse_key(error, key, "is nested too deeply");
    case GW_JSON_FAULT_CONTROL:
        return refuse_key(error, key,
                          *scan->fault_at == '\0' ? "contains a NUL character"
                                                  : "contains an unescaped control character");
    default:
        (void)snprintf(error->detail, sizeof(error->detail),
                       "The request body is not valid JSON at byte %zu.",
                       (size_t)(scan->fault_at - body));
        return SL_E_INVALID_JSON;
    }
}

static int explain_refusal(const char *body, size_t len, const json_error_t *refusal,
                           struct gw_request_error *error)
{
    struct gw_json scan;
    struct gw_json_string key = {.base = NULL}, next;
    const char *where = body + (refusal->position > 0 ? (size_t)refusal->position : 0);

    gw_json_init(&scan, body, len);
    bool fine = gw_json_peek(&scan) == GW_JSON_OBJECT && gw_json_enter(&scan);
    while (fine && gw_json_next_member(&scan, &next) == GW_JSON_STEP_MORE && next.base < where) {
        key = next;
        fine = gw_json_skip(&scan);
    }
    switch (json_error_code(refusal)) {
    case json_error_duplicate_key:
        return refuse_key(error, &key, "is given twice, or holds a key twice");
    case json_error_numeric_overflow:
        return refuse_key(error, &key, "holds a number that is too large");
    case json_error_null_byte_in_key:
        return refuse_key(error, &key, "contains a key with a NUL character");
    case json_error_stack_overflow:
        return refuse_key(error, &key, "is nested too deeply");
    default:
        key.base = NULL;
        return refuse_key(error, &key, "cannot be read");
    }
}

static int refuse_key(struct gw_request_error *error, const struct gw_json_string *key,
                      const char *what)
{
    char name[GW_PARAM_SIZE] = "";

    if (key->base != NULL) {
        gw_json_string_copy(key, name, sizeof(name));
    }
    int err = gw_request_fault_refuse(error, name, what);
    return key->base != NULL ? err : SL_E_INVALID_JSON;
}

int gw_request_fault_refuse(struct gw_request_error *error, const char *key, const char *what)
{
    (void)snprintf(error->param, sizeof(error->param), "%s", key);
    if (key[0] != '\0') {
        (void)snprintf(error->detail, sizeof(error->detail), "`%s` %s.", key, what);
    } else {
        (void)snprintf(error->detail, sizeof(error->detail), "The request body %s.", what);
    }
    return SL_E_INVALID_VALUE;
}
