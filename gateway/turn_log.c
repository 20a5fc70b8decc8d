/*
 * The ordered events of one turn: a growing run of records (length, sequence number, type, payload).
 *
 * Appending is the hot path of the relay: one reservation, two copies. Reading needs only an offset,
 * so any number of readers cost the log nothing. Thread: its turn's loop.
 */
#include "turn_log.h"

#include <assert.h>
#include <string.h>

struct record_head {
    uint32_t payload_len;
    uint32_t seq;
    uint32_t type;
};

void gw_turn_log_init(struct gw_turn_log *log, size_t max_bytes)
{
    *log = (struct gw_turn_log){0};
    sl_buffer_init(&log->bytes, max_bytes);
}

int gw_turn_log_append(struct gw_turn_log *log, enum sl_event_type type, const char *payload,
                       size_t payload_len)
{
    struct record_head head = {(uint32_t)payload_len, log->last_seq + 1, type};

    assert(!log->ended);
    if (payload_len > UINT32_MAX ||
        (sl_event_is_text(type) &&
         log->bytes.len + payload_len + GW_TURN_LOG_RESERVE > log->bytes.max)) {
        return SL_E_LIMIT;
    }
    char *to = sl_buffer_reserve(&log->bytes, sizeof(head) + payload_len);
    if (to == NULL) {
        return SL_E_LIMIT;
    }
    memcpy(to, &head, sizeof(head));
    if (payload_len > 0) {
        memcpy(to + sizeof(head), payload, payload_len);
    }
    log->bytes.len += sizeof(head) + payload_len;
    log->last_seq = head.seq;
    log->ended = sl_event_is_terminal(type);
    if (type == SL_EVENT_TOKEN) {
        log->token_bytes += payload_len;
        log->token_count++;
        if (log->first_token_seq == 0) {
            log->first_token_seq = head.seq;
        }
    } else if (type == SL_EVENT_REASONING) {
        log->reasoning_bytes += payload_len;
        log->token_count++;
    }
    return 0;
}

bool gw_turn_log_read(const struct gw_turn_log *log, size_t *offset, struct gw_event *ret_event)
{
    struct record_head head;

    if (*offset >= log->bytes.len) {
        return false;
    }
    memcpy(&head, log->bytes.base + *offset, sizeof(head));
    ret_event->type = (enum sl_event_type)head.type;
    ret_event->seq = head.seq;
    ret_event->payload = log->bytes.base + *offset + sizeof(head);
    ret_event->payload_len = head.payload_len;
    *offset += sizeof(head) + head.payload_len;
    return true;
}

bool gw_turn_log_is_read(const struct gw_turn_log *log, size_t offset)
{
    return log->ended && offset >= log->bytes.len;
}

int gw_turn_log_text(const struct gw_turn_log *log, enum sl_event_type type, struct sl_buffer *into)
{
    struct gw_event event;
    size_t offset = 0;

    while (gw_turn_log_read(log, &offset, &event)) {
        if (event.type == type) {
            int err = sl_buffer_append(into, event.payload, event.payload_len);
            if (err != 0) {
                return err;
            }
        }
    }
    return 0;
}

void gw_turn_log_dispose(struct gw_turn_log *log)
{
    sl_buffer_dispose(&log->bytes);
}
