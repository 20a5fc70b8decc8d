/**
 * Listening sockets: one per worker and address (SO_REUSEPORT), with a cap and a cure for EMFILE.
 *
 * Thread: gw_listener_open anywhere, the rest on the worker's. Ownership: the listener owns its socket.
 */
#pragma once

#include <sys/socket.h>

#include "worker.h"

struct gw_listener;

/**
 * Opens a socket that listens on `address` ("host:port", "[host]:port"; numeric). With port 0 the
 * first call chooses one and writes the whole address to `ret_bound`. Returns the descriptor or a
 * negative errno.
 */
int gw_listener_open(const char *address, char *ret_bound, size_t bound_size);

/** Starts accepting on `fd` for a worker. 0 or SL_E_NO_MEMORY. */
SL_MUST_CHECK int gw_listener_start(struct gw_worker *worker, int fd,
                                    struct gw_listener **ret_listener);

/** Stops accepting and closes the socket. NULL is accepted. */
void gw_listener_stop(struct gw_listener *listener);
