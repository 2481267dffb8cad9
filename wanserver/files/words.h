/*
 * Lines of words: what the key ring, the ban list and the key file are made of. A '#' begins a
 * comment; blanks separate words. Any text will do, zero bytes included. One thread; nothing is
 * copied.
 */
#ifndef TWINPORT_WANSERVER_FILES_WORDS_H
#define TWINPORT_WANSERVER_FILES_WORDS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct tp__word {
    const char *text; /* without an end of its own */
    size_t length;
} tp__word;

typedef struct tp__lines {
    const char *at;
    const char *end;
    unsigned number; /* of the line read last, from 1 */
    tp__word line;   /* all of it, but for its end */
} tp__lines;

tp__lines tp__lines_of(const char *text, size_t size);

/* The words of the next line that has any, at most `room` of them; how many there are is returned,
 * which may be more, and 0 at the end of the text. */
size_t tp__lines_next(tp__lines *lines, tp__word *words, size_t room);

/* A whole number of digits alone, at most `most`; else false. */
bool tp__word_number(tp__word word, unsigned long long most, unsigned long long *number);

/* Copies a word with a NUL behind it. False if it has no room. */
bool tp__word_copy(tp__word word, char *text, size_t room);

/* What was written, fit to be quoted in a message, as tp__quoted(): not for lines with secrets.
 * Returns `text`, of TP__QUOTED_TEXT bytes. */
const char *tp__word_quoted(tp__word word, char *text);

#endif
