/*
 * Splits lines into words. One thread. The text belongs to the caller and may be hostile.
 */
#include "wanserver/files/words.h"

#include <assert.h>
#include <string.h>

#include "core/config/config_report.h"

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

tp__lines tp__lines_of(const char *text, size_t size) {
    return (tp__lines){.text = tp__text_lines_begin(text, size)};
}

static size_t line_split(const char *at, const char *end, tp__word *words, size_t capacity) {
    assert(at <= end);
    size_t count = 0;
    for (;;) {
        while (at < end && is_blank(*at)) {
            at++;
        }
        if (at == end || *at == '#') {
            return count;
        }
        const char *begin = at;
        while (at < end && !is_blank(*at) && *at != '#') {
            at++;
        }
        if (count < capacity) {
            words[count] = (tp__word){.text = begin, .length = (size_t)(at - begin)};
        }
        count++;
    }
}

size_t tp__lines_next(tp__lines *lines, tp__word *words, size_t capacity) {
    size_t count = 0;
    while (count == 0 && tp__text_lines_next(&lines->text)) {
        const char *begin = lines->text.line;
        lines->number = lines->text.number;
        lines->line = (tp__word){.text = begin, .length = lines->text.length};
        count = line_split(begin, begin + lines->text.length, words, capacity);
    }
    return count;
}

bool tp__word_number(tp__word word, unsigned long long most, unsigned long long *number) {
    unsigned long long sum = 0;
    for (size_t i = 0; i < word.length; i++) {
        if (word.text[i] < '0' || word.text[i] > '9') {
            return false;
        }
        unsigned digit = (unsigned)(word.text[i] - '0');
        if (digit > most || sum > (most - digit) / 10) {
            return false;
        }
        sum = sum * 10 + digit;
    }
    *number = sum;
    return word.length > 0;
}

bool tp__word_copy(tp__word word, char *text, size_t size) {
    assert(size > 0);
    if (word.length >= size || memchr(word.text, '\0', word.length) != NULL) {
        return false;
    }
    memcpy(text, word.text, word.length);
    text[word.length] = '\0';
    return true;
}

const char *tp__word_quoted(tp__word word, char *text) {
    char copy[TP__QUOTED_TEXT + 1]; /* one more than is quoted, so that a longer line is
                                       recognised */
    while (word.length > 0 && is_blank(word.text[word.length - 1])) {
        word.length--;
    }
    size_t length = word.length < sizeof copy - 1 ? word.length : sizeof copy - 1;
    for (size_t i = 0; i < length; i++) {
        copy[i] = word.text[i];
        if (copy[i] == '\0') {
            copy[i] = '?';
        }
    }
    copy[length] = '\0';
    return tp__quoted(copy, text);
}
