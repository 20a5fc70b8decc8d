/* An HTTP request that waits for the store. Thread and ownership: see the header. */
#include "store_request.h"

#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "reply.h"
#include "sluice/op.h"

static void on_read(struct sl_op *op, int status);
static void on_saved(struct sl_op *op, int status);
static void on_preloaded(struct sl_op *op, int status);
static void on_deadline(struct sl_timer *timer);
static void on_gone(struct gw_exchange *exchange);
static void finish(struct gw_store_request *request, int status);

struct gw_store_request *gw_store_request_create(struct gw_exchange *exchange,
                                                 void (*answer)(struct gw_store_request *, int))
{
    struct gw_store_request *request = h2o_mem_alloc(sizeof(*request));

    memset(request, 0, sizeof(*request));
    request->exchange = exchange;
    request->worker = exchange->worker;
    request->user = exchange->user;
    request->answer = answer;
    request->read.op.done = on_read;
    request->read.user = request->user.id;
    request->read.user_len = request->user.id_len;
    request->save.op.done = on_saved;
    request->preload.op.done = on_preloaded;
    request->deadline.expired = on_deadline;
    exchange->on_gone = on_gone;
    exchange->waiter = request;
    return request;
}

void gw_store_request_reading(struct gw_store_request *request)
{
    int err = store_read_start(request->worker->store, &request->read);

    if (err != 0) {
        finish(request, err);
    }
}

void gw_store_request_saving(struct gw_store_request *request, int start_status)
{
    if (start_status != 0) {
        finish(request, start_status);
        return;
    }
    sl_loop_arm(request->worker->loop, &request->deadline,
                1000UL * request->worker->config->database.save_timeout_ms);
}

void gw_store_request_preloading(struct gw_store_request *request, const struct sl_uuid *session)
{
    int err = store_preload_start(request->worker->store, &request->preload, request->user.id,
                                  request->user.id_len, session);

    if (err != 0) {
        finish(request, err);
    }
}

static void on_read(struct sl_op *op, int status)
{
    finish(SL_CONTAINER_OF(op, struct gw_store_request, read.op), status);
}

static void on_saved(struct sl_op *op, int status)
{
    /* not written in time: it stays queued, but this client is told that it cannot be relied on */
    finish(SL_CONTAINER_OF(op, struct gw_store_request, save.op),
           status == SL_E_CANCELLED ? SL_E_STORAGE_UNAVAILABLE : status);
}

static void on_preloaded(struct sl_op *op, int status)
{
    finish(SL_CONTAINER_OF(op, struct gw_store_request, preload.op), status);
}

static void on_deadline(struct sl_timer *timer)
{
    store_save_cancel(&SL_CONTAINER_OF(timer, struct gw_store_request, deadline)->save);
}

static void on_gone(struct gw_exchange *exchange)
{
    struct gw_store_request *request = exchange->waiter;

    request->exchange = NULL;
    store_read_cancel(&request->read);
    store_save_cancel(&request->save);
}

static void finish(struct gw_store_request *request, int status)
{
    sl_loop_disarm(request->worker->loop, &request->deadline);
    if (request->exchange != NULL) {
        request->exchange->on_gone = NULL;
        if (status == 0) {
            request->answer(request, status);
        } else {
            gw_reply_problem(request->exchange, status, NULL, NULL);
        }
    }
    store_read_dispose(&request->read);
    free(request);
}
