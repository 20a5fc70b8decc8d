/*
 * `sluice dead-letter list` and `retry`.
 *
 * List prints one JSON object per letter: ids, reason, sizes, never a text. Retry gives each message to
 * an ordinary writer and waits for its outcome; what Postgres takes now leaves the file, what it refuses
 * again stays. Profiles, titles and deletions stay too: an old one would undo a newer one.
 *
 * Failure modes: a folder that cannot be read, a server that has the journal's lock, a database that
 * cannot be reached for WAIT_MS. Thread: main and a writer's. Ownership: everything here.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "dead_letter.h"
#include "sluice/text.h"
#include "writer.h"

enum { LINE_MAX_BYTES = 4096, WAIT_MS = 60 * 1000, STEP_MS = 100, SILENCE_MS = 40 * 1000 };

struct retry {
    struct sl_loop *loop;
    struct store_origin *origin;
    struct store_writer *writer;
    int status; /* of the record under way */
    bool settled;
    unsigned written, refused, skipped;
    bool failed;
};

static bool print_letter(void *context, struct store_dead_letter *letter);
static bool retry_letter(void *context, struct store_dead_letter *letter);
static int open_writer(const struct store_config *config, struct retry *retry);
static void on_durable(void *context, const struct store_record *record);
static void on_committed(void *context, struct store_record *record);

static const struct store_origin_callbacks callbacks = {on_durable, on_committed};

/* ---------------------------------------------------------------- list */

int store_dead_letters_list(const struct store_config *config, void (*report)(const char *line))
{
    struct store_dead_letters *letters = NULL;
    struct store_disk *disk;

    if (store_disk_posix_create(config->journal_dir, &disk) != 0) {
        return SL_E_STORAGE_UNAVAILABLE;
    }
    int err = store_dead_letter_open(disk, &letters);
    if (err == 0) {
        err = store_dead_letter_list(letters, print_letter, (void *)(uintptr_t)report);
    }
    store_dead_letter_close(letters);
    disk->ops->destroy(disk);
    return err;
}

static bool print_letter(void *context, struct store_dead_letter *letter)
{
    static const char *const kinds[] = {"", "message", "profile", "title", "deletion"};
    void (*report)(const char *line) = (void (*)(const char *))(uintptr_t)context;
    const struct store_record *record = letter->record;
    char session[SL_UUID_TEXT_SIZE], id[SL_UUID_TEXT_SIZE], when[32];
    time_t seconds = (time_t)letter->refused_unix_s;
    struct tm utc;
    struct sl_buffer line;

    sl_uuid_format(&record->session, session);
    sl_uuid_format(&record->message.id, id);
    (void)gmtime_r(&seconds, &utc);
    (void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &utc);
    sl_buffer_init(&line, LINE_MAX_BYTES);
    int err = sl_buffer_appendf(
        &line,
        "{\"refused_at\":\"%s\",\"sqlstate\":\"%s\",\"kind\":\"%s\","
        "\"session_id\":\"%s\",\"message_id\":\"%s\",\"bytes\":%zu,\"user\":",
        when, letter->sqlstate, kinds[record->kind], session, id,
        record->kind == STORE_RECORD_MESSAGE ? record->message.content.len : record->text.len);
    if (err == 0) {
        err = sl_json_append_string(&line, record->user, record->user_len);
    }
    if (err == 0) {
        err = sl_buffer_append(&line, "}", 2); /* with its NUL */
    }
    if (err == 0) {
        report(line.base);
    }
    sl_buffer_dispose(&line);
    return true;
}

/* ---------------------------------------------------------------- retry */

int store_dead_letters_retry(const struct store_config *config, void (*report)(const char *line))
{
    struct store_dead_letters *letters = NULL;
    struct retry retry = {0};
    struct store_disk *disk;
    char line[160];

    if (store_disk_posix_create(config->journal_dir, &disk) != 0) {
        return SL_E_STORAGE_UNAVAILABLE;
    }
    int err = store_dead_letter_open(disk, &letters);
    if (err == 0) {
        err = open_writer(config, &retry);
    }
    if (err == 0) {
        err = store_dead_letter_retry(letters, retry_letter, &retry);
    }
    if (retry.writer != NULL) {
        (void)store_writer_stop(retry.writer, 0);
        store_writer_destroy(retry.writer);
    }
    if (retry.origin != NULL) {
        store_origin_close(retry.origin);
        store_origin_destroy(retry.origin);
    }
    sl_loop_destroy(retry.loop);
    store_dead_letter_close(letters);
    disk->ops->destroy(disk);
    if (err == 0 && retry.failed) {
        err = SL_E_DATABASE_UNAVAILABLE;
    }
    (void)snprintf(line, sizeof(line), "%s: %u written, %u refused again, %u left alone",
                   err == 0               ? "done"
                   : err == SL_E_CONFLICT ? "a server uses this journal; stop it first"
                                          : "failed",
                   retry.written, retry.refused, retry.skipped);
    report(line);
    return err;
}

static int open_writer(const struct store_config *config, struct retry *retry)
{
    struct store_writer_options options = {
        .database_url = config->database_url,
        .batch_rows = 1,
        .batch_bytes = config->writer_batch_bytes,
        .queue_bytes = config->writer_queue_bytes,
        .silence_ms = SILENCE_MS,
    };
    int err = sl_loop_create(&retry->loop);

    if (err == 0) {
        err = store_origin_create(retry->loop, &callbacks, retry, &retry->origin);
    }
    return err != 0 ? err : store_writer_create(&options, &retry->writer);
}

/* True: it is in Postgres now, and leaves the file. */
static bool retry_letter(void *context, struct store_dead_letter *letter)
{
    struct retry *retry = context;

    if (retry->failed || letter->record->kind != STORE_RECORD_MESSAGE) {
        retry->skipped++;
        return false;
    }
    letter->record->origin = retry->origin;
    retry->settled = false;
    if (store_writer_submit(retry->writer, letter->record) != 0) {
        letter->record->origin = NULL;
        retry->failed = true;
        return false;
    }
    letter->record = NULL; /* the writer's; it comes back to on_committed */
    for (int waited_ms = 0; !retry->settled && waited_ms < WAIT_MS; waited_ms += STEP_MS) {
        sl_loop_run_once(retry->loop, STEP_MS);
    }
    retry->failed = !retry->settled;
    retry->written += retry->settled && retry->status == 0;
    retry->refused += retry->settled && retry->status != 0;
    return retry->settled && retry->status == 0;
}

static void on_durable(void *context, const struct store_record *record)
{
    (void)context, (void)record;
}

static void on_committed(void *context, struct store_record *record)
{
    struct retry *retry = context;

    retry->status = record->status;
    retry->settled = true;
    store_record_destroy(record);
}
