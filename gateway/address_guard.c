/*
 * Private addresses, after the IANA special-purpose registries (RFC 6890, RFC 8190).
 *
 * Failure modes: none; what cannot be read is no literal, and an unknown family is private. Thread: any.
 */
#include "address_guard.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#define LETTERS_AND_DIGITS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

static const struct {
    uint32_t network;
    unsigned bits;
} private_v4[] = {
    {0x00000000, 8},  /* 0.0.0.0/8        this network      RFC 1122 3.2.1.3 (Linux: this host) */
    {0x0a000000, 8},  /* 10.0.0.0/8       private           RFC 1918 */
    {0x64400000, 10}, /* 100.64.0.0/10    carriers' NAT     RFC 6598 */
    {0x7f000000, 8},  /* 127.0.0.0/8      loopback          RFC 1122 3.2.1.3 */
    {0xa9fe0000, 16}, /* 169.254.0.0/16   link-local        RFC 3927; clouds' metadata services */
    {0xac100000, 12}, /* 172.16.0.0/12    private           RFC 1918 */
    {0xc0000000, 24}, /* 192.0.0.0/24     IETF protocols    RFC 6890 */
    {0xc0a80000, 16}, /* 192.168.0.0/16   private           RFC 1918 */
    {0xc6120000, 15}, /* 198.18.0.0/15    benchmarking      RFC 2544 */
    {0xe0000000, 4},  /* 224.0.0.0/4      multicast         RFC 5771 */
    {0xf0000000, 4},  /* 240.0.0.0/4      reserved          RFC 1112 4; broadcast RFC 919 */
};

/* `ipv4_at`: where the IPv4 address stands that decides; 0: all of the network is private. */
static const struct {
    uint8_t network[16];
    unsigned bits, ipv4_at;
} special_v6[] = {
    {{0}, 96, 12},                        /* ::/96          compatible     RFC 4291 2.5.5.1 */
    {{[10] = 0xff, 0xff}, 96, 12},        /* ::ffff:0:0/96  mapped         RFC 4291 2.5.5.2 */
    {{0, 0x64, 0xff, 0x9b}, 96, 12},      /* 64:ff9b::/96   NAT64          RFC 6052 */
    {{0, 0x64, 0xff, 0x9b, 0, 1}, 48, 0}, /* 64:ff9b:1::/48 local NAT64    RFC 8215 */
    {{0x20, 0x02}, 16, 2},                /* 2002::/16      6to4           RFC 3056 */
    {{0xfc}, 7, 0},                       /* fc00::/7       unique local   RFC 4193 */
    {{0xfe, 0x80}, 10, 0},                /* fe80::/10      link-local     RFC 4291 2.5.6 */
    {{0xfe, 0xc0}, 10, 0},                /* fec0::/10      site-local     RFC 3879 */
    {{0xff}, 8, 0},                       /* ff00::/8       multicast      RFC 4291 2.7 */
};
/* :: and ::1 (RFC 4291 2.5.2, 2.5.3) need no rows: as IPv4 they are 0.0.0.0 and 0.0.0.1 */

static bool is_private_v4(uint32_t address);
static bool is_private_v6(const uint8_t address[16]);
static bool has_prefix(const uint8_t address[16], const uint8_t network[16], unsigned bits);
static bool find_host(const char *url, const char **ret_host, size_t *ret_len);
static bool is_port(const char *text, const char *end);
static bool is_localhost(const char *host, size_t len);

/* ---- addresses ---- */

bool gw_address_is_private(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof(v4));
        return is_private_v4(ntohl(v4.sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof(v6));
        return is_private_v6(v6.sin6_addr.s6_addr);
    }
    return true;
}

static bool is_private_v4(uint32_t address)
{
    for (size_t i = 0; i < sizeof(private_v4) / sizeof(private_v4[0]); i++) {
        if ((address ^ private_v4[i].network) >> (32 - private_v4[i].bits) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_private_v6(const uint8_t address[16])
{
    for (size_t i = 0; i < sizeof(special_v6) / sizeof(special_v6[0]); i++) {
        if (!has_prefix(address, special_v6[i].network, special_v6[i].bits)) {
            continue;
        }
        if (special_v6[i].ipv4_at == 0) {
            return true;
        }
        uint32_t embedded;
        memcpy(&embedded, address + special_v6[i].ipv4_at, sizeof(embedded));
        return is_private_v4(ntohl(embedded));
    }
    return false;
}

static bool has_prefix(const uint8_t address[16], const uint8_t network[16], unsigned bits)
{
    unsigned bytes = bits / 8, rest = bits % 8;

    return memcmp(address, network, bytes) == 0 &&
           (rest == 0 || (address[bytes] ^ network[bytes]) >> (8 - rest) == 0);
}

/* ---- texts ---- */

bool gw_address_parse(const char *text, size_t len, struct sockaddr_storage *ret_address)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    char copy[INET6_ADDRSTRLEN];
    bool bracketed = len >= 2 && text[0] == '[' && text[len - 1] == ']';

    if (bracketed) {
        text++;
        len -= 2;
    }
    const char *zone = memchr(text, '%', len);
    size_t copy_len = zone != NULL ? (size_t)(zone - text) : len;
    if (copy_len >= sizeof(copy)) {
        return false;
    }
    memcpy(copy, text, copy_len);
    copy[copy_len] = '\0';
    if (inet_pton(AF_INET6, copy, &v6.sin6_addr) == 1) {
        memset(ret_address, 0, sizeof(*ret_address));
        memcpy(ret_address, &v6, sizeof(v6));
        return true;
    }
    /* inet_aton does not mind what follows a space, so the characters are checked first */
    if (bracketed || strspn(copy, "0123456789abcdefABCDEFxX.") != len ||
        inet_aton(copy, &v4.sin_addr) == 0) {
        return false;
    }
    memset(ret_address, 0, sizeof(*ret_address));
    memcpy(ret_address, &v4, sizeof(v4));
    return true;
}

bool gw_address_url_is_private(const char *url)
{
    struct sockaddr_storage address;
    const char *host;
    size_t len;

    if (!find_host(url, &host, &len)) {
        return false;
    }
    if (gw_address_parse(host, len, &address)) {
        return gw_address_is_private((const struct sockaddr *)&address);
    }
    return is_localhost(host, len);
}

/* The host of scheme://[user@]host[:port], brackets included (RFC 3986 3.2). */
static bool find_host(const char *url, const char **ret_host, size_t *ret_len)
{
    size_t scheme_len = strspn(url, LETTERS_AND_DIGITS "+-.");

    if (scheme_len == 0 || strncmp(url + scheme_len, "://", 3) != 0) {
        return false;
    }
    const char *host = url + scheme_len + 3;
    const char *end = host + strcspn(host, "/?#");
    const char *at = memchr(host, '@', (size_t)(end - host));
    if (at != NULL) {
        host = at + 1; /* a second @ is left in the host, which then matches nothing */
    }
    const char *host_end;
    if (host < end && *host == '[') {
        host_end = memchr(host, ']', (size_t)(end - host));
        if (host_end == NULL) {
            return false;
        }
        host_end++;
    } else {
        host_end = memchr(host, ':', (size_t)(end - host));
        host_end = host_end != NULL ? host_end : end;
    }
    if (host_end == host || !is_port(host_end, end)) {
        return false;
    }
    *ret_host = host;
    *ret_len = (size_t)(host_end - host);
    return true;
}

/* Nothing, or a colon and digits (RFC 3986 3.2.3: there may be none). */
static bool is_port(const char *text, const char *end)
{
    if (text == end) {
        return true;
    }
    return *text == ':' && strspn(text + 1, "0123456789") == (size_t)(end - text - 1);
}

static bool is_localhost(const char *host, size_t len)
{
    static const char name[] = "localhost";
    size_t name_len = sizeof(name) - 1;

    if (len > 0 && host[len - 1] == '.') {
        len--; /* a fully qualified name */
    }
    if (len < name_len || strspn(host, LETTERS_AND_DIGITS "-_.") < len ||
        strncasecmp(host + len - name_len, name, name_len) != 0) {
        return false;
    }
    return len == name_len || host[len - name_len - 1] == '.';
}
