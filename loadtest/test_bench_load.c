/* The load against a server in this process: who leaves when, how, and what it is counted as. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "bench_load.h"

#define HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
#define TOKEN "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"

enum { TURNS = 12 };

struct server {
    int listen_fd;
    const char *answer; /* then silence, until the client has left */
    int fins, resets;
};

static void *serve(void *context)
{
    struct server *server = context;
    for (int i = 0; i < TURNS; i++) {
        char request[4096];
        int fd = accept(server->listen_fd, NULL, NULL);
        if (fd < 0 || recv(fd, request, sizeof(request), 0) <= 0 ||
            send(fd, server->answer, strlen(server->answer), MSG_NOSIGNAL) <= 0) {
            return NULL;
        }
        ssize_t n = recv(fd, request, sizeof(request), 0);
        server->fins += n == 0;
        server->resets += n < 0 && errno == ECONNRESET;
        close(fd);
    }
    return NULL;
}

/** One user, one turn after the other, against `server`. */
static void run(struct server *server, struct bench_options *options, struct bench_results *results)
{
    pthread_t thread;
    struct lt_address any;
    assert_int_equal(lt_net_resolve("127.0.0.1:0", &any), 0);
    server->listen_fd = lt_net_listen(&any);
    assert_true(server->listen_fd >= 0);
    /* lt_net_listen does not block, but the server's thread may. */
    assert_int_equal(fcntl(server->listen_fd, F_SETFL, 0), 0);
    snprintf(options->host, sizeof(options->host), "127.0.0.1:%d", lt_net_port(server->listen_fd));
    assert_int_equal(lt_net_resolve(options->host, &options->address), 0);
    assert_int_equal(pthread_create(&thread, NULL, serve, server), 0);
    assert_int_equal(bench_load_run(options, results), 0);
    pthread_join(thread, NULL);
    close(server->listen_fd);
}

static void every_second_one_leaves_by_reset(void **state)
{
    (void)state;
    static const struct {
        const char *answer;
        uint64_t abort_after[BENCH_ABORTS_MAX];
        size_t abort_count;
        uint64_t tokens;
    } rows[] = {
        {HEAD, {0}, 1, 0},
        {HEAD TOKEN, {1}, 1, TURNS},
        {HEAD TOKEN TOKEN, {2, 0}, 2, 2 * TURNS},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        static struct bench_results results;
        struct server server = {.answer = rows[i].answer};
        struct bench_options options = {
            .url = "",
            .path = "/",
            .protocol = BENCH_DIRECT,
            .message = "m",
            .concurrency = 1,
            .turns = TURNS,
            .timeout_s = 10,
            .abort_count = rows[i].abort_count,
        };
        memcpy(options.abort_after, rows[i].abort_after, sizeof(options.abort_after));
        memset(&results, 0, sizeof(results));
        run(&server, &options, &results);
        assert_int_equal(server.fins, TURNS / 2);
        assert_int_equal(server.resets, TURNS / 2);
        assert_int_equal(results.turns, TURNS);
        assert_int_equal(results.aborted, TURNS);
        assert_int_equal(results.failures[BENCH_OK], TURNS);
        assert_int_equal(results.tokens, rows[i].tokens);
        assert_int_equal(results.metrics[BENCH_HEAD].count, TURNS);
        assert_int_equal(results.metrics[BENCH_TOTAL].count, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_second_one_leaves_by_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
