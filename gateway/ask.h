/**
 * Asking the models: one answer, from whichever upstream gives it.
 *
 * Chooses an upstream, and as long as nothing has been relayed tries again where that can help: another
 * upstream at once, the same one once more after a pause, a second one beside a first that is late.
 * From the first delta on the answer belongs to one upstream and nothing is tried again.
 *
 * Thread: the loop's. Ownership: embedded in its turn (op.h); what it asks with stays the turn's.
 */
#pragma once

#include "prompt.h"
#include "trace_span.h"
#include "upstreams.h"

struct gw_ask;

/* At most one call and one hedge beside it run at a time. */
enum { GW_ASK_CALLS = 2 };

/** What may happen on the way to an answer. */
enum gw_ask_move {
    GW_ASK_CALL,          /* an upstream is sent the request */
    GW_ASK_FAILED,        /* a call has ended without an answer */
    GW_ASK_RETRY_PLANNED, /* the same upstream will be asked again */
    GW_ASK_FAILOVER,      /* another one is asked instead */
    GW_ASK_HEDGE,         /* another one is asked beside it */
    GW_ASK_FIRST_DELTA,   /* the answer is this upstream's */
};

struct gw_ask_attempt {
    struct gw_ask *ask;
    struct gw_upstream_call call;
    size_t upstream; /* its index */
    uint64_t started_us;
    uint32_t ticket;            /* the breaker's */
    bool reported;              /* the breaker knows how it went */
    bool connect_expired;       /* our timer ended it */
    struct gw_trace_call *span; /* NULL: not recorded */
};

struct gw_ask {
    struct sl_op op;
    /* inputs: they stay valid until done */
    struct gw_upstreams *upstreams;
    /** As in struct gw_upstream_events; called for the one call whose answer it is. */
    int (*on_delta)(struct gw_ask *ask, const struct gw_delta *delta);
    /**
     * A move, and the upstream that it is about; `error`: of a failed call, else 0. It may be inside
     * libcurl's callback: it may write a line, nothing else. NULL: nobody wants to know.
     */
    void (*on_move)(struct gw_ask *ask, enum gw_ask_move move, const char *upstream, int error);
    struct gw_prompt prompt; /* `model` is filled in here */
    const char *model;       /* as the request names it */
    const char *user;
    size_t user_len;
    uint64_t deadline_us; /* of the first token: nothing is tried that would begin after it */
    const struct gw_trace_context *trace; /* passed on when it is set */
    const char *trace_state;              /* along with it; NULL: none */
    struct gw_trace_record *record;       /* where the calls are noted; NULL: nowhere */
    /* outputs, as they become known */
    const struct gw_upstream_call
        *call; /* whose answer it is, or the last one that failed; NULL: none was made */
    const char *upstream_name; /* its name; NULL: none */
    uint64_t called_us;        /* when it was sent the request */
    size_t history_used;
    unsigned prompt_tokens; /* an estimate */
    unsigned retries, failovers;
    bool is_hedged;
    /* private */
    struct gw_ask_attempt attempts[GW_ASK_CALLS]; /* the second one is the hedge's */
    struct gw_ask_attempt *answering;             /* the one that has sent the first delta */
    uint32_t tried, retried, may_retry;           /* one bit per upstream */
    uint64_t retry_from_us[GW_UPSTREAMS_MAX];
    uint64_t retry_due_us, hedge_due_us; /* 0: not planned */
    size_t retry_upstream;
    int error;      /* of the last call that failed */
    int end_reason; /* why the caller does not want it any more; 0: it does */
    bool is_over;
    int status;
    struct sl_timer timer;
    struct sl_task finish;
};

/**
 * Done with 0 when an upstream has given a whole answer; with the error of the last one that was tried
 * (SL_E_UPSTREAM_…, SL_E_ANSWER_TOO_LONG), SL_E_UPSTREAM_UNAVAILABLE when none was usable, or
 * SL_E_CANCELLED. Connect timeouts are kept here, since another upstream may follow; those for tokens
 * are the turn's. Always 0: what goes wrong at once is reported like everything else.
 */
SL_MUST_CHECK int gw_ask_start(struct gw_ask *ask);

/** Ends it. `reason`, one of the turn's errors, tells whether the upstream was at fault (a timeout). */
void gw_ask_cancel(struct gw_ask *ask, int reason);
