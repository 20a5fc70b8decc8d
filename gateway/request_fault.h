/**
 * What was wrong with a JSON request body, in terms of the key at fault.
 *
 * Thread: any (pure functions). Ownership: keeps nothing. No bytes of the request but key names.
 */
#pragma once

#include <stddef.h>

#include "chat_request.h"

struct json_error_t; /* jansson's */

/**
 * Says why jansson refused `body` (flags: JSON_REJECT_DUPLICATES, JSON_ALLOW_NUL): jansson names a
 * byte, this names the top-level key whose value holds it. SL_E_INVALID_VALUE with a key,
 * SL_E_INVALID_JSON without one, SL_E_NO_MEMORY when that was the reason.
 */
SL_MUST_CHECK int gw_request_fault_explain(const char *body, size_t len,
                                           const struct json_error_t *refusal,
                                           struct gw_request_error *error);

/** Fills `error`: `what` continues "`key` ...", or "The request body ..." when key is "". Returns SL_E_INVALID_VALUE. */
SL_MUST_CHECK int gw_request_fault_refuse(struct gw_request_error *error, const char *key,
                                          const char *what);
