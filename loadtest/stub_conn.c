/*
 * A connection: reads requests, plays replies, writes.
 *
 *   READING --request--> PLAYING --reply sent--> READING ... --last reply--> LINGERING -> closed
 *      '--- broken request, "Connection: close" ------------------^
 *   any state --client gone, cut by the script--> closed
 *
 * Happy path: bytes in -> a complete request -> the player writes as much as is due -> one send.
 * Everything runs through drive(), woken by the socket or by the timer.
 * Failure: whatever goes wrong with the socket means that the client has gone. A half-close counts
 * as gone, too, as it does with most model servers.
 * Thread: the loop's. Ownership: see stub_conn.h.
 */
#include "stub_conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "stub_http.h"
#include "stub_player.h"
#include "stub_routes.h"

enum {
    READ_BYTES = 64 * 1024,
    PIPELINED_MAX = 64 * 1024, /* unread input that is taken in while a reply is played */
    SENDS_MAX = 1024,          /* per wake-up, then the others have their turn */
    ROUNDS_MAX = 16,
    LINGER_US = 1000 * 1000,
};

enum phase {
    READING,
    PLAYING,
    LINGERING, /* our side is closed; what still comes in is thrown away */
};

enum end {
    END_QUIET,  /* nothing was under way */
    END_CLIENT, /* the client left */
    END_FIN,    /* the script said so */
    END_RST,
};

enum sent {
    SENT_ALL,
    SENT_PART, /* the socket, or our turn, is full */
    SENT_GONE, /* the connection is closed */
};

struct stub_conn {
    struct stub_server *server;
    int fd;
    uint32_t interest; /* as epoll knows it */
    enum phase phase;
    struct lt_timer timer;
    struct lt_buffer in;
    struct lt_buffer out;
    size_t out_sent;
    struct stub_http http;
    struct stub_player player;
    struct lt_random piece_sizes;
    bool keep_alive; /* as the last request said */
    bool last_reply; /* READING, and what is in `out` is the end of it */
    enum stub_cut half_dead;
    struct stub_conn *next_doomed;
};

static void on_timer(struct lt_timer *timer, uint64_t now_us);
static void drive(struct stub_conn *conn, uint64_t now_us);

static void watch(struct stub_conn *conn, uint32_t interest)
{
    if (interest != conn->interest) {
        struct epoll_event event = {.events = interest, .data.ptr = conn};
        int how = conn->interest == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
        if (epoll_ctl(conn->server->epoll_fd, how, conn->fd, &event) == 0) {
            conn->interest = interest;
        }
    }
}

void stub_conn_open(struct stub_server *server, int fd)
{
    struct stub_conn *conn = calloc(1, sizeof(*conn));
    if (conn == NULL) {
        close(fd);
        return;
    }
    conn->server = server;
    conn->fd = fd;
    conn->timer.fire = on_timer;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    server->counters.accepted_connections++;
    server->open_connections++;
    watch(conn, EPOLLIN | EPOLLRDHUP);
}

/** The one door out. */
static void close_conn(struct stub_conn *conn, enum end end)
{
    struct stub_server *server = conn->server;
    if (conn->phase == PLAYING) {
        server->active_streams--;
        server->counters.tokens_sent += conn->player.reply.completion_tokens;
        server->counters.aborted_by_client += end == END_CLIENT;
        server->counters.cut += end == END_FIN || end == END_RST;
        stub_player_finish(&conn->player);
    }
    if (end == END_RST) {
        struct linger at_once = {.l_onoff = 1, .l_linger = 0};
        setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    } else {
        char unread[4096]; /* left in the socket it would turn the FIN into a reset */
        while (recv(conn->fd, unread, sizeof(unread), 0) > 0) {
        }
    }
    close(conn->fd);
    conn->fd = -1;
    server->open_connections--;
    lt_timers_disarm(&server->timers, &conn->timer);
    conn->next_doomed = server->doomed;
    server->doomed = conn;
}

void stub_conn_bury(struct stub_server *server)
{
    while (server->doomed != NULL) {
        struct stub_conn *conn = server->doomed;
        server->doomed = conn->next_doomed;
        stub_http_finish(&conn->http);
        lt_buffer_free(&conn->in);
        lt_buffer_free(&conn->out);
        free(conn);
    }
}

/* --- waking up --- */

/** False: the connection is closed. */
static bool take_input(struct stub_conn *conn)
{
    for (;;) {
        static char bytes[READ_BYTES]; /* shared: an idle connection holds no memory for reading */
        ssize_t n = recv(conn->fd, bytes, sizeof(bytes), 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return true;
        }
        if (n <= 0) {
            close_conn(conn, conn->phase == PLAYING ? END_CLIENT : END_QUIET);
            return false;
        }
        if (conn->half_dead != STUB_CUT_NONE && conn->phase == READING) {
            close_conn(conn, conn->half_dead == STUB_CUT_RST ? END_RST : END_FIN);
            return false;
        }
        if (conn->phase != LINGERING) {
            lt_buffer_append(&conn->in, bytes, (size_t)n);
        }
        if (n < READ_BYTES || (conn->phase == PLAYING && conn->in.len >= PIPELINED_MAX)) {
            return true;
        }
    }
}

void stub_conn_on_events(struct stub_conn *conn, uint32_t events)
{
    if (conn->fd < 0) {
        return;
    }
    if ((events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0 && conn->phase == PLAYING) {
        close_conn(conn, END_CLIENT);
        return;
    }
    if ((events & ~(uint32_t)EPOLLOUT) != 0 && !take_input(conn)) {
        return;
    }
    drive(conn, lt_clock_now_us());
}

static void on_timer(struct lt_timer *timer, uint64_t now_us)
{
    struct stub_conn *conn =
        (struct stub_conn *)(void *)((char *)timer - offsetof(struct stub_conn, timer));
    if (conn->phase == LINGERING) {
        close_conn(conn, END_QUIET);
    } else {
        drive(conn, now_us);
    }
}

/* --- driving on --- */

/** How much may leave in one send: all, one byte, or a random piece. */
static size_t piece_size(struct stub_conn *conn, size_t left)
{
    const struct stub_script *script = &conn->player.reply.script;
    size_t piece = left;
    if (conn->phase == PLAYING && script->bytes) {
        piece = 1;
    } else if (conn->phase == PLAYING && script->split_seed >= 0) {
        piece = 1 + (size_t)lt_random_below(&conn->piece_sizes, 96);
    }
    return piece < left ? piece : left;
}

static enum sent send_out(struct stub_conn *conn)
{
    for (int sends = 0; conn->out_sent < conn->out.len; sends++) {
        size_t piece = piece_size(conn, conn->out.len - conn->out_sent);
        ssize_t n = sends < SENDS_MAX
                        ? send(conn->fd, conn->out.base + conn->out_sent, piece, MSG_NOSIGNAL)
                        : -1;
        if (sends == SENDS_MAX || (n < 0 && (errno == EAGAIN || errno == EINTR))) {
            return SENT_PART;
        }
        if (n < 0) {
            close_conn(conn, conn->phase == PLAYING ? END_CLIENT : END_QUIET);
            return SENT_GONE;
        }
        conn->out_sent += (size_t)n;
        conn->server->counters.bytes_sent += (uint64_t)n;
    }
    lt_buffer_consume(&conn->out, conn->out.len);
    conn->out_sent = 0;
    return SENT_ALL;
}

static void linger(struct stub_conn *conn, uint64_t now_us)
{
    shutdown(conn->fd, SHUT_WR);
    conn->phase = LINGERING;
    lt_timers_arm(&conn->server->timers, &conn->timer, now_us + LINGER_US);
}

static void count_stream(struct stub_server *server)
{
    server->active_streams++;
    if (server->counters.max_active_streams < server->active_streams) {
        server->counters.max_active_streams = server->active_streams;
    }
}

/** Looks for a complete request. False: nothing to do before more input comes. */
static bool take_request(struct stub_conn *conn, uint64_t now_us)
{
    struct stub_http *http = &conn->http;
    if (conn->in.len == 0) {
        return false;
    }
    switch (stub_http_read(http, conn->in.base, conn->in.len)) {
    case STUB_HTTP_MORE:
        return false;
    case STUB_HTTP_CONTINUE:
        lt_buffer_append_str(&conn->out, "HTTP/1.1 100 Continue\r\n\r\n");
        return true;
    case STUB_HTTP_BROKEN:
        stub_http_respond(&conn->out, http->status, NULL, "", NULL, 0, false);
        conn->last_reply = true;
        break;
    case STUB_HTTP_READY:
        conn->keep_alive = http->request.keep_alive;
        if (stub_routes_answer(conn->server, &http->request, &conn->out, &conn->player, now_us)) {
            conn->phase = PLAYING;
            conn->piece_sizes.state = (uint64_t)conn->player.reply.script.split_seed;
            count_stream(conn->server);
        } else {
            conn->last_reply = !conn->keep_alive;
        }
        break;
    }
    size_t used = stub_http_next(http);
    lt_buffer_consume(&conn->in, used < conn->in.len ? used : conn->in.len);
    return true;
}

static void finish_reply(struct stub_conn *conn)
{
    struct stub_server *server = conn->server;
    conn->half_dead = conn->player.reply.script.half_dead;
    server->counters.tokens_sent += conn->player.reply.completion_tokens;
    server->counters.completed += conn->player.status < 400;
    server->counters.refused += conn->player.status >= 400;
    server->active_streams--;
    stub_player_finish(&conn->player);
    conn->phase = READING;
    conn->last_reply = !conn->keep_alive;
}

/** Plays on when everything played so far was sent. False: nothing to do for now. */
static bool play(struct stub_conn *conn, uint64_t now_us)
{
    enum stub_play outcome = stub_player_run(&conn->player, now_us);
    if (conn->out.len != 0) {
        return true; /* send it first, then look again */
    }
    switch (outcome) {
    case STUB_PLAY_MORE:
        return true;
    case STUB_PLAY_WAIT:
        lt_timers_arm(&conn->server->timers, &conn->timer, conn->player.wake_us);
        return false;
    case STUB_PLAY_END:
        finish_reply(conn);
        return true;
    case STUB_PLAY_FIN:
        close_conn(conn, END_FIN);
        return false;
    case STUB_PLAY_RST:
        close_conn(conn, END_RST);
        return false;
    }
    return false;
}

static void drive(struct stub_conn *conn, uint64_t now_us)
{
    enum sent sent = SENT_ALL;
    bool busy = true;
    for (int round = 0; busy && round < ROUNDS_MAX; round++) {
        sent = send_out(conn);
        if (sent != SENT_ALL) {
            break;
        }
        if (conn->phase == PLAYING) {
            busy = play(conn, now_us);
        } else if (conn->phase == READING && !conn->last_reply) {
            busy = take_request(conn, now_us);
        } else {
            busy = false;
        }
    }
    if (conn->fd < 0) {
        return;
    }
    if (conn->phase == READING && conn->last_reply && sent == SENT_ALL) {
        linger(conn, now_us);
    } else if (busy && sent == SENT_ALL) {
        lt_timers_arm(&conn->server->timers, &conn->timer, now_us); /* the others first */
    }
    bool full = conn->phase == PLAYING && conn->in.len >= PIPELINED_MAX;
    watch(conn, EPOLLRDHUP | (full ? 0u : EPOLLIN) | (sent == SENT_PART ? EPOLLOUT : 0u));
}
