/**
 * All turns of one loop: what they share, who they are, and how long the finished ones are kept.
 *
 * A finished turn stays for the chat.resume_window_s of its birth, so that a client that was cut off can read the rest;
 * the oldest go first when they take more than this loop's share of chat.resume_bytes_max.
 * A turn's id ends in the index of its loop, so any loop knows where to ask for it.
 *
 * Thread: the loop's, except where said. Ownership: turns own themselves; the lists only name them.
 */
#pragma once

#include "claims.h"
#include "sluice/list.h"
#include "sluice/loop.h"
#include "sluice/uuid.h"

struct gw_config;
struct gw_stats;
struct gw_trace_record;
struct gw_turn;
struct gw_upstreams;
struct gw_user;
struct gw_user_turns;
struct store_client;

enum { GW_TURNS_BUCKETS = 4096 };

/** The world of the turns of one loop. */
struct gw_turns {
    /* set by the owner, before gw_turns_init; config and upstreams may be replaced while turns run */
    struct sl_loop *loop;
    const struct gw_config *config;
    struct store_client *store;
    struct gw_upstreams *upstreams;
    struct gw_user_turns *user_turns; /* shared by all loops */
    struct gw_stats *stats;
    struct gw_turns **peers; /* those of all loops, by index; read-only once the threads run */
    unsigned peers_count;
    unsigned index;        /* of this loop */
    size_t kept_max_bytes; /* of finished turns */
    /** Takes one finished log line without its newline. */
    void (*log_line)(void *context, const char *line, size_t len);
    /** Takes the record of a finished turn; NULL: traces are off. */
    void (*take_trace)(void *context, struct gw_trace_record *record);
    void (*on_end)(void *context);   /* a turn is done; it may still be followed or kept */
    void (*on_quiet)(void *context); /* nothing of ours is on another loop any more */
    void *context;
    /* read-only */
    size_t running; /* turns that are not done yet */
    size_t away;    /* errands of ours on other loops, and copies of turns that live there */
    /* private */
    struct sl_link all, kept; /* kept: finished, the oldest first */
    struct sl_link by_id[GW_TURNS_BUCKETS];
    struct sl_link copies[GW_TURNS_BUCKETS]; /* relay.c: of turns that live elsewhere, by id */
    size_t kept_bytes;
    bool is_closing; /* the other loops may be gone */
    struct sl_timer expiry;
    struct gw_claims claims;
};

void gw_turns_init(struct gw_turns *turns);

/** Frees the turns that are still here. None runs any more, none is followed. */
void gw_turns_finish(struct gw_turns *turns);

/** Ends every running turn with `reason`; their answers are saved as interrupted. */
void gw_turns_end_all(struct gw_turns *turns, int reason);

/** The turn with this id if it is here and this user's, else NULL: another user's turn does not exist. */
struct gw_turn *gw_turns_find(struct gw_turns *turns, const struct sl_uuid *id, const char *user,
                              size_t user_len);

/** A new id for a turn of this loop. */
struct sl_uuid gw_turns_new_id(const struct gw_turns *turns);

/** The loop that a turn with this id would live on: its turns, or NULL when there is no such loop. */
struct gw_turns *gw_turns_of(const struct gw_turns *turns, const struct sl_uuid *id);

/** Which of these lists a turn with this id belongs in. */
struct sl_link *gw_turns_bucket(struct sl_link buckets[GW_TURNS_BUCKETS], const struct sl_uuid *id);

/** Something of ours has left for another loop, or is back. */
void gw_turns_go_away(struct gw_turns *turns);
void gw_turns_come_back(struct gw_turns *turns);

/* ---- for turn.c */

/** A new turn is listed. */
void gw_turns_add(struct gw_turns *turns, struct gw_turn *turn);

/** The turn is done: it is kept if there is a window for late readers and room for it. */
void gw_turns_keep(struct gw_turns *turns, struct gw_turn *turn);

/** Forgets a turn that is about to be freed. */
void gw_turns_remove(struct gw_turns *turns, struct gw_turn *turn);

/** Adds what the turn's memory has grown or shrunk by since the last call to the loop's figure. */
void gw_turns_account(struct gw_turns *turns, struct gw_turn *turn);
