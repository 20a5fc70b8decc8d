/* A Redis that does what the test says. See fake_redis.h. */
#include "fake_redis.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "sluice/op.h"

static void listen_on_socket(struct fake_redis *fake);
static void listen_on_port(struct fake_redis *fake);
static void on_connection(struct sl_watch *watch, unsigned events);
static void on_bytes(struct sl_watch *watch, unsigned events);
static size_t parse_command(const char *base, size_t len, struct fake_redis_command *ret_command);
static size_t parse_header(const char *base, size_t len, char mark, size_t *ret_number);
static void obey(struct fake_redis *fake, const struct fake_redis_command *command);

void fake_redis_start(struct fake_redis *fake, struct sl_loop *loop, bool tcp)
{
    memset(fake, 0, sizeof(*fake));
    fake->loop = loop;
    fake->greets = true;
    fake->connection = -1;
    fake->listener_watch.ready = on_connection;
    fake->watch.ready = on_bytes;
    sl_buffer_init(&fake->input, 64 * 1024 * 1024);
    fake->listener = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_true(fake->listener >= 0);
    if (tcp) {
        listen_on_port(fake);
    } else {
        listen_on_socket(fake);
    }
    assert_int_equal(listen(fake->listener, 16), 0);
    assert_int_equal(sl_loop_watch(loop, &fake->listener_watch, fake->listener, SL_READABLE), 0);
}

static void listen_on_socket(struct fake_redis *fake)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    (void)snprintf(fake->directory, sizeof(fake->directory), "/tmp/sluice-fake-XXXXXX");
    assert_non_null(mkdtemp(fake->directory));
    (void)snprintf(fake->path, sizeof(fake->path), "%s/s", fake->directory);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", fake->path);
    (void)snprintf(fake->url, sizeof(fake->url), "unix://%s", fake->path);
    assert_int_equal(
        bind(fake->listener, (const struct sockaddr *)(const void *)&address, sizeof(address)), 0);
}

static void listen_on_port(struct fake_redis *fake)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(
        bind(fake->listener, (const struct sockaddr *)(const void *)&address, sizeof(address)), 0);
    assert_int_equal(getsockname(fake->listener, (struct sockaddr *)(void *)&address, &len), 0);
    (void)snprintf(fake->url, sizeof(fake->url), "redis://127.0.0.1:%u",
                   (unsigned)ntohs(address.sin_port));
}

static void on_connection(struct sl_watch *watch, unsigned events)
{
    struct fake_redis *fake = SL_CONTAINER_OF(watch, struct fake_redis, listener_watch);
    int connection = accept(fake->listener, NULL, NULL);

    (void)events;
    if (connection < 0) {
        return;
    }
    assert_int_equal(fcntl(connection, F_SETFL, O_NONBLOCK), 0);
    fake_redis_hang_up(fake);
    fake->connection = connection;
    fake->accepted++;
    assert_int_equal(sl_loop_watch(fake->loop, &fake->watch, connection, SL_READABLE), 0);
}

static void on_bytes(struct sl_watch *watch, unsigned events)
{
    struct fake_redis *fake = SL_CONTAINER_OF(watch, struct fake_redis, watch);
    struct fake_redis_command command;
    char *to = sl_buffer_reserve(&fake->input, 1 << 20);

    (void)events;
    assert_non_null(to);
    ssize_t got = read(fake->connection, to, 1 << 20);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) {
            fake_redis_hang_up(fake);
        }
        return;
    }
    fake->reads++;
    fake->input.len += (size_t)got;
    while (fake->connection >= 0) {
        size_t used = parse_command(fake->input.base, fake->input.len, &command);
        if (used == 0) {
            return;
        }
        obey(fake, &command);
        if (fake->connection >= 0) {
            sl_buffer_consume(&fake->input, used);
        }
    }
}

/* The length of the command at `base`, or 0 when it is not complete. */
static size_t parse_command(const char *base, size_t len, struct fake_redis_command *ret_command)
{
    size_t count, at = parse_header(base, len, '*', &count);

    ret_command->count = 0;
    for (size_t i = 0; at > 0 && i < count; i++) {
        size_t arg_len, head = parse_header(base + at, len - at, '$', &arg_len);
        if (head == 0 || len - at - head < arg_len + 2) {
            return 0;
        }
        if (i < FAKE_REDIS_ARGS_MAX) {
            ret_command->args[i].base = base + at + head;
            ret_command->args[i].len = arg_len;
            ret_command->count++;
        }
        at += head + arg_len + 2;
    }
    return at;
}

static size_t parse_header(const char *base, size_t len, char mark, size_t *ret_number)
{
    const char *end = memchr(base, '\n', len);

    if (end == NULL) {
        return 0;
    }
    assert_int_equal(base[0], mark);
    *ret_number = strtoul(base + 1, NULL, 10);
    return (size_t)(end + 1 - base);
}

static void obey(struct fake_redis *fake, const struct fake_redis_command *command)
{
    if (fake->greets && (fake_redis_is(command, "AUTH") || fake_redis_is(command, "SELECT"))) {
        fake_redis_say(fake, "+OK\r\n");
    } else if (fake->greets && fake_redis_is(command, "PING")) {
        fake_redis_say(fake, "+PONG\r\n");
    } else if (fake_redis_is(command, "SCRIPT")) {
        fake_redis_say(fake, "$3\r\nsha\r\n");
    } else {
        fake->commands++;
        if (fake->answer != NULL) {
            fake->answer(fake, command);
        }
    }
}

bool fake_redis_is(const struct fake_redis_command *command, const char *name)
{
    return command->count > 0 && command->args[0].len == strlen(name) &&
           memcmp(command->args[0].base, name, command->args[0].len) == 0;
}

void fake_redis_say(struct fake_redis *fake, const char *text)
{
    fake_redis_say_bytes(fake, text, strlen(text));
}

void fake_redis_say_bytes(struct fake_redis *fake, const void *bytes, size_t len)
{
    if (send(fake->connection, bytes, len, MSG_NOSIGNAL) != (ssize_t)len) {
        assert_int_equal(errno, EPIPE); /* the link has closed the connection meanwhile */
    }
}

void fake_redis_hang_up(struct fake_redis *fake)
{
    if (fake->connection >= 0) {
        sl_loop_unwatch(fake->loop, &fake->watch);
        (void)close(fake->connection);
        fake->connection = -1;
    }
    sl_buffer_clear(&fake->input);
}

void fake_redis_stop(struct fake_redis *fake)
{
    fake_redis_hang_up(fake);
    sl_loop_unwatch(fake->loop, &fake->listener_watch);
    (void)close(fake->listener);
    sl_buffer_dispose(&fake->input);
    if (fake->path[0] != '\0') {
        (void)unlink(fake->path);
        (void)rmdir(fake->directory);
    }
}
