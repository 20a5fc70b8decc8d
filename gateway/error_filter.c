/*
 * A response filter that replaces the body of the errors that h2o makes by itself.
 *
 * h2o marks them with `text/plain; charset=utf-8` and a status from 400 on; no reply of ours looks like
 * that. The head is written with the first send, so headers may still be changed here; the ostream then
 * swaps the body. Errors before a request is parsed at all (a header block that is too large, a broken
 * request line) never become a request and stay h2o's plain 400. Thread: the worker's.
 */
#include "error_filter.h"

#include "reply.h"

struct body_swap {
    h2o_ostream_t super;
    h2o_iovec_t body;
};

static void on_setup(h2o_filter_t *filter, h2o_req_t *req, h2o_ostream_t **slot);
static bool is_h2o_error(const h2o_req_t *req, ssize_t content_type);
static void send_swapped(h2o_ostream_t *ostream, h2o_req_t *req, h2o_iovec_t *bufs, size_t count,
                         h2o_send_state_t state);

void gw_error_filter_register(h2o_pathconf_t *pathconf)
{
    h2o_filter_t *filter = h2o_create_filter(pathconf, sizeof(*filter));

    filter->on_setup_ostream = on_setup;
}

static void on_setup(h2o_filter_t *filter, h2o_req_t *req, h2o_ostream_t **slot)
{
    ssize_t type = h2o_find_header(&req->res.headers, H2O_TOKEN_CONTENT_TYPE, -1);
    struct sl_buffer body;
    struct sl_uuid id = sl_uuid_v7();
    char request_id[SL_UUID_TEXT_SIZE];

    (void)filter;
    if (!is_h2o_error(req, type)) {
        h2o_setup_next_ostream(req, slot);
        return;
    }
    int err = req->res.status == 413 ? SL_E_BODY_TOO_LARGE : SL_E_BAD_FRAMING;
    sl_uuid_format(&id, request_id);
    sl_buffer_init(&body, 4096);
    if (gw_reply_problem_body(err, NULL, NULL, request_id, &body) != 0) {
        h2o_fatal("the memory of an error body");
    }
    struct body_swap *swap = (struct body_swap *)(void *)h2o_add_ostream(req, sizeof(*swap), slot);
    swap->super.do_send = send_swapped;
    swap->body = h2o_strdup(&req->pool, body.base, body.len);
    sl_buffer_dispose(&body);
    req->res.headers.entries[type].value = h2o_iovec_init(H2O_STRLIT("application/problem+json"));
    req->res.content_length = swap->body.len;
    gw_reply_add_header(req, "x-request-id", request_id, SL_UUID_TEXT_LEN);
    gw_reply_add_cors(req);
    h2o_setup_next_ostream(req, &swap->super.next);
}

static bool is_h2o_error(const h2o_req_t *req, ssize_t content_type)
{
    return req->res.status >= 400 && content_type != -1 &&
           h2o_memis(req->res.headers.entries[content_type].value.base,
                     req->res.headers.entries[content_type].value.len,
                     H2O_STRLIT("text/plain; charset=utf-8"));
}

static void send_swapped(h2o_ostream_t *ostream, h2o_req_t *req, h2o_iovec_t *bufs, size_t count,
                         h2o_send_state_t state)
{
    struct body_swap *swap = (struct body_swap *)(void *)ostream;

    (void)bufs, (void)count;
    h2o_ostream_send_next(ostream, req, &swap->body, 1, state);
}
