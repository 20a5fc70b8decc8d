/**
 * Is an address one of the public internet? A name that was configured as a public host and leads to
 * a private address is a mistake or an attack (DNS rebinding, CWE-918): connecting would hand prompts
 * and keys to whatever listens there.
 *
 * Thread: any (pure functions).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/**
 * Reads a literal address: IPv6 with or without brackets (RFC 3986 3.2.2), its zone is dropped; IPv4 in
 * every form of inet_aton(3), since libcurl and getaddrinfo take `127.1` and `0x7f000001` too. The port
 * is 0. False: `text` is a name, or nothing at all.
 */
bool gw_address_parse(const char *text, size_t len, struct sockaddr_storage *ret_address);

/**
 * True for what does not lead to a host on the public internet: loopback, private, link-local, shared,
 * benchmarking, multicast, reserved. IPv6 addresses that stand for an IPv4 address are judged by that
 * one. True for every family but AF_INET and AF_INET6.
 */
bool gw_address_is_private(const struct sockaddr *address);

/**
 * True when the host of `url` is a literal private address, or localhost or a name below it (RFC 6761
 * 6.3): then private addresses were asked for by configuration. `url` is scheme://[user@]host[:port]
 * and anything behind. False for what is not of that form, and for a host with %-escapes: in doubt the
 * guard stays on.
 */
bool gw_address_url_is_private(const char *url);
