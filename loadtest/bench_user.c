/*
 * A virtual user: connect once, then request and read, turn after turn.
 *
 * Happy path: start -> (connect) -> send -> read until the stream is over, or until it is time to
 * leave -> turn_over.
 * Failure: every turn ends in turn_over with the stream's `failure`. A kept connection that turns
 * out to be dead before the first byte of the answer is replaced once, without counting as a
 * failure: that race belongs to keep-alive (RFC 9112 section 9.3.1), and is counted as a reconnect.
 * Thread: the loop's. Ownership: see bench_user.h.
 */
#include "bench_user.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"

enum { READ_BYTES = 64 * 1024 };

static void on_timeout(struct lt_timer *timer, uint64_t now_us);

/** A random UUID (RFC 9562 version 4): a session of this run only, whatever the seed. */
static void write_session_id(struct lt_buffer *out)
{
    unsigned char id[16];
    if (getrandom(id, sizeof(id), 0) != (ssize_t)sizeof(id)) {
        memset(id, 0x5a, sizeof(id));
    }
    id[6] = (unsigned char)(0x40 | (id[6] & 0x0f));
    id[8] = (unsigned char)(0x80 | (id[8] & 0x3f));
    for (size_t i = 0; i < sizeof(id); i++) {
        bool dash = i == 4 || i == 6 || i == 8 || i == 10;
        lt_buffer_appendf(out, "%s%02x", dash ? "-" : "", id[i]);
    }
}

static void write_body(struct lt_buffer *body, const struct bench_options *options)
{
    bool native = options->protocol == BENCH_NATIVE;
    lt_buffer_append_str(body, native ? "{\"message\":\""
                                      : "{\"model\":\"stub\",\"stream\":true,\"stream_options\":"
                                        "{\"include_usage\":true},\"messages\":[{\"role\":\"user\","
                                        "\"content\":\"");
    lt_buffer_append_json(body, options->message, strlen(options->message));
    lt_buffer_append_str(body, native ? "\"" : "\"}]");
    if (native && options->fixed_sessions) {
        lt_buffer_append_str(body, ",\"session_id\":\"");
        write_session_id(body);
        lt_buffer_append_str(body, "\"");
    }
    lt_buffer_append_str(body, "}");
}

void bench_user_init(struct bench_user *user, struct bench_crew *crew, unsigned number)
{
    const struct bench_options *options = crew->options;
    struct lt_buffer body = {0};
    *user = (struct bench_user){.crew = crew, .fd = -1};
    user->timeout.fire = on_timeout;
    write_body(&body, options);
    lt_buffer_appendf(&user->request,
                      "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: sse_bench\r\nAccept: */*\r\n"
                      "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                      options->path, options->host, body.len);
    if (options->token_count != 0) {
        lt_buffer_appendf(&user->request, "Authorization: Bearer %s\r\n",
                          options->tokens[number % options->token_count]);
    }
    lt_buffer_append_str(&user->request, "\r\n");
    lt_buffer_append(&user->request, body.base, body.len);
    lt_buffer_free(&body);
}

static void disconnect(struct bench_user *user)
{
    if (user->fd >= 0) {
        close(user->fd);
        user->fd = -1;
        user->interest = 0;
    }
}

void bench_user_finish(struct bench_user *user)
{
    disconnect(user);
    lt_timers_disarm(&user->crew->timers, &user->timeout);
    lt_buffer_free(&user->request);
    bench_stream_finish(&user->stream);
}

static void watch(struct bench_user *user, uint32_t interest)
{
    if (user->interest != interest) {
        struct epoll_event event = {.events = interest, .data.ptr = user};
        int how = user->interest == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
        if (epoll_ctl(user->crew->epoll_fd, how, user->fd, &event) == 0) {
            user->interest = interest;
        }
    }
}

static int connect_now(struct bench_user *user)
{
    const struct lt_address *address = &user->crew->options->address;
    int fd = socket(address->bytes.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    user->fd = fd;
    user->fresh = true;
    user->crew->connections++;
    if (connect(fd, (const struct sockaddr *)&address->bytes, address->len) != 0 &&
        errno != EINPROGRESS) {
        disconnect(user);
        return -1;
    }
    return 0;
}

/** Gives the turn a verdict that on_timeout delivers at once: never from inside a start. */
static void fail_later(struct bench_user *user, enum bench_failure failure)
{
    disconnect(user);
    if (user->stream.failure == BENCH_OK) {
        user->stream.failure = failure;
    }
    lt_timers_arm(&user->crew->timers, &user->timeout, 0);
}

/** Sends on; a connection that is still being made answers EAGAIN. */
static void send_request(struct bench_user *user)
{
    while (user->request_sent < user->request.len) {
        ssize_t n = send(user->fd, user->request.base + user->request_sent,
                         user->request.len - user->request_sent, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == ENOTCONN || errno == EINTR)) {
            watch(user, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
            return;
        }
        if (n < 0) {
            if (!user->fresh) {
                user->crew->reconnects++;
                disconnect(user);
                user->request_sent = 0;
                if (connect_now(user) == 0) {
                    continue;
                }
            }
            fail_later(user, BENCH_CONNECT);
            return;
        }
        user->request_sent += (size_t)n;
    }
    watch(user, EPOLLIN | EPOLLRDHUP);
}

void bench_user_start(struct bench_user *user, uint64_t scheduled_us, struct lt_histogram *gaps,
                      uint64_t now_us)
{
    const struct bench_options *options = user->crew->options;
    user->busy = true;
    user->scheduled_us = scheduled_us;
    user->started_us = now_us;
    user->request_sent = 0;
    user->left = false;
    user->turn_number = user->crew->turns_begun++;
    bench_stream_begin(&user->stream, options->protocol, gaps);
    lt_timers_arm(&user->crew->timers, &user->timeout,
                  now_us + (uint64_t)(options->timeout_s * 1e6));
    if (user->fd < 0 && connect_now(user) != 0) {
        fail_later(user, BENCH_CONNECT);
        return;
    }
    send_request(user);
}

static void end_turn(struct bench_user *user, uint64_t now_us)
{
    lt_timers_disarm(&user->crew->timers, &user->timeout);
    if (user->stream.failure != BENCH_OK || !user->stream.keep_alive) {
        disconnect(user);
    }
    user->busy = false;
    user->crew->turn_over(user, now_us);
}

static bool is_time_to_leave(const struct bench_user *user)
{
    const struct bench_options *options = user->crew->options;
    size_t count = options->abort_count;
    return count != 0 && user->stream.status != 0 &&
           user->stream.marks.tokens >= options->abort_after[user->turn_number % count];
}

/**
 * Walks out of a stream under way: by FIN and by RST in turn, so that both ways meet every number
 * of tokens.
 */
static void leave(struct bench_user *user, uint64_t now_us)
{
    if (user->turn_number / user->crew->options->abort_count % 2 == 1) {
        struct linger at_once = {.l_onoff = 1, .l_linger = 0};
        setsockopt(user->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    } else {
        char unread[4096]; /* left in the socket it would turn the FIN into a reset */
        while (recv(user->fd, unread, sizeof(unread), 0) > 0) {
        }
    }
    disconnect(user);
    user->left = true;
    end_turn(user, now_us);
}

static void on_timeout(struct lt_timer *timer, uint64_t now_us)
{
    struct bench_user *user =
        (struct bench_user *)(void *)((char *)timer - offsetof(struct bench_user, timeout));
    if (user->stream.failure == BENCH_OK) {
        user->stream.failure = BENCH_TIMEOUT;
    }
    end_turn(user, now_us);
}

/**
 * The connection ended: BENCH_CONNECT before it was there, BENCH_RESET by a reset, BENCH_OK by a
 * FIN (whether that is fine is for the stream to say). On a kept connection, and before the first
 * byte of the answer, the turn starts again.
 */
static void on_close(struct bench_user *user, enum bench_failure how, uint64_t now_us)
{
    bool nothing_came = user->stream.status == 0 && user->stream.line.len == 0;
    if (nothing_came && !user->fresh) {
        user->crew->reconnects++;
        disconnect(user);
        user->request_sent = 0;
        if (connect_now(user) == 0) {
            send_request(user);
        } else {
            fail_later(user, BENCH_CONNECT);
        }
        return;
    }
    if (user->stream.failure == BENCH_OK) {
        user->stream.failure = how;
    }
    bench_stream_close(&user->stream, now_us);
    end_turn(user, now_us);
}

/** Asks the socket itself: the event may still be of the connection that this one replaced. */
static bool has_socket_error(int fd)
{
    int error = 0;
    socklen_t len = sizeof(error);
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0;
}

void bench_user_on_events(struct bench_user *user, uint32_t events)
{
    static char bytes[READ_BYTES];
    if (user->fd < 0) {
        return;
    }
    if (!user->busy) {
        disconnect(user); /* the server closed an idle connection, or talks out of turn */
        return;
    }
    if (user->fresh && user->request_sent == 0 && (events & (EPOLLERR | EPOLLHUP)) != 0 &&
        has_socket_error(user->fd)) {
        on_close(user, BENCH_CONNECT, lt_clock_now_us());
        return;
    }
    if ((events & EPOLLOUT) != 0) {
        send_request(user);
    }
    while (user->fd >= 0 && (events & ~(uint32_t)EPOLLOUT) != 0) {
        ssize_t n = recv(user->fd, bytes, sizeof(bytes), 0);
        uint64_t now_us = lt_clock_now_us();
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (n <= 0) {
            on_close(user, n < 0 ? BENCH_RESET : BENCH_OK, now_us);
            return;
        }
        user->fresh = false;
        if (!bench_stream_read(&user->stream, bytes, (size_t)n, now_us)) {
            end_turn(user, now_us);
            return;
        }
        if (is_time_to_leave(user)) {
            leave(user, now_us);
            return;
        }
        if ((size_t)n < sizeof(bytes)) {
            return; /* drained; a close that came with it is reported again */
        }
    }
}
