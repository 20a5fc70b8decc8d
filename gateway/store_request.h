/**
 * An HTTP request that waits for one operation of the store, and survives its client.
 *
 * The store's operation outlives the exchange when the client leaves: the request forgets the exchange,
 * asks the operation to stop, and frees itself when the operation has come back (op.h, rule 4).
 * Thread: the exchange's worker. Ownership: itself.
 */
#pragma once

#include "exchange.h"
#include "sluice/store.h"

struct gw_store_request {
    struct gw_exchange *exchange; /* NULL: the client has left */
    struct gw_worker *worker;
    struct gw_user user; /* a copy: the exchange may go first */
    struct store_read read;
    struct store_save save;
    struct store_preload preload;
    struct sl_timer deadline; /* of a save */
    struct store_text fields;
    /** Answers the exchange with the operation's result; never called once the client has left. */
    void (*answer)(struct gw_store_request *request, int status);
};

/** Makes a request around an exchange. Aborts when memory is gone, as h2o does for its own. */
struct gw_store_request *gw_store_request_create(struct gw_exchange *exchange,
                                                 void (*answer)(struct gw_store_request *, int));

/**
 * Starts what has been filled in, waits and answers. `start_status` is what the store's start function
 * returned, given through here so that its failure is answered by the same door.
 */
void gw_store_request_reading(struct gw_store_request *request);
void gw_store_request_saving(struct gw_store_request *request, int start_status);
void gw_store_request_preloading(struct gw_store_request *request, const struct sl_uuid *session);
