/*
 * The histogram. A value's slot follows from its highest bit and the 6 bits below it; values below
 * 64 have a slot each. One thread per histogram; they are merged when the threads have ended.
 */
#include "histogram.h"

static unsigned slot_of(uint64_t value) {
    unsigned power = 0;
    while (value >> power >= 2 * HISTOGRAM_STEPS) {
        power++;
    }
    /* value >> power is below 128; from 64 on, each further power adds 64 slots. */
    uint64_t slot = (uint64_t)power * HISTOGRAM_STEPS + (value >> power);
    return slot < HISTOGRAM_SLOTS ? (unsigned)slot : HISTOGRAM_SLOTS - 1;
}

/* The highest value of a slot. */
static uint64_t top_of(unsigned slot) {
    if (slot < 2 * HISTOGRAM_STEPS) {
        return slot;
    }
    unsigned power = slot / HISTOGRAM_STEPS - 1;
    uint64_t step = slot % HISTOGRAM_STEPS + HISTOGRAM_STEPS;
    return ((step + 1) << power) - 1;
}

void histogram_add(histogram *h, uint64_t value) {
    h->slots[slot_of(value)]++;
    h->count++;
    h->max = value > h->max ? value : h->max;
}

void histogram_merge(histogram *into, const histogram *from) {
    for (unsigned i = 0; i < HISTOGRAM_SLOTS; i++) {
        into->slots[i] += from->slots[i];
    }
    into->count += from->count;
    into->max = from->max > into->max ? from->max : into->max;
}

uint64_t histogram_at(const histogram *h, double fraction) {
    uint64_t wanted = (uint64_t)(fraction * (double)h->count);
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_SLOTS; i++) {
        seen += h->slots[i];
        if (seen > wanted || (seen == h->count && seen > 0)) {
            return top_of(i) < h->max ? top_of(i) : h->max;
        }
    }
    return 0;
}
