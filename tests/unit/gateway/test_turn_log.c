/* The turn log: sequence numbers, offsets, the reserve for the last word. */
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "turn_log.h"

static void test_events_come_back_in_order(void **state)
{
    struct gw_turn_log log;
    struct gw_event event;
    size_t offset = 0;

    (void)state;
    gw_turn_log_init(&log, 65536);
    assert_false(gw_turn_log_read(&log, &offset, &event));
    assert_int_equal(gw_turn_log_append(&log, SL_EVENT_SESSION_ID, "\"a\":1", 5), 0);
    assert_int_equal(gw_turn_log_append(&log, SL_EVENT_TOKEN, "Hi", 2), 0);
    assert_true(gw_turn_log_read(&log, &offset, &event));
    assert_int_equal(event.seq, 1);
    assert_int_equal(event.type, SL_EVENT_SESSION_ID);
    assert_memory_equal(event.payload, "\"a\":1", 5);
    assert_true(gw_turn_log_read(&log, &offset, &event));
    assert_int_equal(event.seq, 2);
    assert_false(gw_turn_log_read(&log, &offset, &event));
    assert_int_equal(gw_turn_log_append(&log, SL_EVENT_TOKEN, "", 0), 0); /* a reader goes on */
    assert_true(gw_turn_log_read(&log, &offset, &event));
    assert_int_equal(event.seq, 3);
    assert_int_equal(event.payload_len, 0);
    assert_int_equal(log.first_token_seq, 2);
    assert_false(log.ended);
    assert_int_equal(gw_turn_log_append(&log, SL_EVENT_DONE, "", 0), 0);
    assert_true(log.ended);
    gw_turn_log_dispose(&log);
}

static void test_text_is_the_tokens_alone(void **state)
{
    struct gw_turn_log log;
    struct sl_buffer text;

    (void)state;
    gw_turn_log_init(&log, 65536);
    sl_buffer_init(&text, 100);
    assert_int_equal(gw_turn_log_append(&log, SL_EVENT_REASONING, "hm", 2), 0);
    assert_int_equal(gw_turn_log_append(&log, SL_EVENT_TOKEN, "A", 1), 0);
    assert_int_equal(gw_turn_log_append(&log, SL_EVENT_WARNING, "x", 1), 0);
    assert_int_equal(gw_turn_log_append(&log, SL_EVENT_TOKEN, "B", 1), 0);
    assert_int_equal(gw_turn_log_text(&log, SL_EVENT_TOKEN, &text), 0);
    assert_int_equal(text.len, 2);
    assert_memory_equal(text.base, "AB", 2);
    assert_int_equal(log.token_bytes, 2);
    assert_int_equal(log.reasoning_bytes, 2);
    assert_int_equal(log.token_count, 3);
    sl_buffer_dispose(&text);
    gw_turn_log_dispose(&log);
}

static void test_a_full_log_can_still_say_how_it_ended(void **state)
{
    struct gw_turn_log log;
    char text[1000];
    int err = 0;

    (void)state;
    memset(text, 'x', sizeof(text));
    gw_turn_log_init(&log, GW_TURN_LOG_RESERVE + 5000);
    while (err == 0) {
        err = gw_turn_log_append(&log, SL_EVENT_TOKEN, text, sizeof(text));
    }
    assert_int_equal(err, SL_E_LIMIT);
    assert_int_equal(log.token_count, 4);
    assert_int_equal(gw_turn_log_append(&log, SL_EVENT_ERROR, text, sizeof(text)), 0);
    gw_turn_log_dispose(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_come_back_in_order),
        cmocka_unit_test(test_text_is_the_tokens_alone),
        cmocka_unit_test(test_a_full_log_can_still_say_how_it_ended),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
