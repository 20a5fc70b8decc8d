/**
 * Small things that the store's tests share: ids, messages, and waiting on a loop for a condition.
 *
 * Thread: the test's. Ownership: messages point to the caller's strings.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sluice/store.h"

enum { SAMPLE_WAIT_MS = 30 * 1000 };

/** The id whose last four bytes are `number`. */
static inline struct sl_uuid sample_id(unsigned number)
{
    struct sl_uuid id = {{0}};
    id.bytes[6] = 0x70;
    id.bytes[8] = 0x80;
    for (unsigned i = 0; i < 4; i++) {
        id.bytes[15 - i] = (uint8_t)(number >> (8 * i));
    }
    return id;
}

static inline unsigned sample_number(const struct sl_uuid *id)
{
    return (unsigned)id->bytes[12] << 24 | (unsigned)id->bytes[13] << 16 |
           (unsigned)id->bytes[14] << 8 | (unsigned)id->bytes[15];
}

static inline struct store_text sample_text(const char *text)
{
    return (struct store_text){text, text != NULL ? strlen(text) : 0};
}

/** A user's message with id `number`, written `number` seconds into 2024. */
static inline struct store_message sample_message(unsigned number, const char *content)
{
    return (struct store_message){
        .id = sample_id(number),
        .turn_id = sample_id(number),
        .role = STORE_ROLE_USER,
        .status = STORE_STATUS_COMPLETE,
        .created_at_us = (INT64_C(1704067200) + number) * 1000000,
        .content = sample_text(content),
        .prompt_tokens = -1,
        .completion_tokens = -1,
        .ttft_ms = -1,
    };
}

static inline int64_t sample_now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/** Runs the loop until `condition` holds; gives up loudly. Runs with the test's own loop variable. */
#define SAMPLE_RUN_UNTIL(loop, condition)                                                          \
    do {                                                                                           \
        int64_t give_up_ms_ = sample_now_ms() + SAMPLE_WAIT_MS;                                    \
        while (!(condition)) {                                                                     \
            sl_loop_run_once((loop), 20);                                                          \
            if (sample_now_ms() > give_up_ms_) {                                                   \
                (void)fprintf(stderr, "%s:%d: waited in vain for %s\n", __FILE__, __LINE__,        \
                              #condition);                                                         \
                abort();                                                                           \
            }                                                                                      \
        }                                                                                          \
    } while (0)

/** An operation's end, noted. Put it in front of the operation's `done`. */
struct sample_end {
    unsigned count;
    int status;
};
