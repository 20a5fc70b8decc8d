/*
 * libFuzzer: whatever bytes lie in the folder, the journal opens, hands out what is intact in the order
 * of its numbers, takes new records behind it, and finds those again.
 *
 * Input: one byte of flags, then a segment's bytes. Flag 1: checksums and salts are made right first, so
 * that the fuzzer gets past them. Flag 2: the bytes are cut into two segments. Flag 4: they are the
 * checkpoint as well. Built with the fuzz preset; needs the journal, record.c, random.c, base and
 * tests/unit/store/sim_disk.c.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "journal.h"
#include "journal_checkpoint.h"
#include "journal_format.h"
#include "sim_disk.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

struct seen {
    uint64_t last;
    size_t count;
};

static void check(struct seen *seen, struct store_record *record)
{
    if (record->sequence < seen->last || record->user[record->user_len] != '\0') {
        abort();
    }
    /* different records with one number cannot be told from repeated ones in every case; nothing
     * that the journal writes has them, so each number counts once */
    seen->count += record->sequence > seen->last ? 1 : 0;
    seen->last = record->sequence;
    store_record_destroy(record);
}

static bool take(void *context, struct store_record *record)
{
    check(context, record);
    return true;
}

static bool refuse(void *context, struct store_record *record)
{
    (void)context;
    (void)record;
    return false;
}

static bool sink(void *context, struct store_record *record)
{
    check(context, record);
    return true;
}

static void spill(void *context, struct store_record *record)
{
    (void)context;
    store_record_destroy(record);
}

static void wake(void *context)
{
    (void)context;
}

/* every record header that the lengths lead to gets magic, salt and checksum */
static void put_right(uint8_t *bytes, size_t len)
{
    static const uint8_t magic[] = {'S', 'L', 'J', '1'};
    struct store_format_segment header = {.number = 1, .salt = 42};

    if (len < STORE_FORMAT_SEGMENT_HEADER) {
        return;
    }
    store_format_encode_segment(&header, bytes);
    for (size_t at = STORE_FORMAT_SEGMENT_HEADER; at + STORE_FORMAT_RECORD_HEADER <= len;) {
        uint8_t *record = bytes + at;
        struct store_format_view view = {.base = record};
        memcpy(record, magic, sizeof(magic));
        record[18] = record[19] = 0; /* lengths under 64 KiB */
        view.size = store_format_peek_size(record, NULL);
        if (view.size == 0 || view.size > len - at) {
            return;
        }
        uint8_t *copy = malloc(view.size);
        if (copy == NULL) {
            abort();
        }
        store_format_copy_record(&view, 42, copy);
        memcpy(record, copy, view.size);
        free(copy);
        at += view.size;
    }
}

static void run(struct sim_disk *sim, bool taking, size_t *ret_count)
{
    struct seen seen = {.last = 0};
    struct store_journal *journal = NULL;
    struct store_record *records[16];
    struct sl_uuid session = {{1}};
    struct store_text text = {"t", 1};
    size_t count;
    struct store_journal_options options = {.disk = sim_disk_attach(sim),
                                            .segment_bytes = 4096,
                                            .retain_bytes = 1 << 20,
                                            .retain_s = 3600,
                                            .pending_bytes = 1 << 20,
                                            .sink = sink,
                                            .spill = spill,
                                            .wake = wake,
                                            .context = &seen};

    if (store_journal_open(&options, &journal) != 0) {
        abort();
    }
    store_journal_recover(journal, taking ? take : refuse, &seen);
    while ((count = store_journal_read_backlog(journal, records, 16, 4000)) > 0) {
        for (size_t i = 0; i < count; i++) {
            check(&seen, records[i]);
        }
    }
    if (store_journal_has_backlog(journal) ||
        store_record_create(STORE_RECORD_TITLE, "u", 1, &session, text, &records[0]) != 0 ||
        store_journal_append(journal, records[0]) != 0 || store_journal_start(journal) != 0 ||
        store_journal_stop(journal, 10000) != 0) {
        abort();
    }
    *ret_count = seen.count;
    store_journal_destroy(journal);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    if (size < 1 || size > 1 << 16) {
        return 0;
    }
    uint8_t flags = input[0], *bytes = malloc(size);
    size_t len = size - 1, first = 0, second = 0, replayed = 0;
    struct seen seen = {.last = 0};
    struct sim_disk *sim = sim_disk_create(1);
    if (bytes == NULL) {
        abort();
    }
    memcpy(bytes, input + 1, len);
    if ((flags & 1) != 0) {
        put_right(bytes, len);
    }
    size_t cut = (flags & 2) != 0 ? len / 2 : len;
    sim_disk_put(sim, "segment-0000000000000001.log", bytes, cut);
    if (cut < len) {
        sim_disk_put(sim, "segment-0000000000000002.log", bytes + cut, len - cut);
    }
    if ((flags & 4) != 0) {
        sim_disk_put(sim, STORE_CHECKPOINT_NAME, bytes, len);
    }
    struct store_disk *disk = sim_disk_attach(sim);
    if (store_journal_scan(disk, INT64_MIN, take, &seen) != 0) {
        abort();
    }
    replayed = seen.count;
    disk->ops->destroy(disk);
    run(sim, (flags & 8) != 0, &first);
    run(sim, true, &second);
    /* nothing was committed, so the second start has what the first had, and the record it added */
    if (first != replayed + 1 || second != first + 1) {
        abort();
    }
    sim_disk_destroy(sim);
    free(bytes);
    return 0;
}
