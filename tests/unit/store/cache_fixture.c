/*
 * What the tests of the cache share. See cache_fixture.h.
 *
 * The functions of the Postgres reader and of the connector that the cache calls are fakes of this
 * file's: a started read waits in `sources` until the test answers it.
 */
#include "cache_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <hiredis/hiredis.h>

#include "cache_value.h"
#include "connector.h"
#include "connector_forget.h"
#include "pg_reader.h"
#include "rows.h"

static struct store_read *take_source(void);
static struct store_message message_number(unsigned number);
static void expect_text(const struct store_text *is, const struct store_text *want);

struct sl_loop *loop;
struct redis_server server;
struct store_local_profiles *local;
struct store_client_stats stats;
struct store_cache *cache;
struct sl_uuid session;

/* ------------------------------------------------------------------ the fake reader */

struct store_read *sources[SOURCES_MAX]; /* started and not answered */
unsigned started, waiting;
int start_error;

int store_pg_reader_start(struct store_pg_reader *reader, struct store_read *read)
{
    (void)reader;
    if (start_error != 0) {
        return start_error;
    }
    assert_true(waiting < SOURCES_MAX);
    sl_op_start(&read->op);
    sl_buffer_init(&read->text, 1 << 20);
    sources[waiting++] = read;
    started++;
    return 0;
}

void store_pg_reader_cancel(struct store_pg_reader *reader, struct store_read *read)
{
    (void)reader;
    read->status = SL_E_CANCELLED; /* done when the test calls answer() */
}

/* Takes the oldest read that is waiting. */
static struct store_read *take_source(void)
{
    assert_true(waiting > 0);
    struct store_read *source = sources[0];
    waiting--;
    memmove(sources, sources + 1, waiting * sizeof(sources[0]));
    return source;
}

void answer_error(int status)
{
    sl_op_finish(&take_source()->op, status);
}

void answer_profile(const char *json)
{
    struct store_read *source = take_source();

    assert_int_equal(source->kind, STORE_READ_PROFILE);
    assert_int_equal(source->user_len, strlen(ANN));
    assert_memory_equal(source->user, ANN, source->user_len);
    source->found = json != NULL;
    if (json != NULL) {
        assert_int_equal(sl_buffer_append_str(&source->text, json), 0);
    }
    source->source = STORE_SOURCE_DATABASE;
    sl_op_finish(&source->op, 0);
}

static struct store_message message_number(unsigned number)
{
    static const char *const contents[] = {"zero",   "one",  "two \"2\"\n", "",
                                           "four%s", "five", "\xc3\xa4",    "seven"};
    struct store_message message = {
        .id.bytes = {1, [15] = (uint8_t)number},
        .turn_id.bytes = {2, [15] = (uint8_t)(number / 2)},
        .role = number % 2 == 0 ? STORE_ROLE_USER : STORE_ROLE_ASSISTANT,
        .status = number == 3 ? STORE_STATUS_STOPPED : STORE_STATUS_COMPLETE,
        .created_at_us = 1700000000000000 + number,
        .content = {contents[number], strlen(contents[number])},
        .prompt_tokens = -1,
        .completion_tokens = -1,
        .ttft_ms = -1,
    };

    if (number % 2 == 1) {
        message.model = (struct store_text){"a-model", 7};
    }
    return message;
}

/* Answers with the messages first..last; none when last < first. */
void answer_history(int first, int last)
{
    struct store_read *source = take_source();

    assert_int_equal(source->kind, STORE_READ_HISTORY);
    assert_int_equal(source->limit, HISTORY_MESSAGES + 1); /* one may be the turn's own question */
    assert_true(sl_uuid_equal(&source->session, &session));
    source->count = last >= first ? (size_t)(last - first + 1) : 0;
    if (source->count > 0) {
        source->messages = calloc(source->count, sizeof(*source->messages));
        assert_non_null(source->messages);
        for (size_t i = 0; i < source->count; i++) {
            source->messages[i] = message_number((unsigned)first + (unsigned)i);
        }
    }
    sl_op_finish(&source->op, 0);
}

/* ------------------------------------------------------------------ the connector is not needed */

int store_connector_resolve(struct store_connector *connector, struct sl_loop *on_loop,
                            struct store_resolve *resolve)
{
    (void)connector;
    (void)on_loop;
    (void)resolve;
    fail_msg("nothing to resolve");
    return 0;
}

void store_connector_forget(struct store_connector *connector, struct sl_loop *on_loop)
{
    (void)connector;
    (void)on_loop;
}

/* ------------------------------------------------------------------ scaffolding */

struct asked asked[READS_MAX];

bool is_up(void)
{
    return store_cache_link(cache) == STORE_LINK_UP;
}

int make_cache(const char *url, unsigned timeout_ms)
{
    struct store_config config = {
        .redis_url = url,
        .redis_timeout_ms = timeout_ms,
        .profile_ttl_s = 300,
        .absent_profile_ttl_s = 5,
        .history_ttl_s = 60,
        .history_pending_ttl_s = 3600,
        .history_messages = HISTORY_MESSAGES,
        .local_profiles_max = 10,
    };

    return store_cache_create(loop, NULL, &config, local, NULL, &stats, &cache);
}

int set_up(void **state)
{
    (void)state;
    memset(&stats, 0, sizeof(stats));
    memset(asked, 0, sizeof(asked));
    started = waiting = 0;
    start_error = 0;
    assert_int_equal(sl_uuid_parse(SESSION, strlen(SESSION), &session), 0);
    assert_int_equal(sl_loop_create(&loop), 0);
    assert_int_equal(store_local_profiles_create(10, &local), 0);
    return 0;
}

int set_up_with_redis(void **state)
{
    (void)set_up(state);
    if (redis_server_start(&server, NULL)) {
        assert_int_equal(make_cache(server.url, 1000), 0);
        RUN_UNTIL(loop, is_up());
    }
    return 0;
}

void end_cache(void)
{
    store_cache_destroy(cache);
    cache = NULL;
    while (waiting > 0) {
        answer_error(SL_E_CANCELLED); /* flights that nobody waits for */
    }
}

int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < READS_MAX; i++) {
        store_read_dispose(&asked[i].read);
    }
    end_cache();
    store_local_profiles_destroy(local);
    sl_loop_destroy(loop);
    redis_server_stop(&server);
    return 0;
}

void on_read(struct sl_op *op, int status)
{
    struct asked *one = SL_CONTAINER_OF(op, struct asked, read.op);

    one->times++;
    one->status = status;
    if (one->then != NULL) {
        one->then(one);
    }
}

int start_read(unsigned i, enum store_read_kind kind, unsigned limit)
{
    store_read_dispose(&asked[i].read);
    memset(&asked[i].read, 0xee, sizeof(asked[i].read)); /* private fields need no preparation */
    asked[i].times = 0;
    asked[i].status = 1;
    asked[i].then = NULL;
    asked[i].read.op = (struct sl_op){.done = on_read};
    asked[i].read.kind = kind;
    asked[i].read.user = ANN;
    asked[i].read.user_len = strlen(ANN);
    asked[i].read.session = session;
    asked[i].read.limit = limit;
    asked[i].read.client = NULL;
    int err = store_cache_read(cache, &asked[i].read);
    assert_int_equal(asked[i].times, 0); /* never before start has returned */
    if (err != 0) {
        memset(&asked[i].read, 0, sizeof(asked[i].read));
    }
    return err;
}

void ask_profile(unsigned i)
{
    assert_int_equal(start_read(i, STORE_READ_PROFILE, 0), 0);
}

void ask_history(unsigned i, unsigned limit)
{
    assert_int_equal(start_read(i, STORE_READ_HISTORY, limit), 0);
}

void expect_profile(unsigned i, enum store_source source, const char *json)
{
    const struct store_read *read = &asked[i].read;

    assert_int_equal(asked[i].times, 1);
    assert_int_equal(asked[i].status, 0);
    assert_int_equal(read->source, source);
    assert_int_equal(read->found, json != NULL);
    assert_int_equal(read->text.len, json != NULL ? strlen(json) : 0);
    if (json != NULL) {
        assert_memory_equal(read->text.base, json, strlen(json));
    }
}

static void expect_text(const struct store_text *is, const struct store_text *want)
{
    assert_int_equal(is->base == NULL, want->base == NULL);
    assert_int_equal(is->len, want->len);
    if (want->len > 0) {
        assert_memory_equal(is->base, want->base, want->len);
    }
}

void expect_history(unsigned i, enum store_source source, int first, int last)
{
    const struct store_read *read = &asked[i].read;

    assert_int_equal(asked[i].times, 1);
    assert_int_equal(asked[i].status, 0);
    assert_int_equal(read->source, source);
    assert_int_equal(read->count, last - first + 1);
    for (size_t k = 0; k < read->count; k++) {
        struct store_message want = message_number((unsigned)first + (unsigned)k);
        const struct store_message *is = &read->messages[k];
        assert_true(sl_uuid_equal(&is->id, &want.id));
        assert_true(sl_uuid_equal(&is->turn_id, &want.turn_id));
        assert_int_equal(is->role, want.role);
        assert_int_equal(is->status, want.status);
        assert_int_equal(is->created_at_us, want.created_at_us);
        expect_text(&is->content, &want.content);
        if (source == STORE_SOURCE_DATABASE) {
            expect_text(&is->model, &want.model);
        }
    }
}

void append_numbers(int first, int last, int window_first, int window_last)
{
    struct store_message added[8], window[8];
    size_t added_count = 0, window_count = 0;

    for (int n = first; n <= last; n++) {
        added[added_count++] = message_number((unsigned)n);
    }
    for (int n = window_first; n >= 0 && n <= window_last; n++) {
        window[window_count++] = message_number((unsigned)n);
    }
    store_cache_append(cache, ANN, strlen(ANN), &session, added, added_count,
                       window_first >= 0 ? window : NULL, window_count);
    memset(added, 0xee, sizeof(added)); /* the inputs are copied */
    memset(window, 0xee, sizeof(window));
}

void append_turn(unsigned question, unsigned answer)
{
    const struct store_message added[2] = {message_number(question), message_number(answer)};

    store_cache_append(cache, ANN, strlen(ANN), &session, added, 2, NULL, 0);
}

/* Pushes message `number` as another instance would have. */
void push_number(unsigned number)
{
    struct store_message message = message_number(number);
    struct sl_buffer value;

    sl_buffer_init(&value, 1 << 16);
    assert_int_equal(store_cache_value_write_message(&value, ANN, strlen(ANN), &message), 0);
    assert_true(redis_server_integer(&server, "RPUSH " HISTORY_KEY " %b", value.base, value.len) >
                0);
    sl_buffer_dispose(&value);
}

void run_turns(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        sl_loop_run_once(loop, 0);
    }
}

/* Waits until Redis has answered everything that was sent so far. */
void settle(void)
{
    struct asked *last = &asked[READS_MAX - 1];

    if (!is_up()) {
        return;
    }
    store_read_dispose(&last->read);
    memset(last, 0, sizeof(*last));
    last->read.op.done = on_read;
    last->read.kind = STORE_READ_PROFILE;
    last->read.user = "settle";
    last->read.user_len = 6;
    assert_int_equal(store_cache_read(cache, &last->read), 0);
    while (last->times == 0) {
        sl_loop_run_once(loop, 5);
        if (waiting > 0 && memcmp(sources[waiting - 1]->user, "settle", 6) == 0) {
            struct store_read *source = sources[--waiting];
            started--;
            sl_op_finish(&source->op, SL_E_CANCELLED); /* fills nothing */
        }
    }
}

long long exists(const char *key)
{
    return redis_server_integer(&server, "EXISTS %s", key);
}
