/**
 * What the tests of the link share: a loop, a link, commands with a place for their answers, a fake
 * connector, and a scripted server.
 *
 * Everything is global and made anew for each test by set_up. Thread: the test's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h> /* for cmocka's fail_msg() */

#include "connector.h"
#include "fake_redis.h"
#include "redis_link.h"
#include "run_until.h"

enum { COMMANDS_MAX = 64 };

struct answer {
    struct store_redis_command command;
    unsigned times; /* how often `done` ran */
    int status;
    enum store_redis_type type;
    long long integer;
    size_t count;
    char text[256]; /* of an array: its elements, joined by commas */
    size_t text_len;
};

extern struct sl_loop *loop;
extern struct store_client_stats stats;
extern struct store_redis_link *test_link;
extern struct answer answers[COMMANDS_MAX];
extern unsigned ups, finished; /* how often the link came up; how many commands are done */

int set_up(void **state);
int tear_down(void **state);
void make_link(const char *url, unsigned timeout_ms);
bool is_up(void);

/* ---- commands: `i` is the place of the answer ---- */

int send_args(unsigned i, const struct store_text *args, size_t count);
int send_line(unsigned i, const char *line); /* the words of `line` */

/* ---- time ---- */

extern uint64_t test_clock_us;

void run_turns(unsigned count);
void stop_the_clock(void);
void run_until_up(void); /* with the clock stopped: moves it past every backoff */

/* ---- the connector: resolves when the test says so ---- */

extern struct store_resolve *resolving; /* NULL: nothing to do */
extern unsigned resolves, forgets;
extern int resolve_error; /* of the next start */

void finish_resolving(const char *address, int status);

/* ---- the scripted server: says `script` to each command ---- */

extern struct fake_redis fake;
extern const char *script; /* NULL: nothing */
extern bool hang_up_after;

void start_fake(unsigned timeout_ms); /* with a link that is up */
void answer_by_script(void);          /* makes a fake that was started otherwise follow `script` */
