/*
 * What is written into Redis, and reading it back.
 *
 * Happy path: writing appends member by member; reading parses the whole value with Jansson, checks
 * version and user, then takes the members one by one, each with its type.
 *
 * Failure modes: whatever is not exactly as expected is SL_E_INVALID_VALUE, which the cache treats as
 * a miss. Jansson limits nesting itself (JSON_PARSER_MAX_DEPTH) and refuses ill-formed UTF-8 and
 * U+0000. Nothing is left in the buffers after a failure.
 *
 * Pure; any thread. Ownership: nothing is kept.
 */
#include "cache_value.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "sluice/text.h"

enum { VERSION = 1 };

static int append_head(struct sl_buffer *to, const char *user, size_t user_len);
static int append_uuid(struct sl_buffer *to, const char *before, const struct sl_uuid *uuid);
static json_t *open_value(struct store_text value, const char *user, size_t user_len);
static bool member_is(const json_t *root, const char *name, const char *text, size_t len);
static bool member_uuid(const json_t *root, const char *name, struct sl_uuid *ret_uuid);
static bool member_role(const json_t *root, enum store_role *ret_role);
static bool member_status(const json_t *root, enum store_status *ret_status);

/* ---- profile ---- */

int store_cache_value_write_profile(struct sl_buffer *to, const char *user, size_t user_len,
                                    bool found, struct store_text json)
{
    size_t start = to->len;
    int err = append_head(to, user, user_len);

    if (err == 0) {
        err = sl_buffer_append_str(to, ",\"p\":");
    }
    if (err == 0) {
        err = found ? sl_json_append_string(to, json.base, json.len)
                    : sl_buffer_append_str(to, "null");
    }
    if (err == 0) {
        err = sl_buffer_append(to, "}", 1);
    }
    if (err != 0) {
        to->len = start;
    }
    return err;
}

int store_cache_value_read_profile(struct store_text value, const char *user, size_t user_len,
                                   bool *ret_found, struct sl_buffer *ret_json)
{
    json_t *root = open_value(value, user, user_len);
    const json_t *profile = json_object_get(root, "p");
    int err = SL_E_INVALID_VALUE;

    if (json_is_null(profile)) {
        *ret_found = false;
        err = 0;
    } else if (json_is_string(profile)) {
        err = sl_buffer_append(ret_json, json_string_value(profile), json_string_length(profile));
        if (err == 0) {
            *ret_found = true;
        }
    }
    json_decref(root);
    return err;
}

/* ---- history ---- */

int store_cache_value_write_message(struct sl_buffer *to, const char *user, size_t user_len,
                                    const struct store_message *message)
{
    size_t start = to->len;

    if (message->content.base == NULL) {
        return SL_E_INVALID_VALUE;
    }
    int err = append_head(to, user, user_len);
    if (err == 0) {
        err = append_uuid(to, ",\"i\":\"", &message->id);
    }
    if (err == 0) {
        err = append_uuid(to, ",\"n\":\"", &message->turn_id);
    }
    if (err == 0) {
        err = sl_buffer_appendf(to, ",\"r\":\"%s\",\"s\":\"%s\",\"t\":%" PRId64 ",\"c\":",
                                store_role_name(message->role), store_status_name(message->status),
                                message->created_at_us);
    }
    if (err == 0) {
        err = sl_json_append_string(to, message->content.base, message->content.len);
    }
    if (err == 0) {
        err = sl_buffer_append(to, "}", 1);
    }
    if (err != 0) {
        to->len = start;
    }
    return err;
}

int store_cache_value_read_message(struct store_text value, const char *user, size_t user_len,
                                   struct store_message *ret_message, struct sl_buffer *ret_text)
{
    struct store_message message = {.prompt_tokens = -1, .completion_tokens = -1, .ttft_ms = -1};
    json_t *root = open_value(value, user, user_len);
    const json_t *created = json_object_get(root, "t");
    const json_t *content = json_object_get(root, "c");
    int err = SL_E_INVALID_VALUE;

    if (member_uuid(root, "i", &message.id) && member_uuid(root, "n", &message.turn_id) &&
        member_role(root, &message.role) && member_status(root, &message.status) &&
        json_is_integer(created) && json_is_string(content)) {
        message.created_at_us = json_integer_value(created);
        message.content.len = json_string_length(content);
        err = sl_buffer_append(ret_text, json_string_value(content), message.content.len);
    }
    json_decref(root);
    if (err == 0) {
        *ret_message = message;
    }
    return err;
}

/* ---- members: writing ---- */

static int append_head(struct sl_buffer *to, const char *user, size_t user_len)
{
    int err = sl_buffer_appendf(to, "{\"v\":%d,\"u\":", VERSION);

    return err != 0 ? err : sl_json_append_string(to, user, user_len);
}

static int append_uuid(struct sl_buffer *to, const char *before, const struct sl_uuid *uuid)
{
    char text[SL_UUID_TEXT_SIZE];

    sl_uuid_format(uuid, text);
    return sl_buffer_appendf(to, "%s%s\"", before, text);
}

/* ---- members: reading; all of them accept a NULL root ---- */

/* The value's object when version and user are right, else NULL. The caller gives it back. */
static json_t *open_value(struct store_text value, const char *user, size_t user_len)
{
    json_t *root =
        json_loadb(value.base != NULL ? value.base : "", value.len, JSON_REJECT_DUPLICATES, NULL);
    const json_t *version = json_object_get(root, "v");

    if (!json_is_integer(version) || json_integer_value(version) != VERSION ||
        !member_is(root, "u", user, user_len)) {
        json_decref(root);
        return NULL;
    }
    return root;
}

static bool member_is(const json_t *root, const char *name, const char *text, size_t len)
{
    const json_t *member = json_object_get(root, name);

    return json_is_string(member) && json_string_length(member) == len &&
           memcmp(json_string_value(member), text, len) == 0;
}

static bool member_uuid(const json_t *root, const char *name, struct sl_uuid *ret_uuid)
{
    const json_t *member = json_object_get(root, name);

    return json_is_string(member) &&
           sl_uuid_parse(json_string_value(member), json_string_length(member), ret_uuid) == 0;
}

static bool member_role(const json_t *root, enum store_role *ret_role)
{
    for (enum store_role role = STORE_ROLE_USER; role <= STORE_ROLE_ASSISTANT; role++) {
        const char *name = store_role_name(role);
        if (member_is(root, "r", name, strlen(name))) {
            *ret_role = role;
            return true;
        }
    }
    return false;
}

static bool member_status(const json_t *root, enum store_status *ret_status)
{
    for (enum store_status s = STORE_STATUS_COMPLETE; s <= STORE_STATUS_FAILED; s++) {
        const char *name = store_status_name(s);
        if (member_is(root, "s", name, strlen(name))) {
            *ret_status = s;
            return true;
        }
    }
    return false;
}
