/*
 * One thread that looks up one name.
 *
 * Happy path: the thread looks the name up, stores the addresses as text, posts a message to the loop of
 * every operation that waits, and sleeps until the addresses are old and somebody has asked. On the
 * loop the message copies the addresses into its operation and finishes it.
 *
 * An operation is in one of two places: in the list `waiting`, where the mutex guards it, or, taken out
 * of it under the mutex, as its message in the mailbox of its own loop. Who takes it out posts it, so
 * there is one message per operation, whether the thread answers or the loop cancels. Messages are
 * posted with the mutex held, and receiving one takes the mutex before the callback runs: by then the
 * thread has let go of the operation and of the loop, and both may be freed.
 *
 * Failure modes: a lookup that hangs leaves everything as it is, older addresses included; one that
 * fails is an answer only for those who have nothing older. Thread: `…_on_resolver_thread` and what it
 * calls; the rest on the callers'. Ownership: the thread frees the resolver, when it is abandoned.
 */
#include "resolver.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "address_guard.h"

enum { RETRY_MS = 1000 };

struct gw_resolver {
    struct gw_resolver_dns dns;
    char *host;
    char service[sizeof("4294967295")];
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* one of the next two was set */
    bool abandoned;
    bool asked; /* since the last lookup began; or it failed, and is owed */
    struct gw_resolve *waiting, **waiting_tail;
    char addresses[GW_RESOLVE_TEXT]; /* "": none yet */
    uint64_t generation;
};

static int start_thread(struct gw_resolver *resolver);
static void *run_on_resolver_thread(void *argument);
static bool wait_until_due(struct gw_resolver *resolver, const struct timespec *due);
static void look_up(const struct gw_resolver *resolver, char found[GW_RESOLVE_TEXT]);
static void write_addresses(const struct addrinfo *list, char text[GW_RESOLVE_TEXT]);
static bool write_address(const struct addrinfo *info, char text[INET6_ADDRSTRLEN + 2]);
static bool stands_before(const struct addrinfo *list, const struct addrinfo *info);
static void take_answer(struct gw_resolver *resolver, const char *found);
static struct timespec in_ms(unsigned ms);
static void note_asked(struct gw_resolver *resolver);
static void enqueue(struct gw_resolver *resolver, struct gw_resolve *resolve);
static void dequeue(struct gw_resolve *resolve);
static void post(struct gw_resolve *resolve, int status);
static void receive(struct sl_message *message);
static void free_resolver(struct gw_resolver *resolver);

bool gw_resolver_is_needed(const char *host)
{
    struct sockaddr_storage address;

    return !gw_address_parse(host, strlen(host), &address);
}

int gw_resolver_create(const char *host, unsigned port, unsigned refresh_s,
                       struct gw_resolver **ret_resolver)
{
    struct gw_resolver_dns dns = {
        .look_up = getaddrinfo,
        .release = freeaddrinfo,
        .refresh_ms = refresh_s * 1000,
        .retry_ms = RETRY_MS,
    };

    return gw_resolver_create_with(host, port, &dns, ret_resolver);
}

int gw_resolver_create_with(const char *host, unsigned port, const struct gw_resolver_dns *dns,
                            struct gw_resolver **ret_resolver)
{
    struct gw_resolver *resolver = calloc(1, sizeof(*resolver));

    if (resolver == NULL) {
        return SL_E_NO_MEMORY;
    }
    resolver->dns = *dns;
    resolver->asked = true; /* the first lookup needs nobody */
    resolver->waiting_tail = &resolver->waiting;
    (void)snprintf(resolver->service, sizeof(resolver->service), "%u", port);
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&resolver->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    (void)pthread_mutex_init(&resolver->mutex, NULL);
    resolver->host = strdup(host);
    if (resolver->host == NULL || start_thread(resolver) != 0) {
        free_resolver(resolver);
        return SL_E_NO_MEMORY;
    }
    *ret_resolver = resolver;
    return 0;
}

static int start_thread(struct gw_resolver *resolver)
{
    pthread_attr_t attributes;
    pthread_t thread;

    /* never joined: that could take as long as DNS likes */
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int err = pthread_create(&thread, &attributes, run_on_resolver_thread, resolver);
    (void)pthread_attr_destroy(&attributes);
    return err;
}

/* ---- the thread ---- */

static void *run_on_resolver_thread(void *argument)
{
    struct gw_resolver *resolver = argument;
    struct timespec due = {0};
    char found[GW_RESOLVE_TEXT] = "";
    sigset_t signals;

    /* signals are the main thread's business */
    (void)sigfillset(&signals);
    (void)pthread_sigmask(SIG_SETMASK, &signals, NULL);
    (void)pthread_mutex_lock(&resolver->mutex);
    while (wait_until_due(resolver, &due)) {
        resolver->asked = false;
        (void)pthread_mutex_unlock(&resolver->mutex);

        look_up(resolver, found);

        (void)pthread_mutex_lock(&resolver->mutex);
        take_answer(resolver, found);
        due = in_ms(found[0] != '\0' ? resolver->dns.refresh_ms : resolver->dns.retry_ms);
    }
    (void)pthread_mutex_unlock(&resolver->mutex);
    free_resolver(resolver);
    return NULL;
}

/* True: look up now. False: nobody is left who would read the answer. */
static bool wait_until_due(struct gw_resolver *resolver, const struct timespec *due)
{
    bool is_due = false;

    while (!resolver->abandoned && !is_due) {
        if (resolver->asked) {
            is_due = pthread_cond_timedwait(&resolver->changed, &resolver->mutex, due) == ETIMEDOUT;
        } else {
            (void)pthread_cond_wait(&resolver->changed, &resolver->mutex);
        }
    }
    return !resolver->abandoned;
}

static void look_up(const struct gw_resolver *resolver, char found[GW_RESOLVE_TEXT])
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV,
    };
    struct addrinfo *list = NULL;

    found[0] = '\0';
    if (resolver->dns.look_up(resolver->host, resolver->service, &hints, &list) == 0) {
        write_addresses(list, found);
        resolver->dns.release(list);
    }
}

static void write_addresses(const struct addrinfo *list, char text[GW_RESOLVE_TEXT])
{
    unsigned count = 0;
    size_t len = 0;

    for (const struct addrinfo *at = list; at != NULL && count < GW_RESOLVE_ADDRESSES_MAX;
         at = at->ai_next) {
        char address[INET6_ADDRSTRLEN + 2];
        if (!stands_before(list, at) && write_address(at, address)) {
            /* fits: the text has room for this many of the longest */
            len += (size_t)snprintf(text + len, GW_RESOLVE_TEXT - len, "%s%s", count > 0 ? "," : "",
                                    address);
            count++;
        }
    }
}

/* False: an address that CURLOPT_RESOLVE cannot carry, which would make it drop all of them. */
static bool write_address(const struct addrinfo *info, char text[INET6_ADDRSTRLEN + 2])
{
    char number[INET6_ADDRSTRLEN];

    if (info->ai_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, info->ai_addr, sizeof(v4));
        return inet_ntop(AF_INET, &v4.sin_addr, text, INET6_ADDRSTRLEN) != NULL;
    }
    if (info->ai_family != AF_INET6) {
        return false;
    }
    struct sockaddr_in6 v6;
    memcpy(&v6, info->ai_addr, sizeof(v6));
    if (IN6_IS_ADDR_LINKLOCAL(&v6.sin6_addr) || /* useless without its zone */
        inet_ntop(AF_INET6, &v6.sin6_addr, number, sizeof(number)) == NULL) {
        return false;
    }
    (void)snprintf(text, INET6_ADDRSTRLEN + 2, "[%s]", number);
    return true;
}

/* glibc answers 127.0.0.1 twice for a hosts file with both families of localhost. */
static bool stands_before(const struct addrinfo *list, const struct addrinfo *info)
{
    while (list != info) {
        if (list->ai_addrlen == info->ai_addrlen &&
            memcmp(list->ai_addr, info->ai_addr, info->ai_addrlen) == 0) {
            return true;
        }
        list = list->ai_next;
    }
    return false;
}

static void take_answer(struct gw_resolver *resolver, const char *found)
{
    if (found[0] == '\0') {
        resolver->asked = true;
    } else if (strcmp(resolver->addresses, found) != 0) {
        memcpy(resolver->addresses, found, GW_RESOLVE_TEXT);
        resolver->generation++;
    }
    while (resolver->waiting != NULL) {
        struct gw_resolve *resolve = resolver->waiting;
        dequeue(resolve);
        post(resolve, found[0] != '\0' ? 0 : SL_E_UPSTREAM_UNREACHABLE);
    }
}

static struct timespec in_ms(unsigned ms)
{
    struct timespec time;

    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    time.tv_sec += ms / 1000;
    time.tv_nsec += (long)(ms % 1000) * 1000000;
    if (time.tv_nsec >= 1000000000) {
        time.tv_nsec -= 1000000000;
        time.tv_sec++;
    }
    return time;
}

/* ---- those who ask ---- */

bool gw_resolver_peek(struct gw_resolver *resolver, char addresses[GW_RESOLVE_TEXT],
                      uint64_t *ret_generation)
{
    (void)pthread_mutex_lock(&resolver->mutex);
    note_asked(resolver);
    bool known = resolver->addresses[0] != '\0';
    if (known) {
        memcpy(addresses, resolver->addresses, GW_RESOLVE_TEXT);
        *ret_generation = resolver->generation;
    }
    (void)pthread_mutex_unlock(&resolver->mutex);
    return known;
}

int gw_resolve_start(struct gw_resolver *resolver, struct sl_loop *loop, struct gw_resolve *resolve)
{
    sl_op_start(&resolve->op);
    resolve->addresses[0] = '\0';
    resolve->resolver = resolver;
    resolve->loop = loop;
    resolve->message.receive = receive;
    resolve->prev_next = NULL;
    (void)pthread_mutex_lock(&resolver->mutex);
    note_asked(resolver);
    if (resolver->addresses[0] != '\0') {
        post(resolve, 0);
    } else {
        enqueue(resolver, resolve);
    }
    (void)pthread_mutex_unlock(&resolver->mutex);
    return 0;
}

void gw_resolve_cancel(struct gw_resolve *resolve)
{
    if (!resolve->op.running) {
        return;
    }
    (void)pthread_mutex_lock(&resolve->resolver->mutex);
    if (resolve->prev_next != NULL) {
        dequeue(resolve);
        post(resolve, SL_E_CANCELLED);
    }
    (void)pthread_mutex_unlock(&resolve->resolver->mutex);
}

static void receive(struct sl_message *message)
{
    struct gw_resolve *resolve = SL_CONTAINER_OF(message, struct gw_resolve, message);
    struct gw_resolver *resolver = resolve->resolver;

    /* also the point behind which the poster touches nothing any more: see the top */
    (void)pthread_mutex_lock(&resolver->mutex);
    if (resolve->status == 0) {
        memcpy(resolve->addresses, resolver->addresses, GW_RESOLVE_TEXT);
    }
    (void)pthread_mutex_unlock(&resolver->mutex);
    sl_op_finish(&resolve->op, resolve->status);
}

/* ---- with the mutex held ---- */

static void note_asked(struct gw_resolver *resolver)
{
    if (!resolver->asked) {
        resolver->asked = true;
        (void)pthread_cond_signal(&resolver->changed);
    }
}

static void enqueue(struct gw_resolver *resolver, struct gw_resolve *resolve)
{
    resolve->next = NULL;
    resolve->prev_next = resolver->waiting_tail;
    *resolver->waiting_tail = resolve;
    resolver->waiting_tail = &resolve->next;
}

static void dequeue(struct gw_resolve *resolve)
{
    *resolve->prev_next = resolve->next;
    if (resolve->next != NULL) {
        resolve->next->prev_next = resolve->prev_next;
    } else {
        resolve->resolver->waiting_tail = resolve->prev_next;
    }
    resolve->prev_next = NULL;
}

static void post(struct gw_resolve *resolve, int status)
{
    resolve->status = status;
    sl_loop_post(resolve->loop, &resolve->message);
}

/* ---- teardown ---- */

void gw_resolver_destroy(struct gw_resolver *resolver)
{
    if (resolver == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&resolver->mutex);
    assert(resolver->waiting == NULL);
    resolver->abandoned = true;
    (void)pthread_cond_signal(&resolver->changed);
    (void)pthread_mutex_unlock(&resolver->mutex); /* the thread may have freed it already */
}

static void free_resolver(struct gw_resolver *resolver)
{
    (void)pthread_cond_destroy(&resolver->changed);
    (void)pthread_mutex_destroy(&resolver->mutex);
    free(resolver->host);
    free(resolver);
}
