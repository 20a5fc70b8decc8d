/**
 * A Redis that does what the test says: it speaks on a loop of the test's own, in the same thread.
 *
 * It reads whole commands and hands each to `answer`, which writes whatever it likes, or nothing. The
 * greeting (AUTH, SELECT, PING) and SCRIPT LOAD are answered well unless `greets` is false.
 * Thread: the loop's. Ownership: embedded in the test.
 */
#pragma once

#include <stdbool.h>

#include "sluice/buffer.h"
#include "sluice/loop.h"

enum { FAKE_REDIS_ARGS_MAX = 16 };

struct fake_redis_command {
    unsigned count;
    struct {
        const char *base;
        size_t len;
    } args[FAKE_REDIS_ARGS_MAX]; /* of longer commands only the first ones */
};

struct fake_redis {
    void (*answer)(struct fake_redis *fake, const struct fake_redis_command *command);
    bool greets;
    /* figures */
    unsigned accepted, reads, commands; /* commands: without those answered by itself */
    char url[128];
    /* private */
    struct sl_loop *loop;
    struct sl_watch listener_watch, watch;
    int listener, connection;
    struct sl_buffer input;
    char directory[64], path[96];
};

/** Listens on a socket, or with `tcp` on a free port of 127.0.0.1. */
void fake_redis_start(struct fake_redis *fake, struct sl_loop *loop, bool tcp);
void fake_redis_stop(struct fake_redis *fake);

/** Writes to the connection. */
void fake_redis_say(struct fake_redis *fake, const char *text);
void fake_redis_say_bytes(struct fake_redis *fake, const void *bytes, size_t len);

/** Closes the connection; the listener stays. */
void fake_redis_hang_up(struct fake_redis *fake);

/** True when the command's first word is `name`. */
bool fake_redis_is(const struct fake_redis_command *command, const char *name);
