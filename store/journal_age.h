/**
 * How old the oldest uncommitted record is, in a fixed amount of memory.
 *
 * Remembers (sequence, time) of some records; when it is full every second one is forgotten, so the
 * answer is early by at most a few hundredths of the whole span. Thread: the owner's.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { STORE_AGE_MARKS = 256 };

struct store_age {
    struct {
        uint64_t sequence;
        int64_t time_us;
    } marks[STORE_AGE_MARKS];
    size_t count;
    uint64_t every, skipped; /* every how manieth record is remembered */
};

void store_age_add(struct store_age *age, uint64_t sequence, int64_t time_us);

/** Everything up to `sequence` is committed, `newest` the newest there is: the oldest time left; 0: none. */
int64_t store_age_oldest(struct store_age *age, uint64_t sequence, uint64_t newest);
