/**
 * A feed: the log of a turn together with those who follow it.
 *
 * Followers (HTTP responses, relays to other loops) know feeds only, so they work the same whether the
 * turn runs on their own loop or its events are relayed from another one.
 * Thread: one loop. Ownership: embedded in its owner (a turn, or the copy of one that lives elsewhere),
 * which is told when somebody stops following; followers are embedded in theirs.
 */
#pragma once

#include "sluice/list.h"
#include "sluice/uuid.h"
#include "turn_log.h"

struct gw_feed;

struct gw_follower {
    /** New events are in the log (or it has ended). Called from the loop's drain, never from inside gw_feed_follow. */
    void (*wake)(struct gw_follower *follower);
    /* private */
    struct gw_feed *feed; /* NULL: follows nothing */
    struct sl_link link;
};

/** What the owner of a feed wants to know. Called from inside the functions below. */
struct gw_feed_owner {
    /** A follower has left, `reason` as in gw_feed_leave. The owner frees nothing here, it queues a task. */
    void (*left)(struct gw_feed *feed, int reason);
    /** A client's socket has taken the first token. */
    void (*token_delivered)(struct gw_feed *feed);
};

struct gw_feed {
    struct gw_turn_log log;
    char turn_id[SL_UUID_TEXT_SIZE], session_id[SL_UUID_TEXT_SIZE];
    int error; /* how it ended: 0 or the error of its `error` event. Only once the log has ended */
    struct sl_link followers;
    /* private */
    const struct gw_feed_owner *owner;
    uint32_t published_seq; /* followers have been told of this event */
};

/** Makes an empty feed whose log may hold `max_bytes`. */
void gw_feed_init(struct gw_feed *feed, const struct gw_feed_owner *owner,
                  const struct sl_uuid *turn_id, const struct sl_uuid *session_id,
                  size_t max_bytes);

/** Frees the log. Nobody follows any more. */
void gw_feed_dispose(struct gw_feed *feed);

/** Wakes every follower if there is something that it has not been told of. */
void gw_feed_publish(struct gw_feed *feed);

/** Begins following. The feed stays valid until the follower leaves. */
void gw_feed_follow(struct gw_feed *feed, struct gw_follower *follower);

/**
 * Ends following. `reason`: 0 when everything has been read, SL_E_CLIENT_GONE, SL_E_SLOW_READER, or
 * what else kept the client from reading to the end. Idempotent.
 */
void gw_feed_leave(struct gw_follower *follower, int reason);

/** The first token has just been written to a client's socket. */
void gw_feed_token_delivered(struct gw_feed *feed);
