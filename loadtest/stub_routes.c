/*
 * Routes: model calls, and the doors through which tests look in.
 *
 * Happy path of a chat: remember it for /last -> read the JSON -> presets + directive -> decide
 * whether its faults strike this time -> start the player.
 * Failure: 400 with a text that names the reason, 404, 405.
 * Thread: the loop's. Ownership: see stub_routes.h.
 */
#include "stub_routes.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct exchange {
    struct stub_server *server;
    const struct stub_request *request;
    struct lt_buffer *out;
    struct stub_player *player;
    uint64_t now_us;
};

static void reply_json(struct exchange *x, int status, const struct lt_buffer *body)
{
    stub_http_respond(x->out, status, "application/json", "", body->base, body->len,
                      x->request->keep_alive);
}

static void refuse(struct exchange *x, const struct stub_dialect *dialect, int status,
                   const char *message)
{
    struct lt_buffer body = {0};
    dialect->refusal(status, message, &body);
    reply_json(x, status, &body);
    lt_buffer_free(&body);
}

/** Counts this directive's requests; false once they are over `times`. */
static bool strikes_again(struct stub_server *server, const struct stub_script *script)
{
    struct stub_strike *strike = NULL;
    for (size_t i = 0; i < STUB_STRIKES_MAX && strike == NULL; i++) {
        if (i < server->strikes_used &&
            server->strikes[i].directive_hash == script->directive_hash) {
            strike = &server->strikes[i];
        }
    }
    if (strike == NULL) {
        strike = &server->strikes[server->strikes_used++ % STUB_STRIKES_MAX];
        *strike = (struct stub_strike){.directive_hash = script->directive_hash};
    }
    return strike->count++ < script->times;
}

static void remember(struct exchange *x)
{
    struct stub_server *server = x->server;
    server->counters.requests++;
    server->counters.requests_with_key += x->request->has_key;
    server->counters.last_request_bytes = x->request->body_len;
    server->last_head.len = server->last_body.len = 0;
    lt_buffer_append(&server->last_head, x->request->head, x->request->head_len);
    lt_buffer_append(&server->last_body, x->request->body, x->request->body_len);
}

static bool answer_chat(struct exchange *x, const struct stub_dialect *dialect)
{
    struct stub_server *server = x->server;
    struct stub_chat chat = {0};
    struct stub_script script = server->presets;
    char script_error[STUB_SCRIPT_ERROR_MAX];
    remember(x);
    const char *objection = "the body is not a chat request in JSON";
    if (stub_chat_parse(x->request->body, x->request->body_len, &chat) == 0) {
        objection = dialect->objection != NULL ? dialect->objection(x->request, &chat) : NULL;
        if (objection == NULL && stub_script_parse(&script, chat.user_text.base, chat.user_text.len,
                                                   script_error) != 0) {
            objection = script_error;
        }
    }
    if (objection != NULL) {
        server->counters.refused++;
        refuse(x, dialect, 400, objection);
    } else {
        bool elsewhere = script.at_port >= 0 && script.at_port != server->port;
        if (elsewhere || (script.times >= 0 && !strikes_again(server, &script))) {
            stub_script_clear_faults(&script);
        }
        struct stub_player_ask ask = {
            .dialect = dialect,
            .script = &script,
            .chat = &chat,
            .number = ++server->numbered,
            .created_s = (int64_t)time(NULL),
            .request_bytes = x->request->body_len,
            .keep_alive = x->request->keep_alive,
            .http_1_0 = x->request->http_1_0,
        };
        stub_player_start(x->player, &ask, x->out, x->now_us);
    }
    stub_chat_finish(&chat);
    return objection == NULL;
}

static bool answer_openai_chat(struct exchange *x)
{
    return answer_chat(x, &stub_openai);
}

static bool answer_anthropic_chat(struct exchange *x)
{
    return answer_chat(x, &stub_anthropic);
}

static bool answer_models(struct exchange *x)
{
    struct lt_buffer body = {0};
    lt_buffer_append_str(&body,
                         "{\"object\":\"list\",\"data\":[{\"id\":\"stub\",\"object\":\"model\","
                         "\"created\":1700000000,\"owned_by\":\"llm_stub\"}]}");
    reply_json(x, 200, &body);
    lt_buffer_free(&body);
    return false;
}

static bool answer_stats(struct exchange *x)
{
    const struct stub_server *server = x->server;
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"requests", server->counters.requests},
        {"requests_with_key", server->counters.requests_with_key},
        {"active_streams", server->active_streams},
        {"max_active_streams", server->counters.max_active_streams},
        {"completed", server->counters.completed},
        {"refused", server->counters.refused},
        {"cut", server->counters.cut},
        {"aborted_by_client", server->counters.aborted_by_client},
        {"accepted_connections", server->counters.accepted_connections},
        {"open_connections", server->open_connections},
        {"last_request_bytes", server->counters.last_request_bytes},
        {"tokens_sent", server->counters.tokens_sent},
        {"bytes_sent", server->counters.bytes_sent},
    };
    struct lt_buffer body = {0};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        lt_buffer_appendf(&body, "%s\"%s\":%" PRIu64, i == 0 ? "{" : ",", rows[i].name,
                          rows[i].value);
    }
    lt_buffer_append_str(&body, "}\n");
    reply_json(x, 200, &body);
    lt_buffer_free(&body);
    return false;
}

static bool answer_last(struct exchange *x)
{
    if (x->server->counters.requests == 0) {
        refuse(x, &stub_openai, 404, "no chat request yet");
        return false;
    }
    reply_json(x, 200, &x->server->last_body);
    return false;
}

static bool answer_last_head(struct exchange *x)
{
    const struct lt_buffer *head = &x->server->last_head;
    stub_http_respond(x->out, 200, "text/plain", "", head->base, head->len, x->request->keep_alive);
    return false;
}

static bool answer_reset(struct exchange *x)
{
    struct stub_server *server = x->server;
    server->counters = (struct stub_counters){.max_active_streams = server->active_streams};
    server->strikes_used = 0;
    server->last_head.len = server->last_body.len = 0;
    return answer_stats(x);
}

static const struct {
    const char *method;
    const char *path;
    bool (*answer)(struct exchange *x);
} routes[] = {
    {"POST", "/v1/chat/completions", answer_openai_chat},
    {"POST", "/v1/messages", answer_anthropic_chat},
    {"GET", "/v1/models", answer_models},
    {"GET", "/stats", answer_stats},
    {"GET", "/last", answer_last},
    {"GET", "/last/head", answer_last_head},
    {"POST", "/reset", answer_reset},
};

bool stub_routes_answer(struct stub_server *server, const struct stub_request *request,
                        struct lt_buffer *out, struct stub_player *player, uint64_t now_us)
{
    struct exchange x = {
        .server = server,
        .request = request,
        .out = out,
        .player = player,
        .now_us = now_us,
    };
    bool known_path = false;
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        if (strcmp(routes[i].path, request->path) == 0) {
            known_path = true;
            if (strcmp(routes[i].method, request->method) == 0) {
                return routes[i].answer(&x);
            }
        }
    }
    refuse(&x, &stub_openai, known_path ? 405 : 404, "the stub has no such route");
    return false;
}
