/*
 * The time left of a deadline, for calls that wait in several steps, and the total time of a
 * program's stop. Any thread; no state.
 */
#ifndef TWINPORT_CORE_BASE_DEADLINE_H
#define TWINPORT_CORE_BASE_DEADLINE_H

#include <limits.h>
#include <stdint.h>

#include "os/clock.h"

/*
 * A program's stop has several steps, each with the drain time-out. A step whose peers hang takes
 * all of it, and the steps after it share TP__STOP_REST_MS. So a stop in which everything hangs
 * takes the drain time-out and TP__STOP_REST_MS: 7 s by default. With the time for the log and the
 * last lines of output it stays below the 10 s after which container managers kill a process.
 */
#define TP__STOP_REST_MS 2000u

/* What is left of timeout_ms that began at since_ms: 0 or more. -1 (for ever) stays -1. */
static inline int tp__left_of(int timeout_ms, uint64_t since_ms) {
    if (timeout_ms < 0) {
        return -1;
    }
    uint64_t passed = tp_clock_ms() - since_ms;
    return passed < (uint64_t)timeout_ms ? timeout_ms - (int)passed : 0;
}

/* Milliseconds until by_ms (UINT64_MAX: never), 0 if it has passed; at most UINT_MAX. */
static inline unsigned tp__left_until(uint64_t by_ms) {
    uint64_t now = tp_clock_ms();
    uint64_t left = by_ms > now ? by_ms - now : 0;
    return left < UINT_MAX ? (unsigned)left : UINT_MAX;
}

#endif
