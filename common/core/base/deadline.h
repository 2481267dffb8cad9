/*
 * What is left of a time: for calls that wait in several steps, and for a stop's.
 */
#ifndef TWINPORT_CORE_BASE_DEADLINE_H
#define TWINPORT_CORE_BASE_DEADLINE_H

#include <limits.h>
#include <stdint.h>

#include "os/clock.h"

/*
 * A program's stop has several steps, each of which may take the drain time-out. A step that finds
 * peers hanging takes all of it, and those behind it share what TP__STOP_REST_MS adds: so a stop
 * with everything hung takes the drain time-out and so much more. By default that is 7 s, and with
 * what the log and the last lines may take it stays below the 10 s after which containers are
 * killed.
 */
#define TP__STOP_REST_MS 2000u

/* Of timeout_ms since since_ms; -1 (for ever) stays. */
static inline int tp__left_of(int timeout_ms, uint64_t since_ms) {
    if (timeout_ms < 0) {
        return -1;
    }
    uint64_t passed = tp_clock_ms() - since_ms;
    return passed < (uint64_t)timeout_ms ? timeout_ms - (int)passed : 0;
}

/* Until by_ms, which may be UINT64_MAX for never: UINT_MAX at most. */
static inline unsigned tp__left_until(uint64_t by_ms) {
    uint64_t now = tp_clock_ms();
    uint64_t left = by_ms > now ? by_ms - now : 0;
    return left < UINT_MAX ? (unsigned)left : UINT_MAX;
}

#endif
