/**
 * A private redis-server for tests: on a socket in its own directory, without persistence.
 *
 * Thread: the test's. It is stopped with the test's process, however that ends. Everything aborts the
 * test on failure, but a missing binary, which store_test_redis_start reports.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "sluice/loop.h"

struct redisReply;

struct redis_server {
    char directory[64];
    char socket[96];
    char url[128]; /* unix://... */
    const char *password;
    pid_t pid;
};

/** False, with a line that says why, when there is no redis-server to run. `password` may be NULL. */
bool redis_server_start(struct redis_server *server, const char *password);

/** Starts it again on the same socket after redis_server_kill. */
void redis_server_restart(struct redis_server *server);

void redis_server_kill(struct redis_server *server);

/** SIGSTOP and SIGCONT: it hangs, with its connections open. */
void redis_server_freeze(struct redis_server *server);
void redis_server_thaw(struct redis_server *server);

/** Kills it and removes its directory. Idempotent, also on zeroed memory. */
void redis_server_stop(struct redis_server *server);

/** Asks on a connection of its own, blocking. The format is hiredis'. The answer is the caller's: freeReplyObject. */
struct redisReply *redis_server_ask(struct redis_server *server, const char *format, ...);

/** The same for an integer answer. */
long long redis_server_integer(struct redis_server *server, const char *format, ...);
