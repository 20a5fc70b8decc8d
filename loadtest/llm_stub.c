/*
 * llm_stub: a scripted model server, OpenAI's API and Anthropic's, for demos, tests and benchmarks.
 *
 * Happy path: options -> listen -> write the port file -> loop: events, timers, burial.
 * What is answered: stub_routes.c. How a reply is played: stub_player.c. What a test can ask for:
 * README.md.
 * Failure: exit code 2 for wrong options, 1 when it cannot listen; SIGTERM and SIGINT: 0.
 * Thread: one. Ownership: main owns the server struct.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "net.h"
#include "stub_conn.h"
#include "stub_server.h"

enum { EVENTS_MAX = 512, ACCEPTS_MAX = 128, ACCEPT_PAUSE_US = 100 * 1000, DEMO_GAP_US = 30 * 1000 };

static const char USAGE[] =
    "usage: llm_stub [--listen 127.0.0.1:9090] [--delay-ms N] [--tokens N] [--gap-ms N]\n"
    "                [--jitter-ms N] [--port-file FILE]\n"
    "  --listen     address:port; port 0 takes a free one (see --port-file)\n"
    "  --delay-ms   before each response head (0)\n"
    "  --tokens     answer tok0 tok1 ... instead of the demo text\n"
    "  --gap-ms     between deltas (30); 0: as fast as it goes\n"
    "  --jitter-ms  random part of the gap, plus or minus (0)\n"
    "  --port-file  where to write the port once the server listens\n";

struct options {
    const char *listen;
    const char *port_file;
    struct stub_script presets;
};

static int read_options(int argc, char **argv, struct options *ret_options);
static int write_port_file(const char *path, int port);
static void on_accept_again(struct lt_timer *timer, uint64_t now_us);

static bool read_number(const char *text, int64_t factor, int64_t *ret_number)
{
    char *end;
    errno = 0;
    double number = strtod(text, &end);
    if (*text == 0 || *end != 0 || errno != 0 || !(number >= 0 && number <= 1e9)) {
        return false;
    }
    *ret_number = (int64_t)(number * (double)factor + 0.5);
    return true;
}

static int read_options(int argc, char **argv, struct options *ret_options)
{
    static const struct option names[] = {
        {"listen", required_argument, NULL, 'l'},
        {"delay-ms", required_argument, NULL, 'd'},
        {"tokens", required_argument, NULL, 't'},
        {"gap-ms", required_argument, NULL, 'g'},
        {"jitter-ms", required_argument, NULL, 'j'},
        {"port-file", required_argument, NULL, 'p'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct stub_script *presets = &ret_options->presets;
    int letter;
    bool ok = true;
    stub_script_init(presets);
    presets->gap_us = DEMO_GAP_US;
    ret_options->listen = "127.0.0.1:9090";
    while (ok && (letter = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (letter) {
        case 'l':
            ret_options->listen = optarg;
            break;
        case 'p':
            ret_options->port_file = optarg;
            break;
        case 'd':
            ok = read_number(optarg, 1000, &presets->delay_us);
            break;
        case 't':
            ok = read_number(optarg, 1, &presets->tokens);
            break;
        case 'g':
            ok = read_number(optarg, 1000, &presets->gap_us);
            break;
        case 'j':
            ok = read_number(optarg, 1000, &presets->jitter_us);
            break;
        case 'h':
            fputs(USAGE, stdout);
            exit(0);
        default:
            ok = false;
        }
    }
    if (!ok || optind != argc) {
        fputs(USAGE, stderr);
        return -1;
    }
    return 0;
}

/** By rename: whoever sees the file sees the whole number. */
static int write_port_file(const char *path, int port)
{
    char draft[4096];
    int n = snprintf(draft, sizeof(draft), "%s.%ld", path, (long)getpid());
    FILE *file = n > 0 && (size_t)n < sizeof(draft) ? fopen(draft, "we") : NULL;
    if (file == NULL) {
        perror(path);
        return -1;
    }
    bool ok = fprintf(file, "%d\n", port) > 0;
    ok = fclose(file) == 0 && ok;
    if (!ok || rename(draft, path) != 0) {
        perror(path);
        unlink(draft);
        return -1;
    }
    return 0;
}

/** Registers with the server itself, or any other address that is no connection, as its mark. */
static int watch_fd(const struct stub_server *server, int fd, void *mark)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = mark};
    return epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static void accept_all(struct stub_server *server)
{
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        int fd = accept4(server->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            stub_conn_open(server, fd);
        } else if (errno == EMFILE || errno == ENFILE) {
            /* The listener would stay readable and the loop spin: look away for a while. */
            epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, server->listen_fd, NULL);
            lt_timers_arm(&server->timers, &server->accept_again,
                          lt_clock_now_us() + ACCEPT_PAUSE_US);
            return;
        } else if (errno != ECONNABORTED && errno != EINTR) {
            return;
        }
    }
}

static void on_accept_again(struct lt_timer *timer, uint64_t now_us)
{
    struct stub_server *server =
        (struct stub_server *)(void *)((char *)timer - offsetof(struct stub_server, accept_again));
    (void)now_us;
    watch_fd(server, server->listen_fd, server);
}

static void run(struct stub_server *server, int signal_fd)
{
    static int signal_mark;
    bool ending = false;
    watch_fd(server, server->listen_fd, server);
    watch_fd(server, signal_fd, &signal_mark);
    while (!ending) {
        struct epoll_event events[EVENTS_MAX];
        int count = lt_timers_wait(&server->timers, server->epoll_fd, events, EVENTS_MAX);
        for (int i = 0; i < count; i++) {
            void *mark = events[i].data.ptr;
            if (mark == server) {
                accept_all(server);
            } else if (mark == &signal_mark) {
                ending = true;
            } else {
                stub_conn_on_events(mark, events[i].events);
            }
        }
        lt_timers_run(&server->timers, lt_clock_now_us());
        stub_conn_bury(server);
    }
}

/** SIGTERM and SIGINT become readable on a descriptor. */
static int open_signal_fd(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    return signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
}

int main(int argc, char **argv)
{
    static struct stub_server server;
    struct options options = {0};
    struct lt_address address;
    if (read_options(argc, argv, &options) != 0 || lt_net_resolve(options.listen, &address) != 0) {
        return 2;
    }
    lt_net_raise_file_limit();
    (void)prctl(PR_SET_TIMERSLACK, 1UL); /* gaps exact to the microsecond, not to 50 of them */
    int signal_fd = open_signal_fd();
    server.presets = options.presets;
    server.accept_again.fire = on_accept_again;
    server.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    server.listen_fd = lt_net_listen(&address);
    if (signal_fd < 0 || server.epoll_fd < 0 || server.listen_fd < 0) {
        return 1;
    }
    server.port = lt_net_port(server.listen_fd);
    if (options.port_file != NULL && write_port_file(options.port_file, server.port) != 0) {
        return 1;
    }
    fprintf(stderr, "llm_stub: listening on port %d\n", server.port);
    run(&server, signal_fd);
    return 0;
}
