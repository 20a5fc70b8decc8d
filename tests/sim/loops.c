/* Loops on threads, with fakes of the store and the upstream under their production names. See loops.h. */
#include "loops.h"

#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <setjmp.h>

#include <cmocka.h>

enum {
    WAIT_MS = 20000 /* for what must happen; a failing test waits this long, a passing one never */
};

/* One loop and what belongs to it. It is what the fakes get as their store client and their upstream. */
struct site {
    struct sl_loop *loop;
    pthread_t thread;
    bool stop;
    struct gw_stats stats;
    struct gw_turns turns;
    struct gw_upstreams upstreams;
    struct sl_link speeches;
    struct loops_job stopping;
};

/* An answer that is being given. */
struct speech {
    struct sl_link link;
    struct sl_task task;
    struct site *site;
    struct gw_upstream_call *call;
    struct loops_script script;
    unsigned said;
    bool is_cancelled;
};

struct loops loops;

static struct site *sites;
static struct gw_turns *peers[LOOPS_MAX];
static struct gw_user_turns *user_turns;
static struct gw_upstreams_shared shared;
static struct gw_upstream_config upstream;
static char *no_models[1];

static void ignore_line(void *context, const char *line, size_t len);
static void ignore(void *context);
static void *run_loop(void *context);
static void stop_loop(struct loops_job *job);
static void speak(struct sl_task *task);
static void finish_read(struct sl_task *task);
static void finish_save(struct sl_task *task);

void loops_open(unsigned count)
{
    loops = (struct loops){.count = count, .script = {.deltas = 20, .per_drain = 1}};
    shared = (struct gw_upstreams_shared){.config = &loops.config};
    upstream = (struct gw_upstream_config){
        .name = (char *)(uintptr_t) "only",
        .provider = (char *)(uintptr_t) "openai",
        .models = no_models,
        .weight = 1,
    };
    loops.config.log_level = (char *)(uintptr_t) "info";
    loops.config.chat.system_prompt = (char *)(uintptr_t) "Be kind.";
    loops.config.chat.resume_window_s = 600;
    loops.config.upstream.connect_timeout_ms = 1000 * 60;
    loops.config.upstream.first_token_timeout_ms = 1000 * 60;
    loops.config.upstream.idle_timeout_ms = 1000 * 60;
    loops.config.upstream.total_timeout_ms = 1000 * 60;
    loops.config.upstream.answer_max_bytes = 65536;
    loops.config.upstream.model = (char *)(uintptr_t) "demo";
    loops.config.writer.save_timeout_ms = 1000 * 60;
    loops.config.upstreams = &upstream;
    loops.config.upstreams_count = 1;
    assert_int_equal(gw_user_turns_create(4096, &user_turns), 0);
    sites = calloc(count, sizeof(*sites));
    assert_non_null(sites);
    for (unsigned i = 0; i < count; i++) {
        struct site *site = &sites[i];
        assert_int_equal(sl_loop_create(&site->loop), 0);
        sl_list_init(&site->speeches);
        site->upstreams = (struct gw_upstreams){
            .loop = site->loop,
            .config = &loops.config,
            .shared = &shared,
            .stats = &site->stats,
            .of[0] = {.endpoint = (struct gw_upstream *)(void *)site,
                      .provider = gw_provider_find("openai")},
        };
        site->turns = (struct gw_turns){
            .loop = site->loop,
            .config = &loops.config,
            .store = (struct store_client *)(void *)site,
            .upstreams = &site->upstreams,
            .user_turns = user_turns,
            .stats = &site->stats,
            .peers = peers,
            .peers_count = count,
            .index = i,
            .kept_max_bytes = 64 << 20,
            .log_line = ignore_line,
            .on_end = ignore,
            .on_quiet = ignore,
        };
        gw_turns_init(&site->turns);
        peers[i] = loops.turns[i] = &site->turns;
        loops.stats[i] = &site->stats;
    }
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(pthread_create(&sites[i].thread, NULL, run_loop, &sites[i]), 0);
    }
}

static void *run_loop(void *context)
{
    struct site *site = context;

    while (!site->stop) {
        sl_loop_run_once(site->loop, 1000);
    }
    return NULL;
}

static void stop_loop(struct loops_job *job)
{
    sites[job->index].stop = true;
}

static void ignore_line(void *context, const char *line, size_t len)
{
    (void)context, (void)line, (void)len;
}

static void ignore(void *context)
{
    (void)context;
}

void loops_close(void)
{
    uint32_t ticket;

    loops_wait_until_quiet();
    for (unsigned i = 0; i < loops.count; i++) {
        sites[i].stopping.run = stop_loop;
        loops_post(i, &sites[i].stopping);
    }
    for (unsigned i = 0; i < loops.count; i++) {
        (void)pthread_join(sites[i].thread, NULL);
    }
    for (unsigned i = 0; i < loops.count; i++) {
        gw_turns_finish(&sites[i].turns);
    }
    for (unsigned i = 0; i < loops.count; i++) {
        struct site *site = &sites[i];
        assert_int_equal(site->turns.running, 0);
        assert_int_equal(site->turns.away, 0);
        assert_true(sl_list_is_empty(&site->turns.all));
        assert_true(sl_list_is_empty(&site->speeches));
        assert_int_equal(sl_counter_get(&site->stats.log_bytes), 0);
        assert_false(sl_loop_has_tasks(site->loop));
        assert_int_equal(sl_loop_wait_ms(site->loop, 12345), 12345); /* no timer was left behind */
        sl_loop_destroy(site->loop);
    }
    assert_true(gw_user_turns_enter(user_turns, "ada", 3, 1, &ticket)); /* none is counted */
    gw_user_turns_destroy(user_turns);
    free(sites);
}

/* ---------------------------------------------------------------- jobs */

static void receive_job(struct sl_message *message)
{
    struct loops_job *job = SL_CONTAINER_OF(message, struct loops_job, message);

    job->run(job);
}

void loops_post(unsigned index, struct loops_job *job)
{
    job->index = index;
    job->message.receive = receive_job;
    sl_loop_post(sites[index].loop, &job->message);
}

struct awaited {
    struct loops_job outer, *inner;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool is_done;
};

static void run_awaited(struct loops_job *job)
{
    struct awaited *awaited = SL_CONTAINER_OF(job, struct awaited, outer);

    awaited->inner->index = job->index;
    awaited->inner->run(awaited->inner);
    (void)pthread_mutex_lock(&awaited->mutex);
    awaited->is_done = true;
    (void)pthread_cond_signal(&awaited->cond);
    (void)pthread_mutex_unlock(&awaited->mutex);
}

void loops_run(unsigned index, struct loops_job *job)
{
    struct awaited awaited = {
        .outer.run = run_awaited,
        .inner = job,
        .mutex = PTHREAD_MUTEX_INITIALIZER,
        .cond = PTHREAD_COND_INITIALIZER,
    };

    loops_post(index, &awaited.outer);
    (void)pthread_mutex_lock(&awaited.mutex);
    while (!awaited.is_done) {
        (void)pthread_cond_wait(&awaited.cond, &awaited.mutex);
    }
    (void)pthread_mutex_unlock(&awaited.mutex);
}

/* ---------------------------------------------------------------- waiting */

struct question {
    struct loops_job job;
    bool (*is_true)(unsigned index, void *context);
    void *context;
    bool answer;
};

static void put_question(struct loops_job *job)
{
    struct question *question = SL_CONTAINER_OF(job, struct question, job);

    question->answer = question->is_true(job->index, question->context);
}

static bool ask(unsigned index, bool (*is_true)(unsigned index, void *context), void *context)
{
    struct question question = {.job.run = put_question, .is_true = is_true, .context = context};

    loops_run(index, &question.job);
    return question.answer;
}

/* Between two looks; the test fails when there have been too many. */
static void wait_a_little(unsigned *looks)
{
    const struct timespec little = {.tv_nsec = 200000};

    (*looks)++;
    if (*looks > WAIT_MS * 5) {
        fail_msg("what was waited for has not happened");
    }
    (void)nanosleep(&little, NULL);
}

void loops_wait(unsigned index, bool (*is_true)(unsigned index, void *context), void *context)
{
    unsigned looks = 0;

    while (!ask(index, is_true, context)) {
        wait_a_little(&looks);
    }
}

static bool is_quiet(unsigned index, void *context)
{
    (void)context;
    return sites[index].turns.running == 0 && sites[index].turns.away == 0 &&
           !sl_loop_has_tasks(sites[index].loop);
}

/* Quiet twice all round: what one loop sends last may still have stirred another that was looked at before. */
void loops_wait_until_quiet(void)
{
    unsigned looks = 0;

    for (unsigned in_a_row = 0; in_a_row < 2 * loops.count;) {
        if (ask(in_a_row % loops.count, is_quiet, NULL)) {
            in_a_row++;
        } else {
            in_a_row = 0;
            wait_a_little(&looks);
        }
    }
}

void loops_wait_for(const atomic_uint *counter, unsigned value)
{
    unsigned looks = 0;

    while (atomic_load(counter) < value) {
        wait_a_little(&looks);
    }
}

/* ---------------------------------------------------------------- turns */

struct gw_user loops_user(const char *name)
{
    struct gw_user user = {.id_len = strlen(name)};

    memcpy(user.id, name, user.id_len);
    return user;
}

struct gw_turn *loops_start_turn(unsigned index, const struct sl_uuid *id, const char *user_name,
                                 const char *key)
{
    struct gw_user user = loops_user(user_name);
    struct gw_chat_request request = {
        .message = strdup("hi"), .message_len = 2, .model = strdup("demo"), .stream = true};
    struct gw_turn *turn = NULL;
    uint32_t ticket;

    if (key != NULL) {
        (void)snprintf(request.client_message_id, sizeof(request.client_message_id), "%s", key);
    }
    if (!gw_user_turns_enter(user_turns, user.id, user.id_len, 4096, &ticket) ||
        gw_turn_start(&sites[index].turns, id, &user, &request, ticket, "req-1",
                      sl_loop_now_us(sites[index].loop), &turn) != 0) {
        abort();
    }
    return turn;
}

struct birth {
    struct loops_job job;
    const char *user;
    struct sl_uuid id;
};

static void give_birth(struct loops_job *job)
{
    struct birth *birth = SL_CONTAINER_OF(job, struct birth, job);

    birth->id = gw_turns_new_id(&sites[job->index].turns);
    (void)loops_start_turn(job->index, &birth->id, birth->user, NULL);
}

struct sl_uuid loops_begin_turn(unsigned index, const char *user)
{
    struct birth birth = {.job.run = give_birth, .user = user};

    loops_run(index, &birth.job);
    return birth.id;
}

/* ---------------------------------------------------------------- the model */

int gw_upstream_start(struct gw_upstream *endpoint, struct gw_upstream_call *call,
                      struct sl_buffer *body)
{
    struct site *site = (struct site *)(void *)endpoint;
    struct speech *speech = calloc(1, sizeof(*speech));

    (void)body;
    if (speech == NULL) {
        abort();
    }
    sl_op_start(&call->op);
    call->connected = true;
    call->transfer = (struct gw_transfer *)(void *)speech;
    speech->task.run = speak;
    speech->site = site;
    speech->call = call;
    speech->script = loops.script;
    sl_list_append(&site->speeches, &speech->link);
    sl_loop_defer(site->loop, &speech->task);
    return 0;
}

void gw_upstream_cancel(struct gw_upstream_call *call)
{
    if (call->op.running) {
        struct speech *speech = (struct speech *)(void *)call->transfer;
        speech->is_cancelled = true;
        sl_loop_defer(speech->site->loop, &speech->task);
    }
}

static void end_speech(struct speech *speech, int status)
{
    struct gw_upstream_call *call = speech->call;

    sl_link_remove(&speech->link);
    sl_loop_undefer(speech->site->loop, &speech->task);
    free(speech);
    sl_op_finish(&call->op, status);
}

static void speak(struct sl_task *task)
{
    struct speech *speech = SL_CONTAINER_OF(task, struct speech, task);

    if (speech->is_cancelled) {
        end_speech(speech, SL_E_CANCELLED);
        return;
    }
    for (unsigned i = 0; i < speech->script.per_drain && speech->said < speech->script.deltas;
         i++) {
        char text[16];
        int len = snprintf(text, sizeof(text), "%u ", speech->said++);
        const struct gw_delta delta = {.content = text, .content_len = (size_t)len};
        int err = speech->call->events->on_delta(speech->call, &delta);
        if (err != 0) {
            end_speech(speech, err);
            return;
        }
    }
    if (speech->said < speech->script.deltas) {
        sl_loop_defer(speech->site->loop, &speech->task);
    } else if (!speech->script.is_held) {
        speech->call->has_finish = true;
        memcpy(speech->call->finish_reason, "stop", sizeof("stop"));
        end_speech(speech, 0);
    }
}

static void go_on(struct loops_job *job)
{
    struct site *site = &sites[job->index];

    SL_LIST_EACH(&site->speeches, link, after)
    {
        struct speech *speech = SL_CONTAINER_OF(link, struct speech, link);
        speech->script.deltas += speech->script.is_held ? loops.script.deltas : 0;
        speech->script.is_held = false;
        sl_loop_defer(site->loop, &speech->task);
    }
}

void loops_go_on(unsigned index)
{
    struct loops_job job = {.run = go_on};

    loops_run(index, &job);
}

/* ---------------------------------------------------------------- the store */

int store_read_start(struct store_client *client, struct store_read *read)
{
    struct site *site = (struct site *)(void *)client;

    sl_op_start(&read->op);
    read->finish = (struct sl_task){.run = finish_read};
    sl_loop_defer(site->loop, &read->finish);
    return 0;
}

void store_read_cancel(struct store_read *read)
{
    (void)read; /* the result is on its way */
}

static void finish_read(struct sl_task *task)
{
    struct store_read *read = SL_CONTAINER_OF(task, struct store_read, finish);

    sl_buffer_init(&read->text, 1024);
    sl_op_finish(&read->op, 0);
}

int store_save_message(struct store_client *client, struct store_save *save, const char *user,
                       size_t user_len, const struct sl_uuid *session,
                       const struct store_message *message)
{
    struct site *site = (struct site *)(void *)client;

    (void)user, (void)user_len, (void)session, (void)message;
    sl_op_start(&save->op);
    save->finish = (struct sl_task){.run = finish_save};
    sl_loop_defer(site->loop, &save->finish);
    return 0;
}

void store_save_cancel(struct store_save *save)
{
    (void)save;
}

static void finish_save(struct sl_task *task)
{
    sl_op_finish(&SL_CONTAINER_OF(task, struct store_save, finish)->op, 0);
}

void store_history_append(struct store_client *client, const char *user, size_t user_len,
                          const struct sl_uuid *session, const struct store_message *added,
                          size_t added_count, const struct store_message *window,
                          size_t window_count)
{
    (void)client, (void)user, (void)user_len, (void)session, (void)added, (void)added_count;
    (void)window, (void)window_count;
}
