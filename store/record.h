/**
 * One record on its way to Postgres, and the origin that hears of it.
 *
 * A record is made on a loop and owned by whoever has it: the loop until it was handed over, then
 * the writer, then the loop again. Two things happen to it, in this order and each at most once:
 *
 *   durable    it will survive a crash of this process. Whoever makes it so (a journal) says so by
 *              store_record_durable, from its own thread, while it still owns the record.
 *   committed  its way is over: in Postgres, or refused, or given up at the end of the process.
 *              store_record_committed hands it back. Without a `durable` before, the commit is also
 *              what makes it durable.
 *
 * Both travel to the loop of the record's origin, which outlives client and records: a client that
 * is gone closes its origin, and what comes back later is freed. A record without an origin (one
 * that was read back from disk at the start) is freed at once.
 */
#pragma once

#include "sluice/store.h"

struct store_origin;

enum store_record_kind {
    STORE_RECORD_MESSAGE = 1, /* session row made or touched, message row added */
    STORE_RECORD_PROFILE,     /* profile row written */
    STORE_RECORD_TITLE,       /* session's title set */
    STORE_RECORD_DELETE,      /* session and its messages deleted */
};

/* A record's place in one of the overlay's chains. */
struct store_overlay_link {
    struct store_overlay_link *next, **prev_next; /* prev_next NULL: in none */
    uint64_t hash;
};

struct store_record {
    enum store_record_kind kind;
    const char *user; /* this and all texts point into the record itself */
    size_t user_len;
    struct sl_uuid session;
    struct store_message message; /* MESSAGE */
    struct store_text text;       /* PROFILE: the JSON object; TITLE: the title */
    size_t bytes;                 /* memory it takes: what the queue's limit counts */
    uint64_t sequence;            /* in the journal; 0: not journalled */
    int64_t recorded_at_us;       /* Unix time at which the record was made */
    /* result, set by the writer */
    int status;
    bool outcome_unknown; /* a batch that held it may have been committed without our knowing */
    /* who waits for it: NULL, or the origin and its place there */
    struct store_origin *origin;
    uint32_t slot, generation;
    /* private */
    bool durable;
    struct store_record *queue_next;   /* the queue it is in: the journal's, then the writer's */
    struct store_record *durable_next; /* the origin's lists */
    struct store_record *committed_next;
    struct store_overlay_link overlay_by_session, overlay_by_turn; /* the overlay */
};

/** Makes a record with copies of everything. 0 or SL_E_NO_MEMORY. */
SL_MUST_CHECK int store_record_create_message(const char *user, size_t user_len,
                                              const struct sl_uuid *session,
                                              const struct store_message *message,
                                              struct store_record **ret_record);

/** PROFILE, TITLE or DELETE; `session` may be NULL for PROFILE, `text` is not used by DELETE. */
SL_MUST_CHECK int store_record_create(enum store_record_kind kind, const char *user,
                                      size_t user_len, const struct sl_uuid *session,
                                      struct store_text text, struct store_record **ret_record);

/** Frees a record that is in no queue and no overlay. NULL is accepted. */
void store_record_destroy(struct store_record *record);

/** Any thread: tells the origin that the record is durable. The caller keeps the record. */
void store_record_durable(struct store_record *record);

/** Any thread: hands the record back to its origin, with `status`. */
void store_record_committed(struct store_record *record, int status);

/* ------------------------------------------------------------------ origin */

/** Neither may close the origin. */
struct store_origin_callbacks {
    /** On the origin's loop. The record is the writer's: read its kind, slot and generation only. */
    void (*durable)(void *context, const struct store_record *record);
    /** On the origin's loop. The record now belongs to the callee. */
    void (*committed)(void *context, struct store_record *record);
};

/** 0 or SL_E_NO_MEMORY. `callbacks` must outlive the origin. */
SL_MUST_CHECK int store_origin_create(struct sl_loop *loop,
                                      const struct store_origin_callbacks *callbacks, void *context,
                                      struct store_origin **ret_origin);

/** On the loop: no callback runs any more and the loop is not used any more. */
void store_origin_close(struct store_origin *origin);

/**
 * Frees a closed origin, once nothing can come back to it and its loop will not run again (a message
 * to it may still lie in the loop's mailbox). NULL is accepted.
 */
void store_origin_destroy(struct store_origin *origin);
