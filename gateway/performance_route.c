/*
 * For operators: GET /api/v1/performance, what the performance page shows (docs/API.md section 6).
 *
 * `?since=N` leaves out what the page has already. Thread: the request's worker.
 */
#include "performance.h"

#include "reply.h"
#include "routes.h"

static bool read_number(h2o_iovec_t text, uint64_t *ret_number);

void gw_performance_route(struct gw_exchange *exchange)
{
    h2o_iovec_t query = gw_exchange_query(exchange, "since");
    uint64_t since = 0;
    struct sl_buffer page;

    if (query.base != NULL && !read_number(query, &since)) {
        gw_reply_problem(exchange, SL_E_INVALID_VALUE, "since is not a sequence number.", "since");
        return;
    }
    sl_buffer_init(&page, GW_PERFORMANCE_PAGE_MAX_BYTES);
    int err = gw_performance_write(exchange->worker->server->performance, since, &page);
    if (err == 0) {
        exchange->req->compress_hint =
            H2O_COMPRESS_HINT_DISABLE; /* 15 minutes: 10 ms of the loop */
        gw_reply_json(exchange, 200, page.base, page.len);
    } else {
        gw_reply_problem(exchange, err, NULL, NULL);
    }
    sl_buffer_dispose(&page);
}

/* Digits alone; 18 of them fit. */
static bool read_number(h2o_iovec_t text, uint64_t *ret_number)
{
    uint64_t number = 0;

    if (text.len == 0 || text.len > 18) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.base[i] < '0' || text.base[i] > '9') {
            return false;
        }
        number = 10 * number + (uint64_t)(text.base[i] - '0');
    }
    *ret_number = number;
    return true;
}
