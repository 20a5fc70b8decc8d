/*
 * Figures under the names of OpenTelemetry's semantic conventions for generative AI (gen_ai.server.*,
 * gen_ai.client.token.usage), spelt as its Prometheus exporter spells them, for dashboards that know them.
 *
 * The server that they speak of is this gateway as its users see it. Of the convention's attributes those
 * that cannot grow are given: there is one operation, chat; provider and model are in the log.
 * Thread: any worker's.
 */
#include <inttypes.h>

#include "metrics_page.h"

#define OPERATION "gen_ai_operation_name=\"chat\""
#define USAGE "gen_ai_client_token_usage"

static int write_usage(struct sl_buffer *page, const char *type,
                       const struct gw_stats_tokens *tokens);

int gw_metrics_write_genai(const struct gw_totals *totals, struct sl_buffer *page)
{
    const struct gw_stats *g = &totals->gateway;
    const struct gw_metrics_histogram rows[] = {
        {"gen_ai_server_time_to_first_token_seconds",
         "Request received to first token written, of complete turns.", OPERATION,
         &g->complete_ttft},
        {"gen_ai_server_time_per_output_token_seconds",
         "Mean time per token after the first, of complete turns.", OPERATION,
         &g->per_output_token},
        {"gen_ai_server_request_duration_seconds", "Request received to turn saved.", OPERATION,
         &g->total},
    };
    int err = gw_metrics_write_histograms(page, rows, sizeof(rows) / sizeof(rows[0]));

    if (err == 0) {
        err =
            gw_metrics_write_head(page, USAGE, "Tokens of a turn that asked a model.", "histogram");
    }
    if (err == 0) {
        err = write_usage(page, "input", &g->tokens_input);
    }
    return err != 0 ? err : write_usage(page, "output", &g->tokens_output);
}

static int write_usage(struct sl_buffer *page, const char *type,
                       const struct gw_stats_tokens *tokens)
{
    uint64_t count = 0;
    int err = 0;

    for (size_t i = 0; err == 0 && i < GW_STATS_TOKEN_BOUNDS; i++) {
        count += sl_counter_get(&tokens->buckets[i]);
        err = sl_buffer_appendf(page,
                                USAGE "_bucket{" OPERATION ",gen_ai_token_type=\"%s\",le=\"%" PRIu64
                                      "\"} %" PRIu64 "\n",
                                type, UINT64_C(1) << (2 * i), count);
    }
    count += sl_counter_get(&tokens->buckets[GW_STATS_TOKEN_BOUNDS]);
    if (err == 0) {
        err = sl_buffer_appendf(
            page, USAGE "_bucket{" OPERATION ",gen_ai_token_type=\"%s\",le=\"+Inf\"} %" PRIu64 "\n",
            type, count);
    }
    if (err == 0) {
        err = sl_buffer_appendf(page,
                                USAGE "_sum{" OPERATION ",gen_ai_token_type=\"%s\"} %" PRIu64
                                      "\n" USAGE "_count{" OPERATION
                                      ",gen_ai_token_type=\"%s\"} %" PRIu64 "\n",
                                type, sl_counter_get(&tokens->sum), type, count);
    }
    return err;
}
