/*
 * Which turn answers a client's own message id.
 *
 * Happy path: (1) the key's hash names the loop that keeps it, (2) an errand goes there, finds the key or
 * enters it, (3) and brings back whose it is. A release travels the same way.
 *
 * Order matters in one place. A loop that learns that a key is taken asks for that turn on the turn's
 * loop; the answer that made the claimer start it was sent there earlier, by the same sender, so the turn
 * is there by then. Where it has been freed meanwhile, its release has been sent before that was said, and
 * the next claim of the key is new.
 *
 * Failure modes: none; memory of a fixed size that cannot be had aborts. Thread and ownership: see claims.h.
 */
#include "claims.h"

#include <stdlib.h>
#include <string.h>

#include "errand.h"
#include "sluice/hash.h"
#include "turns.h"

/* A key that is taken, in the table of its loop. */
struct entry {
    struct sl_link link;
    uint64_t hash, content_hash;
    struct sl_uuid turn_id;
    struct gw_user user;
    char key[GW_CLIENT_MESSAGE_ID_MAX + 1];
};

struct errand {
    struct gw_errand way;
    struct gw_claim *claim; /* NULL: a release, or nobody waits any more */
    uint64_t hash, content_hash;
    struct sl_uuid turn_id;
    struct gw_user user;
    char key[GW_CLIENT_MESSAGE_ID_MAX + 1];
    bool is_new;
    int status;
};

static struct errand *prepare(const struct gw_user *user, const char *key,
                              const struct sl_uuid *turn_id);
static void send(struct errand *errand, struct gw_turns *from);
static void enter(struct gw_errand *way);
static void on_entered(struct gw_errand *way);
static void leave(struct gw_errand *way);
static void on_left(struct gw_errand *way);
static void finish_cancelled(struct sl_task *task);
static struct entry *find(struct gw_claims *claims, const struct errand *errand);
static uint64_t hash_of(const struct gw_user *user, const char *key);

void gw_claims_init(struct gw_claims *claims)
{
    for (size_t i = 0; i < GW_CLAIMS_BUCKETS; i++) {
        sl_list_init(&claims->buckets[i]);
    }
}

void gw_claims_finish(struct gw_claims *claims)
{
    for (size_t i = 0; i < GW_CLAIMS_BUCKETS; i++) {
        SL_LIST_EACH(&claims->buckets[i], link, after)
        {
            sl_link_remove(link);
            free(SL_CONTAINER_OF(link, struct entry, link));
        }
    }
}

/* ---------------------------------------------------------------- a claim */

void gw_claim_start(struct gw_claim *claim)
{
    struct errand *errand = prepare(claim->user, claim->key, &claim->turn_id);

    sl_op_start(&claim->op);
    claim->finish.run = finish_cancelled;
    claim->is_new = false;
    claim->errand = errand;
    errand->claim = claim;
    errand->content_hash = claim->content_hash;
    errand->way.run = enter;
    errand->way.back = on_entered;
    send(errand, claim->turns);
}

/* On the key's loop. */
static void enter(struct gw_errand *way)
{
    struct errand *errand = SL_CONTAINER_OF(way, struct errand, way);
    struct gw_claims *claims = &way->to->claims;
    struct entry *entry = find(claims, errand);

    if (entry != NULL) {
        errand->status = entry->content_hash == errand->content_hash ? 0 : SL_E_UNPROCESSABLE;
        errand->turn_id = entry->turn_id;
        return;
    }
    entry = calloc(1, sizeof(*entry));
    if (entry == NULL) {
        abort();
    }
    entry->hash = errand->hash;
    entry->content_hash = errand->content_hash;
    entry->turn_id = errand->turn_id;
    entry->user = errand->user;
    memcpy(entry->key, errand->key, sizeof(entry->key));
    sl_list_append(&claims->buckets[entry->hash % GW_CLAIMS_BUCKETS], &entry->link);
    errand->is_new = true;
}

/* Back on the asking loop. */
static void on_entered(struct gw_errand *way)
{
    struct errand *errand = SL_CONTAINER_OF(way, struct errand, way);
    struct gw_claim *claim = errand->claim;
    int status = errand->status;

    if (claim == NULL) {
        if (errand->is_new) {
            gw_claims_release(way->from, &errand->user, errand->key, &errand->turn_id);
        }
        free(errand);
        return;
    }
    claim->errand = NULL;
    claim->is_new = errand->is_new;
    claim->turn_id = errand->turn_id;
    free(errand);
    sl_op_finish(&claim->op, status);
}

void gw_claim_cancel(struct gw_claim *claim)
{
    if (claim->errand != NULL) {
        claim->errand->claim = NULL;
        claim->errand = NULL;
        sl_loop_defer(claim->turns->loop, &claim->finish);
    }
}

static void finish_cancelled(struct sl_task *task)
{
    sl_op_finish(&SL_CONTAINER_OF(task, struct gw_claim, finish)->op, SL_E_CANCELLED);
}

/* ---------------------------------------------------------------- a release */

void gw_claims_release(struct gw_turns *turns, const struct gw_user *user, const char *key,
                       const struct sl_uuid *turn_id)
{
    if (turns->is_closing) {
        return; /* the tables go, too */
    }
    struct errand *errand = prepare(user, key, turn_id);
    errand->way.run = leave;
    errand->way.back = on_left;
    send(errand, turns);
}

static void leave(struct gw_errand *way)
{
    struct errand *errand = SL_CONTAINER_OF(way, struct errand, way);
    struct entry *entry = find(&way->to->claims, errand);

    if (entry != NULL && sl_uuid_equal(&entry->turn_id, &errand->turn_id)) {
        sl_link_remove(&entry->link);
        free(entry);
    }
}

static void on_left(struct gw_errand *way)
{
    free(SL_CONTAINER_OF(way, struct errand, way));
}

/* ---------------------------------------------------------------- parts */

static struct errand *prepare(const struct gw_user *user, const char *key,
                              const struct sl_uuid *turn_id)
{
    struct errand *errand = calloc(1, sizeof(*errand));

    if (errand == NULL) {
        abort();
    }
    errand->user = *user;
    errand->turn_id = *turn_id;
    (void)strncpy(errand->key, key, sizeof(errand->key) - 1);
    errand->hash = hash_of(user, key);
    return errand;
}

static void send(struct errand *errand, struct gw_turns *from)
{
    gw_errand_send(&errand->way, from, from->peers[(errand->hash >> 32) % from->peers_count]);
}

static struct entry *find(struct gw_claims *claims, const struct errand *errand)
{
    SL_LIST_EACH(&claims->buckets[errand->hash % GW_CLAIMS_BUCKETS], link, after)
    {
        struct entry *entry = SL_CONTAINER_OF(link, struct entry, link);
        if (entry->hash == errand->hash && entry->user.id_len == errand->user.id_len &&
            memcmp(entry->user.id, errand->user.id, entry->user.id_len) == 0 &&
            strcmp(entry->key, errand->key) == 0) {
            return entry;
        }
    }
    return NULL;
}

/* Over both: keys of one user that collide slow down only that user's look-ups. */
static uint64_t hash_of(const struct gw_user *user, const char *key)
{
    uint64_t hash = sl_hash_add(SL_HASH_START, user->id, user->id_len);

    return sl_hash_mix(sl_hash_add(hash, key, strlen(key)));
}
