/*
 * Every statement that Sluice sends to Postgres at run time, and how its parameters are bound.
 *
 * Each statement is prepared once per connection and then named. Each `on conflict` names its key:
 * without one, a row that collides on another key would vanish without an error.
 *
 * Failure modes: libpq refuses to queue when the connection is broken. Thread: the connection's.
 */
#include "pg_statements.h"

#include <assert.h>
#include <endian.h>
#include <limits.h>
#include <string.h>

enum {
    PARAMS_MAX = 13,
    TURN_SPAN_MS = 1000,
    /* pg_type.dat; these numbers never change */
    OID_INT8 = 20,
    OID_INT4 = 23,
    OID_TEXT = 25,
    OID_JSON = 114,
    OID_FLOAT8 = 701,
    OID_TIMESTAMPTZ = 1184,
    OID_UUID = 2950,
    OID_INT4_ARRAY = 1007,
    OID_TEXT_ARRAY = 1009,
    OID_FLOAT8_ARRAY = 1022,
    OID_TIMESTAMPTZ_ARRAY = 1185,
    OID_UUID_ARRAY = 2951,
};

struct statement {
    const char *name, *text;
    int count;
    Oid types[PARAMS_MAX];
};

static const struct statement statements[STORE_PG_STATEMENTS] = {
    [STORE_PG_READ_PROFILE] = {"read_profile",
                               "select profile from user_profiles where user_id = $1",
                               1,
                               {OID_TEXT}},
    [STORE_PG_READ_MESSAGES] =
        {"read_messages",
         "select id, turn_id, role, status, created_at, content, model, finish_reason,"
         " prompt_tokens, completion_tokens, ttft_ms"
         " from chat_messages"
         " where user_id = $1 and session_id = $2 and (created_at, id) < ($3, $4)"
         " order by created_at desc, id desc limit $5",
         5,
         {OID_TEXT, OID_UUID, OID_TIMESTAMPTZ, OID_UUID, OID_INT8}},
    [STORE_PG_READ_SESSIONS] = {"read_sessions",
                                "select id, title, created_at, updated_at"
                                " from chat_sessions"
                                " where user_id = $1 and (updated_at, id) < ($2, $3)"
                                " order by updated_at desc, id desc limit $4",
                                4,
                                {OID_TEXT, OID_TIMESTAMPTZ, OID_UUID, OID_INT8}},
    /*
     * There is no index by turn, and none is needed: a turn's messages get their ids right after the
     * turn got its own (gw_turn_start), and ids of one process only grow (sl_uuid_v7), so a short range
     * of the primary key has them. The last bytes of an id are free: time and counter come first. Only
     * a clock that is set forward between the two, by more than the range, would hide a turn.
     */
    [STORE_PG_READ_TURN] = {"read_turn",
                            "select session_id from chat_messages"
                            " where user_id = $1 and id > $2 and id < $3 and turn_id = $2"
                            " limit 1",
                            3,
                            {OID_TEXT, OID_UUID, OID_UUID}},
    [STORE_PG_WRITE_SESSION] = {"write_session",
                                "insert into chat_sessions (user_id, id, created_at, updated_at)"
                                " values ($1, $2, $3, $3)"
                                " on conflict (user_id, id) do update"
                                " set updated_at = excluded.updated_at"
                                " where chat_sessions.updated_at < excluded.updated_at",
                                3,
                                {OID_TEXT, OID_UUID, OID_TIMESTAMPTZ}},
    [STORE_PG_WRITE_MESSAGE] =
        {"write_message",
         "insert into chat_messages (user_id, session_id, id, turn_id, role, status, created_at,"
         " content, model, finish_reason, prompt_tokens, completion_tokens, ttft_ms)"
         " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
         " on conflict (user_id, id) do nothing",
         13,
         {OID_TEXT, OID_UUID, OID_UUID, OID_UUID, OID_TEXT, OID_TEXT, OID_TIMESTAMPTZ, OID_TEXT,
          OID_TEXT, OID_TEXT, OID_INT4, OID_INT4, OID_FLOAT8}},
    [STORE_PG_WRITE_PROFILE] = {"write_profile",
                                "insert into user_profiles (user_id, profile, updated_at)"
                                " values ($1, $2, now())"
                                " on conflict (user_id) do update"
                                " set profile = excluded.profile, updated_at = excluded.updated_at",
                                2,
                                {OID_TEXT, OID_JSON}},
    [STORE_PG_WRITE_TITLE] = {"write_title",
                              "update chat_sessions set title = $3"
                              " where user_id = $1 and id = $2",
                              3,
                              {OID_TEXT, OID_UUID, OID_TEXT}},
    [STORE_PG_WRITE_DELETE] = {"write_delete",
                               "delete from chat_sessions where user_id = $1 and id = $2",
                               2,
                               {OID_TEXT, OID_UUID}},
    [STORE_PG_WRITE_SESSIONS] = {"write_sessions",
                                 "insert into chat_sessions (user_id, id, created_at, updated_at)"
                                 " select * from unnest($1, $2, $3, $4)"
                                 " on conflict (user_id, id) do update"
                                 " set updated_at = excluded.updated_at"
                                 " where chat_sessions.updated_at < excluded.updated_at",
                                 4,
                                 {OID_TEXT_ARRAY, OID_UUID_ARRAY, OID_TIMESTAMPTZ_ARRAY,
                                  OID_TIMESTAMPTZ_ARRAY}},
    [STORE_PG_WRITE_MESSAGES] =
        {"write_messages",
         "insert into chat_messages (user_id, session_id, id, turn_id, role, status, created_at,"
         " content, model, finish_reason, prompt_tokens, completion_tokens, ttft_ms)"
         " select * from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
         " on conflict (user_id, id) do nothing",
         13,
         {OID_TEXT_ARRAY, OID_UUID_ARRAY, OID_UUID_ARRAY, OID_UUID_ARRAY, OID_TEXT_ARRAY,
          OID_TEXT_ARRAY, OID_TIMESTAMPTZ_ARRAY, OID_TEXT_ARRAY, OID_TEXT_ARRAY, OID_TEXT_ARRAY,
          OID_INT4_ARRAY, OID_INT4_ARRAY, OID_FLOAT8_ARRAY}},
};

/* Parameters on the stack while libpq copies them; numbers need a place of their own. */
struct params {
    int count;
    const char *values[PARAMS_MAX];
    int lengths[PARAMS_MAX], formats[PARAMS_MAX];
    union {
        uint64_t eight;
        uint32_t four;
    } numbers[PARAMS_MAX];
};

static void put_cursor(struct params *params, const struct store_read *read);
static struct sl_uuid end_of_range(const struct sl_uuid *turn);
static void put_message_params(struct params *params, const struct store_record *record);
static void put_text(struct params *params, const char *base, size_t len);
static void put_name(struct params *params, const char *name);
static void put_uuid(struct params *params, const struct sl_uuid *uuid);
static void put_time(struct params *params, int64_t unix_us);
static void put_int8(struct params *params, int64_t number);
static void put_count(struct params *params, int32_t count);
static void put_float8(struct params *params, double number);
static bool send_statement(PGconn *connection, enum store_pg_statement statement,
                           const struct params *params);
static bool send_text(PGconn *connection, enum store_pg_statement statement,
                      const struct params *params);

const char *store_pg_statement_text(enum store_pg_statement statement)
{
    return statements[statement].text;
}

int store_pg_prepare(PGconn *connection, enum store_pg_statement statement)
{
    const struct statement *prepared = &statements[statement];

    return PQsendPrepare(connection, prepared->name, prepared->text, prepared->count,
                         prepared->types) == 1
               ? 0
               : SL_E_DATABASE_UNAVAILABLE;
}

/* ---- reads ---- */

enum store_pg_statement store_pg_statement_of(const struct store_read *read)
{
    switch (read->kind) {
    case STORE_READ_PROFILE:
        return STORE_PG_READ_PROFILE;
    case STORE_READ_SESSIONS:
        return STORE_PG_READ_SESSIONS;
    case STORE_READ_TURN:
        return STORE_PG_READ_TURN;
    case STORE_READ_HISTORY:
    case STORE_READ_MESSAGES:
        break;
    }
    return STORE_PG_READ_MESSAGES;
}

int store_pg_send_read(PGconn *connection, const struct store_read *read, unsigned rows, bool named)
{
    enum store_pg_statement statement = store_pg_statement_of(read);
    struct params params = {.count = 0};
    struct sl_uuid end; /* params point to it */

    put_text(&params, read->user, read->user_len);
    if (statement == STORE_PG_READ_TURN) {
        end = end_of_range(&read->turn);
        put_uuid(&params, &read->turn);
        put_uuid(&params, &end);
    }
    if (statement == STORE_PG_READ_MESSAGES) {
        put_uuid(&params, &read->session);
    }
    if (statement == STORE_PG_READ_MESSAGES || statement == STORE_PG_READ_SESSIONS) {
        put_cursor(&params, read);
        put_int8(&params, rows);
    }
    bool sent = named ? send_statement(connection, statement, &params)
                      : send_text(connection, statement, &params);
    return sent ? 0 : SL_E_DATABASE_UNAVAILABLE;
}

/* Without a cursor: `infinity`, which no row reaches. HISTORY has none, whatever the field says. */
static void put_cursor(struct params *params, const struct store_read *read)
{
    static const struct sl_uuid last = {
        {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255}};
    bool given = read->has_cursor && read->kind != STORE_READ_HISTORY;

    if (given) {
        put_time(params, read->cursor_us);
    } else {
        put_int8(params, INT64_MAX);
    }
    put_uuid(params, given ? &read->cursor_id : &last);
}

/*
 * The least id whose time, the first 48 bits, is a second after the turn's. A turn of the last second
 * of all times, which only a stranger can ask for, gets an empty range.
 */
static struct sl_uuid end_of_range(const struct sl_uuid *turn)
{
    struct sl_uuid end = {{0}};
    uint64_t ms = 0;

    for (int i = 0; i < 6; i++) {
        ms = ms << 8 | turn->bytes[i];
    }
    ms += TURN_SPAN_MS;
    for (int i = 0; i < 6; i++) {
        end.bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
    }
    return end;
}

/* ---- writes ---- */

unsigned store_pg_record_statements(const struct store_record *record)
{
    return record->kind == STORE_RECORD_MESSAGE ? 2 : 1;
}

int store_pg_send_record(PGconn *connection, const struct store_record *record)
{
    enum store_pg_statement statement = STORE_PG_WRITE_MESSAGE;
    struct params params = {.count = 0};

    put_text(&params, record->user, record->user_len);
    switch (record->kind) {
    case STORE_RECORD_MESSAGE:
        put_uuid(&params, &record->session);
        put_time(&params, record->message.created_at_us);
        if (!send_statement(connection, STORE_PG_WRITE_SESSION, &params)) {
            return SL_E_DATABASE_UNAVAILABLE;
        }
        params.count = 2; /* user and session are the same */
        put_message_params(&params, record);
        break;
    case STORE_RECORD_PROFILE:
        statement = STORE_PG_WRITE_PROFILE;
        put_text(&params, record->text.base, record->text.len);
        break;
    case STORE_RECORD_TITLE:
        statement = STORE_PG_WRITE_TITLE;
        put_uuid(&params, &record->session);
        put_text(&params, record->text.base, record->text.len);
        break;
    case STORE_RECORD_DELETE:
        statement = STORE_PG_WRITE_DELETE;
        put_uuid(&params, &record->session);
        break;
    }
    return send_statement(connection, statement, &params) ? 0 : SL_E_DATABASE_UNAVAILABLE;
}

static void put_message_params(struct params *params, const struct store_record *record)
{
    const struct store_message *message = &record->message;

    put_uuid(params, &message->id);
    put_uuid(params, &message->turn_id);
    put_name(params, store_role_name(message->role));
    put_name(params, store_status_name(message->status));
    put_time(params, message->created_at_us);
    put_text(params, message->content.base, message->content.len);
    put_text(params, message->model.base, message->model.len);
    put_text(params, message->finish_reason.base, message->finish_reason.len);
    put_count(params, message->prompt_tokens);
    put_count(params, message->completion_tokens);
    put_float8(params, message->ttft_ms);
}

Oid store_pg_element_type(enum store_pg_statement statement, size_t parameter)
{
    switch (statements[statement].types[parameter]) {
    case OID_INT4_ARRAY:
        return OID_INT4;
    case OID_FLOAT8_ARRAY:
        return OID_FLOAT8;
    case OID_TIMESTAMPTZ_ARRAY:
        return OID_TIMESTAMPTZ;
    case OID_UUID_ARRAY:
        return OID_UUID;
    default:
        return OID_TEXT;
    }
}

int store_pg_send_arrays(PGconn *connection, enum store_pg_statement statement,
                         const char *const *values, const int *lengths)
{
    static const int formats[PARAMS_MAX] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

    return PQsendQueryPrepared(connection, statements[statement].name, statements[statement].count,
                               values, lengths, formats, 1) == 1
               ? 0
               : SL_E_DATABASE_UNAVAILABLE;
}

/* ---- parameters ---- */

/* NULL is SQL's null. */
static void put_text(struct params *params, const char *base, size_t len)
{
    assert(params->count < PARAMS_MAX && len <= INT_MAX);
    params->values[params->count] = base;
    params->lengths[params->count] = (int)len;
    params->formats[params->count] = 1;
    params->count++;
}

static void put_name(struct params *params, const char *name)
{
    put_text(params, name, name != NULL ? strlen(name) : 0);
}

static void put_uuid(struct params *params, const struct sl_uuid *uuid)
{
    put_text(params, (const char *)uuid->bytes, sizeof(uuid->bytes));
}

/* A time that is out of range, from a forged cursor, is refused by the server (22008). */
int64_t store_pg_time(int64_t unix_us)
{
    int64_t since_2000;

    if (__builtin_sub_overflow(unix_us, STORE_PG_EPOCH_US, &since_2000)) {
        since_2000 = INT64_MIN;
    }
    return since_2000;
}

static void put_time(struct params *params, int64_t unix_us)
{
    put_int8(params, store_pg_time(unix_us));
}

static void put_int8(struct params *params, int64_t number)
{
    uint64_t *place = &params->numbers[params->count].eight;

    *place = htobe64((uint64_t)number);
    put_text(params, (const char *)place, sizeof(*place));
}

/* Negative: null. */
static void put_count(struct params *params, int32_t count)
{
    uint32_t *place = &params->numbers[params->count].four;

    *place = htobe32((uint32_t)count);
    put_text(params, count >= 0 ? (const char *)place : NULL, sizeof(*place));
}

/* Negative: null. */
static void put_float8(struct params *params, double number)
{
    uint64_t *place = &params->numbers[params->count].eight;
    uint64_t bits;

    memcpy(&bits, &number, sizeof(bits));
    *place = htobe64(bits);
    put_text(params, number >= 0 ? (const char *)place : NULL, sizeof(*place));
}

static bool send_statement(PGconn *connection, enum store_pg_statement statement,
                           const struct params *params)
{
    assert(params->count == statements[statement].count);
    return PQsendQueryPrepared(connection, statements[statement].name, params->count,
                               params->values, params->lengths, params->formats, 1) == 1;
}

/* The same without a name, for a statement that is not prepared yet. */
static bool send_text(PGconn *connection, enum store_pg_statement statement,
                      const struct params *params)
{
    assert(params->count == statements[statement].count);
    return PQsendQueryParams(connection, statements[statement].text, params->count,
                             statements[statement].types, params->values, params->lengths,
                             params->formats, 1) == 1;
}
