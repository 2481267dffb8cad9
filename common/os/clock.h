/*
 * Time. All clocks are monotonic unless their name has `wall`. Any thread.
 */
#ifndef TWINPORT_OS_CLOCK_H
#define TWINPORT_OS_CLOCK_H

#include <stdint.h>

/* Milliseconds and nanoseconds since an arbitrary start, never 0. */
uint64_t tp_clock_ms(void);
uint64_t tp_clock_ns(void);

/* Milliseconds since 1970-01-01 UTC. */
uint64_t tp_clock_wall_ms(void);

/* Writes the local calendar time of `wall_ms` to `text`, TP_CLOCK_TEXT bytes, as
 * "2026-01-31 23:59:59.123" and a zero byte. */
#define TP_CLOCK_TEXT 24
void tp_clock_format(uint64_t wall_ms, char *text);

#endif
