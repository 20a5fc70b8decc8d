/**
 * Ambiguous request framing, found in the raw head.
 *
 * h2o 2.2.5 accepts what request smuggling is made of (two Content-Lengths, Content-Length with
 * Transfer-Encoding, …) and hides those headers from its handlers, so the head is read again from the
 * socket's input buffer. Sources: RFC 9112 sections 2.2, 3.2, 5.2, 6.1 and 6.3. Pure. Thread: any.
 */
#pragma once

#include <stddef.h>

#include "sluice/error.h"

/**
 * Checks a request head (`head` may go on with the body; the check ends at the empty line). `minor`
 * is the HTTP minor version. 0, SL_E_BAD_FRAMING, or SL_E_HEAD_TOO_LARGE for a head of more than
 * `max_bytes`: the caller answers and closes, so that nothing that follows on the connection is ever
 * parsed.
 */
SL_MUST_CHECK int gw_framing_check(const char *head, size_t len, int minor, size_t max_bytes);
