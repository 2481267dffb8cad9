/*
 * Connect tokens from a file: two lines each, the token and S in hexadecimal digits, as tp-token
 * prints them. Read by the main thread before a run; used by the shards, each token once.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire.h"

#define LINE_SIZE (2 * TP_TOKEN_SIZE + 3) /* digits, "\r\n" and a zero */

struct tokens {
    token *list;
    size_t count;
    size_t capacity;
    atomic_size_t taken; /* how many of the first ones */
};

static int digit_value(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Reads a line of exactly `size` bytes in hexadecimal digits. */
static bool read_line(FILE *file, uint8_t *bytes, size_t size) {
    char line[LINE_SIZE];
    if (fgets(line, sizeof line, file) == NULL || strcspn(line, "\r\n") != 2 * size) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        int high = digit_value(line[2 * i]);
        int low = digit_value(line[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    tp_secure_wipe(line, sizeof line);
    return true;
}

static bool reserve(tokens *t) {
    if (t->count < t->capacity) {
        return true;
    }
    size_t capacity = t->capacity == 0 ? 64 : 2 * t->capacity;
    token *list = malloc(capacity * sizeof *list);
    if (list == NULL) {
        return false;
    }
    if (t->count > 0) {
        memcpy(list, t->list, t->count * sizeof *list);
        tp_secure_wipe(t->list, t->count * sizeof *list);
    }
    free(t->list);
    t->list = list;
    t->capacity = capacity;
    return true;
}

/* Returns NULL, or what is wrong with the file. */
static const char *read_all(FILE *file, tokens *t) {
    for (int next = getc(file); next != EOF; next = getc(file)) {
        (void)ungetc(next, file);
        if (!reserve(t)) {
            return "no memory";
        }
        token *to = &t->list[t->count];
        if (!read_line(file, to->bytes, sizeof to->bytes)) {
            return "expected a token, 280 hexadecimal digits";
        }
        if (!read_line(file, to->secret, sizeof to->secret)) {
            return "expected a token's secret, 64 hexadecimal digits";
        }
        t->count++;
    }
    return t->count == 0 ? "there is no token in it" : NULL;
}

tokens *tokens_read(const char *path) {
    tokens *t = calloc(1, sizeof *t);
    FILE *file = fopen(path, "r");
    const char *wrong = "cannot be read";
    if (t != NULL && file != NULL) {
        wrong = read_all(file, t);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    if (wrong != NULL) {
        fprintf(stderr, "tp-dummy: --token-file %s, behind %llu tokens: %s\n", path,
            (unsigned long long)(t != NULL ? t->count : 0), wrong);
        tokens_free(t);
        return NULL;
    }
    return t;
}

size_t tokens_left(const tokens *t) {
    return t->count - atomic_load(&t->taken);
}

const token *tokens_take(tokens *t, size_t spare) {
    size_t taken = atomic_load(&t->taken);
    do {
        if (t->count - taken <= spare) {
            return NULL;
        }
    } while (!atomic_compare_exchange_weak(&t->taken, &taken, taken + 1));
    return &t->list[taken];
}

void tokens_free(tokens *t) {
    if (t != NULL && t->list != NULL) {
        tp_secure_wipe(t->list, t->capacity * sizeof *t->list);
        free(t->list);
    }
    free(t);
}
