/*
 * A writer and a Postgres for the journal's tests.
 *
 * Thread: see the header; the mutex guards what the sink touches. Ownership: the fixture owns the
 * records that the sink has taken until they are committed.
 */
#include "journal_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "samples.h"

/* ---- records ---- */

static size_t content_size(unsigned number)
{
    static const size_t sizes[] = {0, 1, 7, 8, 63, 200, 511, 900, 2500, 5000};
    return sizes[(number * 7) % 10];
}

struct store_record *fixture_record(unsigned number)
{
    static const enum store_record_kind kinds[] = {STORE_RECORD_PROFILE, STORE_RECORD_TITLE,
                                                   STORE_RECORD_DELETE};
    struct sl_uuid session = sample_id(1000000 + number); /* carries the number for all kinds */
    struct store_record *record = NULL;
    char user[32], *content = malloc(content_size(number) + 1);
    int err;

    if (content == NULL) {
        abort();
    }
    memset(content, 'a' + (int)(number % 26), content_size(number));
    content[content_size(number)] = '\0';
    (void)snprintf(user, sizeof(user), "user-%u", number % 5);
    if (number % 8 < 5) {
        struct store_message message = sample_message(number, content);
        if (number % 2 == 1) {
            message.role = STORE_ROLE_ASSISTANT;
            message.status = STORE_STATUS_INTERRUPTED;
            message.model = sample_text("model-x");
            message.finish_reason = sample_text("");
            message.prompt_tokens = (int32_t)number;
            message.completion_tokens = 0;
            message.ttft_ms = (double)number / 7;
        }
        err = store_record_create_message(user, strlen(user), &session, &message, &record);
    } else {
        enum store_record_kind kind = kinds[number % 8 - 5];
        struct store_text text = {.base = NULL};
        if (kind != STORE_RECORD_DELETE) {
            text = sample_text(content);
        }
        err = store_record_create(kind, user, strlen(user), &session, text, &record);
    }
    free(content);
    if (err != 0) {
        abort();
    }
    return record;
}

unsigned fixture_number(const struct store_record *record)
{
    return sample_number(&record->session) - 1000000;
}

static void check_text(const struct store_text *a, const struct store_text *b)
{
    assert_int_equal(a->len, b->len);
    assert_true((a->base == NULL) == (b->base == NULL));
    if (a->len > 0) {
        assert_memory_equal(a->base, b->base, a->len);
    }
}

void fixture_check_record(const struct store_record *record)
{
    struct store_record *same = fixture_record(fixture_number(record));
    const struct store_message *a = &record->message, *b = &same->message;

    assert_int_equal(record->kind, same->kind);
    assert_int_equal(record->user_len, same->user_len);
    assert_string_equal(record->user, same->user);
    assert_true(sl_uuid_equal(&record->session, &same->session));
    check_text(&record->text, &same->text);
    assert_true(sl_uuid_equal(&a->id, &b->id) && sl_uuid_equal(&a->turn_id, &b->turn_id));
    assert_true(a->role == b->role && a->status == b->status);
    assert_true(a->created_at_us == b->created_at_us && a->prompt_tokens == b->prompt_tokens);
    assert_int_equal(a->completion_tokens, b->completion_tokens);
    assert_memory_equal(&a->ttft_ms, &b->ttft_ms, sizeof(a->ttft_ms));
    check_text(&a->content, &b->content);
    check_text(&a->model, &b->model);
    check_text(&a->finish_reason, &b->finish_reason);
    store_record_destroy(same);
}

/* ---- the journal's callbacks ---- */

static void settled(struct fixture *fixture, const struct store_record *record)
{
    if (record->durable) {
        fixture->acked[fixture_number(record)] = true;
    }
    fixture->settled++;
    (void)pthread_cond_broadcast(&fixture->changed);
}

static bool on_sink(void *context, struct store_record *record)
{
    struct fixture *fixture = context;
    bool taken;

    (void)pthread_mutex_lock(&fixture->mutex);
    taken = fixture->sunk_count < fixture->sink_max;
    if (taken) {
        settled(fixture, record);
        fixture->sunk[fixture->sunk_count++] = record;
    }
    (void)pthread_mutex_unlock(&fixture->mutex);
    return taken;
}

static void on_spill(void *context, struct store_record *record)
{
    struct fixture *fixture = context;

    (void)pthread_mutex_lock(&fixture->mutex);
    if (!record->durable) {
        abort(); /* only durable records may be left to the disk */
    }
    settled(fixture, record);
    (void)pthread_mutex_unlock(&fixture->mutex);
    store_record_destroy(record);
}

static void on_wake(void *context)
{
    struct fixture *fixture = context;

    (void)pthread_mutex_lock(&fixture->mutex);
    (void)pthread_cond_broadcast(&fixture->changed);
    (void)pthread_mutex_unlock(&fixture->mutex);
}

/* ---- the table ---- */

static void insert(struct fixture *fixture, struct store_record *record)
{
    unsigned number = fixture_number(record);

    assert_true(number < FIXTURE_RECORDS);
    fixture_check_record(record);
    assert_true(fixture->inserted_in[number] != fixture->run); /* twice in one run: doubled */
    assert_true(record->sequence > fixture->last_sequence);
    fixture->last_sequence = record->sequence;
    if (fixture->inserted_in[number] == 0) {
        fixture->table[fixture->table_count++] = number;
    }
    fixture->inserted_in[number] = fixture->run;
    store_record_destroy(record);
}

static bool on_recover(void *context, struct store_record *record)
{
    insert(context, record);
    return true;
}

void fixture_check_acked(const struct fixture *fixture, const char *where)
{
    for (unsigned i = 0; i < FIXTURE_RECORDS; i++) {
        if (fixture->acked[i] && fixture->inserted_in[i] == 0) {
            fail_msg("%s: number %u was acknowledged and is lost", where, i);
        }
    }
}

void fixture_check_table(const struct fixture *fixture, const char *where)
{
    fixture_check_acked(fixture, where);
    for (size_t i = 1; i < fixture->table_count; i++) {
        if (fixture->table[i] <= fixture->table[i - 1]) {
            fail_msg("%s: number %u comes after %u", where, fixture->table[i],
                     fixture->table[i - 1]);
        }
    }
}

/* ---- runs ---- */

void fixture_init(struct fixture *fixture, uint64_t seed)
{
    memset(fixture, 0, sizeof(*fixture));
    fixture->sim = sim_disk_create(seed);
    fixture->sink_max = 12;
    fixture->segment_bytes = FIXTURE_SEGMENT;
    (void)pthread_mutex_init(&fixture->mutex, NULL);
    (void)pthread_cond_init(&fixture->changed, NULL);
}

void fixture_finish(struct fixture *fixture)
{
    sim_disk_destroy(fixture->sim);
    (void)pthread_mutex_destroy(&fixture->mutex);
    (void)pthread_cond_destroy(&fixture->changed);
}

struct store_journal_options fixture_options(struct fixture *fixture)
{
    return (struct store_journal_options){
        .disk = sim_disk_attach(fixture->sim),
        .segment_bytes = fixture->segment_bytes,
        .retain_bytes = 4 * fixture->segment_bytes,
        .retain_s = 3600,
        .pending_bytes = 4 << 20,
        .sink = on_sink,
        .spill = on_spill,
        .wake = on_wake,
        .context = fixture,
    };
}

bool fixture_open(struct fixture *fixture)
{
    struct store_journal_options options = fixture_options(fixture);

    fixture->run++;
    fixture->last_sequence = 0;
    fixture->appended = fixture->settled = 0;
    if (store_journal_open(&options, &fixture->journal) != 0) {
        return false;
    }
    store_journal_recover(fixture->journal, on_recover, fixture);
    if (fixture->last_sequence > 0 && !sim_disk_crashed(fixture->sim)) {
        store_journal_committed(fixture->journal, fixture->last_sequence);
    }
    assert_int_equal(store_journal_start(fixture->journal), 0);
    return true;
}

void fixture_close(struct fixture *fixture, unsigned timeout_ms)
{
    (void)store_journal_stop(fixture->journal, timeout_ms);
    for (size_t i = 0; i < fixture->sunk_count; i++) {
        store_record_destroy(fixture->sunk[i]);
    }
    fixture->sunk_count = 0;
    store_journal_destroy(fixture->journal);
    fixture->journal = NULL;
}

/* nothing can be written, and nothing handed on: the test has to commit first */
static bool is_stuck(const struct fixture *fixture)
{
    return (store_journal_has_backlog(fixture->journal) ||
            fixture->sunk_count >= fixture->sink_max) &&
           sl_counter_get(&store_journal_figures(fixture->journal)->state) == STORE_JOURNAL_FAILED;
}

void fixture_append(struct fixture *fixture, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        struct store_record *record = fixture_record(i);
        if (store_journal_append(fixture->journal, record) == 0) {
            fixture->appended++;
        } else {
            fixture->refused++;
            store_record_destroy(record);
        }
    }
    (void)pthread_mutex_lock(&fixture->mutex);
    while (fixture->settled < fixture->appended && !sim_disk_crashed(fixture->sim) &&
           !is_stuck(fixture)) {
        struct timespec until; /* a crash has nobody to wake us */
        (void)clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        (void)pthread_cond_timedwait(&fixture->changed, &fixture->mutex, &until);
    }
    (void)pthread_mutex_unlock(&fixture->mutex);
}

void fixture_commit(struct fixture *fixture, size_t keep)
{
    struct store_record *records[5];
    size_t count;

    (void)pthread_mutex_lock(&fixture->mutex);
    while (fixture->sunk_count > keep) {
        struct store_record *record = fixture->sunk[0];
        fixture->sunk_count--;
        memmove(fixture->sunk, fixture->sunk + 1,
                fixture->sunk_count * sizeof(struct store_record *));
        insert(fixture, record);
    }
    uint64_t sequence = fixture->last_sequence;
    (void)pthread_mutex_unlock(&fixture->mutex);
    if (sim_disk_crashed(fixture->sim)) {
        return;
    }
    store_journal_committed(fixture->journal, sequence);
    while (keep == 0 && store_journal_has_backlog(fixture->journal) &&
           (count = store_journal_read_backlog(fixture->journal, records, 5, 4000)) > 0) {
        for (size_t i = 0; i < count; i++) {
            insert(fixture, records[i]);
        }
        store_journal_committed(fixture->journal, fixture->last_sequence);
    }
}
