/**
 * Profile, history and durable writes: what the gateway asks of the store.
 *
 * `struct store` is one per process: the writer thread, the connector thread (everything that
 * blocks: name resolution, opening a Postgres connection) and the overlay of messages that are not
 * in Postgres yet. `struct store_client` is one per loop: a Redis connection, a Postgres read
 * connection in pipeline mode, and the operations under way on that loop.
 *
 * Thread: a client and its operations belong to the loop that made the client. Ownership: operations
 * are embedded in the caller (op.h); outputs belong to the operation until its dispose function.
 * Nothing here logs: it returns errors and counts.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sluice/buffer.h"
#include "sluice/histogram.h"
#include "sluice/loop.h"
#include "sluice/op.h"
#include "sluice/uuid.h"

struct store;
struct store_client;

enum { STORE_USER_ID_MAX = 255 /* bytes */ };

struct store_config {
    const char *redis_url;        /* redis://[:password@]host:port/db or unix:///path[?db=N] */
    const char *database_url;     /* libpq connection string or URI */
    unsigned redis_timeout_ms;    /* per command; a late command is a miss */
    unsigned database_timeout_ms; /* per read */
    unsigned database_reads_max;  /* reads under way per loop; more are refused */
    unsigned profile_ttl_s;
    unsigned absent_profile_ttl_s;  /* how long "this user has no profile" is believed */
    unsigned history_ttl_s;         /* starts when Postgres has the rows */
    unsigned history_pending_ttl_s; /* while it has not */
    unsigned history_messages;      /* messages kept in the cached window */
    unsigned local_profiles_max;    /* entries of the in-process cache used while Redis is down */
    unsigned writer_batch_rows;
    size_t writer_batch_bytes;
    size_t writer_queue_bytes; /* records waiting in memory; beyond it they wait on disk only */
    const char *journal_dir;   /* made, 0700, when it is missing */
    uint64_t journal_segment_bytes;
    uint64_t journal_retain_bytes; /* of segments whose records are all in Postgres */
    unsigned journal_retain_s;
};

/* ------------------------------------------------------------------ process */

/**
 * Starts the store's threads. Reachable servers are not needed: it connects in the background and
 * again whenever a connection is lost. `config` and its strings are copied.
 * What an earlier process journalled and could not write is taken up before it returns.
 * 0, SL_E_INVALID_VALUE (an URL that cannot be read), SL_E_CONFLICT (another process has the journal),
 * SL_E_STORAGE_UNAVAILABLE (the journal's folder cannot be used) or SL_E_NO_MEMORY.
 */
SL_MUST_CHECK int store_create(const struct store_config *config, struct store **ret_store);

/**
 * Waits until every record handed over is in Postgres, or `timeout_ms` have passed; then stops journal
 * and writer. Call it after the turns have ended and while the loops still run. What did not reach
 * Postgres is in the journal and comes in after the next start. Returns the number of records that are
 * in neither.
 */
size_t store_stop(struct store *store, unsigned timeout_ms);

/** Frees the store after store_stop and after its clients are gone. NULL is accepted. */
void store_destroy(struct store *store);

/**
 * Brings the schema up to date: the embedded migrations that the table `sluice_migrations` does not
 * list, in order, one transaction each. Blocks; for `sluice migrate`. `report` is called with one
 * line per step. 0, SL_E_DATABASE_UNAVAILABLE or SL_E_DATABASE_REFUSED (the last line says why).
 */
SL_MUST_CHECK int store_migrate(const char *database_url, void (*report)(const char *line));

/**
 * Writes the messages of the journal's segments from `since_unix_us` on to Postgres once more; what is
 * there already stays as it is. Blocks; for `sluice replay`, also while a server runs. `report` gets the
 * outcome. 0, SL_E_STORAGE_UNAVAILABLE or SL_E_DATABASE_UNAVAILABLE.
 */
SL_MUST_CHECK int store_replay(const struct store_config *config, int64_t since_unix_us,
                               void (*report)(const char *line));

/**
 * The records that Postgres refused for good. `list` reports one JSON object per line (ids, reason, sizes;
 * never a text); `retry` writes them once more and keeps what is refused again. Both block. 0,
 * SL_E_STORAGE_UNAVAILABLE, or (retry) SL_E_DATABASE_UNAVAILABLE; SL_E_CONFLICT while a server has the
 * journal.
 */
SL_MUST_CHECK int store_dead_letters_list(const struct store_config *config,
                                          void (*report)(const char *line));
SL_MUST_CHECK int store_dead_letters_retry(const struct store_config *config,
                                           void (*report)(const char *line));

/* ------------------------------------------------------------------ client */

SL_MUST_CHECK int store_client_create(struct store *store, struct sl_loop *loop,
                                      struct store_client **ret_client);

/** Cancels nothing: the caller has no operation under way any more. NULL is accepted. */
void store_client_destroy(struct store_client *client);

/* ------------------------------------------------------------------ rows */

enum store_role { STORE_ROLE_USER = 1, STORE_ROLE_ASSISTANT = 2 };

enum store_status {
    STORE_STATUS_COMPLETE = 1,
    STORE_STATUS_STOPPED,     /* the user pressed stop */
    STORE_STATUS_CANCELLED,   /* the client went away */
    STORE_STATUS_INTERRUPTED, /* the server was shut down */
    STORE_STATUS_FAILED,      /* the upstream failed, or a limit was reached */
};

/** `complete`, `stopped`, ...: as the database and the API spell it. */
const char *store_status_name(enum store_status status);
const char *store_role_name(enum store_role role);

struct store_text {
    const char *base; /* valid UTF-8 without NUL; NULL: SQL null */
    size_t len;
};

struct store_message {
    struct sl_uuid id;
    struct sl_uuid turn_id;
    enum store_role role;
    enum store_status status;
    int64_t created_at_us; /* Unix time in microseconds */
    struct store_text content;
    struct store_text model;                  /* null for user messages */
    struct store_text finish_reason;          /* null when there was none */
    int32_t prompt_tokens, completion_tokens; /* -1: null */
    double ttft_ms;                           /* negative: null */
};

struct store_session {
    struct sl_uuid id;
    struct store_text title; /* null until one was given */
    int64_t created_at_us, updated_at_us;
};

/* ------------------------------------------------------------------ reads */

enum store_read_kind {
    STORE_READ_PROFILE, /* cache, then database */
    STORE_READ_HISTORY, /* cache, then database merged with the overlay: the newest `limit` messages, oldest first */
    STORE_READ_SESSIONS, /* database: newest activity first, after the cursor */
    STORE_READ_MESSAGES, /* database merged with the overlay: newest first, after the cursor */
    STORE_READ_TURN,     /* overlay, then database: was there a turn with this id of this user? */
};

enum store_source {
    STORE_SOURCE_NONE,
    STORE_SOURCE_CACHE,
    STORE_SOURCE_LOCAL,
    STORE_SOURCE_DATABASE
};

struct store_read {
    struct sl_op op;
    /* inputs, set before start; user bytes must stay valid until done */
    enum store_read_kind kind;
    const char *user;
    size_t user_len;
    struct sl_uuid session; /* HISTORY, MESSAGES; TURN: an output, when found */
    struct sl_uuid turn;    /* TURN: any id, also one that is not ours */
    unsigned limit;  /* rows, not for PROFILE and TURN; HISTORY: at most history_messages + 1 */
    bool has_cursor; /* SESSIONS, MESSAGES: rows before (cursor_us, cursor_id) */
    int64_t cursor_us;
    struct sl_uuid cursor_id;
    struct sl_uuid without_turn; /* HISTORY: this turn's own messages are left out; nil: none */
    /* outputs, after a done with status 0 */
    enum store_source source;
    bool found; /* PROFILE, TURN: there is one */
    /* HISTORY: Postgres did not answer; these are only the messages that it does not have yet */
    bool partial;
    struct sl_buffer text; /* PROFILE: the JSON object's text; otherwise where row texts live */
    struct store_message *messages; /* HISTORY, MESSAGES */
    struct store_session *sessions; /* SESSIONS */
    size_t count;
    bool more; /* SESSIONS, MESSAGES: there are rows after the last one */
    /* private */
    struct store_client *client;
    struct sl_task finish;
    struct sl_timer deadline;
    struct store_read *next, **prev_next;
    void *attachment;
    int status;
    uint64_t started_us;
};

/**
 * Starts a read. PROFILE and HISTORY ask Redis first; the commands of reads that start in the same
 * turn of the loop leave in one write. A miss is a single flight per key and loop. Redis errors and
 * timeouts are never the caller's problem: the read goes on to the database.
 * A TURN is there from its first message's hand-over to the writer on, so it is found while Postgres
 * is down as long as that message is uncommitted. Only one that waits on disk alone
 * (writer_queue_bytes) is not found until it is committed. Nothing of it is cached.
 * Done with 0, SL_E_DATABASE_UNAVAILABLE, SL_E_DATABASE_TIMEOUT, SL_E_DATABASE_REFUSED,
 * SL_E_OVERLOADED (too many reads) or SL_E_CANCELLED. Start: 0 or SL_E_INVALID_VALUE.
 */
SL_MUST_CHECK int store_read_start(struct store_client *client, struct store_read *read);
void store_read_cancel(struct store_read *read);

/** Frees the outputs. Idempotent, also on zeroed memory. */
void store_read_dispose(struct store_read *read);

/** Puts profile and history into the caches; done when both are there or have failed. Same errors. */
struct store_preload {
    struct sl_op op;
    struct store_read profile, history;
    unsigned waiting;
    int status;
};
SL_MUST_CHECK int store_preload_start(struct store_client *client, struct store_preload *preload,
                                      const char *user, size_t user_len,
                                      const struct sl_uuid *session);

/* ------------------------------------------------------------------ saves */

/**
 * Whether a new turn's messages could be stored: 0, or the error to refuse it with
 * (SL_E_STORAGE_UNAVAILABLE: the journal's disk is full or refuses; what is left of it is kept for the
 * answers of running turns). Costs two loads.
 */
SL_MUST_CHECK int store_admission(const struct store_client *client);

struct store_save {
    struct sl_op op;
    /* private */
    struct store_client *client;
    uint32_t slot, generation;
    struct sl_task finish;
    int status;
    bool cancelled;
};

/**
 * Hands a message to the writer; all inputs are copied. Done with 0 once it is durable. The
 * session's row is made or touched along with it. SL_E_CANCELLED after store_save_cancel: the
 * message is still written, only nobody waits for it any more.
 * Start: 0, SL_E_OVERLOADED (the queue is full) or SL_E_SHUTTING_DOWN.
 */
SL_MUST_CHECK int store_save_message(struct store_client *client, struct store_save *save,
                                     const char *user, size_t user_len,
                                     const struct sl_uuid *session,
                                     const struct store_message *message);

/** Stores the profile (the text of a JSON object) and drops its caches. Done when it is in Postgres. */
SL_MUST_CHECK int store_save_profile(struct store_client *client, struct store_save *save,
                                     const char *user, size_t user_len, struct store_text json);

/** Sets a session's title. Done with 0 when it is in Postgres; SL_E_NOT_FOUND when there is no such session. */
SL_MUST_CHECK int store_save_title(struct store_client *client, struct store_save *save,
                                   const char *user, size_t user_len, const struct sl_uuid *session,
                                   struct store_text title);

/** Deletes a session and its messages, in order with the saves before it, and drops its caches. As store_save_title. */
SL_MUST_CHECK int store_delete_session(struct store_client *client, struct store_save *save,
                                       const char *user, size_t user_len,
                                       const struct sl_uuid *session);

void store_save_cancel(struct store_save *save);

/**
 * Appends the messages of a finished turn to the cached history at once, by one script: append if the
 * list is there, else write the whole window (when `window` is not NULL). Nobody waits for it; a
 * failure makes this process treat the key as stale until it has been dropped. Inputs are copied.
 */
void store_history_append(struct store_client *client, const char *user, size_t user_len,
                          const struct sl_uuid *session, const struct store_message *added,
                          size_t added_count, const struct store_message *window,
                          size_t window_count);

/* ------------------------------------------------------------------ figures */

enum store_link { STORE_LINK_DOWN, STORE_LINK_CONNECTING, STORE_LINK_UP };

/** One loop's counters, written by that loop only. */
struct store_client_stats {
    struct {
        sl_counter hits, misses, stale,
            fallbacks; /* stale: value did not parse or match; fallback: Redis was not there */
    } profile, history;
    sl_counter redis_commands, redis_errors, redis_timeouts;
    sl_counter database_reads, database_errors, database_timeouts;
    struct sl_histogram redis_us, database_us;
};

const struct store_client_stats *store_client_stats(const struct store_client *client);
enum store_link store_client_redis(const struct store_client *client);    /* any thread */
enum store_link store_client_database(const struct store_client *client); /* any thread */

/** The writer's figures, readable from any thread. */
struct store_writer_stats {
    sl_counter records_waiting, bytes_waiting, batches, rows, retries, failures, refused;
    sl_counter last_success_unix_s;
    sl_counter connected; /* 0 or 1 */
    struct sl_histogram batch_us;
};
const struct store_writer_stats *store_writer_stats(const struct store *store);

enum store_journal_health {
    STORE_JOURNAL_IS_OPEN,
    STORE_JOURNAL_IS_NEARLY_FULL,
    STORE_JOURNAL_HAS_FAILED
};

/** The journal's figures, readable from any thread. */
struct store_journal_summary {
    enum store_journal_health health;
    uint64_t appends, bytes, syncs, write_errors;
    uint64_t quarantined_records, torn_tails, replayed_records;
    uint64_t waiting_records, backlog_records, uncommitted_records;
    uint64_t disk_bytes, segments;
    double oldest_uncommitted_s; /* its age; 0: none */
    const struct sl_histogram *sync_us, *ack_us;
};
void store_journal_summary(const struct store *store, struct store_journal_summary *ret_summary);

/** What the journal's disk has left for us, asked of the file system at each call; 0: it did not say. Any thread. */
uint64_t store_journal_disk_free_bytes(const struct store *store);
