/*
 * Sessions: list, messages, rename, delete, preload (wire.md section 3).
 *
 * Sessions are private by construction: every read and write carries the user id, so another user's
 * session id is simply an unknown one. Thread: the request's worker.
 */
#include <jansson.h>
#include <string.h>

#include "json_body.h"
#include "reply.h"
#include "routes.h"
#include "rows_json.h"
#include "store_request.h"

enum { LIMIT_DEFAULT = 50, LIMIT_MAX = 200, TITLE_MAX_BYTES = 256, LIST_MAX_BYTES = 256 << 20 };

static bool read_page(struct gw_exchange *exchange, struct gw_store_request *request);
static bool read_session_id(struct gw_exchange *exchange, struct sl_uuid *ret_session);
static void answer_sessions(struct gw_store_request *request, int status);
static void answer_messages(struct gw_store_request *request, int status);
static void answer_rows(struct gw_store_request *request,
                        int (*build)(const struct store_read *, struct store_text,
                                     struct sl_buffer *));
static void answer_empty(struct gw_store_request *request, int status);
static bool abandon(struct gw_store_request *request);
static bool is_blank(const char *text);

void gw_session_list_route(struct gw_exchange *exchange)
{
    struct gw_store_request *request = gw_store_request_create(exchange, answer_sessions);

    request->read.kind = STORE_READ_SESSIONS;
    if (read_page(exchange, request)) {
        gw_store_request_reading(request);
    }
}

void gw_session_messages_route(struct gw_exchange *exchange)
{
    struct sl_uuid session;

    if (!read_session_id(exchange, &session)) {
        return;
    }
    struct gw_store_request *request = gw_store_request_create(exchange, answer_messages);
    request->read.kind = STORE_READ_MESSAGES;
    request->read.session = session;
    if (read_page(exchange, request)) {
        gw_store_request_reading(request);
    }
}

/* limit, cursor and fields. False: answered with a 400, and the request is gone. */
static bool read_page(struct gw_exchange *exchange, struct gw_store_request *request)
{
    h2o_iovec_t limit = gw_exchange_query(exchange, "limit");
    h2o_iovec_t cursor = gw_exchange_query(exchange, "cursor");
    h2o_iovec_t fields = gw_exchange_query(exchange, "fields");
    size_t rows = LIMIT_DEFAULT;

    if (limit.len > 0) {
        rows = h2o_strtosize(limit.base, limit.len);
        if (rows == 0 || rows > LIMIT_MAX) {
            (void)abandon(request);
            gw_reply_problem(exchange, SL_E_INVALID_VALUE, "limit must be a number from 1 to 200.",
                             "limit");
            return false;
        }
    }
    request->read.limit = (unsigned)rows;
    if (cursor.len > 0) {
        request->read.has_cursor = true;
        if (gw_cursor_parse(cursor.base, cursor.len, &request->read.cursor_us,
                            &request->read.cursor_id) != 0) {
            (void)abandon(request);
            gw_reply_problem(exchange, SL_E_INVALID_VALUE, "cursor is not one of ours.", "cursor");
            return false;
        }
    }
    /* stays valid: the exchange is there whenever an answer is written */
    request->fields = (struct store_text){fields.base, fields.len};
    return true;
}

static bool abandon(struct gw_store_request *request)
{
    request->exchange->on_gone = NULL;
    free(request);
    return false;
}

static bool read_session_id(struct gw_exchange *exchange, struct sl_uuid *ret_session)
{
    if (sl_uuid_parse(exchange->id.base, exchange->id.len, ret_session) == 0) {
        return true;
    }
    gw_reply_problem(exchange, SL_E_NOT_FOUND, NULL, NULL);
    return false;
}

static void answer_sessions(struct gw_store_request *request, int status)
{
    (void)status;
    answer_rows(request, gw_rows_sessions);
}

static void answer_messages(struct gw_store_request *request, int status)
{
    (void)status;
    answer_rows(request, gw_rows_messages);
}

static void answer_rows(struct gw_store_request *request,
                        int (*build)(const struct store_read *, struct store_text,
                                     struct sl_buffer *))
{
    struct sl_buffer json;

    sl_buffer_init(&json, LIST_MAX_BYTES);
    int err = build(&request->read, request->fields, &json);
    if (err == 0) {
        gw_reply_json(request->exchange, 200, json.base, json.len);
    } else {
        gw_reply_problem(request->exchange, err, NULL, NULL);
    }
    sl_buffer_dispose(&json);
}

/* ---------------------------------------------------------------- rename, delete, preload */

void gw_session_rename_route(struct gw_exchange *exchange)
{
    struct sl_uuid session;

    if (!read_session_id(exchange, &session)) {
        return;
    }
    json_t *body = gw_json_body_read(exchange);
    if (body == NULL) {
        return;
    }
    const json_t *title = json_object_get(body, "title");
    size_t len = json_string_length(title);
    if (!json_is_string(title) || len > TITLE_MAX_BYTES || is_blank(json_string_value(title))) {
        json_decref(body);
        gw_reply_problem(exchange, SL_E_INVALID_VALUE,
                         "title must be a text of 1 to 256 bytes that is not blank.", "title");
        return;
    }
    struct gw_store_request *request = gw_store_request_create(exchange, answer_empty);
    int err = store_save_title(exchange->worker->store, &request->save, request->user.id,
                               request->user.id_len, &session,
                               (struct store_text){json_string_value(title), len});
    json_decref(body);
    gw_store_request_saving(request, err);
}

static bool is_blank(const char *text)
{
    return text[strspn(text, " \t\r\n")] == '\0';
}

void gw_session_delete_route(struct gw_exchange *exchange)
{
    struct sl_uuid session;

    if (!read_session_id(exchange, &session)) {
        return;
    }
    struct gw_store_request *request = gw_store_request_create(exchange, answer_empty);
    gw_store_request_saving(request,
                            store_delete_session(exchange->worker->store, &request->save,
                                                 request->user.id, request->user.id_len, &session));
}

void gw_preload_route(struct gw_exchange *exchange)
{
    struct sl_uuid session = {{0}};
    bool has_session = false;

    if (exchange->req->entity.len > 0) {
        json_t *body = gw_json_body_read(exchange);
        if (body == NULL) {
            return;
        }
        const json_t *id = json_object_get(body, "session_id");
        has_session = id != NULL && !json_is_null(id);
        if (has_session &&
            (!json_is_string(id) ||
             sl_uuid_parse(json_string_value(id), json_string_length(id), &session) != 0)) {
            json_decref(body);
            gw_reply_problem(exchange, SL_E_INVALID_VALUE, "session_id must be a UUID.",
                             "session_id");
            return;
        }
        json_decref(body);
    }
    struct gw_store_request *request = gw_store_request_create(exchange, answer_empty);
    gw_store_request_preloading(request, has_session ? &session : NULL);
}

static void answer_empty(struct gw_store_request *request, int status)
{
    (void)status;
    gw_reply_empty(request->exchange, 204);
}
