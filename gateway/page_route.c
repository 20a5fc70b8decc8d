/*
 * The chat page, the performance page and their parts, compiled into the binary from web/.
 *
 * A strict Content-Security-Policy: nothing from elsewhere, nothing inline. Thread: the request's worker.
 */
#include <string.h>

#include "reply.h"
#include "routes.h"
#include "sluice/asset.h"

extern const struct sl_asset gw_web_assets[];
extern const size_t gw_web_assets_count;

static const struct sl_asset *find_asset(const char *name, size_t len);
static void send_asset(struct gw_exchange *exchange, const struct sl_asset *asset);
static const char *type_of(const char *name);

void gw_page_route(struct gw_exchange *exchange)
{
    send_asset(exchange, exchange->id.base == NULL
                             ? find_asset("index.html", 10)
                             : find_asset(exchange->id.base, exchange->id.len));
}

void gw_performance_page_route(struct gw_exchange *exchange)
{
    send_asset(exchange, find_asset("performance.html", 16));
}

static void send_asset(struct gw_exchange *exchange, const struct sl_asset *asset)
{
    static const char policy[] =
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

    if (asset == NULL) {
        gw_reply_problem(exchange, SL_E_NOT_FOUND, NULL, NULL);
        return;
    }
    gw_reply_add_header(exchange->req, "content-security-policy", policy, sizeof(policy) - 1);
    gw_reply_add_header(exchange->req, "referrer-policy", H2O_STRLIT("no-referrer"));
    exchange->req->compress_hint =
        H2O_COMPRESS_HINT_ENABLE; /* h2o does not count text/javascript */
    gw_reply_static(exchange, type_of(asset->name), asset->bytes, asset->len, "no-cache");
}

static const struct sl_asset *find_asset(const char *name, size_t len)
{
    for (size_t i = 0; i < gw_web_assets_count; i++) {
        if (strlen(gw_web_assets[i].name) == len && memcmp(gw_web_assets[i].name, name, len) == 0) {
            return &gw_web_assets[i];
        }
    }
    return NULL;
}

static const char *type_of(const char *name)
{
    static const struct {
        const char *ending, *type;
    } types[] = {{".html", "text/html; charset=utf-8"},
                 {".css", "text/css; charset=utf-8"},
                 {".js", "text/javascript; charset=utf-8"},
                 {".svg", "image/svg+xml"}};
    size_t len = strlen(name);

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        size_t ending_len = strlen(types[i].ending);
        if (len > ending_len && strcmp(name + len - ending_len, types[i].ending) == 0) {
            return types[i].type;
        }
    }
    return "application/octet-stream";
}
