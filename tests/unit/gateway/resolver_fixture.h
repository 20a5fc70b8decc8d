/**
 * What the tests of the resolver share: a DNS that answers, fails, changes and hangs when the test says
 * so, a loop that the test turns itself, and operations that note how they ended.
 *
 * Thread: main; the DNS is asked on resolvers' threads. Ownership: everything is this fixture's.
 */
#pragma once

#include <pthread.h>

#include "resolver.h"

enum {
    WAIT_MS = 10000, /* for what must happen; a failing test waits this long, a passing one never */
    NEVER_MS = 100,  /* for what must not happen */
    HOUR_MS = 3600000
};

struct fake_dns {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    const char *answer; /* a list of addresses; "": an empty one; NULL: a failure */
    bool hangs, flips;  /* flips: every other lookup fails */
    unsigned begun, ended;
    char host[64], service[16]; /* of the last lookup, as the next two */
    int flags, socktype;
};

struct ask {
    struct gw_resolve resolve;
    unsigned calls;
    int status;
};

extern struct fake_dns dns;
extern struct sl_loop *loop;
extern struct gw_resolver *resolver;
extern unsigned threads_before; /* of this process, without the resolver's */

/** Once per program: what the sanitizer starts along with the first thread is not counted as ours. */
int start_first_thread(void **state);

/** Setup and teardown of every test: the DNS answers 192.0.2.1, there is no resolver; no thread is left. */
int set_up(void **state);
int tear_down(void **state);

/** A resolver that asks the fake DNS, and its end. */
void create(unsigned refresh_ms, unsigned retry_ms);
void destroy(void);

void set_answer(const char *answer);
void set_hangs(bool hangs);

/** `dns.begun` or `dns.ended`. */
unsigned read_count(const unsigned *count);
/** True when the count gets to `least` within the time. */
bool count_reaches(const unsigned *count, unsigned least, unsigned within_ms);

unsigned count_threads(void);
void await_threads(unsigned expected);

/** Starts an operation; turns the loop until its one callback has run. */
void start(struct ask *ask);
void await_calls(struct ask *ask);

/** An operation ends with these addresses. */
void assert_answer(const char *expected);

/** Asks without waiting until the addresses are `expected`. Returns their generation. */
uint64_t await_addresses(const char *expected);
