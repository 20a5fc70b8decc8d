/* All configured upstreams of one loop, and what the loops share. Thread and ownership: see upstreams.h. */
#include "upstreams.h"

#include <stdlib.h>

#include "resolver.h"

static void carry_over(const struct gw_upstreams *older, struct gw_upstreams *upstreams);

int gw_upstreams_share(const struct gw_config *config, struct gw_upstreams_shared **ret_shared)
{
    struct gw_upstreams_shared *shared = calloc(1, sizeof(*shared));

    if (shared == NULL) {
        return SL_E_NO_MEMORY;
    }
    shared->config = config;
    for (size_t i = 0; i < config->upstreams_count; i++) {
        int err = gw_upstream_make_resolver(config, &config->upstreams[i], &shared->of[i].resolver);
        if (err != 0) {
            gw_upstreams_unshare(shared);
            return err;
        }
    }
    *ret_shared = shared;
    return 0;
}

void gw_upstreams_unshare(struct gw_upstreams_shared *shared)
{
    if (shared == NULL) {
        return;
    }
    for (size_t i = 0; i < GW_UPSTREAMS_MAX; i++) {
        gw_resolver_destroy(shared->of[i].resolver);
    }
    free(shared);
}

int gw_upstreams_create(struct sl_loop *loop, const struct gw_config *config,
                        struct gw_upstreams_shared *shared, struct gw_stats *stats,
                        struct gw_upstreams *older, struct gw_upstreams **ret_upstreams)
{
    struct gw_upstreams *upstreams = calloc(1, sizeof(*upstreams));

    if (upstreams == NULL) {
        return SL_E_NO_MEMORY;
    }
    upstreams->loop = loop;
    upstreams->config = config;
    upstreams->shared = shared;
    upstreams->stats = stats;
    gw_retry_budget_init(&upstreams->retries, GW_RETRY_RESERVE);
    gw_retry_budget_init(&upstreams->hedges, 0);
    for (size_t i = 0; i < config->upstreams_count; i++) {
        const struct gw_upstream_config *endpoint = &config->upstreams[i];
        upstreams->of[i].provider = gw_provider_find(endpoint->provider);
        int err = gw_upstream_create(loop, config, endpoint, upstreams->of[i].provider,
                                     shared->of[i].resolver, &upstreams->of[i].endpoint);
        if (err != 0) {
            gw_upstreams_destroy(upstreams);
            return err;
        }
    }
    if (older != NULL && older->shared == shared) {
        carry_over(older, upstreams);
    }
    upstreams->older = older;
    *ret_upstreams = upstreams;
    return 0;
}

/* They are the same endpoints: what this loop has learned of them holds, and what its turns have saved up. */
static void carry_over(const struct gw_upstreams *older, struct gw_upstreams *upstreams)
{
    for (size_t i = 0; i < GW_UPSTREAMS_MAX; i++) {
        upstreams->of[i].first_tokens = older->of[i].first_tokens;
    }
    upstreams->retries = older->retries;
    upstreams->hedges = older->hedges;
}

void gw_upstreams_destroy(struct gw_upstreams *upstreams)
{
    if (upstreams == NULL) {
        return;
    }
    gw_upstreams_destroy(upstreams->older);
    for (size_t i = 0; i < GW_UPSTREAMS_MAX; i++) {
        gw_upstream_destroy(upstreams->of[i].endpoint);
    }
    free(upstreams);
}
