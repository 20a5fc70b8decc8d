/* Values as upstreams really write them. Thread: any. Ownership: keeps nothing. */
#include "provider_read.h"

#include "upstream_error.h"

static void fail(struct gw_delta *delta, struct gw_error_verdict verdict)
{
    delta->failed = true;
    delta->failed_retryable = verdict.retryable;
    delta->failed_spent = verdict.spent;
}

bool gw_provider_read_string(struct gw_json *scan, struct gw_json_string *ret_string)
{
    return gw_json_peek(scan) == GW_JSON_STRING ? gw_json_read_string(scan, ret_string)
                                                : gw_json_skip(scan);
}

bool gw_provider_read_count(struct gw_json *scan, int32_t *ret_count, bool *ret_found)
{
    double number;

    if (gw_json_peek(scan) != GW_JSON_NUMBER) {
        return gw_json_skip(scan);
    }
    if (!gw_json_read_number(scan, &number)) {
        return false;
    }
    number = number > 0 ? number : 0;
    *ret_count = number < (double)INT32_MAX ? (int32_t)number : INT32_MAX;
    *ret_found = true;
    return true;
}

bool gw_provider_read_error(struct gw_json *scan, struct gw_delta *delta)
{
    struct gw_error_verdict verdict;
    bool failed = false;

    if (!gw_upstream_error_read(scan, &failed, &verdict)) {
        return false;
    }
    if (failed) {
        fail(delta, verdict);
    }
    return true;
}

void gw_provider_read_failure(const char *text, size_t len, struct gw_delta *delta)
{
    fail(delta, gw_upstream_error_judge(text, len));
}
