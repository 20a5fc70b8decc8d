/*
 * An HTTP request that needs a turn which may live elsewhere.
 *
 *   ask -----> CLAIM --new--> the turn is born here, shown, over
 *                | taken                    ^
 *                v                          | its key is free again (three rounds at most)
 *   follow --> FIND --here or relayed--> shown, over
 *                |  not in memory
 *                v
 *              LOOK UP --the database knows it--> 410, else 404
 *
 * A stop goes the same way; where a turn would be shown, it is stopped and the answer is 202.
 *
 * Failure modes: the client leaves meanwhile: what is under way is called off, a key that was claimed for
 * it is released, and the request frees itself when everything is back. Thread: the worker of its exchange.
 */
#include "turn_request.h"

#include <stdlib.h>
#include <string.h>

#include "chat_route.h"
#include "relay.h"
#include "reply.h"
#include "sluice/hash.h"
#include "turn.h"

enum { ROUNDS_MAX = 3 };

struct turn_request {
    struct gw_exchange *exchange; /* NULL: the client has left */
    struct gw_worker *worker;
    struct gw_user user; /* a copy: the exchange may go first */
    enum gw_relay_wish wish;
    struct sl_uuid turn_id;
    struct gw_turn_view view;
    struct gw_chat_request question; /* message NULL: nothing is asked */
    unsigned rounds;
    struct gw_claim claim;
    struct gw_relay relay;
    struct store_read lookup;
};

static struct turn_request *create(struct gw_exchange *exchange);
static void claim(struct turn_request *request);
static void on_claimed(struct sl_op *op, int status);
static uint64_t hash_of(const struct gw_chat_request *question);
static void find(struct turn_request *request);
static void on_relayed(struct sl_op *op, int status);
static void fulfil(struct turn_request *request, struct gw_turn *turn);
static void confirm_stop(struct turn_request *request);
static void show(struct turn_request *request, struct gw_feed *feed);
static void miss(struct turn_request *request);
static void on_looked_up(struct sl_op *op, int status);
static void on_gone(struct gw_exchange *exchange);
static struct gw_exchange *let_go(struct turn_request *request);
static void fail(struct turn_request *request, int err, const char *detail, const char *param);

void gw_turn_request_follow(struct gw_exchange *exchange, const struct sl_uuid *turn_id,
                            const struct gw_turn_view *view)
{
    struct turn_request *request = create(exchange);

    request->wish = GW_RELAY_FOLLOW;
    request->turn_id = *turn_id;
    request->view = *view;
    find(request);
}

void gw_turn_request_stop(struct gw_exchange *exchange, const struct sl_uuid *turn_id)
{
    struct turn_request *request = create(exchange);

    request->wish = GW_RELAY_STOP;
    request->turn_id = *turn_id;
    find(request);
}

void gw_turn_request_ask(struct gw_exchange *exchange, struct gw_chat_request *question)
{
    struct turn_request *request = create(exchange);

    request->wish = GW_RELAY_FOLLOW;
    request->question = *question;
    request->view.stream = question->stream;
    memset(question, 0, sizeof(*question));
    claim(request);
}

/* Aborts when memory is gone, as h2o does for its own. */
static struct turn_request *create(struct gw_exchange *exchange)
{
    struct turn_request *request = h2o_mem_alloc(sizeof(*request));

    memset(request, 0, sizeof(*request));
    request->exchange = exchange;
    request->worker = exchange->worker;
    request->user = exchange->user;
    request->claim.op.done = on_claimed;
    request->relay.op.done = on_relayed;
    request->lookup.op.done = on_looked_up;
    exchange->on_gone = on_gone;
    exchange->waiter = request;
    return request;
}

/* ---------------------------------------------------------------- CLAIM */

static void claim(struct turn_request *request)
{
    request->rounds++;
    request->claim.turns = &request->worker->turns;
    request->claim.user = &request->user;
    request->claim.key = request->question.client_message_id;
    request->claim.content_hash = hash_of(&request->question);
    request->claim.turn_id = gw_turns_new_id(&request->worker->turns);
    gw_claim_start(&request->claim);
}

static void on_claimed(struct sl_op *op, int status)
{
    struct turn_request *request = SL_CONTAINER_OF(op, struct turn_request, claim.op);

    request->turn_id = request->claim.turn_id;
    if (status != 0) {
        fail(request, status, "This key was used with another message.", "client_message_id");
    } else if (!request->claim.is_new) {
        find(request);
    } else if (request->exchange == NULL) {
        gw_claims_release(&request->worker->turns, &request->user,
                          request->question.client_message_id, &request->turn_id);
        (void)let_go(request);
    } else {
        struct gw_chat_request question = request->question;
        struct gw_turns *turns = &request->worker->turns;
        struct gw_user user = request->user;
        struct sl_uuid turn_id = request->turn_id;
        char key[GW_CLIENT_MESSAGE_ID_MAX + 1];
        memcpy(key, question.client_message_id, sizeof(key));
        memset(&request->question, 0, sizeof(request->question)); /* it moves on */
        if (!gw_chat_begin(let_go(request), &turn_id, &question)) {
            gw_claims_release(turns, &user, key, &turn_id);
        }
    }
}

/* Over everything that makes a question another one. How it is to be shown is not part of it. */
static uint64_t hash_of(const struct gw_chat_request *question)
{
    struct {
        struct sl_uuid session;
        double temperature;
        unsigned max_tokens;
        bool use_rag;
    } rest;
    uint64_t hash = SL_HASH_START;

    memset(&rest, 0, sizeof(rest)); /* padding, too */
    rest.session = question->has_session ? question->session : (struct sl_uuid){{0}};
    rest.temperature = question->has_temperature ? question->temperature : -1;
    rest.max_tokens = question->has_max_tokens ? question->max_tokens : 0;
    rest.use_rag = question->use_rag;
    struct {
        const void *base;
        size_t len;
    } const parts[] = {
        {&rest, sizeof(rest)},
        {question->model, strlen(question->model) + 1},
        {question->message, question->message_len},
    };
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        hash = sl_hash_add(hash, parts[i].base, parts[i].len);
    }
    return sl_hash_mix(hash);
}

/* ---------------------------------------------------------------- FIND */

static void find(struct turn_request *request)
{
    struct gw_turns *turns = &request->worker->turns;
    struct gw_turns *home = gw_turns_of(turns, &request->turn_id);

    if (request->exchange == NULL) {
        (void)let_go(request);
    } else if (request->worker->reported_drained) {
        fail(request, SL_E_SHUTTING_DOWN, NULL, NULL); /* the loops are about to stop */
    } else if (home == turns) {
        fulfil(request,
               gw_turns_find(turns, &request->turn_id, request->user.id, request->user.id_len));
    } else if (home == NULL) {
        miss(request);
    } else {
        request->relay.wish = request->wish;
        request->relay.turns = turns;
        request->relay.turn_id = request->turn_id;
        request->relay.user = &request->user;
        gw_relay_start(&request->relay);
    }
}

static void fulfil(struct turn_request *request, struct gw_turn *turn)
{
    if (turn == NULL) {
        miss(request);
    } else if (request->wish == GW_RELAY_STOP) {
        gw_turn_stop(turn);
        confirm_stop(request);
    } else {
        show(request, gw_turn_feed(turn));
    }
}

static void confirm_stop(struct turn_request *request)
{
    sl_counter_add(&request->worker->stats.stopped, 1);
    gw_reply_json(let_go(request), 202, "{}\n", 3);
}

static void show(struct turn_request *request, struct gw_feed *feed)
{
    struct gw_turn_view view = request->view;
    bool is_repeat = request->question.message != NULL;

    sl_counter_add(is_repeat ? &request->worker->stats.repeated : &request->worker->stats.resumed,
                   1);
    gw_chat_show(let_go(request), feed, &view, false);
}

static void on_relayed(struct sl_op *op, int status)
{
    struct turn_request *request = SL_CONTAINER_OF(op, struct turn_request, relay.op);

    if (request->exchange == NULL) {
        (void)let_go(request);
    } else if (status == SL_E_NOT_FOUND) {
        miss(request);
    } else if (request->wish == GW_RELAY_STOP) {
        confirm_stop(request);
    } else {
        show(request, request->relay.feed);
    }
}

/* ---------------------------------------------------------------- LOOK UP */

static void miss(struct turn_request *request)
{
    if (request->question.message != NULL) {
        /* it was freed between the claim and the search, and its key with it */
        if (request->rounds < ROUNDS_MAX) {
            claim(request);
        } else {
            fail(request, SL_E_OVERLOADED, NULL, NULL);
        }
        return;
    }
    request->lookup.kind = STORE_READ_TURN;
    request->lookup.user = request->user.id;
    request->lookup.user_len = request->user.id_len;
    request->lookup.turn = request->turn_id;
    int err = store_read_start(request->worker->store, &request->lookup);
    if (err != 0) {
        fail(request, err, NULL, NULL);
    }
}

static void on_looked_up(struct sl_op *op, int status)
{
    struct turn_request *request = SL_CONTAINER_OF(op, struct turn_request, lookup.op);

    if (status == 0 && request->lookup.found) {
        fail(request, SL_E_GONE,
             "The turn is over and its stream has gone; its messages are stored.", NULL);
    } else {
        fail(request, status != 0 ? status : SL_E_NOT_FOUND, NULL, NULL);
    }
}

/* ---------------------------------------------------------------- the end */

static void on_gone(struct gw_exchange *exchange)
{
    struct turn_request *request = exchange->waiter;

    request->exchange = NULL;
    gw_claim_cancel(&request->claim);
    gw_relay_cancel(&request->relay);
    store_read_cancel(&request->lookup);
}

/* Frees the request and hands its exchange, if that is still there, to whoever answers it. */
static struct gw_exchange *let_go(struct turn_request *request)
{
    struct gw_exchange *exchange = request->exchange;

    if (exchange != NULL) {
        exchange->on_gone = NULL;
        exchange->waiter = NULL;
    }
    store_read_dispose(&request->lookup);
    gw_chat_request_dispose(&request->question);
    free(request);
    return exchange;
}

static void fail(struct turn_request *request, int err, const char *detail, const char *param)
{
    struct gw_exchange *exchange = let_go(request);

    if (exchange != NULL) {
        gw_reply_problem(exchange, err, detail, param);
    }
}
