/*
 * `sluice replay`: the journal's retained segments once more into Postgres.
 *
 * For a database that lost what it had confirmed (a failover to an asynchronous standby, a restore to an
 * earlier moment). Only messages are replayed: ids make that harmless where the row is still there.
 * Titles, profiles and deletions are not, since an old one would undo a newer one; but a message whose
 * session was deleted later in the journal is left out, so a replay brings nothing back that a user
 * deleted. Two passes: the deletions, then the messages, through an ordinary writer without a journal.
 *
 * Failure modes: a folder that cannot be read, a database that cannot be reached for WAIT_MS. Blocks; for
 * the command line. Thread: the caller's and a writer's. Ownership: everything here.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "journal.h"
#include "writer.h"

enum { LINE_SIZE = 160, WAIT_MS = 60 * 1000, STEP_US = 5000, SILENCE_MS = 40 * 1000 };

struct deletion {
    struct sl_uuid session;
    uint64_t sequence;
    char user[STORE_USER_ID_MAX + 1];
};

struct replay {
    struct store_writer *writer;
    struct deletion *deletions;
    size_t deletion_count, deletion_capacity;
    uint64_t messages, left_out;
    bool failed;
};

static bool note_deletion(void *context, struct store_record *record);
static bool replay_message(void *context, struct store_record *record);
static bool was_deleted_later(const struct replay *replay, const struct store_record *record);
static int compare_deletions(const void *a, const void *b);
static int write_messages(const struct store_config *config, struct store_disk *disk,
                          int64_t since_unix_us, struct replay *replay);

int store_replay(const struct store_config *config, int64_t since_unix_us,
                 void (*report)(const char *line))
{
    struct replay replay = {0};
    struct store_disk *disk;
    char line[LINE_SIZE];

    if (store_disk_posix_create(config->journal_dir, &disk) != 0) {
        report("the journal's folder cannot be used");
        return SL_E_STORAGE_UNAVAILABLE;
    }
    int err = store_journal_scan(disk, since_unix_us, note_deletion, &replay);
    if (err == 0 && !replay.failed) {
        if (replay.deletion_count > 0) {
            qsort(replay.deletions, replay.deletion_count, sizeof(struct deletion),
                  compare_deletions);
        }
        err = write_messages(config, disk, since_unix_us, &replay);
    }
    disk->ops->destroy(disk);
    free(replay.deletions);
    if (replay.failed && err == 0) {
        err = SL_E_DATABASE_UNAVAILABLE;
    }
    (void)snprintf(line, sizeof(line),
                   "%s: %" PRIu64 " messages replayed, %" PRIu64 " of deleted sessions left out",
                   err == 0 ? "done" : "failed", replay.messages, replay.left_out);
    report(line);
    return err;
}

static bool note_deletion(void *context, struct store_record *record)
{
    struct replay *replay = context;

    if (record->kind == STORE_RECORD_DELETE) {
        if (replay->deletion_count == replay->deletion_capacity) {
            size_t capacity = replay->deletion_capacity > 0 ? 2 * replay->deletion_capacity : 64;
            struct deletion *grown = realloc(replay->deletions, capacity * sizeof(*grown));
            if (grown == NULL) {
                replay->failed = true;
                store_record_destroy(record);
                return false;
            }
            replay->deletions = grown;
            replay->deletion_capacity = capacity;
        }
        struct deletion *deletion = &replay->deletions[replay->deletion_count++];
        deletion->session = record->session;
        deletion->sequence = record->sequence;
        memcpy(deletion->user, record->user, record->user_len);
        deletion->user[record->user_len] = '\0';
    }
    store_record_destroy(record);
    return true;
}

static int write_messages(const struct store_config *config, struct store_disk *disk,
                          int64_t since_unix_us, struct replay *replay)
{
    struct store_writer_options options = {
        .database_url = config->database_url,
        .batch_rows = config->writer_batch_rows,
        .batch_bytes = config->writer_batch_bytes,
        .queue_bytes = config->writer_queue_bytes,
        .silence_ms = SILENCE_MS,
    };
    int err = store_writer_create(&options, &replay->writer);

    if (err != 0) {
        return err;
    }
    err = store_journal_scan(disk, since_unix_us, replay_message, replay);
    size_t left = store_writer_stop(replay->writer, WAIT_MS);
    replay->failed = replay->failed || left > 0;
    store_writer_destroy(replay->writer);
    return err;
}

static bool replay_message(void *context, struct store_record *record)
{
    struct replay *replay = context;
    unsigned waited_us = 0;
    int err = 0;

    if (record->kind != STORE_RECORD_MESSAGE) {
        store_record_destroy(record);
        return true;
    }
    if (was_deleted_later(replay, record)) {
        replay->left_out++;
        store_record_destroy(record);
        return true;
    }
    record->sequence =
        0; /* this writer has no journal behind it: what it cannot write counts as left */
    while ((err = store_writer_submit(replay->writer, record)) == SL_E_OVERLOADED &&
           waited_us < 1000U * WAIT_MS) {
        (void)usleep(STEP_US);
        waited_us += STEP_US;
    }
    if (err != 0) {
        replay->failed = true;
        store_record_destroy(record);
        return false;
    }
    replay->messages++;
    return true;
}

static bool was_deleted_later(const struct replay *replay, const struct store_record *record)
{
    size_t low = 0, high = replay->deletion_count;

    while (low < high) { /* the first deletion of this session */
        size_t middle = (low + high) / 2;
        if (memcmp(&replay->deletions[middle].session, &record->session, sizeof(struct sl_uuid)) <
            0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (; low < replay->deletion_count &&
           sl_uuid_equal(&replay->deletions[low].session, &record->session);
         low++) {
        if (replay->deletions[low].sequence > record->sequence &&
            strcmp(replay->deletions[low].user, record->user) == 0) {
            return true;
        }
    }
    return false;
}

static int compare_deletions(const void *a, const void *b)
{
    const struct deletion *left = a, *right = b;

    return memcmp(&left->session, &right->session, sizeof(struct sl_uuid));
}
