/*
 * Lines of words: the format of the key ring, the ban list and the key file. A '#' begins a
 * comment; blanks separate words. Any text is allowed, zero bytes included. One thread; nothing is
 * copied.
 */
#ifndef TWINPORT_WANSERVER_FILES_WORDS_H
#define TWINPORT_WANSERVER_FILES_WORDS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/text_lines.h"

typedef struct tp__word {
    const char *text; /* not terminated */
    size_t length;
} tp__word;

typedef struct tp__lines {
    tp__text_lines text;
    unsigned number; /* of the line that was read last, from 1 */
    tp__word line;   /* that line, without its end */
} tp__lines;

tp__lines tp__lines_of(const char *text, size_t size);

/* Reads the next line that has words, and stores at most `capacity` of them. Returns the number of
 * words in the line, which may be more; 0 at the end of the text. */
size_t tp__lines_next(tp__lines *lines, tp__word *words, size_t capacity);

/* Reads a word of digits alone as a number. False if it is no number, or above `most`. */
bool tp__word_number(tp__word word, unsigned long long most, unsigned long long *number);

/* Copies a word into `size` bytes and terminates it. False if it does not fit, or contains a
 * NUL. */
bool tp__word_copy(tp__word word, char *text, size_t size);

/* The word as text that can be quoted in a message, as by tp__quoted(): not for lines with secrets.
 * `text` has TP__QUOTED_TEXT bytes and is returned. */
const char *tp__word_quoted(tp__word word, char *text);

#endif
