/* Turns that ask. See asking.h. */
#include "asking.h"

#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

void asking_open(unsigned upstreams)
{
    static const char *const more[] = {"second", "third"};

    world_open();
    world.config.upstream.retry_backoff_ms = 0;
    world.config.upstream.retry_budget_percent = 10;
    world.config.upstream.breaker_failures = 5;
    for (unsigned i = 1; i < upstreams; i++) {
        world_add_upstream(more[i - 1], i);
    }
}

uint64_t asking_know_usual_time(unsigned upstream, uint64_t usual_us)
{
    struct gw_recent_times *times = &world.upstreams.of[upstream].first_tokens;
    uint64_t late_us = 0;

    world.config.upstream.hedge_percent = 2;
    for (unsigned i = 0; i < GW_RECENT_TIMES_SAMPLES_MIN; i++) {
        gw_recent_times_record(times, world.now_us, usual_us);
    }
    assert_true(gw_recent_times_quantile(times, world.now_us, 0.95, &late_us));
    return late_us;
}

void asking_start(void)
{
    world_start_turn("hi", false, GW_DISCONNECT_CANCEL);
    world_run();
    world_finish_profile(0, NULL);
}

void asking_advance_us(uint64_t us)
{
    world.now_us += us;
    world_advance_ms(0);
}

void asking_expect_answer(unsigned which, unsigned upstream)
{
    assert_non_null(world.calls[which]);
    assert_int_equal(world.called[which], upstream);
    world_send_delta_from(which, "Hello");
    world_finish_call(which, 0, "stop");
    world_complete();
    assert_int_equal(world_count(SL_EVENT_DONE), 1);
    assert_string_equal(world.answer_text, "Hello");
}

void asking_expect_error(int error)
{
    for (unsigned i = 0; i < WORLD_CALLS; i++) {
        assert_null(world.calls[i]);
    }
    world_complete();
    assert_int_equal(world_count(SL_EVENT_ERROR), 1);
    assert_true(world_saw(SL_EVENT_ERROR, sl_error_info(error)->code));
}

void asking_refuse(unsigned which, int http_status, uint64_t retry_after_s)
{
    world.calls[which]->connected = true;
    world.calls[which]->http_status = http_status;
    world.calls[which]->retry_after_us = retry_after_s * 1000000;
    world_finish_call(which,
                      http_status == 429   ? SL_E_UPSTREAM_RATE_LIMITED
                      : http_status >= 500 ? SL_E_UPSTREAM_FAILED
                                           : SL_E_UPSTREAM_REJECTED,
                      NULL);
}
