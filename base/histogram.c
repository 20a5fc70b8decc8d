/* Latency histograms with fixed bounds. Thread: one writer each, any readers; see the header. */
#include "sluice/histogram.h"

const uint64_t sl_histogram_bounds_us[SL_HISTOGRAM_BOUNDS] = SL_HISTOGRAM_BOUNDS_US;

void sl_histogram_record(struct sl_histogram *histogram, uint64_t value_us)
{
    sl_histogram_count(histogram, value_us);
    sl_counter_add(&histogram->sum_us, value_us);
}

void sl_histogram_count(struct sl_histogram *histogram, uint64_t value_us)
{
    size_t low = 0, high = SL_HISTOGRAM_BOUNDS;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (value_us <= sl_histogram_bounds_us[middle]) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    sl_counter_add(&histogram->buckets[low], 1);
}

void sl_histogram_add(struct sl_histogram *into, const struct sl_histogram *from)
{
    for (size_t i = 0; i <= SL_HISTOGRAM_BOUNDS; i++) {
        sl_counter_add(&into->buckets[i], sl_counter_get(&from->buckets[i]));
    }
    sl_counter_add(&into->sum_us, sl_counter_get(&from->sum_us));
}
