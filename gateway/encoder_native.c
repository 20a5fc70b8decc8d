/* The native encoder: events to SSE. Pure: no I/O, no clock; see the header. */
#include "encoder_native.h"

#include <stdio.h>

#include "sluice/text.h"

int gw_encoder_native_event(const struct gw_event *event, const char *id_prefix,
                            struct sl_buffer *out)
{
    size_t start = out->len;
    char head[128];
    int err = 0;

    if (id_prefix != NULL) {
        err = sl_buffer_appendf(out, "id: %s.%u\n", id_prefix, event->seq);
    }
    int n = snprintf(head, sizeof(head), "data: {\"type\":\"%s\",\"seq\":%u,",
                     sl_event_name(event->type), event->seq);
    if (err == 0) {
        err = sl_buffer_append(out, head, (size_t)n);
    }
    if (err == 0 && sl_event_is_text(event->type)) {
        err = sl_buffer_append(out, "\"content\":", 10);
        if (err == 0) {
            err = sl_json_append_string(out, event->payload, event->payload_len);
        }
    } else if (err == 0) {
        err = sl_buffer_append(out, event->payload, event->payload_len);
    }
    if (err == 0) {
        err = sl_buffer_append(out, "}\n\n", 3);
    }
    if (err != 0) {
        out->len = start;
    }
    return err;
}

int gw_encoder_native_heartbeat(bool with_ids, struct sl_buffer *out)
{
    return sl_buffer_append_str(out, with_ids ? ": hb\n" : ": hb\n\n");
}
