/**
 * The body of the streaming route, read and checked (wire.md section 1).
 *
 * Pure: bytes in, struct out. Thread: any. Ownership: the struct owns its strings.
 */
#pragma once

#include <stdbool.h>

#include "sluice/error.h"
#include "sluice/uuid.h"
#include "trace_context.h"

struct gw_config;

enum gw_on_disconnect { GW_DISCONNECT_CANCEL, GW_DISCONNECT_CONTINUE };

enum { GW_PARAM_SIZE = 64, GW_DETAIL_SIZE = 200, GW_CLIENT_MESSAGE_ID_MAX = 64 };

/** What was wrong with a request, for the error body. No bytes of the request but key names. */
struct gw_request_error {
    char param[GW_PARAM_SIZE]; /* the key, or "" */
    char detail[GW_DETAIL_SIZE];
};

struct gw_chat_request {
    char *message; /* trimmed; valid UTF-8 without NUL */
    size_t message_len;
    bool has_session;
    struct sl_uuid session;
    bool use_rag;
    char *model; /* one of the configured ones; never NULL */
    bool has_temperature, has_max_tokens;
    double temperature;  /* clamped */
    unsigned max_tokens; /* clamped */
    enum gw_on_disconnect on_disconnect;
    char client_message_id[GW_CLIENT_MESSAGE_ID_MAX + 1]; /* "" when absent */
    bool stream;
    struct gw_trace_context trace; /* of the headers; not set when there was none */
    char *trace_state;             /* what goes with it, NULL: nothing */
    bool debug_timings;            /* not from the body: the header X-Sluice-Debug asks for it */
};

/**
 * Parses a body. Unknown keys are ignored; duplicate keys are refused. 0, SL_E_INVALID_JSON or
 * SL_E_INVALID_VALUE with `ret_error` naming the key (also for bad UTF-8, NUL and lone surrogates in a
 * key's value). The caller calls gw_chat_request_dispose after a success.
 */
SL_MUST_CHECK int gw_chat_request_parse(const char *body, size_t len,
                                        const struct gw_config *config,
                                        struct gw_chat_request *ret_request,
                                        struct gw_request_error *ret_error);
void gw_chat_request_dispose(struct gw_chat_request *request);

/** Whether a text can be a client_message_id, from wherever it comes: 1 to 64 printable ASCII characters. */
bool gw_chat_request_key_is_valid(const char *key, size_t len);
