/**
 * What is written into Redis, and reading it back. Pure: bytes in, bytes out.
 *
 *   profile          {"v":1,"u":<user>,"p":<the profile's JSON text, as a string>}   or "p":null
 *   history element  {"v":1,"u":<user>,"i":<id>,"n":<turn id>,"r":"user"|"assistant","s":<status>,
 *                     "t":<created_at in microseconds>,"c":<content>}
 *
 * The profile is a string inside the value so that its bytes come out as they went in. Version and
 * user must match on reading; other members are ignored, so that a newer version can add some.
 * An element holds what a prompt needs: model, tokens and times stay in Postgres and read as null.
 * Thread: any.
 */
#pragma once

#include <stdbool.h>

#include "sluice/buffer.h"
#include "sluice/store.h"

/** Appends a profile's value; `json` is well-formed UTF-8, ignored unless `found`. Errors: sl_buffer_append. */
SL_MUST_CHECK int store_cache_value_write_profile(struct sl_buffer *to, const char *user,
                                                  size_t user_len, bool found,
                                                  struct store_text json);

/**
 * Reads a profile's value and appends the profile's text to `ret_json`. 0, SL_E_INVALID_VALUE
 * (anything that is not such a value of this user) or an error of sl_buffer_append.
 */
SL_MUST_CHECK int store_cache_value_read_profile(struct store_text value, const char *user,
                                                 size_t user_len, bool *ret_found,
                                                 struct sl_buffer *ret_json);

/** Appends the value of one message. Errors: sl_buffer_append, SL_E_INVALID_VALUE (null content). */
SL_MUST_CHECK int store_cache_value_write_message(struct sl_buffer *to, const char *user,
                                                  size_t user_len,
                                                  const struct store_message *message);

/**
 * Reads the value of one message. Its content is appended to `ret_text`, whose bytes may still move:
 * `ret_message->content` gets the length only, and a base of NULL. Errors as for a profile.
 */
SL_MUST_CHECK int store_cache_value_read_message(struct store_text value, const char *user,
                                                 size_t user_len, struct store_message *ret_message,
                                                 struct sl_buffer *ret_text);
