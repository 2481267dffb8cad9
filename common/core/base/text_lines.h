/*
 * The lines of a text in memory. One thread. The text belongs to the caller and may be hostile;
 * nothing is copied, and lines are not terminated.
 */
#ifndef TWINPORT_CORE_BASE_TEXT_LINES_H
#define TWINPORT_CORE_BASE_TEXT_LINES_H

#include <stdbool.h>
#include <stddef.h>

typedef struct tp__text_lines {
    const char *at; /* the next line */
    const char *end;
    const char *line; /* the line that was read last, without its newline */
    size_t length;
    unsigned number; /* of that line, from 1; 0 before the first */
} tp__text_lines;

/* Begins at the first line, after a byte order mark, which some editors write. */
tp__text_lines tp__text_lines_begin(const char *text, size_t size);

/* Reads the next line. False: there is none. A newline at the end of the text ends its last line
 * and begins no further one. */
bool tp__text_lines_next(tp__text_lines *lines);

#endif
