/* A request body that must be a JSON object. Thread: the exchange's worker. */
#include "json_body.h"

#include <string.h>

#include "chat_request.h"
#include "reply.h"
#include "request_fault.h"

json_t *gw_json_body_read(struct gw_exchange *exchange)
{
    h2o_iovec_t entity = exchange->req->entity;
    const char *body = entity.len > 0 ? entity.base : "";
    struct gw_request_error error = {.param = ""};
    json_error_t refusal;

    if (!gw_exchange_is_json(exchange)) {
        gw_reply_problem(exchange, SL_E_UNSUPPORTED_MEDIA_TYPE, NULL, NULL);
        return NULL;
    }
    if (memchr(body, '\0', entity.len) != NULL) { /* jansson 2.14 swallows one behind a number */
        gw_reply_problem(exchange, SL_E_INVALID_JSON, "The body contains a NUL byte.", NULL);
        return NULL;
    }
    json_t *root = json_loadb(body, entity.len, JSON_REJECT_DUPLICATES, &refusal);
    if (root == NULL) {
        int err = gw_request_fault_explain(body, entity.len, &refusal, &error);
        gw_reply_problem(exchange, err, error.detail, error.param);
        return NULL;
    }
    if (!json_is_object(root)) {
        json_decref(root);
        gw_reply_problem(exchange, SL_E_INVALID_JSON, "The body must be a JSON object.", NULL);
        return NULL;
    }
    return root;
}
