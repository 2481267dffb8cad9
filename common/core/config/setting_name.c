/*
 * Finds a setting by its name, or the one with the most similar name. One thread, at start.
 */
#include <assert.h>
#include <string.h>

#include "core/config/setting.h"

const tp__setting *tp__setting_find(const tp__setting *table, size_t count, const char *name) {
    assert(name != NULL);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(table[i].name, name) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

#define NAME_LENGTH 32 /* longer names are not compared */

static unsigned min_of_three(unsigned a, unsigned b, unsigned c) {
    unsigned ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* The edit distance: how many letters must be changed, added or removed to get one name from the
 * other. */
static unsigned distance(const char *a, size_t a_length, const char *b, size_t b_length) {
    unsigned row[NAME_LENGTH + 1];
    assert(a_length <= NAME_LENGTH && b_length <= NAME_LENGTH);
    for (unsigned k = 0; k <= b_length; k++) {
        row[k] = k;
    }
    for (unsigned i = 0; i < a_length; i++) {
        unsigned diagonal = row[0];
        row[0] = i + 1;
        for (unsigned k = 0; k < b_length; k++) {
            unsigned change = diagonal + (a[i] != b[k]);
            diagonal = row[k + 1];
            row[k + 1] = min_of_three(change, row[k] + 1, diagonal + 1);
        }
    }
    return row[b_length];
}

const tp__setting *tp__setting_nearest(const tp__setting *table, size_t count, const char *name) {
    size_t length = strlen(name);
    const tp__setting *nearest = NULL;
    unsigned best = 4; /* names that differ by 4 letters or more are not suggested */
    for (size_t i = 0; i < count; i++) {
        size_t other = strlen(table[i].name);
        if (length > NAME_LENGTH || other > NAME_LENGTH) {
            continue;
        }
        unsigned far = distance(name, length, table[i].name, other);
        if (far < best && 2 * far <= length) {
            best = far;
            nearest = &table[i];
        }
    }
    return nearest;
}
