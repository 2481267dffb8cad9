/*
 * Splits a text into lines. One thread; nothing is copied.
 */
#include "core/base/text_lines.h"

#include <assert.h>
#include <string.h>

static const char byte_order_mark[] = {'\xef', '\xbb', '\xbf'};

tp__text_lines tp__text_lines_begin(const char *text, size_t size) {
    assert(text != NULL || size == 0);
    bool marked = size >= sizeof byte_order_mark &&
                  memcmp(text, byte_order_mark, sizeof byte_order_mark) == 0;
    const char *first = marked ? text + sizeof byte_order_mark : text;
    return (tp__text_lines){.at = first, .end = size > 0 ? text + size : text};
}

bool tp__text_lines_next(tp__text_lines *lines) {
    if (lines->at == lines->end) {
        return false;
    }
    assert(lines->at < lines->end);
    size_t left = (size_t)(lines->end - lines->at);
    const char *newline = memchr(lines->at, '\n', left);
    lines->line = lines->at;
    lines->length = newline == NULL ? left : (size_t)(newline - lines->at);
    lines->at = newline == NULL ? lines->end : newline + 1;
    lines->number++;
    return true;
}
