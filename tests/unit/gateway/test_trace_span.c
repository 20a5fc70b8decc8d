/* A turn's spans: the document is JSON as a collector wants it, whatever the texts hold. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>
#include <jansson.h>

#include "trace_span.h"

static const struct gw_trace_context caller = {0x0af7651916cd43dd, 0x8448eb211c80319c,
                                               0xb7ad6b7169203331, true};

/* A whole turn: one call that failed, one that answered. */
static struct gw_trace_record *whole(const struct gw_trace_context *context)
{
    struct gw_trace_record *record = gw_trace_record_create(context, 1700000000000000);

    assert_non_null(record);
    (void)snprintf(record->turn_id, sizeof(record->turn_id), "%s", "turn");
    (void)snprintf(record->session_id, sizeof(record->session_id), "%s", "session");
    (void)snprintf(record->request_id, sizeof(record->request_id), "%s", "request");
    record->user_hash = 0xfeed;
    record->status = "complete";
    record->profile_source = "cache";
    record->history_source = "failed";
    record->turn = (struct gw_trace_stage){1000, 9000, NULL};
    record->context_stage = (struct gw_trace_stage){1000, 2000, NULL};
    record->profile = (struct gw_trace_stage){1000, 1500, NULL};
    record->history = (struct gw_trace_stage){1000, 2000, "cache_timeout"};
    record->ask = (struct gw_trace_stage){2000, 8000, NULL};
    record->stream = (struct gw_trace_stage){4000, 8000, NULL};
    record->save = (struct gw_trace_stage){8000, 9000, NULL};
    record->prompt_tokens = 11;
    record->completion_tokens = 22;
    (void)snprintf(record->finish_reason, sizeof(record->finish_reason), "%s", "st\"op\n");
    *gw_trace_record_call(record) = (struct gw_trace_call){
        .stage = {2000, 3000, "upstream_error"},
        .upstream = "one",
        .provider = "openai",
        .model = "a \"model\"\\\x01",
        .http_status = 500,
    };
    *gw_trace_record_call(record) = (struct gw_trace_call){
        .stage = {3000, 8000, NULL},
        .upstream = "two",
        .provider = "anthropic",
        .model = "m",
        .http_status = 200,
        .connected_us = 3250,
        .first_byte_us = 3500,
        .answered = true,
    };
    return record;
}

static json_t *spans_of(struct gw_trace_record *const *records, size_t count, json_t **ret_root)
{
    struct sl_buffer json;

    sl_buffer_init(&json, 1 << 20);
    assert_int_equal(gw_trace_json_begin(&json), 0);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(gw_trace_json_add(&json, records[i]), 0);
    }
    assert_int_equal(gw_trace_json_end(&json), 0);
    *ret_root = json_loadb(json.base, json.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(*ret_root);
    sl_buffer_dispose(&json);
    json_t *resource = json_array_get(json_object_get(*ret_root, "resourceSpans"), 0);
    json_t *scope = json_array_get(json_object_get(resource, "scopeSpans"), 0);
    json_t *spans = json_object_get(scope, "spans");
    assert_true(json_is_array(spans));
    return spans;
}

static json_t *span_named(json_t *spans, const char *name)
{
    size_t i;
    json_t *span;

    json_array_foreach(spans, i, span)
    {
        if (strcmp(json_string_value(json_object_get(span, "name")), name) == 0) {
            return span;
        }
    }
    fail_msg("no span %s", name);
    return NULL;
}

static const char *text_of(json_t *span, const char *key)
{
    return json_string_value(json_object_get(span, key));
}

/* The value of an attribute, or NULL. */
static json_t *attribute(json_t *span, const char *key)
{
    size_t i;
    json_t *entry;

    json_array_foreach(json_object_get(span, "attributes"), i, entry)
    {
        if (strcmp(json_string_value(json_object_get(entry, "key")), key) == 0) {
            return json_object_get(entry, "value");
        }
    }
    return NULL;
}

static void expect(json_t *span, const char *key, const char *kind, const char *value)
{
    json_t *found = json_object_get(attribute(span, key), kind);

    assert_non_null(found);
    assert_string_equal(json_string_value(found), value);
}

static void expect_child(json_t *spans, const char *name, const char *parent, const char *from,
                         const char *to)
{
    json_t *span = span_named(spans, name);

    assert_string_equal(text_of(span, "parentSpanId"),
                        text_of(span_named(spans, parent), "spanId"));
    assert_string_equal(text_of(span, "startTimeUnixNano"), from);
    assert_string_equal(text_of(span, "endTimeUnixNano"), to);
}

static void test_a_whole_turn(void **state)
{
    struct gw_trace_record *record = whole(&caller);
    json_t *root, *spans = spans_of(&record, 1, &root), *span;
    size_t i, j;

    (void)state;
    assert_int_equal(json_array_size(spans), 9);
    assert_int_equal(gw_trace_record_spans(record), 9);
    json_array_foreach(spans, i, span)
    {
        assert_string_equal(text_of(span, "traceId"), "0af7651916cd43dd8448eb211c80319c");
        assert_int_equal(strlen(text_of(span, "spanId")), 16);
        assert_int_equal(strspn(text_of(span, "spanId"), "0123456789abcdef"), 16);
        for (j = 0; j < i; j++) {
            assert_string_not_equal(text_of(span, "spanId"),
                                    text_of(json_array_get(spans, j), "spanId"));
        }
    }
    json_t *turn = span_named(spans, "turn");
    assert_string_equal(text_of(turn, "parentSpanId"), "b7ad6b7169203331");
    assert_int_equal(json_integer_value(json_object_get(turn, "kind")), 2);
    expect(turn, "sluice.turn.id", "stringValue", "turn");
    expect(turn, "sluice.user.hash", "stringValue", "000000000000feed");
    expect_child(spans, "context", "turn", "1700000000001000000", "1700000000002000000");
    expect_child(spans, "profile", "context", "1700000000001000000", "1700000000001500000");
    expect_child(spans, "history", "context", "1700000000001000000", "1700000000002000000");
    expect_child(spans, "ask", "turn", "1700000000002000000", "1700000000008000000");
    expect_child(spans, "stream", "ask", "1700000000004000000", "1700000000008000000");
    expect_child(spans, "save", "turn", "1700000000008000000", "1700000000009000000");
    expect_child(spans, "chat a \"model\"\\\x01", "ask", "1700000000002000000",
                 "1700000000003000000");
    expect_child(spans, "chat m", "ask", "1700000000003000000", "1700000000008000000");
    json_decref(root);
    free(record);
}

static void test_what_a_call_says(void **state)
{
    struct gw_trace_record *record = whole(&caller);
    json_t *root, *spans = spans_of(&record, 1, &root);
    json_t *failed = span_named(spans, "chat a \"model\"\\\x01"),
           *good = span_named(spans, "chat m");
    char id[17];

    (void)state;
    expect(failed, "error.type", "stringValue", "upstream_error");
    expect(failed, "gen_ai.request.model", "stringValue", "a \"model\"\\\x01");
    assert_null(attribute(failed, "gen_ai.usage.input_tokens"));
    assert_int_equal(json_integer_value(json_object_get(json_object_get(failed, "status"), "code")),
                     2);
    assert_int_equal(json_integer_value(json_object_get(good, "kind")), 3);
    assert_null(attribute(good, "error.type"));
    expect(good, "gen_ai.operation.name", "stringValue", "chat");
    expect(good, "gen_ai.provider.name", "stringValue", "anthropic");
    expect(good, "gen_ai.usage.input_tokens", "intValue", "11");
    expect(good, "gen_ai.usage.output_tokens", "intValue", "22");
    expect(good, "http.response.status_code", "intValue", "200");
    json_t *reasons = json_object_get(
        json_object_get(attribute(good, "gen_ai.response.finish_reasons"), "arrayValue"), "values");
    assert_string_equal(text_of(json_array_get(reasons, 0), "stringValue"), "st\"op\n");
    /* what the model server was told is its parent */
    (void)snprintf(id, sizeof(id), "%016llx",
                   (unsigned long long)gw_trace_record_call_id(record, &record->calls[1]));
    assert_string_equal(text_of(good, "spanId"), id);
    json_decref(root);
    free(record);
}

/* A trace of our own has no parent; what did not happen has no span; several turns make one document. */
static void test_several_turns(void **state)
{
    const struct gw_trace_context ours = {1, 2, 0, true};
    struct gw_trace_record *records[] = {gw_trace_record_create(&ours, 0), whole(&caller),
                                         gw_trace_record_create(&ours, 0)};
    json_t *root;

    (void)state;
    for (size_t i = 0; i < 3; i += 2) {
        records[i]->turn = (struct gw_trace_stage){1, 2, "shutting_down"};
        records[i]->status = "interrupted";
        assert_int_equal(gw_trace_record_spans(records[i]), 1);
    }
    json_t *spans = spans_of(records, 3, &root);
    assert_int_equal(json_array_size(spans), 11);
    json_t *first = json_array_get(spans, 0);
    assert_null(json_object_get(first, "parentSpanId"));
    assert_string_equal(text_of(first, "traceId"), "00000000000000010000000000000002");
    expect(first, "error.type", "stringValue", "shutting_down");
    json_decref(root);
    for (size_t i = 0; i < 3; i++) {
        free(records[i]);
    }
}

static void test_more_calls_than_are_kept(void **state)
{
    struct gw_trace_record *record = gw_trace_record_create(&caller, 0);

    (void)state;
    for (size_t i = 0; i < GW_TRACE_CALLS_MAX; i++) {
        assert_non_null(gw_trace_record_call(record));
    }
    assert_null(gw_trace_record_call(record));
    assert_true(gw_trace_record_call_id(record, NULL) == record->root);
    free(record);
}

/* Wherever the room ends, nothing of the record stays. */
static void test_no_room(void **state)
{
    struct gw_trace_record *record = whole(&caller);
    struct sl_buffer json;

    (void)state;
    sl_buffer_init(&json, 1 << 20);
    assert_int_equal(gw_trace_json_add(&json, record), 0);
    size_t needed = json.len;
    sl_buffer_dispose(&json);
    for (size_t max = 1; max < needed; max++) {
        sl_buffer_init(&json, max);
        assert_int_equal(sl_buffer_append(&json, "[", 1), 0);
        assert_int_equal(gw_trace_json_add(&json, record), SL_E_LIMIT);
        assert_int_equal(json.len, 1);
        sl_buffer_dispose(&json);
    }
    free(record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_whole_turn),  cmocka_unit_test(test_what_a_call_says),
        cmocka_unit_test(test_several_turns), cmocka_unit_test(test_more_calls_than_are_kept),
        cmocka_unit_test(test_no_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
