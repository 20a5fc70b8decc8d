/*
 * Many messages in two statements.
 *
 * Happy path:
 *   sessions  the distinct sessions of the messages are collected, each with the time of its first
 *             message here (created_at, if it is new) and of its newest (updated_at)
 *   arrays    each column becomes one binary array, all of them in one piece of memory
 *   send      both statements unnest their arrays; the server reads them in order, so of two messages
 *             with the same id the first is kept, and a session that occurs twice, which `do update`
 *             would refuse (21000), does not exist
 *
 * Failure modes: no memory, or libpq does not queue: see the header. Thread and ownership too.
 */
#include "writer_rows.h"

#include <endian.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "pg_statements.h"

enum {
    ROWS_MAX = 1000,
    BYTES_MAX = 16 * 1024 * 1024, /* of records: keeps each array far below INT_MAX */
    BUCKETS = 2048,               /* a power of two, more than ROWS_MAX */
    ARRAY_HEADER = 5 * 4,         /* dimensions, has nulls, type, length, lower bound: array_recv */
};

_Static_assert((BUCKETS & (BUCKETS - 1)) == 0 && BUCKETS > ROWS_MAX && ROWS_MAX < UINT16_MAX,
               "a bucket must stay free, and hold any row's number");

enum column {
    USER_ID,
    SESSION_ID,
    ID,
    TURN_ID,
    ROLE,
    STATUS,
    CREATED_AT,
    UPDATED_AT, /* of the session */
    CONTENT,
    MODEL,
    FINISH_REASON,
    PROMPT_TOKENS,
    COMPLETION_TOKENS,
    TTFT_MS,
};

/* In the order of the statements' parameters. */
static const enum column session_columns[] = {USER_ID, SESSION_ID, CREATED_AT, UPDATED_AT};
static const enum column message_columns[] = {
    USER_ID,       SESSION_ID,        ID,      TURN_ID, ROLE,
    STATUS,        CREATED_AT,        CONTENT, MODEL,   FINISH_REASON,
    PROMPT_TOKENS, COMPLETION_TOKENS, TTFT_MS};

enum { COLUMNS_MAX = sizeof(message_columns) / sizeof(message_columns[0]) };

struct row {
    const struct store_record *record;
    int64_t updated_at_us; /* of a session: its newest message's time */
};

/* One value of an array. */
struct element {
    const void *base; /* NULL: null */
    size_t len;
    union {
        uint64_t eight;
        uint32_t four;
    } number; /* where `base` of a number points */
};

static size_t collect_sessions(const struct row *messages, size_t count, struct row *sessions);
static size_t hash_session(const struct store_record *record);
static bool is_same_session(const struct store_record *a, const struct store_record *b);
static int send_rows(PGconn *connection, enum store_pg_statement statement,
                     const enum column *columns, size_t column_count, const struct row *rows,
                     size_t count);
static size_t size_of_column(enum column column, const struct row *rows, size_t count);
static char *put_column(char *at, Oid type, enum column column, const struct row *rows,
                        size_t count);
static char *put_four(char *at, uint32_t number);
static void element_of(const struct row *row, enum column column, struct element *ret_element);
static void set_text(struct element *element, const struct store_text *text);
static void set_name(struct element *element, const char *name);
static void set_uuid(struct element *element, const struct sl_uuid *id);
static void set_time(struct element *element, int64_t unix_us);
static void set_count(struct element *element, int32_t count);
static void set_float8(struct element *element, double number);

size_t store_writer_rows_count(struct store_record *const *records, size_t count)
{
    size_t rows = 0, bytes = 0;

    while (rows < count && rows < ROWS_MAX && records[rows]->kind == STORE_RECORD_MESSAGE &&
           records[rows]->bytes <= BYTES_MAX - bytes) {
        bytes += records[rows]->bytes;
        rows++;
    }
    return rows >= STORE_WRITER_ROWS_MIN ? rows : 0;
}

int store_writer_rows_send_on_writer_thread(PGconn *connection, struct store_record *const *records,
                                            size_t count)
{
    struct row messages[ROWS_MAX], sessions[ROWS_MAX];

    for (size_t i = 0; i < count; i++) {
        messages[i] = (struct row){.record = records[i]};
    }
    size_t session_count = collect_sessions(messages, count, sessions);
    int err =
        send_rows(connection, STORE_PG_WRITE_SESSIONS, session_columns,
                  sizeof(session_columns) / sizeof(session_columns[0]), sessions, session_count);
    if (err != 0) {
        return err;
    }
    return send_rows(connection, STORE_PG_WRITE_MESSAGES, message_columns, COLUMNS_MAX, messages,
                     count);
}

/* ---- the distinct sessions ---- */

/* Session ids may be chosen by clients; at worst the chains are as long as ROWS_MAX. */
static size_t collect_sessions(const struct row *messages, size_t count, struct row *sessions)
{
    uint16_t buckets[BUCKETS]; /* number of a session, from 1; 0: free */
    size_t found = 0;

    memset(buckets, 0, sizeof(buckets));
    for (size_t i = 0; i < count; i++) {
        const struct store_record *record = messages[i].record;
        int64_t created_at_us = record->message.created_at_us;
        size_t at = hash_session(record);
        while (buckets[at] != 0 && !is_same_session(sessions[buckets[at] - 1].record, record)) {
            at = (at + 1) & (BUCKETS - 1);
        }
        if (buckets[at] == 0) {
            sessions[found] = (struct row){.record = record, .updated_at_us = created_at_us};
            buckets[at] = (uint16_t)++found;
        } else if (sessions[buckets[at] - 1].updated_at_us < created_at_us) {
            sessions[buckets[at] - 1].updated_at_us = created_at_us;
        }
    }
    return found;
}

/* The last bytes of an UUID are its random ones; the multiplier is Fibonacci hashing's. */
static size_t hash_session(const struct store_record *record)
{
    uint64_t bits;

    memcpy(&bits, record->session.bytes + sizeof(record->session.bytes) - sizeof(bits),
           sizeof(bits));
    return (size_t)((bits * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (BUCKETS - 1);
}

static bool is_same_session(const struct store_record *a, const struct store_record *b)
{
    return memcmp(a->session.bytes, b->session.bytes, sizeof(a->session.bytes)) == 0 &&
           a->user_len == b->user_len && memcmp(a->user, b->user, a->user_len) == 0;
}

/* ---- arrays ---- */

static int send_rows(PGconn *connection, enum store_pg_statement statement,
                     const enum column *columns, size_t column_count, const struct row *rows,
                     size_t count)
{
    const char *values[COLUMNS_MAX];
    int lengths[COLUMNS_MAX];
    size_t size = 0;

    for (size_t i = 0; i < column_count; i++) {
        size += size_of_column(columns[i], rows, count);
    }
    char *memory = size <= INT_MAX ? malloc(size) : NULL;
    if (memory == NULL) {
        return SL_E_NO_MEMORY;
    }
    char *at = memory;
    for (size_t i = 0; i < column_count; i++) {
        values[i] = at;
        at = put_column(at, store_pg_element_type(statement, i), columns[i], rows, count);
        lengths[i] = (int)(at - values[i]);
    }
    int err = store_pg_send_arrays(connection, statement, values, lengths);
    free(memory);
    return err;
}

static size_t size_of_column(enum column column, const struct row *rows, size_t count)
{
    size_t size = ARRAY_HEADER;
    struct element element;

    for (size_t i = 0; i < count; i++) {
        element_of(&rows[i], column, &element);
        size += sizeof(uint32_t) + (element.base != NULL ? element.len : 0);
    }
    return size;
}

/* Binary form of a one-dimensional array (PostgreSQL 15, src/backend/utils/adt/arrayfuncs.c, array_recv). */
static char *put_column(char *at, Oid type, enum column column, const struct row *rows,
                        size_t count)
{
    char *nulls = put_four(at, 1);
    uint32_t has_nulls = 0;
    struct element element;

    at = put_four(nulls, 0);
    at = put_four(at, type);
    at = put_four(at, (uint32_t)count);
    at = put_four(at, 1);
    for (size_t i = 0; i < count; i++) {
        element_of(&rows[i], column, &element);
        if (element.base == NULL) {
            at = put_four(at, UINT32_MAX);
            has_nulls = 1;
            continue;
        }
        at = put_four(at, (uint32_t)element.len);
        memcpy(at, element.base, element.len);
        at += element.len;
    }
    (void)put_four(nulls, has_nulls);
    return at;
}

static char *put_four(char *at, uint32_t number)
{
    uint32_t wire = htobe32(number);

    memcpy(at, &wire, sizeof(wire));
    return at + sizeof(wire);
}

/* ---- values, the same as in pg_statements.c one by one ---- */

static void element_of(const struct row *row, enum column column, struct element *ret_element)
{
    const struct store_record *record = row->record;
    const struct store_message *message = &record->message;

    switch (column) {
    case USER_ID:
        set_text(ret_element, &(struct store_text){record->user, record->user_len});
        return;
    case SESSION_ID:
        set_uuid(ret_element, &record->session);
        return;
    case ID:
        set_uuid(ret_element, &message->id);
        return;
    case TURN_ID:
        set_uuid(ret_element, &message->turn_id);
        return;
    case ROLE:
        set_name(ret_element, store_role_name(message->role));
        return;
    case STATUS:
        set_name(ret_element, store_status_name(message->status));
        return;
    case CREATED_AT:
        set_time(ret_element, message->created_at_us);
        return;
    case UPDATED_AT:
        set_time(ret_element, row->updated_at_us);
        return;
    case CONTENT:
        set_text(ret_element, &message->content);
        return;
    case MODEL:
        set_text(ret_element, &message->model);
        return;
    case FINISH_REASON:
        set_text(ret_element, &message->finish_reason);
        return;
    case PROMPT_TOKENS:
        set_count(ret_element, message->prompt_tokens);
        return;
    case COMPLETION_TOKENS:
        set_count(ret_element, message->completion_tokens);
        return;
    case TTFT_MS:
        set_float8(ret_element, message->ttft_ms);
        return;
    }
}

static void set_text(struct element *element, const struct store_text *text)
{
    element->base = text->base;
    element->len = text->len;
}

static void set_name(struct element *element, const char *name)
{
    element->base = name;
    element->len = name != NULL ? strlen(name) : 0;
}

static void set_uuid(struct element *element, const struct sl_uuid *id)
{
    element->base = id->bytes;
    element->len = sizeof(id->bytes);
}

static void set_time(struct element *element, int64_t unix_us)
{
    element->number.eight = htobe64((uint64_t)store_pg_time(unix_us));
    element->base = &element->number.eight;
    element->len = sizeof(element->number.eight);
}

/* Negative: null. */
static void set_count(struct element *element, int32_t count)
{
    element->number.four = htobe32((uint32_t)count);
    element->base = count >= 0 ? &element->number.four : NULL;
    element->len = sizeof(element->number.four);
}

/* Negative: null. */
static void set_float8(struct element *element, double number)
{
    uint64_t bits;

    memcpy(&bits, &number, sizeof(bits));
    element->number.eight = htobe64(bits);
    element->base = number >= 0 ? &element->number.eight : NULL;
    element->len = sizeof(element->number.eight);
}
