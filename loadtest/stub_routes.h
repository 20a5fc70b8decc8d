/**
 * Which request gets which answer.
 *
 * Thread: the loop's. Ownership: copies what it keeps of the request.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "stub_http.h"
#include "stub_player.h"
#include "stub_server.h"

/**
 * Answers one request: appends the whole reply to `out` and returns false, or starts `player`
 * (which then writes to `out`) and returns true.
 */
bool stub_routes_answer(struct stub_server *server, const struct stub_request *request,
                        struct lt_buffer *out, struct stub_player *player, uint64_t now_us);
