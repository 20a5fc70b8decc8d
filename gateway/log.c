/* Log lines on their way to standard error. Thread: see the header. Ownership: a line frees itself. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sluice/buffer.h"
#include "sluice/op.h"

enum { EVENT_MAX_BYTES = 8192 };

struct line {
    struct sl_message message;
    struct gw_log *log;
    size_t len;
    char bytes[];
};

static void print_line(struct sl_message *message);

void gw_log_init(struct gw_log *log, struct sl_loop *main_loop)
{
    log->main_loop = main_loop;
    atomic_init(&log->waiting_bytes, 0);
    atomic_init(&log->dropped, 0);
}

void gw_log_line(struct gw_log *log, const char *line, size_t len)
{
    size_t waiting = atomic_fetch_add_explicit(&log->waiting_bytes, len, memory_order_relaxed);
    struct line *copy = waiting < GW_LOG_WAITING_MAX ? malloc(sizeof(*copy) + len + 1) : NULL;

    if (copy == NULL) {
        atomic_fetch_sub_explicit(&log->waiting_bytes, len, memory_order_relaxed);
        atomic_fetch_add_explicit(&log->dropped, 1, memory_order_relaxed);
        return;
    }
    copy->message.receive = print_line;
    copy->log = log;
    copy->len = len + 1;
    memcpy(copy->bytes, line, len);
    copy->bytes[len] = '\n';
    sl_loop_post(log->main_loop, &copy->message);
}

/* On the main thread, which may wait for the reader of standard error. */
static void print_line(struct sl_message *message)
{
    struct line *line = SL_CONTAINER_OF(message, struct line, message);

    for (size_t done = 0; done < line->len;) {
        ssize_t n = write(STDERR_FILENO, line->bytes + done, line->len - done);
        if (n <= 0) {
            break; /* nobody reads the log any more */
        }
        done += (size_t)n;
    }
    atomic_fetch_sub_explicit(&line->log->waiting_bytes, line->len - 1, memory_order_relaxed);
    free(line);
}

void gw_log_event(struct gw_log *log, const char *level, const char *event, const char *fields, ...)
{
    struct timespec now;
    struct tm utc;
    char line[EVENT_MAX_BYTES], when[32];
    va_list args;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &utc);
    (void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &utc);
    int n =
        snprintf(line, sizeof(line), "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"event\":\"%s\"%s",
                 when, now.tv_nsec / 1000000, level, event, fields[0] != '\0' ? "," : "");
    va_start(args, fields);
    int m = vsnprintf(line + n, sizeof(line) - (size_t)n, fields, args);
    va_end(args);
    if (m < 0 || (size_t)(n + m) + 2 > sizeof(line)) {
        return; /* a cut line would not be JSON */
    }
    line[n + m] = '}';
    gw_log_line(log, line, (size_t)(n + m) + 1);
}
