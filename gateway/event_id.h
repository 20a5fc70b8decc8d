/** The `id` of an event: `<turn id>.<seq>`, as encoder_native.c writes it (wire.md section 1). Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sluice/uuid.h"

/** Reads an id. False: it is not one of ours. */
bool gw_event_id_parse(const char *text, size_t len, struct sl_uuid *ret_turn_id,
                       uint32_t *ret_seq);

/** Reads a sequence number: decimal digits, nothing else. False: it is not one. */
bool gw_event_seq_parse(const char *text, size_t len, uint32_t *ret_seq);
