/*
 * Addresses and listening sockets.
 *
 * Happy path: "host:port" -> getaddrinfo -> socket, bind, listen.
 * Failure: one line on stderr, -1. Thread: main. Ownership: descriptors belong to the caller.
 */
#include "net.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { HOST_MAX = 256, BACKLOG = 4096 };

int lt_net_resolve(const char *host_port, struct lt_address *ret_address)
{
    char host[HOST_MAX];
    const char *colon = strrchr(host_port, ':');
    size_t host_len = colon != NULL ? (size_t)(colon - host_port) : 0;
    if (colon == NULL || host_len >= sizeof(host)) {
        fprintf(stderr, "%s: expected host:port\n", host_port);
        return -1;
    }
    const char *start = host_port;
    if (host_len >= 2 && start[0] == '[' && start[host_len - 1] == ']') {
        start++;
        host_len -= 2;
    }
    memcpy(host, start, host_len);
    host[host_len] = 0;
    /* getaddrinfo takes 65536 for 0. */
    char *port_end;
    unsigned long port = strtoul(colon + 1, &port_end, 10);
    if (colon[1] == 0 || *port_end != 0 || port > 65535) {
        fprintf(stderr, "%s: wrong port\n", host_port);
        return -1;
    }
    struct addrinfo hints = {
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_NUMERICSERV | AI_PASSIVE,
    };
    struct addrinfo *found = NULL;
    int error = getaddrinfo(host_len != 0 ? host : NULL, colon + 1, &hints, &found);
    if (error != 0) {
        fprintf(stderr, "%s: %s\n", host_port, gai_strerror(error));
        return -1;
    }
    memcpy(&ret_address->bytes, found->ai_addr, found->ai_addrlen);
    ret_address->len = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

int lt_net_listen(const struct lt_address *address)
{
    int fd = socket(address->bytes.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        perror("socket");
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(fd, (const struct sockaddr *)&address->bytes, address->len) != 0 ||
        listen(fd, BACKLOG) != 0) {
        perror("cannot listen");
        close(fd);
        return -1;
    }
    return fd;
}

int lt_net_port(int fd)
{
    struct sockaddr_storage bytes;
    socklen_t len = sizeof(bytes);
    if (getsockname(fd, (struct sockaddr *)&bytes, &len) != 0) {
        return -1;
    }
    if (bytes.ss_family == AF_INET6) {
        return ntohs(((const struct sockaddr_in6 *)&bytes)->sin6_port);
    }
    return ntohs(((const struct sockaddr_in *)&bytes)->sin_port);
}

void lt_net_raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* no matter: then accept or connect will say so */
    }
}
