/*
 * libcurl's multi interface on a loop: libcurl names the descriptors and the time to watch, the loop
 * calls curl_multi_socket_action, and finished transfers are collected from a task.
 *
 * libcurl owns its sockets and closes them itself; it says CURL_POLL_REMOVE before that (libcurl's
 * CURLMOPT_SOCKETFUNCTION page), which is where our watch ends. Failure modes: none of its own; a
 * failing transfer is reported as done with its code. Thread: its loop's.
 */
#include "curl_loop.h"

#include <stdlib.h>

#include "sluice/op.h"

struct socket_watch {
    struct sl_watch watch;
    struct gw_curl_loop *curl;
    struct socket_watch *next; /* while in the spare list */
};

struct gw_curl_loop {
    struct sl_loop *loop;
    CURLM *multi;
    struct sl_timer timer;
    struct sl_task collect;
    gw_curl_done_fn done;
    void *context;
    struct socket_watch *spare;
};

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *socket_context);
static int on_timer_change(CURLM *multi, long timeout_ms, void *context);
static void on_ready(struct sl_watch *watch, unsigned events);
static void on_expired(struct sl_timer *timer);
static void collect_done(struct sl_task *task);

int gw_curl_loop_create(struct sl_loop *loop, unsigned connections_max, gw_curl_done_fn done,
                        void *context, struct gw_curl_loop **ret_curl)
{
    struct gw_curl_loop *curl = calloc(1, sizeof(*curl));

    if (curl == NULL) {
        return SL_E_NO_MEMORY;
    }
    curl->loop = loop;
    curl->done = done;
    curl->context = context;
    curl->timer.expired = on_expired;
    curl->collect.run = collect_done;
    curl->multi = curl_multi_init();
    if (curl->multi == NULL) {
        free(curl);
        return SL_E_NO_MEMORY;
    }
    (void)curl_multi_setopt(curl->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    (void)curl_multi_setopt(curl->multi, CURLMOPT_SOCKETDATA, curl);
    (void)curl_multi_setopt(curl->multi, CURLMOPT_TIMERFUNCTION, on_timer_change);
    (void)curl_multi_setopt(curl->multi, CURLMOPT_TIMERDATA, curl);
    (void)curl_multi_setopt(curl->multi, CURLMOPT_MAXCONNECTS, (long)connections_max);
    (void)curl_multi_setopt(curl->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    *ret_curl = curl;
    return 0;
}

int gw_curl_loop_add(struct gw_curl_loop *curl, CURL *easy)
{
    int running;

    if (curl_multi_add_handle(curl->multi, easy) != CURLM_OK) {
        return SL_E_NO_MEMORY;
    }
    /* Starts now instead of in a timer's expiry: an idle connection is used without another turn. */
    (void)curl_multi_socket_action(curl->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    sl_loop_defer(curl->loop, &curl->collect);
    return 0;
}

void gw_curl_loop_remove(struct gw_curl_loop *curl, CURL *easy)
{
    (void)curl_multi_remove_handle(curl->multi, easy);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *socket_context)
{
    struct gw_curl_loop *curl = context;
    struct socket_watch *watch = socket_context;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (watch != NULL) {
            sl_loop_unwatch(curl->loop, &watch->watch);
            watch->next = curl->spare;
            curl->spare = watch;
            (void)curl_multi_assign(curl->multi, fd, NULL);
        }
        return 0;
    }
    if (watch == NULL) {
        watch = curl->spare;
        if (watch != NULL) {
            curl->spare = watch->next;
        } else {
            watch = malloc(sizeof(*watch));
            if (watch == NULL) {
                return -1;
            }
        }
        *watch = (struct socket_watch){.watch.ready = on_ready, .curl = curl};
        (void)curl_multi_assign(curl->multi, fd, watch);
    }
    unsigned events = 0;
    events |= (what & CURL_POLL_IN) != 0 ? SL_READABLE : 0U;
    events |= (what & CURL_POLL_OUT) != 0 ? SL_WRITABLE : 0U;
    return sl_loop_watch(curl->loop, &watch->watch, fd, events) == 0 ? 0 : -1;
}

static void on_ready(struct sl_watch *watch, unsigned events)
{
    struct socket_watch *socket = SL_CONTAINER_OF(watch, struct socket_watch, watch);
    struct gw_curl_loop *curl = socket->curl;
    int running, mask = 0;

    mask |= (events & SL_READABLE) != 0 ? CURL_CSELECT_IN : 0;
    mask |= (events & SL_WRITABLE) != 0 ? CURL_CSELECT_OUT : 0;
    /* a hang-up is read like everything else: recv then says what it was */
    mask |= (events & SL_HANGUP) != 0 ? CURL_CSELECT_IN : 0;
    (void)curl_multi_socket_action(curl->multi, watch->fd, mask, &running);
    sl_loop_defer(curl->loop, &curl->collect);
}

static int on_timer_change(CURLM *multi, long timeout_ms, void *context)
{
    struct gw_curl_loop *curl = context;

    (void)multi;
    if (timeout_ms < 0) {
        sl_loop_disarm(curl->loop, &curl->timer);
    } else {
        sl_loop_arm(curl->loop, &curl->timer, (uint64_t)timeout_ms * 1000);
    }
    return 0;
}

static void on_expired(struct sl_timer *timer)
{
    struct gw_curl_loop *curl = SL_CONTAINER_OF(timer, struct gw_curl_loop, timer);
    int running;

    (void)curl_multi_socket_action(curl->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    sl_loop_defer(curl->loop, &curl->collect);
}

static void collect_done(struct sl_task *task)
{
    struct gw_curl_loop *curl = SL_CONTAINER_OF(task, struct gw_curl_loop, collect);
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(curl->multi, &left)) != NULL) {
        if (message->msg == CURLMSG_DONE) {
            CURL *easy = message->easy_handle;
            CURLcode result = message->data.result; /* the message dies with the removal */
            (void)curl_multi_remove_handle(curl->multi, easy);
            curl->done(curl->context, easy, result);
        }
    }
}

void gw_curl_loop_destroy(struct gw_curl_loop *curl)
{
    if (curl == NULL) {
        return;
    }
    (void)curl_multi_cleanup(curl->multi);
    sl_loop_disarm(curl->loop, &curl->timer);
    sl_loop_undefer(curl->loop, &curl->collect);
    for (struct socket_watch *watch = curl->spare, *next; watch != NULL; watch = next) {
        next = watch->next;
        free(watch);
    }
    free(curl);
}
