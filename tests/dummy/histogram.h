/*
 * A log-linear histogram of nanoseconds: 64 steps for each power of two, so that a value is wrong
 * by 1.6 % at most. Fixed memory; adding takes a few instructions.
 */
#ifndef TWINPORT_TESTS_DUMMY_HISTOGRAM_H
#define TWINPORT_TESTS_DUMMY_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEP_BITS 6
#define HISTOGRAM_STEPS     (1u << HISTOGRAM_STEP_BITS)
#define HISTOGRAM_POWERS    40 /* up to 2^45 ns: nine hours */
#define HISTOGRAM_SLOTS     (HISTOGRAM_POWERS * HISTOGRAM_STEPS)

typedef struct histogram {
    uint64_t slots[HISTOGRAM_SLOTS];
    uint64_t count;
    uint64_t max;
} histogram;

void histogram_add(histogram *h, uint64_t value);
void histogram_merge(histogram *into, const histogram *from);

/* The value that a `fraction` (0..1) of all values does not exceed; 0 if there are no values. */
uint64_t histogram_at(const histogram *h, double fraction);

#endif
