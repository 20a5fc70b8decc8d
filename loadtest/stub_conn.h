/**
 * One client connection of the stub.
 *
 * Thread: the loop's. Ownership: a connection owns itself and has one
 * door out; its memory lives until stub_conn_bury, as events of the same batch may still name it.
 */
#pragma once

#include <stdint.h>

#include "stub_server.h"

/** Takes over an accepted, non-blocking socket. */
void stub_conn_open(struct stub_server *server, int fd);

/** What epoll saw on its socket. */
void stub_conn_on_events(struct stub_conn *conn, uint32_t events);

/** Frees the closed connections; after each batch of events. */
void stub_conn_bury(struct stub_server *server);
