/**
 * libcurl's multi interface on a loop.
 *
 * Thread: its loop's. Ownership: easy handles are the callers'; the multi handle is ours. Completed
 * transfers are reported from a task, never from inside libcurl, so a callback here may remove and
 * reuse handles.
 */
#pragma once

#include <curl/curl.h>

#include "sluice/loop.h"

struct gw_curl_loop;

/** Called for each finished transfer; the handle has been removed from the multi already. */
typedef void (*gw_curl_done_fn)(void *context, CURL *easy, CURLcode result);

SL_MUST_CHECK int gw_curl_loop_create(struct sl_loop *loop, unsigned connections_max,
                                      gw_curl_done_fn done, void *context,
                                      struct gw_curl_loop **ret_curl);
/** All transfers must have been removed. NULL is accepted. */
void gw_curl_loop_destroy(struct gw_curl_loop *curl);

/** Starts a transfer; not from inside a libcurl callback. 0 or SL_E_NO_MEMORY. */
SL_MUST_CHECK int gw_curl_loop_add(struct gw_curl_loop *curl, CURL *easy);

/** Takes a transfer back before its end, which closes its connection; not from inside a libcurl callback. */
void gw_curl_loop_remove(struct gw_curl_loop *curl, CURL *easy);
