/* The names of the cache's keys. Pure; any thread. See cache_key.h. */
#include "cache_key.h"

#include <assert.h>
#include <string.h>

static void begin(struct store_cache_key *key, const char *user, size_t user_len);
static void add(struct store_cache_key *key, const char *bytes, size_t len);

void store_cache_key_profile(const char *user, size_t user_len, struct store_cache_key *ret_key)
{
    begin(ret_key, user, user_len);
    add(ret_key, "}:p", 3);
}

void store_cache_key_history(const char *user, size_t user_len, const struct sl_uuid *session,
                             struct store_cache_key *ret_key)
{
    char text[SL_UUID_TEXT_SIZE];

    sl_uuid_format(session, text);
    begin(ret_key, user, user_len);
    add(ret_key, "}:h:", 4);
    add(ret_key, text, SL_UUID_TEXT_LEN);
}

static void begin(struct store_cache_key *key, const char *user, size_t user_len)
{
    assert(user_len <= STORE_USER_ID_MAX);
    key->len = 0;
    add(key, "sl:{", 4);
    add(key, user, user_len);
}

static void add(struct store_cache_key *key, const char *bytes, size_t len)
{
    memcpy(key->bytes + key->len, bytes, len);
    key->len += len;
}
