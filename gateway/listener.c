/*
 * Listening sockets.
 *
 * Happy path: the listener becomes readable, up to ACCEPTS_PER_TURN connections are accepted and given to
 * h2o. Failure modes: over http.connections_max a connection gets a fixed 503 and is closed. When the
 * process is out of descriptors (EMFILE, ENFILE) the pending connection would stay readable and spin the
 * loop: a reserve descriptor is given up to accept and close it, and the listener pauses for PAUSE_MS.
 * Thread: the worker's.
 */
#include "listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "sluice/op.h"

enum {
    ACCEPTS_PER_TURN = 16,
    PAUSE_MS = 100,
    BACKLOG = 4096,
    UNSENT_BYTES = 16 << 10, /* what the kernel takes beyond what it can send */
    WRITE_TIMEOUTS = 3,      /* subscriber.c needs two at most */
};

struct gw_listener {
    struct gw_worker *worker;
    h2o_socket_t *socket;
    int reserve_fd; /* /dev/null, to be given up when descriptors run out */
    struct sl_timer pause;
};

static int bind_and_listen(const struct addrinfo *info);
static void bound_writes(int fd, const struct gw_config *config);
static void on_readable(h2o_socket_t *socket, const char *err);
static bool accept_one(struct gw_listener *listener);
static void refuse_for_want_of_descriptors(struct gw_listener *listener);
static void on_pause_over(struct sl_timer *timer);
static void on_connection_closed(void *context);

int gw_listener_open(const char *address, char *ret_bound, size_t bound_size)
{
    char host[256], port[8];
    const char *colon = strrchr(address, ':');
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *info;

    if (colon == NULL || (size_t)(colon - address) >= sizeof(host) ||
        strlen(colon) > sizeof(port)) {
        return -EINVAL;
    }
    bool bracketed = address[0] == '[' && colon > address + 1 && colon[-1] == ']';
    int host_len = (int)(colon - address) - (bracketed ? 2 : 0);
    (void)snprintf(host, sizeof(host), "%.*s", host_len, address + (bracketed ? 1 : 0));
    (void)snprintf(port, sizeof(port), "%s", colon + 1);
    if (getaddrinfo(host, port, &hints, &info) != 0) {
        return -EINVAL;
    }
    int fd = bind_and_listen(info);
    freeaddrinfo(info);
    if (fd < 0) {
        return fd;
    }
    struct sockaddr_storage bound = {0};
    socklen_t bound_len = sizeof(bound);
    char bound_host[INET6_ADDRSTRLEN], bound_port[8];
    (void)getsockname(fd, (struct sockaddr *)&bound, &bound_len);
    (void)getnameinfo((struct sockaddr *)&bound, bound_len, bound_host, sizeof(bound_host),
                      bound_port, sizeof(bound_port), NI_NUMERICHOST | NI_NUMERICSERV);
    (void)snprintf(ret_bound, bound_size, bracketed ? "[%s]:%s" : "%s:%s", bound_host, bound_port);
    return fd;
}

static int bind_and_listen(const struct addrinfo *info)
{
    int on = 1;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -errno;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0 ||
        bind(fd, info->ai_addr, info->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        int err = -errno;
        (void)close(fd);
        return err;
    }
    return fd;
}

int gw_listener_start(struct gw_worker *worker, int fd, struct gw_listener **ret_listener)
{
    struct gw_listener *listener = calloc(1, sizeof(*listener));

    if (listener == NULL) {
        return SL_E_NO_MEMORY;
    }
    listener->worker = worker;
    listener->pause.expired = on_pause_over;
    listener->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    bound_writes(fd, worker->config);
    listener->socket = h2o_evloop_socket_create(worker->h2o.loop, fd, H2O_SOCKET_FLAG_DONT_READ);
    listener->socket->data = listener;
    h2o_socket_read_start(listener->socket, on_readable);
    *ret_listener = listener;
    return 0;
}

/*
 * For all connections, which take these over from the listening socket (tcp(7)): what a client does not
 * read stays with us, where a turn log has it anyway, and not in megabytes of kernel memory each; and
 * h2o 2.2.5, which waits without end for a write, hears of one that does not get on.
 */
static void bound_writes(int fd, const struct gw_config *config)
{
    unsigned unsent_bytes = UNSENT_BYTES;
    unsigned timeout_ms = WRITE_TIMEOUTS * config->http.write_timeout_ms;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent_bytes, sizeof(unsent_bytes));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
}

static void on_readable(h2o_socket_t *socket, const char *err)
{
    struct gw_listener *listener = socket->data;

    if (err != NULL) {
        return;
    }
    for (int i = 0; i < ACCEPTS_PER_TURN && accept_one(listener); i++) {
    }
}

/* True when it is worth trying again at once. */
static bool accept_one(struct gw_listener *listener)
{
    static const char busy[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n"
                               "Retry-After: 1\r\nConnection: close\r\n\r\n";
    struct gw_worker *worker = listener->worker;
    struct gw_server *server = worker->server;

    errno = 0;
    h2o_socket_t *socket = h2o_evloop_socket_accept(listener->socket);
    if (socket == NULL) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            refuse_for_want_of_descriptors(listener);
        }
        return false;
    }
    if (atomic_fetch_add_explicit(&server->connections, 1, memory_order_relaxed) >=
        worker->config->http.connections_max) {
        atomic_fetch_sub_explicit(&server->connections, 1, memory_order_relaxed);
        sl_counter_add(&worker->stats.connections_refused, 1);
        ssize_t n =
            send(h2o_socket_get_fd(socket), busy, sizeof(busy) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        (void)n;
        h2o_socket_close(socket);
        return true;
    }
    sl_counter_add(&worker->stats.connections_accepted, 1);
    socket->on_close.cb = on_connection_closed;
    socket->on_close.data = worker;
    h2o_accept(&worker->accept, socket);
    return true;
}

static void on_connection_closed(void *context)
{
    struct gw_worker *worker = context;

    sl_counter_add(&worker->stats.connections_closed, 1);
    atomic_fetch_sub_explicit(&worker->server->connections, 1, memory_order_relaxed);
}

static void refuse_for_want_of_descriptors(struct gw_listener *listener)
{
    sl_counter_add(&listener->worker->stats.connections_refused, 1);
    if (listener->reserve_fd >= 0) {
        (void)close(listener->reserve_fd);
        int fd =
            accept4(h2o_socket_get_fd(listener->socket), NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            (void)close(fd);
        }
        listener->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    h2o_socket_read_stop(listener->socket);
    sl_loop_arm(listener->worker->loop, &listener->pause, PAUSE_MS * 1000);
}

static void on_pause_over(struct sl_timer *timer)
{
    struct gw_listener *listener = SL_CONTAINER_OF(timer, struct gw_listener, pause);

    h2o_socket_read_start(listener->socket, on_readable);
}

void gw_listener_stop(struct gw_listener *listener)
{
    if (listener == NULL) {
        return;
    }
    sl_loop_disarm(listener->worker->loop, &listener->pause);
    h2o_socket_read_stop(listener->socket);
    h2o_socket_close(listener->socket);
    if (listener->reserve_fd >= 0) {
        (void)close(listener->reserve_fd);
    }
    free(listener);
}
