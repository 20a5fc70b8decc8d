/*
 * The body of the streaming route.
 *
 * Happy path: (1) jansson reads the text, (2) one function per key checks and takes its value,
 * (3) what is absent gets its default.
 *
 * Failure modes: a text that is not JSON, and a value of the wrong type or outside its limits, both
 * with the key at fault (request_fault.c). Unknown keys are ignored, but they too must be valid JSON.
 * JSON null is the same as absent.
 *
 * Thread: any. Ownership: the request owns its strings.
 */
#include "chat_request.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config.h"
#include "request_fault.h"

enum { UUID_HEX_LEN = 32 };

/* One parse under way. */
struct parse {
    const struct gw_config *config;
    json_t *root;
    struct gw_chat_request *request;
    struct gw_request_error *error;
};

static int take_values(struct parse *parse);
static int take_message(struct parse *parse);
static int take_session(struct parse *parse);
static int take_model(struct parse *parse);
static int take_numbers(struct parse *parse);
static int take_on_disconnect(struct parse *parse);
static int take_client_message_id(struct parse *parse);
static int take_bool(struct parse *parse, const char *key, bool *value);
static int take_string(struct parse *parse, const char *key, const char **ret_text,
                       size_t *ret_len);
static bool read_uuid(const char *text, size_t len, struct sl_uuid *ret_uuid);
static json_t *get(const struct parse *parse, const char *key);

int gw_chat_request_parse(const char *body, size_t len, const struct gw_config *config,
                          struct gw_chat_request *ret_request, struct gw_request_error *ret_error)
{
    struct gw_chat_request request = {.on_disconnect = GW_DISCONNECT_CANCEL, .stream = true};
    struct parse parse = {.config = config, .request = &request, .error = ret_error};
    json_error_t refusal = {.position = 0};

    memset(ret_error, 0, sizeof(*ret_error));
    /* jansson 2.14 swallows a NUL byte behind a number; no valid text holds one */
    if (len > 0 && memchr(body, '\0', len) == NULL) {
        /* integers as doubles: one beyond 64 bits is a large number here, not an error */
        parse.root = json_loadb(body, len,
                                JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL |
                                    JSON_DECODE_ANY,
                                &refusal);
    }
    if (parse.root == NULL) {
        return gw_request_fault_explain(body, len, &refusal, ret_error);
    }
    int err = json_is_object(parse.root)
                  ? take_values(&parse)
                  : gw_request_fault_refuse(ret_error, "", "must be a JSON object");
    json_decref(parse.root);
    if (err != 0) {
        gw_chat_request_dispose(&request);
        return err;
    }
    *ret_request = request;
    return 0;
}

/* ---- the values ---- */

static int take_values(struct parse *parse)
{
    struct gw_chat_request *request = parse->request;
    int err = take_message(parse);

    err = err == 0 ? take_session(parse) : err;
    err = err == 0 ? take_model(parse) : err;
    err = err == 0 ? take_numbers(parse) : err;
    err = err == 0 ? take_bool(parse, "use_rag", &request->use_rag) : err;
    err = err == 0 ? take_bool(parse, "stream", &request->stream) : err;
    err = err == 0 ? take_on_disconnect(parse) : err;
    return err == 0 ? take_client_message_id(parse) : err;
}

static int take_message(struct parse *parse)
{
    static const char spaces[] = " \t\n\v\f\r";
    const char *text = NULL;
    size_t len = 0;

    int err = take_string(parse, "message", &text, &len);
    if (err != 0) {
        return err;
    }
    if (text == NULL) {
        return gw_request_fault_refuse(parse->error, "message", "is required");
    }
    while (len > 0 && strchr(spaces, text[0]) != NULL) {
        text++;
        len--;
    }
    while (len > 0 && strchr(spaces, text[len - 1]) != NULL) {
        len--;
    }
    if (len == 0) {
        return gw_request_fault_refuse(parse->error, "message", "is empty");
    }
    if (len > parse->config->chat.message_max_bytes) {
        return gw_request_fault_refuse(parse->error, "message", "is too long");
    }
    parse->request->message = strndup(text, len);
    parse->request->message_len = len;
    return parse->request->message != NULL ? 0 : SL_E_NO_MEMORY;
}

static int take_session(struct parse *parse)
{
    const char *text = NULL;
    size_t len = 0;

    int err = take_string(parse, "session_id", &text, &len);
    if (err != 0 || text == NULL) {
        return err;
    }
    if (!read_uuid(text, len, &parse->request->session)) {
        return gw_request_fault_refuse(parse->error, "session_id", "is not a UUID");
    }
    parse->request->has_session = true;
    return 0;
}

/* The forms that UUID libraries write: plain, in braces, as a URN (RFC 9562 section 4), without hyphens. */
static bool read_uuid(const char *text, size_t len, struct sl_uuid *ret_uuid)
{
    char plain[SL_UUID_TEXT_LEN];
    size_t at = 0;

    if (len == SL_UUID_TEXT_LEN + 9 && strncasecmp(text, "urn:uuid:", 9) == 0) {
        return sl_uuid_parse(text + 9, len - 9, ret_uuid) == 0;
    }
    if (len == SL_UUID_TEXT_LEN + 2 && text[0] == '{' && text[len - 1] == '}') {
        return sl_uuid_parse(text + 1, len - 2, ret_uuid) == 0;
    }
    if (len != UUID_HEX_LEN) {
        return sl_uuid_parse(text, len, ret_uuid) == 0;
    }
    for (size_t i = 0; i < UUID_HEX_LEN; i++) {
        if (i == 8 || i == 12 || i == 16 || i == 20) {
            plain[at++] = '-';
        }
        plain[at++] = text[i];
    }
    return sl_uuid_parse(plain, sizeof(plain), ret_uuid) == 0;
}

static int take_model(struct parse *parse)
{
    const struct gw_config *config = parse->config;
    const char *text = NULL;
    size_t len = 0;

    int err = take_string(parse, "model", &text, &len);
    if (err != 0) {
        return err;
    }
    const char *model = text != NULL ? text : config->upstream.model;
    bool served = false;
    for (unsigned i = 0; i < config->upstreams_count && !served; i++) {
        served = gw_config_upstream_model(&config->upstreams[i], config, model) != NULL;
    }
    if (!served) {
        return gw_request_fault_refuse(parse->error, "model", "is not an available model");
    }
    parse->request->model = strdup(model);
    return parse->request->model != NULL ? 0 : SL_E_NO_MEMORY;
}

static int take_numbers(struct parse *parse)
{
    struct gw_chat_request *request = parse->request;
    const json_t *value = get(parse, "temperature");

    if (value != NULL) {
        if (!json_is_number(value)) {
            return gw_request_fault_refuse(parse->error, "temperature", "must be a number");
        }
        request->temperature =
            fmin(fmax(json_number_value(value), 0), parse->config->upstream.temperature_max);
        request->has_temperature = true;
    }
    value = get(parse, "max_tokens");
    if (value != NULL) {
        double number = json_number_value(value);
        if (!json_is_number(value) || number != floor(number)) {
            return gw_request_fault_refuse(parse->error, "max_tokens", "must be an integer");
        }
        number = fmin(fmax(number, 1), parse->config->upstream.max_tokens_max);
        request->max_tokens = (unsigned)number;
        request->has_max_tokens = true;
    }
    return 0;
}

static int take_bool(struct parse *parse, const char *key, bool *value)
{
    const json_t *given = get(parse, key);

    if (given == NULL) {
        return 0;
    }
    if (!json_is_boolean(given)) {
        return gw_request_fault_refuse(parse->error, key, "must be true or false");
    }
    *value = json_is_true(given);
    return 0;
}

static int take_on_disconnect(struct parse *parse)
{
    const char *text = NULL;
    size_t len = 0;

    int err = take_string(parse, "on_disconnect", &text, &len);
    if (err != 0 || text == NULL) {
        return err;
    }
    if (strcmp(text, "continue") == 0) {
        parse->request->on_disconnect = GW_DISCONNECT_CONTINUE;
    } else if (strcmp(text, "cancel") != 0) {
        return gw_request_fault_refuse(parse->error, "on_disconnect",
                                       "must be \"cancel\" or \"continue\"");
    }
    return 0;
}

static int take_client_message_id(struct parse *parse)
{
    const char *text = NULL;
    size_t len = 0;

    int err = take_string(parse, "client_message_id", &text, &len);
    if (err != 0 || text == NULL) {
        return err;
    }
    if (!gw_chat_request_key_is_valid(text, len)) {
        return gw_request_fault_refuse(parse->error, "client_message_id",
                                       "must be 1 to 64 printable ASCII characters");
    }
    memcpy(parse->request->client_message_id, text, len + 1);
    return 0;
}

bool gw_chat_request_key_is_valid(const char *key, size_t len)
{
    bool is_printable = true;

    for (size_t i = 0; i < len; i++) {
        is_printable = is_printable && key[i] >= ' ' && key[i] <= '~';
    }
    return len > 0 && len <= GW_CLIENT_MESSAGE_ID_MAX && is_printable;
}

/* NULL when the key is absent or null; what comes back holds no NUL but the one at its end. */
static int take_string(struct parse *parse, const char *key, const char **ret_text, size_t *ret_len)
{
    const json_t *value = get(parse, key);

    if (value == NULL) {
        return 0;
    }
    if (!json_is_string(value)) {
        return gw_request_fault_refuse(parse->error, key, "must be a string");
    }
    const char *text = json_string_value(value);
    size_t len = json_string_length(value);
    if (memchr(text, '\0', len) != NULL) {
        return gw_request_fault_refuse(parse->error, key, "contains a NUL character");
    }
    *ret_text = text;
    *ret_len = len;
    return 0;
}

static json_t *get(const struct parse *parse, const char *key)
{
    json_t *value = json_object_get(parse->root, key);

    return json_is_null(value) ? NULL : value;
}

void gw_chat_request_dispose(struct gw_chat_request *request)
{
    free(request->message);
    free(request->model);
    free(request->trace_state);
    request->message = NULL;
    request->model = NULL;
    request->trace_state = NULL;
}
