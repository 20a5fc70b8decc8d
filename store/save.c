/*
 * Saves: records on their way out, and the saves that wait for them.
 *
 * Happy path: a save takes a slot, its record goes into the overlay (messages only) and to the
 * journal. The record comes back to this loop twice at most: when it is durable, which ends the save
 * of a message, and when it is committed, which ends every other save and frees the record. Between
 * the two the caches learn that their entries may expire or have to go.
 *
 * The journal makes a record durable and hands it to the writer. While its disk refuses, the commit is
 * what makes a record durable.
 *
 * Failure modes: a queue that is full or closed refuses the save at start. A save that was cancelled
 * gives its slot back at once; the generation keeps its record from finishing the next owner's save.
 *
 * Thread: the client's loop. Ownership: a record is the writer's from submit to committed.
 */
#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "client.h"
#include "journal.h"
#include "overlay.h"
#include "record.h"
#include "writer.h"

enum { FIRST_SLOTS = 64 };

static int save_other(struct store_client *client, struct store_save *save,
                      enum store_record_kind kind, const char *user, size_t user_len,
                      const struct sl_uuid *session, struct store_text text);
static int hand_over(struct store_client *client, struct store_save *save,
                     struct store_record *record);
static int take_slot(struct store_client *client, struct store_save *save);
static void free_slot(struct store_client *client, uint32_t index);
static void on_durable(void *context, const struct store_record *record);
static void on_committed(void *context, struct store_record *record);
static void update_caches(struct store_client *client, const struct store_record *record);
static void end_save(struct store_client *client, const struct store_record *record, int status);
static void finish_save(struct sl_task *task);

const struct store_origin_callbacks store_save_callbacks = {
    .durable = on_durable,
    .committed = on_committed,
};

/* ---- start ---- */

int store_save_message(struct store_client *client, struct store_save *save, const char *user,
                       size_t user_len, const struct sl_uuid *session,
                       const struct store_message *message)
{
    struct store_record *record = NULL;

    if (user_len == 0 || user_len > STORE_USER_ID_MAX || store_role_name(message->role) == NULL ||
        store_status_name(message->status) == NULL) {
        return SL_E_INVALID_VALUE;
    }
    if (store_record_create_message(user, user_len, session, message, &record) != 0) {
        return SL_E_OVERLOADED;
    }
    return hand_over(client, save, record);
}

int store_save_profile(struct store_client *client, struct store_save *save, const char *user,
                       size_t user_len, struct store_text json)
{
    return save_other(client, save, STORE_RECORD_PROFILE, user, user_len, NULL, json);
}

int store_save_title(struct store_client *client, struct store_save *save, const char *user,
                     size_t user_len, const struct sl_uuid *session, struct store_text title)
{
    return save_other(client, save, STORE_RECORD_TITLE, user, user_len, session, title);
}

int store_delete_session(struct store_client *client, struct store_save *save, const char *user,
                         size_t user_len, const struct sl_uuid *session)
{
    return save_other(client, save, STORE_RECORD_DELETE, user, user_len, session,
                      (struct store_text){NULL, 0});
}

static int save_other(struct store_client *client, struct store_save *save,
                      enum store_record_kind kind, const char *user, size_t user_len,
                      const struct sl_uuid *session, struct store_text text)
{
    struct store_record *record = NULL;

    if (user_len == 0 || user_len > STORE_USER_ID_MAX) {
        return SL_E_INVALID_VALUE;
    }
    if (store_record_create(kind, user, user_len, session, text, &record) != 0) {
        return SL_E_OVERLOADED;
    }
    return hand_over(client, save, record);
}

/* Owns the record: it goes to the journal, or is freed. */
static int hand_over(struct store_client *client, struct store_save *save,
                     struct store_record *record)
{
    int err = take_slot(client, save);

    if (err != 0) {
        store_record_destroy(record);
        return err;
    }
    record->origin = client->origin;
    record->slot = save->slot;
    record->generation = save->generation;
    if (record->kind == STORE_RECORD_MESSAGE) {
        /* before the writer has it, which takes it out again */
        store_overlay_add(client->store->overlay, record);
    }
    err = store_journal_append(client->store->journal, record);
    if (err != 0) {
        store_overlay_remove(client->store->overlay, record);
        store_record_destroy(record);
        free_slot(client, save->slot);
        return err;
    }
    save->client = client;
    save->status = 0;
    save->cancelled = false;
    save->finish = (struct sl_task){.run = finish_save};
    sl_op_start(&save->op);
    return 0;
}

static int take_slot(struct store_client *client, struct store_save *save)
{
    if (client->first_free == client->slot_count) {
        uint32_t count = client->slot_count == 0 ? FIRST_SLOTS : client->slot_count * 2;
        struct store_slot *slots = realloc(client->slots, count * sizeof(slots[0]));
        if (slots == NULL) {
            return SL_E_OVERLOADED;
        }
        for (uint32_t i = client->slot_count; i < count; i++) {
            slots[i] = (struct store_slot){.next_free = i + 1};
        }
        client->slots = slots;
        client->slot_count = count;
    }
    save->slot = client->first_free;
    struct store_slot *slot = &client->slots[save->slot];
    client->first_free = slot->next_free;
    slot->save = save;
    save->generation = ++slot->generation;
    return 0;
}

static void free_slot(struct store_client *client, uint32_t index)
{
    client->slots[index].save = NULL;
    client->slots[index].next_free = client->first_free;
    client->first_free = index;
}

/* ---- the record comes back ---- */

static void on_durable(void *context, const struct store_record *record)
{
    if (record->kind == STORE_RECORD_MESSAGE) {
        end_save(context, record, 0);
    }
}

static void on_committed(void *context, struct store_record *record)
{
    struct store_client *client = context;

    /* the caches first: whoever hears that the save is done must not read the old value again */
    update_caches(client, record);
    end_save(client, record, record->status);
    store_record_destroy(record);
}

static void update_caches(struct store_client *client, const struct store_record *record)
{
    if (record->status == SL_E_SHUTTING_DOWN || record->status == SL_E_STORAGE_UNAVAILABLE) {
        return; /* it is not in Postgres yet */
    }
    switch (record->kind) {
    case STORE_RECORD_MESSAGE:
        if (!store_overlay_has(client->store->overlay, record->user, record->user_len,
                               &record->session)) {
            store_cache_committed(client->cache, record->user, record->user_len, &record->session);
        }
        break;
    case STORE_RECORD_PROFILE:
        store_cache_drop_profile(client->cache, record->user, record->user_len);
        break;
    case STORE_RECORD_DELETE:
        store_cache_drop_history(client->cache, record->user, record->user_len, &record->session);
        break;
    case STORE_RECORD_TITLE: /* titles are in no cache */
        break;
    }
}

/* Ends the save that waits for the record, if one still does. */
static void end_save(struct store_client *client, const struct store_record *record, int status)
{
    struct store_slot *slot = &client->slots[record->slot];
    struct store_save *save = slot->save;

    if (save == NULL || slot->generation != record->generation) {
        return;
    }
    free_slot(client, record->slot);
    save->status = status;
    sl_loop_defer(client->loop, &save->finish);
}

static void finish_save(struct sl_task *task)
{
    struct store_save *save = SL_CONTAINER_OF(task, struct store_save, finish);
    sl_op_finish(&save->op, save->status);
}

void store_save_cancel(struct store_save *save)
{
    if (!save->op.running || save->cancelled) {
        return;
    }
    struct store_client *client = save->client;
    struct store_slot *slot = &client->slots[save->slot];
    save->cancelled = true;
    if (slot->save != save || slot->generation != save->generation) {
        return; /* its end is already queued */
    }
    free_slot(client, save->slot);
    save->status = SL_E_CANCELLED;
    sl_loop_defer(client->loop, &save->finish);
}
