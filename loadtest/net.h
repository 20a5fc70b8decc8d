/**
 * The socket calls that both programs make before their loops start.
 *
 * Thread: main. Errors: a message on stderr and -1.
 */
#pragma once

#include <stddef.h>
#include <sys/socket.h>

struct lt_address {
    struct sockaddr_storage bytes;
    socklen_t len;
};

/**
 * Resolves "host:port" or "[v6]:port" (host empty: any address). 0 or -1. Blocks, for names.
 */
int lt_net_resolve(const char *host_port, struct lt_address *ret_address);

/** A listening, non-blocking TCP socket. The descriptor or -1. */
int lt_net_listen(const struct lt_address *address);

/** The port that a socket is bound to, -1 on failure. */
int lt_net_port(int fd);

/** Lifts the soft limit of open files to the hard one: a stream is a descriptor. */
void lt_net_raise_file_limit(void);
