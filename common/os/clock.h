/*
 * Time. Monotonic unless it says wall.
 */
#ifndef TWINPORT_OS_CLOCK_H
#define TWINPORT_OS_CLOCK_H

#include <stdint.h>

/* Monotonic milliseconds and nanoseconds since an arbitrary start, never 0. */
uint64_t tp_clock_ms(void);
uint64_t tp_clock_ns(void);

/* Milliseconds since 1970-01-01 UTC. */
uint64_t tp_clock_wall_ms(void);

/* The local calendar time of `wall_ms`, as "2026-01-31 23:59:59.123" (24 bytes with the end). */
#define TP_CLOCK_TEXT 24
void tp_clock_format(uint64_t wall_ms, char *text);

#endif
