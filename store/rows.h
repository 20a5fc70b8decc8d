/**
 * What rows are called, how they are ordered, and how they are copied and freed.
 *
 * Thread: any (pure functions). Ownership: a message set owns its items and their texts.
 * store_role_name, store_status_name and store_read_dispose (sluice/store.h) live in rows.c too.
 */
#pragma once

#include "sluice/store.h"

/** Messages with the bytes that their texts point to. Zeroed memory is an empty set. */
struct store_message_set {
    struct store_message *items;
    size_t count;
    struct sl_buffer text;
};

void store_message_set_dispose(struct store_message_set *set);

/** The value of a name as the database spells it. 0 or SL_E_INVALID_VALUE. */
SL_MUST_CHECK int store_rows_role(const char *name, size_t len, enum store_role *ret_role);
SL_MUST_CHECK int store_rows_status(const char *name, size_t len, enum store_status *ret_status);

/** The order of (time, id): negative, 0 or positive. Ids compare as Postgres compares uuids. */
int store_rows_compare(int64_t a_us, const struct sl_uuid *a_id, int64_t b_us,
                       const struct sl_uuid *b_id);

/** For qsort: oldest first. */
int store_rows_compare_messages(const void *a, const void *b);

/**
 * Takes the messages of `read->without_turn` out of its rows: a turn's question is saved before its
 * history is read, so the history may hold it already.
 */
void store_rows_leave_out_turn(struct store_read *read);

/** Bytes of a message's texts. */
size_t store_rows_text_bytes(const struct store_message *message);

/**
 * Copies a message's texts behind the buffer's content and points the message there; null stays
 * null. The caller has reserved store_rows_text_bytes() + 3 before, so that nothing that was copied
 * earlier moves. 0 or SL_E_NO_MEMORY.
 */
SL_MUST_CHECK int store_rows_copy_texts(struct sl_buffer *buffer, struct store_message *message);
