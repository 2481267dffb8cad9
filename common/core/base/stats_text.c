/*
 * Statistics as text. Any thread, each with its own text; no state.
 */
#include "core/base/stats_text.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

tp__stats_text tp__stats_text_in(char *text, size_t capacity) {
    if (capacity > 0) {
        text[0] = '\0';
    }
    return (tp__stats_text){.text = text, .capacity = capacity};
}

void tp__stats_text_add(tp__stats_text *out, const char *name, const char *part, uint64_t value) {
    size_t left = out->capacity - out->size;
    if (left == 0) {
        return;
    }
    int written = snprintf(out->text + out->size, left, "%s%s%s=%" PRIu64 "\n", name,
        part ? "." : "", part ? part : "", value);
    out->size += written > 0 && (size_t)written < left ? (size_t)written : 0;
    assert(out->size < out->capacity);
    out->text[out->size] = '\0';
}
