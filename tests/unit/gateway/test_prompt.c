/* The prompt: which messages go in, in which order, and that the bodies are valid JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "provider.h"

#define TEXT(text) ((struct store_text){.base = (text), .len = strlen(text)})
#define HEAD "{\"model\":\"m\",\"messages\":["
#define TAIL "],\"stream\":true,\"stream_options\":{\"include_usage\":true}"
#define USER(text) "{\"role\":\"user\",\"content\":\"" text "\"}"
#define ASSISTANT(text) "{\"role\":\"assistant\",\"content\":\"" text "\"}"
#define SYSTEM(text) "{\"role\":\"system\",\"content\":\"" text "\"}"
#define ANTHROPIC(max_tokens, system, messages)                                                    \
    "{\"model\":\"m\",\"max_tokens\":" max_tokens system ",\"messages\":[" messages                \
    "],\"stream\":true"

static struct gw_prompt plain_prompt(void)
{
    return (struct gw_prompt){.message = TEXT("now"), .model = TEXT("m"), .history_tokens = 1000};
}

/* Letters are user messages, capitals are the assistant's, '-' is an empty one of the assistant's. */
static size_t make_history(const char *letters, unsigned repeat, char texts[][16],
                           struct store_message *history)
{
    size_t n = strlen(letters);

    for (size_t i = 0; i < n; i++) {
        bool user = letters[i] >= 'a' && letters[i] <= 'z';
        size_t len = letters[i] == '-' ? 0 : repeat;
        memset(texts[i], letters[i], len);
        history[i] = (struct store_message){.role = user ? STORE_ROLE_USER : STORE_ROLE_ASSISTANT,
                                            .content = {.base = texts[i], .len = len}};
    }
    return n;
}

static void check_body(const char *provider, const struct gw_prompt *prompt, const char *expected,
                       size_t expected_used, unsigned expected_tokens)
{
    struct sl_buffer body;
    size_t used = 99;
    unsigned tokens = 99;

    sl_buffer_init(&body, 4096);
    assert_int_equal(gw_provider_find(provider)->build(prompt, &body, &used, &tokens), 0);
    if (body.len != strlen(expected) || memcmp(body.base, expected, body.len) != 0) {
        fail_msg("%.*s\ninstead of\n%s", (int)body.len, body.base, expected);
    }
    json_t *tree = json_loadb(body.base, body.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(tree);
    json_decref(tree);
    assert_int_equal(used, expected_used);
    assert_int_equal(tokens, expected_tokens);
    sl_buffer_dispose(&body);
}

static void check(const struct gw_prompt *prompt, const char *expected, size_t expected_used,
                  unsigned expected_tokens)
{
    check_body("openai", prompt, expected, expected_used, expected_tokens);
}

static void check_anthropic(const struct gw_prompt *prompt, const char *expected,
                            size_t expected_used, unsigned expected_tokens)
{
    check_body("anthropic", prompt, expected, expected_used, expected_tokens);
}

static void test_estimate(void **state)
{
    (void)state;
    assert_int_equal(gw_prompt_estimate_tokens(0), 0);
    assert_int_equal(gw_prompt_estimate_tokens(1), 1);
    assert_int_equal(gw_prompt_estimate_tokens(4), 1);
    assert_int_equal(gw_prompt_estimate_tokens(5), 2);
    assert_int_equal(gw_prompt_estimate_tokens(SIZE_MAX), UINT32_MAX);
}

static void test_message_alone(void **state)
{
    struct gw_prompt prompt = plain_prompt();

    (void)state;
    check(&prompt, HEAD USER("now") TAIL "}", 0, 1);
    prompt.system_template = "";
    check(&prompt, HEAD USER("now") TAIL "}", 0, 1);
    prompt.message = TEXT("say \"hi\"\n\xf0\x9f\x98\x80\\");
    prompt.model = TEXT("a\"b");
    check(&prompt,
          "{\"model\":\"a\\\"b\",\"messages\":[" USER("say \\\"hi\\\"\\n\xf0\x9f\x98\x80\\\\") TAIL
          "}",
          0, 4);
}

static void test_parameters(void **state)
{
    struct gw_prompt prompt = plain_prompt();

    (void)state;
    prompt.has_temperature = true;
    prompt.temperature = 0.7;
    check(&prompt, HEAD USER("now") TAIL ",\"temperature\":0.7}", 0, 1);
    prompt.temperature = 0;
    prompt.has_max_tokens = true;
    prompt.max_tokens = 8192;
    check(&prompt, HEAD USER("now") TAIL ",\"temperature\":0,\"max_tokens\":8192}", 0, 1);
    prompt.has_temperature = false;
    check(&prompt, HEAD USER("now") TAIL ",\"max_tokens\":8192}", 0, 1);
}

static void test_template(void **state)
{
    struct gw_prompt prompt = plain_prompt();

    (void)state;
    prompt.system_template = "Be kind.";
    prompt.profile = TEXT("{\"a\":1}");
    check(&prompt, HEAD SYSTEM("Be kind.") "," USER("now") TAIL "}", 0, 3);
    prompt.system_template = "{{profile}}|{{profile}} {{profil}}{{profile}}";
    check(&prompt,
          HEAD SYSTEM("{\\\"a\\\":1}|{\\\"a\\\":1} {{profil}}{\\\"a\\\":1}") "," USER("now") TAIL
          "}",
          0, 10);
    /* a placeholder inside the profile is the user's text */
    prompt.system_template = "p={{profile}}.";
    prompt.profile = TEXT("{{profile}}");
    check(&prompt, HEAD SYSTEM("p={{profile}}.") "," USER("now") TAIL "}", 0, 5);
    prompt.profile = (struct store_text){.base = NULL};
    check(&prompt, HEAD SYSTEM("p=.") "," USER("now") TAIL "}", 0, 2);
    /* nothing is left, or nothing to read: no system message */
    prompt.system_template = "{{profile}}";
    check(&prompt, HEAD USER("now") TAIL "}", 0, 1);
    prompt.system_template = " {{profile}}\r\n\t";
    check(&prompt, HEAD USER("now") TAIL "}", 0, 1);
}

static void test_history_in_order(void **state)
{
    struct gw_prompt prompt = plain_prompt();
    struct store_message history[8];
    char texts[8][16];

    (void)state;
    prompt.history = history;
    prompt.history_count = make_history("aAbB", 1, texts, history);
    prompt.system_template = "s";
    check(&prompt,
          HEAD SYSTEM("s") "," USER("a") "," ASSISTANT("A") "," USER("b") "," ASSISTANT(
              "B") "," USER("now") TAIL "}",
          4, 6);
    /* empty messages (a stopped answer) are left out and cost nothing */
    prompt.system_template = NULL;
    prompt.history_tokens = 3;
    prompt.history_count = make_history("a-b-c", 1, texts, history);
    check(&prompt, HEAD USER("a") "," USER("b") "," USER("c") "," USER("now") TAIL "}", 3, 4);
    /* so are blank ones, which some servers refuse */
    prompt.history_tokens = 1000;
    prompt.history_count = make_history("aAbB", 1, texts, history);
    history[0].content = TEXT("\n");
    history[3].content = TEXT(" \t\r\n");
    check(&prompt, HEAD USER("b") "," USER("now") TAIL "}", 1, 2);
}

static void test_history_budget(void **state)
{
    static const struct {
        unsigned budget;
        size_t used;
        const char *messages;
    } rows[] = {
        /* two tokens each */
        {0, 0, ""},
        {3, 0, ""}, /* the answer alone would fit, but without its question it is dropped */
        {4, 2, USER("bbbbb") "," ASSISTANT("BBBBB") ","},
        {7, 2, USER("bbbbb") "," ASSISTANT("BBBBB") ","},
        {8, 4, USER("aaaaa") "," ASSISTANT("AAAAA") "," USER("bbbbb") "," ASSISTANT("BBBBB") ","},
    };
    struct gw_prompt prompt = plain_prompt();
    struct store_message history[8];
    char texts[8][16], expected[1024];

    (void)state;
    prompt.history = history;
    prompt.history_count = make_history("aAbB", 5, texts, history);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        prompt.history_tokens = rows[i].budget;
        (void)snprintf(expected, sizeof(expected), HEAD "%s" USER("now") TAIL "}",
                       rows[i].messages);
        check(&prompt, expected, rows[i].used, 1 + 2 * (unsigned)rows[i].used);
    }
}

static void test_history_stops_at_the_first_that_does_not_fit(void **state)
{
    struct gw_prompt prompt = plain_prompt();
    struct store_message history[8];
    char texts[8][16];
    static char large[401];

    (void)state;
    memset(large, 'x', 400);
    prompt.history = history;
    prompt.history_count = make_history("abAc", 1, texts, history);
    history[1].content = TEXT(large);
    prompt.history_tokens = 50;
    /* `a` would fit again, but the gap would make the rest hard to follow */
    check(&prompt, HEAD USER("c") "," USER("now") TAIL "}", 1, 2);
}

static void test_anthropic_parameters(void **state)
{
    struct gw_prompt prompt = plain_prompt();

    (void)state;
    check_anthropic(&prompt, ANTHROPIC("4096", "", USER("now")) "}", 0, 1);
    prompt.max_tokens_default = 1000;
    check_anthropic(&prompt, ANTHROPIC("1000", "", USER("now")) "}", 0, 1);
    prompt.has_max_tokens = true;
    prompt.max_tokens = 8192;
    check_anthropic(&prompt, ANTHROPIC("8192", "", USER("now")) "}", 0, 1);
    prompt.has_temperature = true;
    prompt.temperature = 0.7;
    check_anthropic(&prompt, ANTHROPIC("8192", "", USER("now")) ",\"temperature\":0.7}", 0, 1);
    prompt.temperature = 1.5;
    check_anthropic(&prompt, ANTHROPIC("8192", "", USER("now")) ",\"temperature\":1}", 0, 1);
    prompt.temperature = 0;
    check_anthropic(&prompt, ANTHROPIC("8192", "", USER("now")) ",\"temperature\":0}", 0, 1);
}

static void test_anthropic_system(void **state)
{
    struct gw_prompt prompt = plain_prompt();

    (void)state;
    prompt.system_template = "Be \"kind\" to {{profile}}.";
    prompt.profile = TEXT("{\"a\":1}");
    check_anthropic(
        &prompt,
        ANTHROPIC("4096", ",\"system\":\"Be \\\"kind\\\" to {\\\"a\\\":1}.\"", USER("now")) "}", 0,
        7);
    prompt.system_template = "{{profile}}\n";
    prompt.profile = (struct store_text){.base = NULL};
    check_anthropic(&prompt, ANTHROPIC("4096", "", USER("now")) "}", 0, 1);
    prompt.system_template = "";
    check_anthropic(&prompt, ANTHROPIC("4096", "", USER("now")) "}", 0, 1);
}

static void test_anthropic_roles_take_turns(void **state)
{
    static const struct {
        const char *history;
        size_t used;
        const char *expected;
    } rows[] = {
        {"aAbB", 4,
         ANTHROPIC("4096", "",
                   USER("a") "," ASSISTANT("A") "," USER("b") "," ASSISTANT("B") "," USER("now"))},
        {"a-b-", 2, ANTHROPIC("4096", "", USER("a\\n\\nb\\n\\nnow"))},
        {"aABb", 4,
         ANTHROPIC("4096", "", USER("a") "," ASSISTANT("A\\n\\nB") "," USER("b\\n\\nnow"))},
        {"AaA", 2, ANTHROPIC("4096", "", USER("a") "," ASSISTANT("A") "," USER("now"))},
        {"A", 0, ANTHROPIC("4096", "", USER("now"))},
    };
    struct gw_prompt prompt = plain_prompt();
    struct store_message history[8];
    char texts[8][16], expected[1024];

    (void)state;
    prompt.history = history;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        prompt.history_count = make_history(rows[i].history, 1, texts, history);
        (void)snprintf(expected, sizeof(expected), "%s}", rows[i].expected);
        check_anthropic(&prompt, expected, rows[i].used, 1 + (unsigned)rows[i].used);
    }
}

static void check_too_small_a_buffer(const char *provider)
{
    struct gw_prompt prompt = plain_prompt();
    struct store_message history[8];
    char texts[8][16];
    struct sl_buffer body;
    size_t needed = 0, used = 99;
    unsigned tokens = 99;

    prompt.history = history;
    prompt.history_count = make_history("abA", 5, texts, history);
    prompt.system_template = "s";
    prompt.has_temperature = prompt.has_max_tokens = true;
    for (size_t max = 1; needed == 0; max++) {
        assert_true(max < 1024);
        sl_buffer_init(&body, max);
        assert_int_equal(sl_buffer_append(&body, "x", 1), 0);
        int err = gw_provider_find(provider)->build(&prompt, &body, &used, &tokens);
        if (err == 0) {
            needed = body.len;
        } else {
            assert_int_equal(err, SL_E_LIMIT);
            assert_int_equal(body.len, 1);
            assert_int_equal(used, 99);
            assert_int_equal(tokens, 99);
        }
        sl_buffer_dispose(&body);
    }
    assert_true(needed > 100);
}

static void test_too_small_a_buffer(void **state)
{
    (void)state;
    check_too_small_a_buffer("openai");
    check_too_small_a_buffer("anthropic");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_estimate),
        cmocka_unit_test(test_message_alone),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_template),
        cmocka_unit_test(test_history_in_order),
        cmocka_unit_test(test_history_budget),
        cmocka_unit_test(test_history_stops_at_the_first_that_does_not_fit),
        cmocka_unit_test(test_anthropic_parameters),
        cmocka_unit_test(test_anthropic_system),
        cmocka_unit_test(test_anthropic_roles_take_turns),
        cmocka_unit_test(test_too_small_a_buffer),
    };

    return cmocka_run_group_tests_name("prompt", tests, NULL, NULL);
}
