/**
 * One connection to Redis that is always on its way to being there.
 *
 * It connects by itself, logs in, selects its database, and comes back whenever it was lost. While it
 * is down, commands are refused at once: that is the breaker. Thread: its loop's, except
 * store_redis_link_status. Ownership: the link owns everything of hiredis; commands are the callers'.
 * hiredis writes with write(2), so the process must ignore SIGPIPE.
 */
#pragma once

#include "redis_command.h"
#include "redis_url.h"
#include "sluice/loop.h"
#include "sluice/store.h"

struct store_connector;
struct store_redis_link;

struct store_redis_link_config {
    struct store_redis_url url;
    unsigned timeout_ms; /* per command */
    /** Called from the loop's drain each time the link has become usable, before anything else can be
     *  sent on the new connection. May be NULL. */
    void (*up)(void *context);
    void *context;
};

/**
 * Makes a link and starts connecting; no server is needed. `config` is copied. `connector` resolves
 * names and is not used for numeric addresses and sockets. 0 or SL_E_NO_MEMORY.
 */
SL_MUST_CHECK int store_redis_link_create(struct sl_loop *loop, struct store_connector *connector,
                                          const struct store_redis_link_config *config,
                                          struct store_client_stats *stats,
                                          struct store_redis_link **ret_link);

/**
 * Closes the connection. Commands under way are finished before it returns; when a name is still
 * being resolved, the connector forgets all jobs of this loop. NULL is accepted.
 */
void store_redis_link_destroy(struct store_redis_link *link);

/**
 * Sends a command; `args` (the first is its name) are copied. Commands sent in one turn of the loop
 * leave in one write, in order. Never SUBSCRIBE, MONITOR or anything else that is answered more or
 * less than once. Start: 0, SL_E_REDIS_UNAVAILABLE (down, or too much under way) or SL_E_LIMIT.
 */
SL_MUST_CHECK int store_redis_link_send(struct store_redis_link *link,
                                        struct store_redis_command *command,
                                        const struct store_text *args, size_t count);

enum store_link store_redis_link_status(const struct store_redis_link *link); /* any thread */
