/**
 * A request body that must be a JSON object, for the small routes.
 *
 * Thread: the exchange's worker.
 */
#pragma once

#include <jansson.h>

#include "exchange.h"

/**
 * The body as an object of the caller's (json_decref), or NULL after the exchange has been answered: 415
 * for another content type, 400 naming the key at fault. Duplicate keys, bad UTF-8, NUL characters and
 * lone surrogates are refused.
 */
json_t *gw_json_body_read(struct gw_exchange *exchange);
