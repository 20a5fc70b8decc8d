/*
 * What rows are called, how they are ordered, and how the outputs of a read are freed.
 *
 * Pure functions on the types of include/sluice/store.h: no I/O, no clock, any thread.
 */
#include "rows.h"

#include <stdlib.h>
#include <string.h>

static const char *const role_names[] = {
    [STORE_ROLE_USER] = "user",
    [STORE_ROLE_ASSISTANT] = "assistant",
};

static const char *const status_names[] = {
    [STORE_STATUS_COMPLETE] = "complete",   [STORE_STATUS_STOPPED] = "stopped",
    [STORE_STATUS_CANCELLED] = "cancelled", [STORE_STATUS_INTERRUPTED] = "interrupted",
    [STORE_STATUS_FAILED] = "failed",
};

static int copy_text(struct sl_buffer *buffer, struct store_text *text);
static int find_name(const char *const *names, size_t count, const char *name, size_t len);

const char *store_role_name(enum store_role role)
{
    size_t index = (size_t)role;
    return index < sizeof(role_names) / sizeof(role_names[0]) ? role_names[index] : NULL;
}

const char *store_status_name(enum store_status status)
{
    size_t index = (size_t)status;
    return index < sizeof(status_names) / sizeof(status_names[0]) ? status_names[index] : NULL;
}

int store_rows_role(const char *name, size_t len, enum store_role *ret_role)
{
    int index = find_name(role_names, sizeof(role_names) / sizeof(role_names[0]), name, len);

    if (index < 0) {
        return SL_E_INVALID_VALUE;
    }
    *ret_role = (enum store_role)index;
    return 0;
}

int store_rows_status(const char *name, size_t len, enum store_status *ret_status)
{
    int index = find_name(status_names, sizeof(status_names) / sizeof(status_names[0]), name, len);

    if (index < 0) {
        return SL_E_INVALID_VALUE;
    }
    *ret_status = (enum store_status)index;
    return 0;
}

int store_rows_compare(int64_t a_us, const struct sl_uuid *a_id, int64_t b_us,
                       const struct sl_uuid *b_id)
{
    if (a_us != b_us) {
        return a_us < b_us ? -1 : 1;
    }
    return memcmp(a_id->bytes, b_id->bytes, sizeof(a_id->bytes));
}

int store_rows_compare_messages(const void *a, const void *b)
{
    const struct store_message *left = a, *right = b;
    return store_rows_compare(left->created_at_us, &left->id, right->created_at_us, &right->id);
}

size_t store_rows_text_bytes(const struct store_message *message)
{
    return message->content.len + message->model.len + message->finish_reason.len;
}

int store_rows_copy_texts(struct sl_buffer *buffer, struct store_message *message)
{
    int err = copy_text(buffer, &message->content);

    if (err == 0) {
        err = copy_text(buffer, &message->model);
    }
    if (err == 0) {
        err = copy_text(buffer, &message->finish_reason);
    }
    return err;
}

static int copy_text(struct sl_buffer *buffer, struct store_text *text)
{
    if (text->base == NULL) {
        return 0;
    }
    /* with a NUL, so that an empty text has an address of its own and is not taken for null */
    char *to = sl_buffer_reserve(buffer, text->len + 1);
    if (to == NULL) {
        return SL_E_NO_MEMORY;
    }
    memcpy(to, text->base, text->len);
    to[text->len] = '\0';
    buffer->len += text->len + 1;
    text->base = to;
    return 0;
}

void store_rows_leave_out_turn(struct store_read *read)
{
    size_t kept = 0;

    if (read->kind != STORE_READ_HISTORY || sl_uuid_is_nil(&read->without_turn)) {
        return;
    }
    for (size_t i = 0; i < read->count; i++) {
        if (!sl_uuid_equal(&read->messages[i].turn_id, &read->without_turn)) {
            read->messages[kept++] = read->messages[i];
        }
    }
    read->count = kept;
}

void store_message_set_dispose(struct store_message_set *set)
{
    free(set->items);
    sl_buffer_dispose(&set->text);
    memset(set, 0, sizeof(*set));
}

void store_read_dispose(struct store_read *read)
{
    sl_buffer_dispose(&read->text);
    free(read->messages);
    free(read->sessions);
    read->messages = NULL;
    read->sessions = NULL;
    read->count = 0;
    read->found = false;
    read->more = false;
    read->source = STORE_SOURCE_NONE;
}

static int find_name(const char *const *names, size_t count, const char *name, size_t len)
{
    for (size_t i = 0; i < count; i++) {
        if (names[i] != NULL && strlen(names[i]) == len && memcmp(names[i], name, len) == 0) {
            return (int)i;
        }
    }
    return -1;
}
