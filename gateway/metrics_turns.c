/*
 * How turns ended: by the code that the client saw, and by the `term` of the log line.
 *
 * Both sets are bounded by tables (error.h, stats.h); only what occurred is shown. Thread: any worker's.
 */
#include <inttypes.h>
#include <string.h>

#include "metrics_page.h"
#include "sluice/error.h"

static int write_errors(const struct gw_totals *totals, struct sl_buffer *page);
static int write_terms(const struct gw_totals *totals, struct sl_buffer *page);
static const char *code_of(size_t slot);

int gw_metrics_write_turns(const struct gw_totals *totals, struct sl_buffer *page)
{
    int err = write_errors(totals, page);

    return err != 0 ? err : write_terms(totals, page);
}

/* Some errors share a code. */
static int write_errors(const struct gw_totals *totals, struct sl_buffer *page)
{
    uint64_t counts[GW_STATS_ERRORS];
    int err = gw_metrics_write_head(page, "sluice_turn_errors_total",
                                    "Turns that ended with an error, by its code.", "counter");

    for (size_t slot = 0; slot < GW_STATS_ERRORS; slot++) {
        counts[slot] = sl_counter_get(&totals->gateway.turn_errors[slot]);
        for (size_t earlier = 0; earlier < slot && counts[slot] > 0; earlier++) {
            if (strcmp(code_of(earlier), code_of(slot)) == 0) {
                counts[earlier] += counts[slot];
                counts[slot] = 0;
            }
        }
    }
    for (size_t slot = 0; err == 0 && slot < GW_STATS_ERRORS; slot++) {
        if (counts[slot] > 0) {
            err = sl_buffer_appendf(page, "sluice_turn_errors_total{code=\"%s\"} %" PRIu64 "\n",
                                    code_of(slot), counts[slot]);
        }
    }
    return err;
}

static const char *code_of(size_t slot)
{
    return sl_error_info((int)slot + SL_E_FIRST_ + 1)->code;
}

static int write_terms(const struct gw_totals *totals, struct sl_buffer *page)
{
    int err =
        gw_metrics_write_head(page, "sluice_turns_by_term_total",
                              "Turns that ended, by who ended them and in which state.", "counter");

    for (const char *who = GW_STATS_TERM_WHO; *who != '\0'; who++) {
        for (const char *state = GW_STATS_TERM_STATES; err == 0 && *state != '\0'; state++) {
            uint64_t count =
                sl_counter_get(&totals->gateway.turns_by_term[gw_stats_term_slot(*who, *state)]);
            if (count > 0) {
                err = sl_buffer_appendf(page,
                                        "sluice_turns_by_term_total{term=\"%c%c\"} %" PRIu64 "\n",
                                        *who, *state, count);
            }
        }
    }
    return err;
}
