/*
 * Dead letters: what is kept, listed and retried. Damage and faults are in test_dead_letter_faults.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "letter_fixture.h"
#include "writer.h"

/* ---- what is kept ---- */

static struct store_dead_letter kept[4];
static unsigned kept_count;

static bool keep(void *context, struct store_dead_letter *letter)
{
    (void)context;
    kept[kept_count++] = *letter;
    letter->record = NULL;
    return true;
}

static void every_kind_comes_back_as_it_was(void **state)
{
    struct store_record *records[4];
    struct store_message message = sample_message(7, NULL);
    struct sl_uuid session = sample_id(5);
    int64_t before = (int64_t)time(NULL);

    (void)state;
    message.content = (struct store_text){"nul \0, \xff", 8};
    message.role = STORE_ROLE_ASSISTANT;
    message.status = STORE_STATUS_INTERRUPTED;
    message.finish_reason = sample_text("");
    message.prompt_tokens = 5;
    message.ttft_ms = 1.25;
    assert_int_equal(store_record_create_message("ann", 3, &session, &message, &records[0]), 0);
    assert_int_equal(store_record_create(STORE_RECORD_PROFILE, "ann", 3, NULL,
                                         sample_text("{not json"), &records[1]),
                     0);
    assert_int_equal(store_record_create(STORE_RECORD_TITLE,
                                         "b\xc3\xb6"
                                         "b",
                                         4, &session, sample_text("\xff"), &records[2]),
                     0);
    assert_int_equal(store_record_create(STORE_RECORD_DELETE, "ann", 3, &session, sample_text(NULL),
                                         &records[3]),
                     0);
    /* the writer's seam takes it as it is */
    struct store_writer_options options = {.refuse = store_dead_letter_append_on_writer_thread,
                                           .refuse_context = letters};
    for (unsigned i = 0; i < 4; i++) {
        records[i]->sequence = i * 1000;
        assert_int_equal(
            options.refuse(options.refuse_context, records[i], i == 0 ? "22021" : "XX000"), 0);
    }
    assert_int_equal(counted(), 4);
    reopen_letters();
    assert_int_equal(counted(), 4);
    kept_count = 0;
    assert_int_equal(store_dead_letter_list(letters, keep, NULL), 0);
    assert_int_equal(kept_count, 4);
    for (unsigned i = 0; i < 4; i++) {
        const struct store_record *a = records[i], *b = kept[i].record;
        assert_string_equal(kept[i].sqlstate, i == 0 ? "22021" : "XX000");
        assert_in_range(kept[i].refused_unix_s, before, before + 60);
        assert_int_equal(a->kind, b->kind);
        assert_int_equal(a->user_len, b->user_len);
        assert_string_equal(a->user, b->user);
        assert_memory_equal(&a->session, &b->session, sizeof(a->session));
        assert_int_equal(a->recorded_at_us, b->recorded_at_us);
        assert_int_equal(a->text.len, b->text.len);
        assert_true((a->text.base == NULL) == (b->text.base == NULL));
        if (a->text.base != NULL) {
            assert_memory_equal(a->text.base, b->text.base, a->text.len);
        }
    }
    const struct store_message *back = &kept[0].record->message;
    assert_memory_equal(&back->id, &message.id, sizeof(back->id));
    assert_int_equal(back->content.len, 8);
    assert_memory_equal(back->content.base, message.content.base, 8);
    assert_null(back->model.base);
    assert_non_null(back->finish_reason.base);
    assert_int_equal(back->status, STORE_STATUS_INTERRUPTED);
    assert_int_equal(back->prompt_tokens, 5);
    assert_int_equal(back->completion_tokens, -1);
    assert_true(back->ttft_ms == 1.25 && back->created_at_us == message.created_at_us);
    for (unsigned i = 0; i < 4; i++) {
        store_record_destroy(records[i]);
        store_record_destroy(kept[i].record);
    }
}

static void without_letters_there_is_no_file(void **state)
{
    (void)state;
    assert_int_equal(list(), 0);
    assert_int_equal(store_dead_letter_retry(letters, see, NULL), 0);
    assert_int_equal(access(file, F_OK), -1);
    assert_int_equal(append(0, "text"), 0);
    struct stat about;
    assert_int_equal(stat(file, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
}

static void a_megabyte_is_kept_whole(void **state)
{
    enum { SIZE = 1024 * 1024 };
    char *content = malloc(SIZE);

    (void)state;
    memset(content, 'x', SIZE);
    for (unsigned i = 0; i < 3; i++) {
        struct store_record *record = make_record(i, (struct store_text){content, SIZE});
        assert_int_equal(store_dead_letter_append_on_writer_thread(letters, record, "54000"), 0);
        store_record_destroy(record);
    }
    reopen_letters();
    kept_count = 0;
    assert_int_equal(store_dead_letter_list(letters, keep, NULL), 0);
    assert_int_equal(kept_count, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(kept[i].record->message.content.len, SIZE);
        assert_memory_equal(kept[i].record->message.content.base, content, SIZE);
        store_record_destroy(kept[i].record);
    }
    free(content);
}

static void a_file_that_was_moved_away_is_begun_again(void **state)
{
    (void)state;
    append_some(3);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(append(9, "text"), 0);
    assert_int_equal(list(), 1);
    assert_int_equal(damaged(), 0);
}

/* ---- what is retried ---- */

static bool settle_even(void *context, struct store_dead_letter *letter)
{
    (void)see(context, letter);
    return sample_number(&letter->record->message.id) % 2 == 0;
}

static void what_succeeds_leaves_and_the_rest_stays(void **state)
{
    (void)state;
    append_some(9);
    seen.count = 0;
    assert_int_equal(store_dead_letter_retry(letters, settle_even, NULL), 0);
    assert_int_equal(seen.count, 9);
    assert_seen_but(9, 9);
    assert_int_equal(counted(), 4);
    assert_int_equal(append(11, "after it"), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(list(), 5);
        for (unsigned k = 0; k < 5; k++) {
            assert_int_equal(seen.numbers[k], k < 4 ? 2 * k + 1 : 11);
        }
        reopen_letters();
        assert_int_equal(counted(), 5);
        assert_int_equal(damaged(), 0);
    }
}

static void beside_a_running_gateway_nothing_is_retried(void **state)
{
    struct store_disk *other = NULL;

    (void)state;
    append_some(3);
    assert_int_equal(store_disk_posix_create(folder, &other), 0);
    assert_int_equal(other->ops->lock(other), 0);
    seen.count = 0;
    assert_int_equal(store_dead_letter_retry(letters, settle_even, NULL), SL_E_CONFLICT);
    assert_int_equal(seen.count, 0);
    assert_int_equal(list(), 3); /* which needs no lock */
    other->ops->destroy(other);
    assert_int_equal(store_dead_letter_retry(letters, settle_even, NULL), 0);
    assert_int_equal(list(), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LETTER_TEST(every_kind_comes_back_as_it_was),
        LETTER_TEST(without_letters_there_is_no_file),
        LETTER_TEST(a_megabyte_is_kept_whole),
        LETTER_TEST(a_file_that_was_moved_away_is_begun_again),
        LETTER_TEST(what_succeeds_leaves_and_the_rest_stays),
        LETTER_TEST(beside_a_running_gateway_nothing_is_retried),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
