/*
 * A binary heap of timers. Every timer knows its slot, so moving and removing cost O(log n) and
 * nothing is ever searched. Thread and ownership: see timer_heap.h.
 */
#include "timer_heap.h"

#include <stdlib.h>

static void settle(struct timer_heap *heap, struct sl_timer *timer, size_t at);

struct sl_timer *timer_heap_first(const struct timer_heap *heap)
{
    return heap->count > 0 ? heap->slots[1] : NULL;
}

void timer_heap_put(struct timer_heap *heap, struct sl_timer *timer)
{
    if (timer->heap_index != 0) {
        settle(heap, timer, timer->heap_index);
        return;
    }
    if (heap->count + 1 >= heap->capacity) {
        size_t capacity = heap->capacity > 0 ? heap->capacity * 2 : 64;
        struct sl_timer **slots = realloc(heap->slots, capacity * sizeof(struct sl_timer *));
        if (slots == NULL) {
            abort(); /* eight bytes per timer; nothing sensible is left to do */
        }
        heap->slots = slots;
        heap->capacity = capacity;
    }
    heap->count++;
    settle(heap, timer, heap->count);
}

void timer_heap_remove(struct timer_heap *heap, struct sl_timer *timer)
{
    size_t at = timer->heap_index;

    if (at == 0) {
        return;
    }
    struct sl_timer *last = heap->slots[heap->count--];
    timer->heap_index = 0;
    if (last != timer) {
        settle(heap, last, at);
    }
}

void timer_heap_dispose(struct timer_heap *heap)
{
    free(heap->slots);
    *heap = (struct timer_heap){0};
}

/* Puts `timer` into the free slot `at`, then up or down to where it belongs. */
static void settle(struct timer_heap *heap, struct sl_timer *timer, size_t at)
{
    while (at > 1 && heap->slots[at / 2]->due_us > timer->due_us) {
        heap->slots[at] = heap->slots[at / 2];
        heap->slots[at]->heap_index = at;
        at /= 2;
    }
    for (;;) {
        size_t child = at * 2;
        if (child > heap->count) {
            break;
        }
        if (child < heap->count && heap->slots[child + 1]->due_us < heap->slots[child]->due_us) {
            child++;
        }
        if (heap->slots[child]->due_us >= timer->due_us) {
            break;
        }
        heap->slots[at] = heap->slots[child];
        heap->slots[at]->heap_index = at;
        at = child;
    }
    heap->slots[at] = timer;
    timer->heap_index = at;
}
