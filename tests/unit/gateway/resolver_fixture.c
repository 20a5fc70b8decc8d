/* The fake DNS and the loop of the resolver's tests. */
#include "resolver_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <dirent.h>
#include <netdb.h>
#include <time.h>
#include <unistd.h>

struct fake_dns dns = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
struct sl_loop *loop;
struct gw_resolver *resolver;
unsigned threads_before;

struct answer {
    struct addrinfo info;
    struct sockaddr_storage address;
};

static struct addrinfo *make_answer(const char *text)
{
    struct addrinfo *list = NULL, **tail = &list;
    char copy[2048], *at = copy, *item;

    (void)snprintf(copy, sizeof(copy), "%s", text);
    while ((item = strsep(&at, ",")) != NULL) {
        struct answer *answer = calloc(1, sizeof(*answer));
        struct sockaddr_in *v4 = (void *)&answer->address;
        struct sockaddr_in6 *v6 = (void *)&answer->address;
        if (answer == NULL) {
            abort();
        }
        if (inet_pton(AF_INET, item, &v4->sin_addr) == 1) {
            answer->info.ai_family = AF_INET;
            answer->info.ai_addrlen = sizeof(*v4);
        } else if (inet_pton(AF_INET6, item, &v6->sin6_addr) == 1) {
            answer->info.ai_family = AF_INET6;
            answer->info.ai_addrlen = sizeof(*v6);
        } else {
            answer->info.ai_family = AF_UNIX;
            answer->info.ai_addrlen = sizeof(answer->address);
        }
        answer->address.ss_family = (sa_family_t)answer->info.ai_family;
        answer->info.ai_addr = (struct sockaddr *)&answer->address;
        *tail = &answer->info;
        tail = &answer->info.ai_next;
    }
    return list;
}

static void release(struct addrinfo *found)
{
    while (found != NULL) {
        struct addrinfo *next = found->ai_next;
        free(SL_CONTAINER_OF(found, struct answer, info));
        found = next;
    }
}

static int look_up(const char *host, const char *service, const struct addrinfo *hints,
                   struct addrinfo **ret_found)
{
    int code = EAI_AGAIN;

    (void)pthread_mutex_lock(&dns.mutex);
    dns.begun++;
    (void)snprintf(dns.host, sizeof(dns.host), "%s", host);
    (void)snprintf(dns.service, sizeof(dns.service), "%s", service);
    dns.flags = hints->ai_flags;
    dns.socktype = hints->ai_socktype;
    (void)pthread_cond_broadcast(&dns.changed);
    while (dns.hangs) {
        (void)pthread_cond_wait(&dns.changed, &dns.mutex);
    }
    if (dns.answer != NULL && !(dns.flips && dns.begun % 2 != 0)) {
        *ret_found = dns.answer[0] != '\0' ? make_answer(dns.answer) : NULL;
        code = 0;
    }
    dns.ended++;
    (void)pthread_cond_broadcast(&dns.changed);
    (void)pthread_mutex_unlock(&dns.mutex);
    return code;
}

void set_answer(const char *answer)
{
    (void)pthread_mutex_lock(&dns.mutex);
    dns.answer = answer;
    (void)pthread_mutex_unlock(&dns.mutex);
}

void set_hangs(bool hangs)
{
    (void)pthread_mutex_lock(&dns.mutex);
    dns.hangs = hangs;
    (void)pthread_cond_broadcast(&dns.changed);
    (void)pthread_mutex_unlock(&dns.mutex);
}

unsigned read_count(const unsigned *count)
{
    (void)pthread_mutex_lock(&dns.mutex);
    unsigned value = *count;
    (void)pthread_mutex_unlock(&dns.mutex);
    return value;
}

bool count_reaches(const unsigned *count, unsigned least, unsigned within_ms)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += within_ms / 1000;
    until.tv_nsec += (long)(within_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    (void)pthread_mutex_lock(&dns.mutex);
    while (*count < least && pthread_cond_timedwait(&dns.changed, &dns.mutex, &until) == 0) {
    }
    bool reached = *count >= least;
    (void)pthread_mutex_unlock(&dns.mutex);
    return reached;
}

/* ---- threads of this process ---- */

unsigned count_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *entry;
    unsigned count = 0;

    assert_non_null(tasks);
    while ((entry = readdir(tasks)) != NULL) {
        count += entry->d_name[0] != '.' ? 1U : 0U;
    }
    (void)closedir(tasks);
    return count;
}

void await_threads(unsigned expected)
{
    for (unsigned i = 0; i < WAIT_MS && count_threads() != expected; i++) {
        (void)usleep(1000);
    }
    assert_int_equal(count_threads(), expected);
}

/* ---- one loop, turned by the test ---- */

static void *note_id(void *argument)
{
    *(pid_t *)argument = gettid();
    return NULL;
}

int start_first_thread(void **state)
{
    pthread_t thread;
    pid_t id = 0;
    char path[64];

    (void)state;
    if (pthread_create(&thread, NULL, note_id, &id) != 0 || pthread_join(thread, NULL) != 0) {
        return -1;
    }
    /* a joined thread is counted until the kernel has buried it */
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d", (int)id);
    for (unsigned i = 0; i < WAIT_MS && access(path, F_OK) == 0; i++) {
        (void)usleep(1000);
    }
    return access(path, F_OK) == 0 ? -1 : 0;
}

void create(unsigned refresh_ms, unsigned retry_ms)
{
    struct gw_resolver_dns methods = {look_up, release, refresh_ms, retry_ms};

    assert_null(resolver);
    assert_int_equal(gw_resolver_create_with("model.test", 8443, &methods, &resolver), 0);
}

void destroy(void)
{
    gw_resolver_destroy(resolver);
    resolver = NULL;
}

int set_up(void **state)
{
    (void)state;
    dns.answer = "192.0.2.1";
    dns.hangs = dns.flips = false;
    dns.begun = dns.ended = 0;
    threads_before = count_threads();
    return sl_loop_create(&loop);
}

int tear_down(void **state)
{
    (void)state;
    destroy();
    sl_loop_destroy(loop);
    set_hangs(false);
    await_threads(threads_before);
    return 0;
}

static void on_done(struct sl_op *op, int status)
{
    struct ask *ask = SL_CONTAINER_OF(op, struct ask, resolve.op);

    ask->calls++;
    ask->status = status;
}

void start(struct ask *ask)
{
    ask->resolve.op.done = on_done;
    ask->calls = 0;
    assert_int_equal(gw_resolve_start(resolver, loop, &ask->resolve), 0);
    assert_int_equal(ask->calls, 0); /* never from inside start */
    assert_true(ask->resolve.op.running);
}

void await_calls(struct ask *ask)
{
    uint64_t until_us = sl_loop_now_us(loop) + (uint64_t)WAIT_MS * 1000;

    while (ask->calls == 0 && sl_loop_now_us(loop) < until_us) {
        sl_loop_run_once(loop, WAIT_MS);
    }
    assert_int_equal(ask->calls, 1);
    assert_false(ask->resolve.op.running);
}

void assert_answer(const char *expected)
{
    struct ask ask = {0};

    start(&ask);
    await_calls(&ask);
    assert_int_equal(ask.status, 0);
    assert_string_equal(ask.resolve.addresses, expected);
}

uint64_t await_addresses(const char *expected)
{
    char addresses[GW_RESOLVE_TEXT] = "";
    uint64_t generation = 0;

    for (unsigned i = 0; i < WAIT_MS; i++) {
        if (gw_resolver_peek(resolver, addresses, &generation) &&
            strcmp(addresses, expected) == 0) {
            return generation;
        }
        (void)usleep(1000);
    }
    assert_string_equal(addresses, expected);
    return 0;
}
