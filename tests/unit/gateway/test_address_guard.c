/* Private addresses: both edges of every block, embedded IPv4, and what a URL's host says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "address_guard.h"

static bool is_private(const char *text)
{
    struct sockaddr_storage address;

    if (!gw_address_parse(text, strlen(text), &address)) {
        fail_msg("no address: %s", text);
    }
    return gw_address_is_private((const struct sockaddr *)&address);
}

static void assert_all(bool expected, const char *const *texts)
{
    for (; *texts != NULL; texts++) {
        if (is_private(*texts) != expected) {
            fail_msg("%s is %s", *texts, expected ? "private" : "public");
        }
    }
}

static void ipv4_blocks_have_edges(void **state)
{
    static const char *const private[] = {
        "0.0.0.0",     "0.255.255.255",   "10.0.0.0",    "10.255.255.255",  "100.64.0.0",
        "127.0.0.1",   "100.127.255.255", "127.0.0.0",   "127.255.255.255", "169.254.0.0",
        "172.16.0.0",  "169.254.255.255", "192.0.0.0",   "172.31.255.255",  "192.168.0.0",
        "198.18.0.0",  "192.168.255.255", "192.0.0.255", "198.19.255.255",  "224.0.0.0",
        "239.255.0.1", "239.255.255.255", "240.0.0.0",   "255.255.255.255", NULL};
    static const char *const public[] = {
        "1.0.0.0",         "9.255.255.255",   "11.0.0.0",        "100.63.255.255",
        "100.128.0.0",     "126.255.255.255", "128.0.0.0",       "169.253.0.0",
        "169.253.255.255", "169.255.0.0",     "172.15.255.255",  "172.32.0.0",
        "192.0.1.0",       "191.255.255.255", "192.169.0.0",     "192.167.255.255",
        "198.17.255.255",  "198.20.0.0",      "223.255.255.255", "8.8.8.8",
        "93.184.216.34",   "192.0.2.1",       "203.0.113.10",    NULL};

    (void)state;
    assert_all(true, private);
    assert_all(false, public);
}

static void ipv6_blocks_have_edges(void **state)
{
    static const char *const private[] = {
        "::",
        "::1",
        "fc00::",
        "fd12:3456:789a::1",
        "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "fe80::1",
        "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "fec0::1",
        "feff::1",
        "ff00::",
        "ff02::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "64:ff9b:1::",
        "64:ff9b:1:ffff:ffff:ffff:8.8.8.8",
        NULL,
    };
    static const char *const public[] = {
        "2001:4860:4860::8888",
        "2606:4700::1111",
        "fbff:ffff::1",
        "fe00::1",
        "fe7f:ffff::1",
        "::1:0:0:1",
        "64:ff9b:2::1",
        "64:ff9c::10.0.0.1",
        "2003::1",
        "2001::1",
        "1::",
        NULL,
    };

    (void)state;
    assert_all(true, private);
    assert_all(false, public);
}

static void embedded_ipv4_decides(void **state)
{
    static const char *const private[] = {"::ffff:127.0.0.1",
                                          "::ffff:10.1.2.3",
                                          "::ffff:169.254.169.254",
                                          "::ffff:7f00:1",
                                          "64:ff9b::192.168.0.1",
                                          "64:ff9b::100.64.0.1",
                                          "2002:7f00:1::",
                                          "2002:a00:1:ffff::1",
                                          "2002:c0a8:101::1",
                                          "2002:a9fe:a9fe::8.8.8.8",
                                          "::127.0.0.1",
                                          "::10.0.0.1",
                                          "::ffff:0.0.0.0",
                                          "::ffff:255.255.255.255",
                                          NULL};
    static const char *const public[] = {"::ffff:8.8.8.8", "64:ff9b::8.8.8.8",
                                         "2002:808:808::10.0.0.1", "::8.8.8.8", NULL};

    (void)state;
    assert_all(true, private);
    assert_all(false, public);
}

static void other_families_are_private(void **state)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr nothing = {.sa_family = AF_UNSPEC};

    (void)state;
    assert_true(gw_address_is_private((const struct sockaddr *)&local));
    assert_true(gw_address_is_private(&nothing));
}

static void literals_are_told_from_names(void **state)
{
    static const char *const literals[] = {
        "192.0.2.1", "127.1", "0x7f000001",   "0177.0.0.1",       "2130706433",       "[::1]",
        "::1",       "[::]",  "fe80::1%eth0", "[fe80::1%25eth0]", "[::ffff:1.2.3.4]", NULL};
    static const char *const names[] = {"",          "a",         "1.2.3.4.5",  "256.0.0.1", "face",
                                        "[",         "]",         "[]",         "[[::1]]",   "[::1",
                                        "::1]",      "[1.2.3.4]", "1.2.3.4 x",  " 1.2.3.4",  "0xg",
                                        "1.2.3.4%1", "%",         "[%]",        "localhost", "::g",
                                        "1.2.3.4\t", "[::1]x",    "model.test", ":",         NULL};
    struct sockaddr_storage address;
    char longest[200];

    (void)state;
    for (const char *const *at = literals; *at != NULL; at++) {
        if (!gw_address_parse(*at, strlen(*at), &address)) {
            fail_msg("a literal: %s", *at);
        }
    }
    for (const char *const *at = names; *at != NULL; at++) {
        if (gw_address_parse(*at, strlen(*at), &address)) {
            fail_msg("a name: %s", *at);
        }
    }
    memset(longest, '0', sizeof(longest));
    for (size_t len = 40; len < sizeof(longest); len++) {
        longest[len - 1] = '1';
        assert_int_equal(gw_address_parse(longest, len, &address), len < INET6_ADDRSTRLEN);
        longest[len - 1] = '0';
    }
    assert_true(gw_address_parse("10.0.0.1junk", 8, &address));
    assert_int_equal(address.ss_family, AF_INET);
    assert_int_equal(((struct sockaddr_in *)(void *)&address)->sin_addr.s_addr, htonl(0x0a000001));
}

static void urls_that_ask_for_private_addresses(void **state)
{
    static const char *const urls[] = {"http://127.0.0.1",
                                       "http://127.0.0.1/",
                                       "http://127.0.0.1:8000/v1",
                                       "https://10.0.0.7:8443/v1?x=1#y",
                                       "http://192.168.1.5?x",
                                       "http://172.16.0.1#x",
                                       "http://127.0.0.1:/v1",
                                       "HTTP://LOCALHOST/v1",
                                       "http://localhost",
                                       "http://localhost.",
                                       "http://localhost:8000",
                                       "http://a.localhost/v1",
                                       "http://a.b-c.LocalHost.:80/v1",
                                       "http://user:password@localhost:8000/",
                                       "http://user@[::1]:8000/v1",
                                       "http://[::1]",
                                       "http://[::1]/v1@8.8.8.8",
                                       "http://[fd00::1]:8000/v1",
                                       "http://[fe80::1%25eth0]:8000/v1",
                                       "http://[::ffff:10.0.0.1]/",
                                       "http://127.1:8000/v1",
                                       "http://2130706433/v1",
                                       NULL};

    (void)state;
    for (const char *const *at = urls; *at != NULL; at++) {
        if (!gw_address_url_is_private(*at)) {
            fail_msg("asks for a private address: %s", *at);
        }
    }
}

static void all_other_urls_do_not(void **state)
{
    static const char *const urls[] = {"",
                                       ":",
                                       "://",
                                       "://localhost",
                                       "http:",
                                       "http:/",
                                       "http://",
                                       "http:///",
                                       "http:///127.0.0.1",
                                       "http:127.0.0.1",
                                       "127.0.0.1",
                                       "127.0.0.1:8000",
                                       "localhost:8000",
                                       " http://127.0.0.1",
                                       "x/http://127.0.0.1",
                                       "http://8.8.8.8/v1",
                                       "http://[2001:4860:4860::8888]/v1",
                                       "https://api.example.com/v1",
                                       "https://api.example.com/127.0.0.1",
                                       "https://api.example.com?http://127.0.0.1",
                                       "https://api.example.com#@127.0.0.1",
                                       "https://127.0.0.1@api.example.com/",
                                       "https://127.0.0.1:80@api.example.com/",
                                       "https://user@127.0.0.1@api.example.com/",
                                       "https://user@127.0.0.1:80@api.example.com/",
                                       "https://user@[::1]@api.example.com/",
                                       "https://127.0.0.1\\@api.example.com/",
                                       "https://api.example.com\\.localhost/",
                                       "https://api.example.com#.localhost/",
                                       "https://127.0.0.1.example.com/",
                                       "https://localhost.example.com/",
                                       "https://notlocalhost/",
                                       "https://ocalhost/",
                                       "https://localhost../",
                                       "http://%31%32%37.0.0.1/",
                                       "http://127.0.0.1:80x/",
                                       "http://127.0.0.1:80:81/",
                                       "http://[::1",
                                       "http://[::1/v1]",
                                       "http://[::1]x/",
                                       "http://[::1]x:80/",
                                       "http://::1/",
                                       "http://[]/",
                                       "http://[localhost]/",
                                       "http://.",
                                       "http://@",
                                       "http://@/",
                                       "http://:80",
                                       NULL};

    (void)state;
    for (const char *const *at = urls; *at != NULL; at++) {
        if (gw_address_url_is_private(*at)) {
            fail_msg("does not ask for a private address: %s", *at);
        }
    }
}

/* Every prefix of a URL, in memory that ends where it ends: the sanitizer sees a byte too many. */
static void urls_are_read_to_their_end_only(void **state)
{
    static const char url[] = "http://user:password@[fe80::1%25eth0]:8000/v1?x#y";

    (void)state;
    for (size_t len = 0; len < sizeof(url); len++) {
        char *prefix = strndup(url, len);
        assert_non_null(prefix);
        bool is_whole = len > (size_t)(strchr(url, ']') - url);
        assert_int_equal(gw_address_url_is_private(prefix), is_whole);
        free(prefix);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ipv4_blocks_have_edges),
        cmocka_unit_test(ipv6_blocks_have_edges),
        cmocka_unit_test(embedded_ipv4_decides),
        cmocka_unit_test(other_families_are_private),
        cmocka_unit_test(literals_are_told_from_names),
        cmocka_unit_test(urls_that_ask_for_private_addresses),
        cmocka_unit_test(all_other_urls_do_not),
        cmocka_unit_test(urls_are_read_to_their_end_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
