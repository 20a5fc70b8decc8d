/*
 * All turns of one loop.
 *
 * A turn is in `all` and in one bucket of `by_id` for its whole life. When it is done it also enters
 * `kept`, whose first entry is the next to expire: each stays as long as was configured when it was born.
 * Expired, or pushed out by newer ones, a turn frees itself as soon as nobody follows it. Memory is counted when a turn publishes,
 * by capacity, so the figure is what the allocator was asked for.
 *
 * Failure modes: none. Thread: the loop's. Ownership: see the header.
 */
#include "turns.h"

#include <string.h>

#include "config.h"
#include "sluice/op.h"
#include "stats.h"
#include "turn_state.h"

static void on_expiry(struct sl_timer *timer);
static void enlist(struct gw_turns *turns, struct gw_turn *turn);
static void let_go(struct gw_turns *turns, struct gw_turn *turn);
static void arm(struct gw_turns *turns);

void gw_turns_init(struct gw_turns *turns)
{
    sl_list_init(&turns->all);
    sl_list_init(&turns->kept);
    for (size_t i = 0; i < GW_TURNS_BUCKETS; i++) {
        sl_list_init(&turns->by_id[i]);
        sl_list_init(&turns->copies[i]);
    }
    turns->expiry.expired = on_expiry;
    gw_claims_init(&turns->claims);
}

void gw_turns_finish(struct gw_turns *turns)
{
    struct sl_link *first;

    turns->is_closing = true;
    while ((first = sl_list_first(&turns->all)) != NULL) {
        gw_turn_destroy(SL_CONTAINER_OF(first, struct gw_turn, link));
    }
    sl_loop_disarm(turns->loop, &turns->expiry);
    gw_claims_finish(&turns->claims);
}

void gw_turns_end_all(struct gw_turns *turns, int reason)
{
    SL_LIST_EACH(&turns->all, link, after)
    {
        gw_turn_end(SL_CONTAINER_OF(link, struct gw_turn, link), reason);
    }
}

struct gw_turn *gw_turns_find(struct gw_turns *turns, const struct sl_uuid *id, const char *user,
                              size_t user_len)
{
    SL_LIST_EACH(gw_turns_bucket(turns->by_id, id), link, after)
    {
        struct gw_turn *turn = SL_CONTAINER_OF(link, struct gw_turn, id_link);
        if (sl_uuid_equal(&turn->id, id)) {
            bool is_theirs =
                turn->user.id_len == user_len && memcmp(turn->user.id, user, user_len) == 0;
            return is_theirs ? turn : NULL;
        }
    }
    return NULL;
}

struct sl_uuid gw_turns_new_id(const struct gw_turns *turns)
{
    struct sl_uuid id = sl_uuid_v7();

    id.bytes[sizeof(id.bytes) - 1] = (uint8_t)turns->index;
    return id;
}

struct gw_turns *gw_turns_of(const struct gw_turns *turns, const struct sl_uuid *id)
{
    unsigned index = id->bytes[sizeof(id->bytes) - 1];

    return index < turns->peers_count ? turns->peers[index] : NULL;
}

/* The tail of an id is random but for its last byte (RFC 9562 section 5.7). */
struct sl_link *gw_turns_bucket(struct sl_link buckets[GW_TURNS_BUCKETS], const struct sl_uuid *id)
{
    return &buckets[((unsigned)id->bytes[13] << 8 | id->bytes[14]) % GW_TURNS_BUCKETS];
}

void gw_turns_go_away(struct gw_turns *turns)
{
    turns->away++;
}

void gw_turns_come_back(struct gw_turns *turns)
{
    turns->away--;
    if (turns->away == 0) {
        turns->on_quiet(turns->context);
    }
}

void gw_turns_add(struct gw_turns *turns, struct gw_turn *turn)
{
    sl_list_append(&turns->all, &turn->link);
    sl_list_append(gw_turns_bucket(turns->by_id, &turn->id), &turn->id_link);
    turns->running++;
    sl_counter_add(&turns->stats->turns_started, 1);
}

/* ---------------------------------------------------------------- finished ones */

void gw_turns_keep(struct gw_turns *turns, struct gw_turn *turn)
{
    uint64_t window_us = 1000000UL * turn->config->chat.resume_window_s;

    turns->running--;
    sl_counter_add(&turns->stats->turns_ended, 1);
    if (window_us == 0) {
        return;
    }
    turn->kept_until_us = sl_loop_now_us(turns->loop) + window_us;
    enlist(turns, turn);
    turns->kept_bytes += turn->counted_bytes;
    while (turns->kept_bytes > turns->kept_max_bytes && !sl_list_is_empty(&turns->kept)) {
        let_go(turns, SL_CONTAINER_OF(sl_list_first(&turns->kept), struct gw_turn, kept_link));
    }
    arm(turns);
}

/* At the end, unless a reload has shortened the window. */
static void enlist(struct gw_turns *turns, struct gw_turn *turn)
{
    struct sl_link *next = &turns->kept;

    while (next->prev != &turns->kept &&
           SL_CONTAINER_OF(next->prev, struct gw_turn, kept_link)->kept_until_us >
               turn->kept_until_us) {
        next = next->prev;
    }
    sl_list_append(next, &turn->kept_link); /* before it: a list is a ring */
}

static void arm(struct gw_turns *turns)
{
    struct sl_link *first = sl_list_first(&turns->kept);
    uint64_t now_us = sl_loop_now_us(turns->loop);

    if (first == NULL) {
        sl_loop_disarm(turns->loop, &turns->expiry);
        return;
    }
    uint64_t due_us = SL_CONTAINER_OF(first, struct gw_turn, kept_link)->kept_until_us;
    sl_loop_arm(turns->loop, &turns->expiry, due_us > now_us ? due_us - now_us : 0);
}

static void on_expiry(struct sl_timer *timer)
{
    struct gw_turns *turns = SL_CONTAINER_OF(timer, struct gw_turns, expiry);
    uint64_t now_us = sl_loop_now_us(turns->loop);

    SL_LIST_EACH(&turns->kept, link, after)
    {
        struct gw_turn *turn = SL_CONTAINER_OF(link, struct gw_turn, kept_link);
        if (turn->kept_until_us > now_us) {
            break;
        }
        let_go(turns, turn);
    }
    arm(turns);
}

/* Out of the list of kept ones; freed by its own task, at once or when its last follower leaves. */
static void let_go(struct gw_turns *turns, struct gw_turn *turn)
{
    turns->kept_bytes -= turn->counted_bytes;
    sl_link_remove(&turn->kept_link);
    sl_loop_defer(turns->loop, &turn->tick);
}

void gw_turns_remove(struct gw_turns *turns, struct gw_turn *turn)
{
    if (sl_link_is_listed(&turn->kept_link)) {
        turns->kept_bytes -= turn->counted_bytes;
    }
    sl_link_remove(&turn->kept_link);
    sl_link_remove(&turn->id_link);
    sl_link_remove(&turn->link);
    sl_counter_add(&turns->stats->log_bytes, -(uint64_t)turn->counted_bytes);
}

void gw_turns_account(struct gw_turns *turns, struct gw_turn *turn)
{
    size_t bytes = sizeof(*turn) + turn->feed.log.bytes.capacity;

    if (bytes == turn->counted_bytes) {
        return;
    }
    if (sl_link_is_listed(&turn->kept_link)) {
        turns->kept_bytes += bytes - turn->counted_bytes;
    }
    sl_counter_add(&turns->stats->log_bytes, bytes - turn->counted_bytes);
    turn->counted_bytes = bytes;
}
