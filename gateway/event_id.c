/* Event ids. See event_id.h. */
#include "event_id.h"

bool gw_event_id_parse(const char *text, size_t len, struct sl_uuid *ret_turn_id, uint32_t *ret_seq)
{
    struct sl_uuid turn_id;

    if (len <= SL_UUID_TEXT_LEN + 1 || text[SL_UUID_TEXT_LEN] != '.' ||
        sl_uuid_parse(text, SL_UUID_TEXT_LEN, &turn_id) != 0 ||
        !gw_event_seq_parse(text + SL_UUID_TEXT_LEN + 1, len - SL_UUID_TEXT_LEN - 1, ret_seq)) {
        return false;
    }
    *ret_turn_id = turn_id;
    return true;
}

bool gw_event_seq_parse(const char *text, size_t len, uint32_t *ret_seq)
{
    uint64_t seq = 0;

    if (len == 0 || len > 10) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        seq = seq * 10 + (uint64_t)(text[i] - '0');
    }
    if (seq > UINT32_MAX) {
        return false;
    }
    *ret_seq = (uint32_t)seq;
    return true;
}
