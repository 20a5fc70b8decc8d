/*
 * Rows of a binary result, read into the outputs of a read.
 *
 * Happy path for messages: count the bytes of all texts, of the rows and of the overlay, reserve
 * them once so that nothing moves, copy, sort by (time, id), drop doubles (a message may be both
 * committed and still in the overlay), cut to the limit, put into the order that was asked for.
 *
 * Failure modes: a column of another size or a name that is not known means that the schema is not
 * ours: SL_E_INTERNAL. Thread: the loop's. Ownership: see the header.
 */
#include "pg_rows.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "pg_statements.h"

/* Columns of STORE_PG_READ_MESSAGES and STORE_PG_READ_SESSIONS, in the order of their select. */
enum {
    MESSAGE_ID,
    MESSAGE_TURN_ID,
    MESSAGE_ROLE,
    MESSAGE_STATUS,
    MESSAGE_CREATED_AT,
    MESSAGE_CONTENT,
    MESSAGE_MODEL,
    MESSAGE_FINISH_REASON,
    MESSAGE_PROMPT_TOKENS,
    MESSAGE_COMPLETION_TOKENS,
    MESSAGE_TTFT_MS,
    MESSAGE_COLUMNS,
};
enum { SESSION_ID, SESSION_TITLE, SESSION_CREATED_AT, SESSION_UPDATED_AT, SESSION_COLUMNS };

static int read_profile(const PGresult *result, struct store_read *read);
static int read_turn(const PGresult *result, struct store_read *read);
static int read_sessions(const PGresult *result, unsigned limit, struct store_read *read);
static int read_messages(const PGresult *result, const struct store_message_set *overlay,
                         unsigned limit, struct store_read *read);
static int read_message(const PGresult *result, int row, struct store_message *ret_message);
static void settle_messages(struct store_read *read, unsigned limit);
static struct store_text text_at(const PGresult *result, int row, int column);
static int uuid_at(const PGresult *result, int row, int column, struct sl_uuid *ret_uuid);
static int time_at(const PGresult *result, int row, int column, int64_t *ret_us);
static int count_at(const PGresult *result, int row, int column, int32_t *ret_count);
static int float_at(const PGresult *result, int row, int column, double *ret_number);

int store_pg_rows_read(const PGresult *result, const struct store_message_set *overlay,
                       unsigned limit, struct store_read *read)
{
    int err = SL_E_INTERNAL;

    switch (read->kind) {
    case STORE_READ_PROFILE:
        err = read_profile(result, read);
        break;
    case STORE_READ_TURN:
        err = read_turn(result, read);
        break;
    case STORE_READ_SESSIONS:
        err = read_sessions(result, limit, read);
        break;
    case STORE_READ_HISTORY:
    case STORE_READ_MESSAGES:
        err = read_messages(result, overlay, limit, read);
        break;
    }
    if (err != 0) {
        store_read_dispose(read);
        return err;
    }
    read->source = STORE_SOURCE_DATABASE;
    return 0;
}

static int read_profile(const PGresult *result, struct store_read *read)
{
    if (PQnfields(result) != 1 || PQntuples(result) > 1) {
        return SL_E_INTERNAL;
    }
    if (PQntuples(result) == 0) {
        return 0;
    }
    struct store_text profile = text_at(result, 0, 0);
    sl_buffer_init(&read->text, profile.len);
    read->found = true;
    return sl_buffer_append(&read->text, profile.base, profile.len);
}

static int read_turn(const PGresult *result, struct store_read *read)
{
    if (PQnfields(result) != 1 || PQntuples(result) > 1) {
        return SL_E_INTERNAL;
    }
    if (PQntuples(result) == 0) {
        return 0;
    }
    read->found = true;
    return uuid_at(result, 0, 0, &read->session);
}

static int read_sessions(const PGresult *result, unsigned limit, struct store_read *read)
{
    size_t rows = (size_t)PQntuples(result), bytes = 0;
    int err = 0;

    if (PQnfields(result) != SESSION_COLUMNS) {
        return SL_E_INTERNAL;
    }
    read->more = rows > limit;
    rows = rows > limit ? limit : rows;
    for (size_t i = 0; i < rows; i++) {
        bytes += text_at(result, (int)i, SESSION_TITLE).len;
    }
    sl_buffer_init(&read->text, bytes + 1); /* one, so that an empty title has an address */
    read->sessions = calloc(rows + 1, sizeof(read->sessions[0]));
    if (read->sessions == NULL || sl_buffer_reserve(&read->text, bytes + 1) == NULL) {
        return SL_E_NO_MEMORY;
    }
    for (size_t i = 0; i < rows && err == 0; i++) {
        struct store_session *session = &read->sessions[read->count++];
        struct store_text title = text_at(result, (int)i, SESSION_TITLE);
        if (title.base != NULL) {
            session->title = (struct store_text){read->text.base + read->text.len, title.len};
            err = sl_buffer_append(&read->text, title.base, title.len);
        }
        err = err != 0 ? err : uuid_at(result, (int)i, SESSION_ID, &session->id);
        err = err != 0 ? err : time_at(result, (int)i, SESSION_CREATED_AT, &session->created_at_us);
        err = err != 0 ? err : time_at(result, (int)i, SESSION_UPDATED_AT, &session->updated_at_us);
    }
    return err;
}

/* ---- messages ---- */

static int read_messages(const PGresult *result, const struct store_message_set *overlay,
                         unsigned limit, struct store_read *read)
{
    size_t rows = (size_t)PQntuples(result), bytes = 1;
    int err = 0;

    if (PQnfields(result) != MESSAGE_COLUMNS) {
        return SL_E_INTERNAL;
    }
    read->messages = calloc(rows + overlay->count + 1, sizeof(read->messages[0]));
    if (read->messages == NULL) {
        return SL_E_NO_MEMORY;
    }
    for (size_t i = 0; i < rows && err == 0; i++) {
        err = read_message(result, (int)i, &read->messages[read->count++]);
    }
    if (overlay->count > 0) {
        memcpy(&read->messages[read->count], overlay->items,
               overlay->count * sizeof(overlay->items[0]));
        read->count += overlay->count;
    }
    if (err != 0) {
        return err;
    }
    settle_messages(read, limit);
    for (size_t i = 0; i < read->count; i++) {
        bytes += store_rows_text_bytes(&read->messages[i]) + 3;
    }
    sl_buffer_init(&read->text, bytes);
    if (sl_buffer_reserve(&read->text, bytes) == NULL) {
        return SL_E_NO_MEMORY;
    }
    for (size_t i = 0; i < read->count && err == 0; i++) {
        err = store_rows_copy_texts(&read->text, &read->messages[i]);
    }
    return err;
}

/* The texts still point into the result. */
static int read_message(const PGresult *result, int row, struct store_message *ret_message)
{
    struct store_text role = text_at(result, row, MESSAGE_ROLE);
    struct store_text status = text_at(result, row, MESSAGE_STATUS);

    ret_message->content = text_at(result, row, MESSAGE_CONTENT);
    ret_message->model = text_at(result, row, MESSAGE_MODEL);
    ret_message->finish_reason = text_at(result, row, MESSAGE_FINISH_REASON);
    if (uuid_at(result, row, MESSAGE_ID, &ret_message->id) != 0 ||
        uuid_at(result, row, MESSAGE_TURN_ID, &ret_message->turn_id) != 0 ||
        store_rows_role(role.base, role.len, &ret_message->role) != 0 ||
        store_rows_status(status.base, status.len, &ret_message->status) != 0 ||
        time_at(result, row, MESSAGE_CREATED_AT, &ret_message->created_at_us) != 0 ||
        count_at(result, row, MESSAGE_PROMPT_TOKENS, &ret_message->prompt_tokens) != 0 ||
        count_at(result, row, MESSAGE_COMPLETION_TOKENS, &ret_message->completion_tokens) != 0 ||
        float_at(result, row, MESSAGE_TTFT_MS, &ret_message->ttft_ms) != 0) {
        return SL_E_INTERNAL;
    }
    return 0;
}

/* Sorts, drops doubles, keeps the newest `limit`, and turns them round unless it is a HISTORY. */
static void settle_messages(struct store_read *read, unsigned limit)
{
    struct store_message *messages = read->messages;
    size_t kept = 0;

    qsort(messages, read->count, sizeof(messages[0]), store_rows_compare_messages);
    for (size_t i = 0; i < read->count; i++) {
        /* one id has one time, so doubles are neighbours */
        if (kept == 0 || !sl_uuid_equal(&messages[kept - 1].id, &messages[i].id)) {
            messages[kept++] = messages[i];
        }
    }
    read->more = kept > limit;
    if (read->more) {
        memmove(messages, messages + (kept - limit), limit * sizeof(messages[0]));
        kept = limit;
    }
    read->count = kept;
    if (read->kind == STORE_READ_HISTORY) {
        return;
    }
    for (size_t i = 0; i < kept / 2; i++) {
        struct store_message swapped = messages[i];
        messages[i] = messages[kept - 1 - i];
        messages[kept - 1 - i] = swapped;
    }
}

/* ---- columns ---- */

static struct store_text text_at(const PGresult *result, int row, int column)
{
    if (PQgetisnull(result, row, column)) {
        return (struct store_text){NULL, 0};
    }
    return (struct store_text){PQgetvalue(result, row, column),
                               (size_t)PQgetlength(result, row, column)};
}

static int uuid_at(const PGresult *result, int row, int column, struct sl_uuid *ret_uuid)
{
    if (PQgetlength(result, row, column) != (int)sizeof(ret_uuid->bytes)) {
        return SL_E_INTERNAL;
    }
    memcpy(ret_uuid->bytes, PQgetvalue(result, row, column), sizeof(ret_uuid->bytes));
    return 0;
}

static int time_at(const PGresult *result, int row, int column, int64_t *ret_us)
{
    uint64_t number;

    if (PQgetlength(result, row, column) != (int)sizeof(number)) {
        return SL_E_INTERNAL;
    }
    memcpy(&number, PQgetvalue(result, row, column), sizeof(number));
    /* `infinity`, which only a stranger's hand can have written, stays the greatest time */
    if (__builtin_add_overflow((int64_t)be64toh(number), STORE_PG_EPOCH_US, ret_us)) {
        *ret_us = INT64_MAX;
    }
    return 0;
}

/* Null: -1. */
static int count_at(const PGresult *result, int row, int column, int32_t *ret_count)
{
    uint32_t number;

    if (PQgetisnull(result, row, column)) {
        *ret_count = -1;
        return 0;
    }
    if (PQgetlength(result, row, column) != (int)sizeof(number)) {
        return SL_E_INTERNAL;
    }
    memcpy(&number, PQgetvalue(result, row, column), sizeof(number));
    *ret_count = (int32_t)be32toh(number);
    return 0;
}

/* Null: -1. */
static int float_at(const PGresult *result, int row, int column, double *ret_number)
{
    uint64_t bits;

    if (PQgetisnull(result, row, column)) {
        *ret_number = -1;
        return 0;
    }
    if (PQgetlength(result, row, column) != (int)sizeof(bits)) {
        return SL_E_INTERNAL;
    }
    memcpy(&bits, PQgetvalue(result, row, column), sizeof(bits));
    bits = be64toh(bits);
    memcpy(ret_number, &bits, sizeof(bits));
    return 0;
}
