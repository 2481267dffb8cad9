/*
 * Statistics as text: lines of name=value. One thread; owns nothing.
 *
 *     tp__stats_text out = tp__stats_text_in(text, sizeof text);
 *     tp__stats_text_add(&out, "peers", NULL, 3);                     peers=3
 *     tp__stats_text_add(&out, "dropped", "bus-full", 0);             dropped.bus-full=0
 *
 * Invariant: out.size < out.capacity, and a zero byte is at out.text[out.size]; or capacity is 0,
 * and nothing is ever written.
 */
#ifndef TWINPORT_CORE_BASE_STATS_TEXT_H
#define TWINPORT_CORE_BASE_STATS_TEXT_H

#include <stddef.h>
#include <stdint.h>

typedef struct tp__stats_text {
    char *text;
    size_t capacity;
    size_t size; /* bytes before the zero byte */
} tp__stats_text;

/* Empty text that is written into `capacity` bytes at `text`. */
tp__stats_text tp__stats_text_in(char *text, size_t capacity);

/* Adds a line, with ".part" behind the name if `part` is not NULL. A line that does not fit is left
 * out. */
void tp__stats_text_add(tp__stats_text *out, const char *name, const char *part, uint64_t value);

#endif
