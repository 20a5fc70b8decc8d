/*
 * Which upstream serves which model, and under what name.
 *
 * In a file of its own since the turn needs it, and nothing else of the configuration but the struct.
 * Pure functions: no I/O, any thread, nothing owned.
 */
#include <string.h>

#include "config.h"

const char *gw_config_upstream_model(const struct gw_upstream_config *upstream,
                                     const struct gw_config *config, const char *model)
{
    size_t len = strlen(model);

    if (upstream->models_count == 0) {
        return strcmp(model, config->upstream.model) == 0 ? config->upstream.model : NULL;
    }
    for (unsigned i = 0; i < upstream->models_count; i++) {
        const char *entry = upstream->models[i];
        const char *rest = entry + strcspn(entry, "=");
        if ((size_t)(rest - entry) == len && memcmp(entry, model, len) == 0) {
            return *rest == '=' ? rest + 1 : entry;
        }
    }
    return NULL;
}
