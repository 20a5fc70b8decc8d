/*
 * The profile: a JSON object of the user's own, kept as the text that came in (wire.md section 3).
 *
 * A write is answered when Postgres has it and the caches have been dropped, so that a read that follows
 * sees it. Thread: the request's worker.
 */
#include <jansson.h>
#include <string.h>
#include <strings.h>

#include "json_body.h"
#include "reply.h"
#include "routes.h"
#include "store_request.h"

enum { PROFILE_MAX_BYTES = 16384 };

static void answer_profile(struct gw_store_request *request, int status);
static void answer_stored(struct gw_store_request *request, int status);

void gw_profile_get_route(struct gw_exchange *exchange)
{
    struct gw_store_request *request = gw_store_request_create(exchange, answer_profile);

    request->read.kind = STORE_READ_PROFILE;
    gw_store_request_reading(request);
}

static void answer_profile(struct gw_store_request *request, int status)
{
    (void)status;
    if (!request->read.found) {
        gw_reply_problem(request->exchange, SL_E_NOT_FOUND, "There is no profile yet.", NULL);
        return;
    }
    gw_reply_json(request->exchange, 200, request->read.text.base, request->read.text.len);
}

void gw_profile_put_route(struct gw_exchange *exchange)
{
    h2o_iovec_t body = exchange->req->entity;

    if (!gw_exchange_is_json(exchange)) {
        gw_reply_problem(exchange, SL_E_UNSUPPORTED_MEDIA_TYPE, NULL, NULL);
        return;
    }
    if (body.len > PROFILE_MAX_BYTES) {
        gw_reply_problem(exchange, SL_E_BODY_TOO_LARGE, "A profile has at most 16384 bytes.", NULL);
        return;
    }
    json_t *object = gw_json_body_read(exchange);
    if (object == NULL) {
        return;
    }
    json_decref(object); /* the text is kept as it came */
    struct gw_store_request *request = gw_store_request_create(exchange, answer_stored);
    gw_store_request_saving(request, store_save_profile(exchange->worker->store, &request->save,
                                                        request->user.id, request->user.id_len,
                                                        (struct store_text){body.base, body.len}));
}

static void answer_stored(struct gw_store_request *request, int status)
{
    (void)status;
    gw_reply_empty(request->exchange, 204);
}
