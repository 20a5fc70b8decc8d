/* A private redis-server for tests. See redis_server.h. */
#include "redis_server.h"

#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void spawn(struct redis_server *server);
static redisContext *wait_for_connection(const struct redis_server *server);
static redisReply *ask_with(struct redis_server *server, const char *format, va_list args);

bool redis_server_start(struct redis_server *server, const char *password)
{
    memset(server, 0, sizeof(*server));
    if (access("/usr/bin/redis-server", X_OK) != 0) {
        print_message("skipped: /usr/bin/redis-server is not there\n");
        return false;
    }
    (void)snprintf(server->directory, sizeof(server->directory), "/tmp/sluice-redis-XXXXXX");
    assert_non_null(mkdtemp(server->directory));
    (void)snprintf(server->socket, sizeof(server->socket), "%s/s", server->directory);
    (void)snprintf(server->url, sizeof(server->url), "unix://%s", server->socket);
    server->password = password;
    spawn(server);
    return true;
}

static void spawn(struct redis_server *server)
{
    pid_t parent = getpid();

    server->pid = fork();
    assert_true(server->pid >= 0);
    if (server->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) {
            _exit(1);
        }
        (void)execl("/usr/bin/redis-server", "redis-server", "--port", "0", "--unixsocket",
                    server->socket, "--dir", server->directory, "--save", "", "--appendonly", "no",
                    "--loglevel", "warning", "--logfile", "/dev/null", "--requirepass",
                    server->password != NULL ? server->password : "", (char *)NULL);
        _exit(127);
    }
    redisFree(wait_for_connection(server));
}

/* Redis is ready when it answers; its socket appears somewhat earlier. */
static redisContext *wait_for_connection(const struct redis_server *server)
{
    for (int tries = 0; tries < 1000; tries++) {
        redisContext *context = redisConnectUnix(server->socket);
        if (context != NULL && context->err == 0) {
            redisReply *reply = server->password != NULL
                                    ? redisCommand(context, "AUTH %s", server->password)
                                    : redisCommand(context, "PING");
            bool ready = reply != NULL && reply->type == REDIS_REPLY_STATUS;
            freeReplyObject(reply);
            if (ready) {
                return context;
            }
        }
        redisFree(context);
        (void)usleep(5000);
    }
    fail_msg("redis-server did not start");
    return NULL;
}

void redis_server_restart(struct redis_server *server)
{
    spawn(server);
}

void redis_server_kill(struct redis_server *server)
{
    if (server->pid > 0) {
        (void)kill(server->pid, SIGKILL);
        (void)waitpid(server->pid, NULL, 0);
        server->pid = 0;
        (void)unlink(server->socket);
    }
}

void redis_server_freeze(struct redis_server *server)
{
    int status;

    assert_int_equal(kill(server->pid, SIGSTOP), 0);
    assert_int_equal(waitpid(server->pid, &status, WUNTRACED), server->pid);
    assert_true(WIFSTOPPED(status));
}

void redis_server_thaw(struct redis_server *server)
{
    assert_int_equal(kill(server->pid, SIGCONT), 0);
}

void redis_server_stop(struct redis_server *server)
{
    redis_server_kill(server);
    if (server->directory[0] != '\0') {
        (void)rmdir(server->directory);
        server->directory[0] = '\0';
    }
}

struct redisReply *redis_server_ask(struct redis_server *server, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    redisReply *reply = ask_with(server, format, args);
    va_end(args);
    return reply;
}

long long redis_server_integer(struct redis_server *server, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    redisReply *reply = ask_with(server, format, args);
    va_end(args);
    assert_int_equal(reply->type, REDIS_REPLY_INTEGER);
    long long integer = reply->integer;
    freeReplyObject(reply);
    return integer;
}

static redisReply *ask_with(struct redis_server *server, const char *format, va_list args)
{
    redisContext *context = wait_for_connection(server);
    redisReply *reply = redisvCommand(context, format, args);

    assert_non_null(reply);
    redisFree(context);
    return reply;
}
