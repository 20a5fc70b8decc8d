/*
 * How old the oldest uncommitted record is.
 *
 * Happy path: a mark per record; those before the last one that is not newer than the first
 * uncommitted record are dropped, and that one's time is the answer. Failure modes: none.
 * Thread: the owner's. Ownership: embedded.
 */
#include "journal_age.h"

#include <string.h>

void store_age_add(struct store_age *age, uint64_t sequence, int64_t time_us)
{
    if (age->count > 0 && ++age->skipped < age->every) {
        return;
    }
    if (age->count == STORE_AGE_MARKS) {
        for (size_t i = 0; i < STORE_AGE_MARKS / 2; i++) {
            age->marks[i] = age->marks[2 * i];
        }
        age->count = STORE_AGE_MARKS / 2;
        age->every = age->every == 0 ? 2 : 2 * age->every;
    }
    age->skipped = 0;
    age->marks[age->count].sequence = sequence;
    age->marks[age->count++].time_us = time_us;
}

int64_t store_age_oldest(struct store_age *age, uint64_t sequence, uint64_t newest)
{
    size_t from = 0;

    if (sequence >= newest || age->count == 0) {
        age->count = 0;
        age->every = age->skipped = 0;
        return 0;
    }
    while (from + 1 < age->count && age->marks[from + 1].sequence <= sequence + 1) {
        from++;
    }
    if (from > 0) {
        age->count -= from;
        memmove(age->marks, age->marks + from, age->count * sizeof(age->marks[0]));
    }
    return age->marks[0].time_us;
}
