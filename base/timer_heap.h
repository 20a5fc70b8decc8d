/**
 * A binary heap of timers, the earliest first.
 *
 * Thread: its loop's. Ownership: the array is the heap's, the timers are their owners'. Zeroed
 * memory is an empty heap.
 */
#pragma once

#include <stddef.h>

#include "sluice/loop.h"

struct timer_heap {
    struct sl_timer **slots; /* slot 0 is unused: heap_index 0 means "not armed" */
    size_t count, capacity;
};

/** Inserts a timer, or moves it when it is in the heap already (its due_us has changed). */
void timer_heap_put(struct timer_heap *heap, struct sl_timer *timer);

/** Takes a timer out. Idempotent. */
void timer_heap_remove(struct timer_heap *heap, struct sl_timer *timer);

/** The earliest timer, or NULL. */
struct sl_timer *timer_heap_first(const struct timer_heap *heap);

void timer_heap_dispose(struct timer_heap *heap);
