/**
 * The simulated world of a turn: a store and an upstream that do only what the test says, and a clock
 * that only the test moves.
 *
 * It implements the store's and the upstream's functions by their own names (link-time substitution), so
 * the production turn machine runs unchanged. Thread: the test's.
 */
#pragma once

#include "config.h"
#include "stats.h"
#include "turn_state.h"
#include "user_turns.h"

enum { WORLD_SAVES = 2, WORLD_CALLS = 2, WORLD_UPSTREAMS = 3 };

struct world {
    uint64_t now_us;
    struct sl_loop *loop;
    struct gw_config config;
    struct gw_stats stats;
    struct gw_turns turns, *peers[1];
    struct gw_user_turns *user_turns;
    struct gw_upstream_config upstream_configs[WORLD_UPSTREAMS];
    struct gw_upstreams upstreams;
    struct gw_upstreams_shared shared;
    struct gw_turn *turn; /* the one that was started last, as long as it is there */
    struct gw_feed *feed;
    /* what the turn has asked for; NULL: not under way */
    struct store_read *profile, *history;
    struct store_save *saves[WORLD_SAVES]; /* the question, the answer */
    struct gw_upstream_call *calls[WORLD_CALLS];
    unsigned called[WORLD_CALLS]; /* the index of the upstream that is asked */
    unsigned calls_started;
    /* what it has handed over */
    enum store_status answer_status;
    char answer_text[256];
    unsigned saves_started, appends, ends, log_lines, traces;
    size_t window_count;
    bool window_known;
    /* what the next start functions return */
    int save_start_status, upstream_start_status;
    /* the follower's view of that turn */
    struct gw_follower follower;
    size_t follower_offset;
    struct {
        enum sl_event_type type;
        char payload[512];
    } events[64];
    unsigned events_count;
    char last_log_line[4096];
};

extern struct world world;

/** A fresh world with default deadlines; a session id in the request makes history be asked for. */
void world_open(void);
/** One more upstream than the one that there is; its index is the number of those before it. */
void world_add_upstream(const char *name, unsigned priority);
/** Starts a turn and follows it; one that was followed before has been left or has ended. */
void world_start_turn(const char *message, bool has_session, enum gw_on_disconnect on_disconnect);
/** Runs the loop until nothing is queued. */
void world_run(void);
/** Moves the clock and runs what becomes due. */
void world_advance_ms(uint64_t ms);
/** Everything must be over: no operation under way, the turn freed. */
void world_close(void);

void world_finish_profile(int status, const char *json);
void world_finish_history(int status);
void world_finish_save(unsigned which, int status);
void world_connect_upstream(void);
void world_send_delta(const char *content);
void world_finish_upstream(int status, const char *finish_reason);
/** The same for one of several calls. */
void world_connect_call(unsigned which);
void world_send_delta_from(unsigned which, const char *content);
void world_finish_call(unsigned which, int status, const char *finish_reason);
/** From any place to the end: whoever is waited for does well. */
void world_complete(void);

/** True when the follower has seen an event of this type (with `text` in its payload, unless NULL). */
bool world_saw(enum sl_event_type type, const char *text);
unsigned world_count(enum sl_event_type type);
