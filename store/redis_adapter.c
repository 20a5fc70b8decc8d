/*
 * Joins one hiredis context to a loop.
 *
 * Happy path: a command makes hiredis call add_write; once connected that does not wait for the
 * descriptor to become writable but queues a task, so everything sent in one turn of the loop leaves
 * in one write and no epoll_ctl is paid for it. Only a write that did not get everything out
 * watches for SL_WRITABLE. Replies are read when the descriptor is readable.
 *
 * Failure modes: hiredis may free the context inside any of its functions; the cleanup hook, which
 * every such path runs, forgets it. A descriptor that epoll refuses ends the connection from a task,
 * as hooks cannot report errors and must not free. A reply that nobody asked for ends it, too: with
 * nothing expected, readable bytes are only peeked at, never given to hiredis; and surplus bytes
 * behind the last expected reply are seen in its callback (redisProcessCallbacks looks at the
 * FREEING flag after each one). A reply of more than REPLY_BYTES_MAX ends it.
 *
 * Thread: its loop's. Ownership: redis_adapter.h. hiredis writes with write(2): the process must
 * ignore SIGPIPE.
 */
#include "redis_adapter.h"

#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <sys/socket.h>

#include "sluice/op.h"

enum { REPLY_BYTES_MAX = 64 * 1024 * 1024 };

static void add_read(void *adapter);
static void del_read(void *adapter);
static void add_write(void *adapter);
static void del_write(void *adapter);
static void cleanup(void *adapter);
static void want(struct store_redis_adapter *adapter, unsigned events);
static void flush_commands(struct sl_task *task);
static void on_ready(struct sl_watch *watch, unsigned events);
static bool reply_is_acceptable(const redisAsyncContext *context);

void store_redis_adapter_attach(struct store_redis_adapter *adapter,
                                struct redisAsyncContext *context)
{
    adapter->context = context;
    adapter->watch = (struct sl_watch){.ready = on_ready};
    adapter->flush = (struct sl_task){.run = flush_commands};
    adapter->wanted = 0;
    adapter->in_write = false;
    adapter->refused = false;
    context->ev.data = adapter;
    context->ev.addRead = add_read;
    context->ev.delRead = del_read;
    context->ev.addWrite = add_write;
    context->ev.delWrite = del_write;
    context->ev.cleanup = cleanup;
}

/* ---- hiredis says what it waits for ---- */

static void add_read(void *context)
{
    struct store_redis_adapter *adapter = context;
    want(adapter, adapter->wanted | SL_READABLE);
}

static void del_read(void *context)
{
    struct store_redis_adapter *adapter = context;
    want(adapter, adapter->wanted & ~(unsigned)SL_READABLE);
}

static void add_write(void *context)
{
    struct store_redis_adapter *adapter = context;
    bool connected = (adapter->context->c.flags & REDIS_CONNECTED) != 0;

    if (connected && !adapter->in_write) {
        sl_loop_defer(adapter->loop, &adapter->flush);
        return;
    }
    /* a connection being made, or a write that could not be finished */
    want(adapter, adapter->wanted | SL_WRITABLE);
}

static void del_write(void *context)
{
    struct store_redis_adapter *adapter = context;
    want(adapter, adapter->wanted & ~(unsigned)SL_WRITABLE);
}

static void want(struct store_redis_adapter *adapter, unsigned events)
{
    adapter->wanted = events;
    if (sl_loop_watch(adapter->loop, &adapter->watch, adapter->context->c.fd, events) != 0) {
        adapter->refused = true;
        sl_loop_defer(adapter->loop, &adapter->flush);
    }
}

/* ---- the loop says what is possible ---- */

static void flush_commands(struct sl_task *task)
{
    struct store_redis_adapter *adapter = SL_CONTAINER_OF(task, struct store_redis_adapter, flush);

    if (adapter->refused) {
        store_redis_adapter_drop(adapter);
        return;
    }
    adapter->in_write = true;
    redisAsyncHandleWrite(adapter->context);
    adapter->in_write = false;
}

static void on_ready(struct sl_watch *watch, unsigned events)
{
    struct store_redis_adapter *adapter = SL_CONTAINER_OF(watch, struct store_redis_adapter, watch);

    if ((events & (SL_READABLE | SL_HANGUP)) != 0) {
        if (!reply_is_acceptable(adapter->context)) {
            store_redis_adapter_drop(adapter);
            return;
        }
        redisAsyncHandleRead(adapter->context); /* finds the end of the connection, too */
    }
    if ((events & SL_WRITABLE) != 0 && adapter->context != NULL) {
        adapter->in_write = true;
        redisAsyncHandleWrite(adapter->context);
        adapter->in_write = false;
    }
}

static bool reply_is_acceptable(const redisAsyncContext *context)
{
    const redisReader *reader = context->c.reader;
    char byte;

    if (context->replies.head != NULL) {
        return reader->len - reader->pos <= REPLY_BYTES_MAX;
    }
    return recv(context->c.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
}

void store_redis_adapter_refuse_surplus(struct redisAsyncContext *context)
{
    const redisReader *reader = context->c.reader;

    if (context->replies.head == NULL && reader->pos < reader->len) {
        redisAsyncFree(context);
    }
}

/* ---- the end ---- */

void store_redis_adapter_drop(struct store_redis_adapter *adapter)
{
    if (adapter->context != NULL) {
        redisAsyncFree(adapter->context);
    }
}

static void cleanup(void *context)
{
    struct store_redis_adapter *adapter = context;

    sl_loop_unwatch(adapter->loop, &adapter->watch);
    sl_loop_undefer(adapter->loop, &adapter->flush);
    adapter->context = NULL;
    adapter->gone(adapter);
}
