/*
 * libFuzzer: whatever a client posts, an accepted request keeps its promises and a refused one says why.
 *
 * Input: a body. Needs chat_request.c, request_fault.c, json_scan.c, json_string.c, base/buffer.c,
 * base/text.c, base/uuid.c, config_models.c and jansson.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "chat_request.h"
#include "config.h"
#include "sluice/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void check_request(const struct gw_chat_request *request)
{
    static const char spaces[] = " \t\n\v\f\r";

    require(request->message_len >= 1 && request->message_len <= 64);
    require(strlen(request->message) == request->message_len);
    require(sl_utf8_valid(request->message, request->message_len));
    require(strchr(spaces, request->message[0]) == NULL);
    require(strchr(spaces, request->message[request->message_len - 1]) == NULL);
    require(strcmp(request->model, "default") == 0 || strcmp(request->model, "other") == 0);
    if (request->has_temperature) {
        require(request->temperature >= 0 && request->temperature <= 2);
    }
    if (request->has_max_tokens) {
        require(request->max_tokens >= 1 && request->max_tokens <= 100);
    }
    require(strlen(request->client_message_id) <= GW_CLIENT_MESSAGE_ID_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    static char *models[] = {"default", "other=there"};
    static struct gw_upstream_config upstream = {.models = models, .models_count = 2};
    static const struct gw_config config = {
        .upstreams = &upstream,
        .upstreams_count = 1,
        .upstream = {.model = "default", .temperature_max = 2, .max_tokens_max = 100},
        .chat = {.message_max_bytes = 64},
    };
    struct gw_chat_request request;
    struct gw_request_error error;

    json_object_seed(1); /* the same run twice is the same run */
    int err = gw_chat_request_parse((const char *)input, size, &config, &request, &error);
    if (err == 0) {
        check_request(&request);
        gw_chat_request_dispose(&request);
        return 0;
    }
    require(err == SL_E_INVALID_VALUE || err == SL_E_INVALID_JSON);
    require(memchr(error.param, '\0', sizeof(error.param)) != NULL);
    require(memchr(error.detail, '\0', sizeof(error.detail)) != NULL);
    require(sl_utf8_valid(error.param, strlen(error.param)));
    require(sl_utf8_valid(error.detail, strlen(error.detail)));
    /* the sentence for a refusal that nobody can explain is never needed */
    require(error.detail[0] != '\0' &&
            strcmp(error.detail, "The request body cannot be read.") != 0);
    return 0;
}
