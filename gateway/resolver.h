/**
 * The addresses of one upstream's host name, looked up on a thread of its own.
 *
 * getaddrinfo waits for name servers as long as it likes, and libcurl's threaded resolver starts a
 * thread for every lookup, which may be joined (Curl_resolver_kill). Here one thread looks up one name,
 * one lookup at a time: DNS that hangs stalls no loop and piles up no threads. The addresses go to
 * libcurl by CURLOPT_RESOLVE.
 *
 * Thread: any, but an operation belongs to its loop's thread (op.h). Ownership: the resolver is shared
 * with its thread; operations are embedded in their callers.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "sluice/loop.h"
#include "sluice/op.h"

struct addrinfo;
struct gw_resolver;

enum {
    GW_RESOLVE_ADDRESSES_MAX = 8,
    GW_RESOLVE_TEXT = GW_RESOLVE_ADDRESSES_MAX * (INET6_ADDRSTRLEN + 2) /* brackets and a comma */
};

/** One loop's wish for addresses. */
struct gw_resolve {
    struct sl_op op;
    /* output after status 0, else "": "192.0.2.1,[2001:db8::1]", the preferred first (RFC 6724) */
    char addresses[GW_RESOLVE_TEXT];
    /* private */
    struct gw_resolver *resolver;
    struct sl_loop *loop;
    struct sl_message message;
    struct gw_resolve *next, **prev_next; /* prev_next == NULL: not waiting, the message is out */
    int status;
};

/** False for a literal IPv4 or IPv6 address, with or without brackets: there is nothing to look up. */
bool gw_resolver_is_needed(const char *host);

/**
 * Starts the thread and with it the first lookup. A success is good for `refresh_s` seconds (1 to 86400)
 * and then looked up again if somebody has asked meanwhile, else when somebody asks. A lookup that
 * fails or finds nothing keeps the older addresses in use and is repeated after 1 s. `host` is copied.
 * 0 or SL_E_NO_MEMORY (no thread left counts as that).
 */
SL_MUST_CHECK int gw_resolver_create(const char *host, unsigned port, unsigned refresh_s,
                                     struct gw_resolver **ret_resolver);

/**
 * Returns at once: the thread ends by itself, after the lookup that it may be in, and frees what it
 * shares. No operation may be under way. NULL is accepted.
 */
void gw_resolver_destroy(struct gw_resolver *resolver);

/**
 * Asks for addresses. Done with 0 and the newest ones as soon as there are any, also while a lookup hangs.
 * While there are none: with SL_E_UPSTREAM_UNREACHABLE when the lookup that is under way, or the next one,
 * has failed. There is no timer here: the caller keeps one and cancels. Always 0.
 */
SL_MUST_CHECK int gw_resolve_start(struct gw_resolver *resolver, struct sl_loop *loop,
                                   struct gw_resolve *resolve);
void gw_resolve_cancel(struct gw_resolve *resolve);

/**
 * The newest addresses without waiting; counts as asking. `*ret_generation` grows with every change of
 * the text. False: there are none yet. Costs one lock that is never held for long.
 */
bool gw_resolver_peek(struct gw_resolver *resolver, char addresses[GW_RESOLVE_TEXT],
                      uint64_t *ret_generation);

/** How names are looked up: by getaddrinfo(3) and freeaddrinfo(3), or by a test's own. */
struct gw_resolver_dns {
    int (*look_up)(const char *host, const char *service, const struct addrinfo *hints,
                   struct addrinfo **ret_found);
    void (*release)(struct addrinfo *found);
    unsigned refresh_ms, retry_ms;
};

/** For tests: gw_resolver_create with another DNS. `dns` is copied; its functions run on the thread. */
SL_MUST_CHECK int gw_resolver_create_with(const char *host, unsigned port,
                                          const struct gw_resolver_dns *dns,
                                          struct gw_resolver **ret_resolver);
