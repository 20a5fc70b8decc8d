/*
 * Records copy everything; their origin hears of durable before committed, each once, and a closed
 * origin frees what comes back.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "record.h"
#include "samples.h"

enum { HEARD_MAX = 4096 };

struct heard {
    unsigned count;
    struct {
        char what; /* d or c */
        uint32_t slot;
        int status;
    } items[HEARD_MAX];
};

static struct sl_loop *loop;
static struct store_origin *origin;
static struct heard heard;

static void hear(char what, const struct store_record *record)
{
    assert_true(heard.count < HEARD_MAX);
    heard.items[heard.count].what = what;
    heard.items[heard.count].slot = record->slot;
    /* until it is committed the writer may be setting the status */
    heard.items[heard.count].status = what == 'c' ? record->status : 0;
    heard.count++;
}

static void hear_durable(void *context, const struct store_record *record)
{
    assert_ptr_equal(context, &heard);
    hear('d', record);
}

static void hear_committed(void *context, struct store_record *record)
{
    assert_ptr_equal(context, &heard);
    hear('c', record);
    store_record_destroy(record);
}

static const struct store_origin_callbacks callbacks = {hear_durable, hear_committed};

static int set_up(void **state)
{
    (void)state;
    heard.count = 0;
    assert_int_equal(sl_loop_create(&loop), 0);
    assert_int_equal(store_origin_create(loop, &callbacks, &heard, &origin), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    store_origin_destroy(origin);
    sl_loop_destroy(loop);
    return 0;
}

static struct store_record *make(uint32_t slot)
{
    struct sl_uuid session = sample_id(1);
    struct store_message message = sample_message(slot, "content");
    struct store_record *record = NULL;

    assert_int_equal(store_record_create_message("ann", 3, &session, &message, &record), 0);
    record->origin = origin;
    record->slot = slot;
    return record;
}

static void a_message_is_copied_whole(void **state)
{
    char user[] = "ann", content[] = "content", model[] = "", reason[] = "stop";
    struct sl_uuid session = sample_id(1);
    struct store_message message = sample_message(7, content);
    struct store_record *record = NULL;

    (void)state;
    message.model = sample_text(model);
    message.finish_reason = sample_text(reason);
    assert_int_equal(store_record_create_message(user, 3, &session, &message, &record), 0);
    memset(user, '#', 3);
    memset(content, '#', 7);
    memset(reason, '#', 4);
    assert_int_equal(record->kind, STORE_RECORD_MESSAGE);
    assert_string_equal(record->user, "ann");
    assert_string_equal(record->message.content.base, "content");
    assert_non_null(record->message.model.base); /* empty is not null */
    assert_int_equal(record->message.model.len, 0);
    assert_string_equal(record->message.finish_reason.base, "stop");
    assert_int_equal(sample_number(&record->message.id), 7);
    assert_true(record->bytes > sizeof(*record) + 3 + 7 + 4);
    store_record_destroy(record);
}

static void other_kinds_carry_their_text(void **state)
{
    struct sl_uuid session = sample_id(1);
    struct store_record *record = NULL;

    (void)state;
    assert_int_equal(store_record_create(STORE_RECORD_TITLE, "ann", 3, &session,
                                         (struct store_text){"a\0b", 3}, &record),
                     0);
    assert_int_equal(record->text.len, 3);
    assert_memory_equal(record->text.base, "a\0b", 3);
    store_record_destroy(record);
    assert_int_equal(
        store_record_create(STORE_RECORD_PROFILE, "ann", 3, NULL, sample_text("{}"), &record), 0);
    assert_true(sl_uuid_is_nil(&record->session));
    store_record_destroy(record);
    assert_int_equal(store_record_create(STORE_RECORD_DELETE, "ann", 3, &session,
                                         (struct store_text){NULL, 0}, &record),
                     0);
    assert_null(record->text.base);
    store_record_destroy(record);
}

static void durable_is_heard_before_committed(void **state)
{
    struct store_record *record = make(5);

    (void)state;
    store_record_durable(record);
    store_record_durable(record); /* once is enough */
    store_record_committed(record, SL_E_NOT_FOUND);
    assert_int_equal(heard.count, 0); /* only on the loop */
    sl_loop_dispatch(loop);
    assert_int_equal(heard.count, 2);
    assert_int_equal(heard.items[0].what, 'd');
    assert_int_equal(heard.items[0].slot, 5);
    assert_int_equal(heard.items[1].what, 'c');
    assert_int_equal(heard.items[1].status, SL_E_NOT_FOUND);
}

static void committed_alone_is_enough(void **state)
{
    (void)state;
    store_record_committed(make(1), 0);
    store_record_committed(make(2), 0);
    sl_loop_dispatch(loop);
    assert_int_equal(heard.count, 2);
    assert_int_equal(heard.items[0].slot, 1);
    assert_int_equal(heard.items[1].slot, 2);
}

static void a_closed_origin_frees_what_comes_back(void **state)
{
    struct store_record *early = make(1), *late = make(2);

    (void)state;
    store_record_durable(early);
    store_record_committed(early, 0); /* in the list when the origin closes */
    store_origin_close(origin);
    store_record_durable(late);
    store_record_committed(late, 0);
    sl_loop_dispatch(loop); /* the message that was posted before */
    assert_int_equal(heard.count, 0);
}

static void without_an_origin_it_is_freed(void **state)
{
    struct store_record *record = make(1);

    (void)state;
    record->origin = NULL;
    store_record_durable(record);
    store_record_committed(record, 0);
    assert_int_equal(heard.count, 0);
}

static void *commit_many(void *argument)
{
    uint32_t from = *(uint32_t *)argument;

    for (uint32_t i = 0; i < 1000; i++) {
        struct store_record *record = make(from + i);
        store_record_durable(record);
        store_record_committed(record, 0);
    }
    return NULL;
}

static void threads_keep_their_order(void **state)
{
    pthread_t threads[2];
    uint32_t from[] = {0, 10000}, next[] = {0, 10000};
    unsigned durable = 0;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, commit_many, &from[i]), 0);
    }
    SAMPLE_RUN_UNTIL(loop, heard.count == 4000);
    for (size_t i = 0; i < 2; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    for (unsigned i = 0; i < heard.count; i++) {
        if (heard.items[i].what == 'd') {
            durable++;
        } else {
            size_t thread = heard.items[i].slot >= 10000;
            assert_int_equal(heard.items[i].slot, next[thread]);
            next[thread]++;
        }
    }
    assert_int_equal(durable, 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_copied_whole),
        cmocka_unit_test(other_kinds_carry_their_text),
        cmocka_unit_test_setup_teardown(durable_is_heard_before_committed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(committed_alone_is_enough, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_closed_origin_frees_what_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_an_origin_it_is_freed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(threads_keep_their_order, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
