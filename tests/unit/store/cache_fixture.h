/**
 * What the tests of the cache share: a loop, a redis-server, a fake Postgres reader, and questions.
 *
 * Everything is global and made anew for each test by the set_up functions. Thread: the test's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h> /* for cmocka's skip() and fail_msg() */

#include "cache.h"
#include "local_profiles.h"
#include "redis_server.h"
#include "run_until.h"

#define ANN "ann"
#define PROFILE_KEY "sl:{ann}:p"
#define SESSION "01890a5d-ac96-774b-bcce-b302099a8057"
#define HISTORY_KEY "sl:{ann}:h:" SESSION

enum { LATE_MS = 100, HISTORY_MESSAGES = 4, READS_MAX = 8, SOURCES_MAX = 16 };

struct asked {
    struct store_read read;
    unsigned times;
    int status;
    void (*then)(struct asked *asked);
};

/* For tests set up with Redis: skips when there is no redis-server. */
#define NEEDS_REDIS()                                                                              \
    do {                                                                                           \
        if (cache == NULL) {                                                                       \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

extern struct sl_loop *loop;
extern struct redis_server server;
extern struct store_local_profiles *local;
extern struct store_client_stats stats;
extern struct store_cache *cache;
extern struct sl_uuid session;
extern struct asked asked[READS_MAX];

/* ---- set up and tear down ---- */

int set_up(void **state);
int set_up_with_redis(void **state); /* and with a cache that is up */
int tear_down(void **state);
int make_cache(const char *url, unsigned timeout_ms);
void end_cache(void);
bool is_up(void);

#define WITH_REDIS(test) cmocka_unit_test_setup_teardown(test, set_up_with_redis, tear_down)

/* ---- the fake Postgres reader: `sources` are the reads that it owes an answer, oldest first ---- */

extern struct store_read *sources[SOURCES_MAX];
extern unsigned started, waiting;
extern int start_error;

void answer_error(int status);
void answer_profile(const char *json);    /* NULL: there is none */
void answer_history(int first, int last); /* with these messages; none when last < first */

/* ---- asking, in one of READS_MAX places, the last of which is settle()'s ---- */

void on_read(struct sl_op *op, int status); /* the done of every question */
int start_read(unsigned i, enum store_read_kind kind, unsigned limit);
void ask_profile(unsigned i);
void ask_history(unsigned i, unsigned limit);
void expect_profile(unsigned i, enum store_source source, const char *json);
void expect_history(unsigned i, enum store_source source, int first, int last);

/* ---- histories: messages are numbered from 0 to 7 ---- */

void append_numbers(int first, int last, int window_first,
                    int window_last);                 /* window_first -1: no window */
void append_turn(unsigned question, unsigned answer); /* without a window */
void push_number(unsigned number);                    /* as another instance would have */

/* ---- time ---- */

void run_turns(unsigned count);
void settle(void); /* waits until Redis has answered what was sent so far */

long long exists(const char *key);
