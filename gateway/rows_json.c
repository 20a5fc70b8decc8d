/* Rows as JSON: one function per row kind, one line per key. Pure; see the header. */
#include "rows_json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "sluice/text.h"

/* One object under construction: knows which keys are wanted and whether a comma is due. */
struct object {
    struct sl_buffer *json;
    struct store_text fields;
    bool first;
    int err;
};

static void begin(struct object *object);
static void end(struct object *object);
static bool wants(struct object *object, const char *key);
static void put_text(struct object *object, const char *key, struct store_text value);
static void put_id(struct object *object, const char *key, const struct sl_uuid *id);
static void put_time(struct object *object, const char *key, int64_t at_us);
static void put_raw(struct object *object, const char *key, const char *value);
static int append_tail(const struct store_read *read, int64_t at_us, const struct sl_uuid *id,
                       struct sl_buffer *json);

void gw_cursor_format(int64_t at_us, const struct sl_uuid *id, char text[GW_CURSOR_SIZE])
{
    int n = snprintf(text, GW_CURSOR_SIZE, "%016" PRIx64, (uint64_t)at_us);

    for (size_t i = 0; i < sizeof(id->bytes); i++) {
        n += snprintf(text + n, GW_CURSOR_SIZE - (size_t)n, "%02x", id->bytes[i]);
    }
}

int gw_cursor_parse(const char *text, size_t len, int64_t *ret_at_us, struct sl_uuid *ret_id)
{
    uint8_t bytes[24];
    uint64_t at_us = 0;

    if (len != GW_CURSOR_SIZE - 1) {
        return SL_E_INVALID_VALUE;
    }
    for (size_t i = 0; i < sizeof(bytes); i++) {
        unsigned value = 0;
        for (size_t j = 0; j < 2; j++) {
            char c = text[2 * i + j];
            const char *digits = "0123456789abcdef";
            const char *at = c != '\0' ? strchr(digits, c) : NULL;
            if (at == NULL) {
                return SL_E_INVALID_VALUE;
            }
            value = value << 4 | (unsigned)(at - digits);
        }
        bytes[i] = (uint8_t)value;
    }
    for (size_t i = 0; i < 8; i++) {
        at_us = at_us << 8 | bytes[i];
    }
    *ret_at_us = (int64_t)at_us;
    memcpy(ret_id->bytes, bytes + 8, sizeof(ret_id->bytes));
    return 0;
}

int gw_rows_sessions(const struct store_read *read, struct store_text fields,
                     struct sl_buffer *json)
{
    int err = sl_buffer_append_str(json, "{\"sessions\":[");

    for (size_t i = 0; err == 0 && i < read->count; i++) {
        const struct store_session *row = &read->sessions[i];
        struct object object = {json, fields, true, i > 0 ? sl_buffer_append(json, ",", 1) : 0};
        begin(&object);
        put_id(&object, "id", &row->id);
        put_text(&object, "title", row->title);
        put_time(&object, "created_at", row->created_at_us);
        put_time(&object, "updated_at", row->updated_at_us);
        end(&object);
        err = object.err;
    }
    if (err != 0) {
        return err;
    }
    const struct store_session *last = read->count > 0 ? &read->sessions[read->count - 1] : NULL;
    return append_tail(read, last != NULL ? last->updated_at_us : 0,
                       last != NULL ? &last->id : NULL, json);
}

int gw_rows_messages(const struct store_read *read, struct store_text fields,
                     struct sl_buffer *json)
{
    int err = sl_buffer_append_str(json, "{\"messages\":[");

    for (size_t i = 0; err == 0 && i < read->count; i++) {
        const struct store_message *row = &read->messages[i];
        const char *role = store_role_name(row->role), *status = store_status_name(row->status);
        char text[96];
        struct object object = {json, fields, true, i > 0 ? sl_buffer_append(json, ",", 1) : 0};
        begin(&object);
        put_id(&object, "id", &row->id);
        put_id(&object, "turn_id", &row->turn_id);
        put_text(&object, "role", (struct store_text){role, strlen(role)});
        put_text(&object, "content", row->content);
        put_text(&object, "status", (struct store_text){status, strlen(status)});
        put_time(&object, "created_at", row->created_at_us);
        if (row->role == STORE_ROLE_ASSISTANT) {
            put_text(&object, "model", row->model);
            put_text(&object, "finish_reason", row->finish_reason);
            (void)snprintf(text, sizeof(text),
                           "{\"prompt_tokens\":%" PRId32 ",\"completion_tokens\":%" PRId32 "}",
                           row->prompt_tokens, row->completion_tokens);
            put_raw(&object, "usage",
                    row->prompt_tokens >= 0 && row->completion_tokens >= 0 ? text : "null");
            (void)snprintf(text, sizeof(text), "%.3f", row->ttft_ms);
            put_raw(&object, "ttft_ms", row->ttft_ms >= 0 ? text : "null");
        }
        end(&object);
        err = object.err;
    }
    if (err != 0) {
        return err;
    }
    const struct store_message *last = read->count > 0 ? &read->messages[read->count - 1] : NULL;
    return append_tail(read, last != NULL ? last->created_at_us : 0,
                       last != NULL ? &last->id : NULL, json);
}

static int append_tail(const struct store_read *read, int64_t at_us, const struct sl_uuid *id,
                       struct sl_buffer *json)
{
    char cursor[GW_CURSOR_SIZE];

    if (!read->more || id == NULL) {
        return sl_buffer_append_str(json, "],\"next_cursor\":null}");
    }
    gw_cursor_format(at_us, id, cursor);
    return sl_buffer_appendf(json, "],\"next_cursor\":\"%s\"}", cursor);
}

/* ---------------------------------------------------------------- one object */

static void begin(struct object *object)
{
    if (object->err == 0) {
        object->err = sl_buffer_append(object->json, "{", 1);
    }
}

static void end(struct object *object)
{
    if (object->err == 0) {
        object->err = sl_buffer_append(object->json, "}", 1);
    }
}

/* Writes the key when it is wanted. */
static bool wants(struct object *object, const char *key)
{
    const char *at = object->fields.base, *stop = at + object->fields.len;
    bool wanted = object->fields.len == 0;

    while (!wanted && object->fields.len > 0 && at <= stop) {
        const char *comma = memchr(at, ',', (size_t)(stop - at));
        size_t len = (size_t)((comma != NULL ? comma : stop) - at);
        wanted = len == strlen(key) && memcmp(at, key, len) == 0;
        at += len + 1;
    }
    if (!wanted || object->err != 0) {
        return false;
    }
    object->err = sl_buffer_appendf(object->json, "%s\"%s\":", object->first ? "" : ",", key);
    object->first = false;
    return object->err == 0;
}

static void put_text(struct object *object, const char *key, struct store_text value)
{
    if (wants(object, key)) {
        object->err = value.base == NULL
                          ? sl_buffer_append_str(object->json, "null")
                          : sl_json_append_string(object->json, value.base, value.len);
    }
}

static void put_id(struct object *object, const char *key, const struct sl_uuid *id)
{
    char text[SL_UUID_TEXT_SIZE];

    sl_uuid_format(id, text);
    put_text(object, key, (struct store_text){text, SL_UUID_TEXT_LEN});
}

/* RFC 3339, UTC, milliseconds */
static void put_time(struct object *object, const char *key, int64_t at_us)
{
    time_t seconds = (time_t)(at_us / 1000000);
    struct tm utc;
    char day[32], text[40];

    (void)gmtime_r(&seconds, &utc);
    (void)strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &utc);
    int n = snprintf(text, sizeof(text), "%s.%03dZ", day, (int)(at_us / 1000 % 1000));
    put_text(object, key, (struct store_text){text, (size_t)n});
}

static void put_raw(struct object *object, const char *key, const char *value)
{
    if (wants(object, key)) {
        object->err = sl_buffer_append_str(object->json, value);
    }
}
