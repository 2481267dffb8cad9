/*
 * Reads the lines of the key ring. One thread at a time. The keys belong to the caller; every other
 * buffer that has contained a key is wiped here.
 */
#include "wanserver/files/key_ring_file.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "core/config/config_report.h"
#include "proto/keys.h"
#include "wanserver/files/text_file.h"
#include "wanserver/files/words.h"

#define WARNINGS_SIZE 4096u

typedef struct reader {
    const char *name;
    tp__key_ring *ring;
    unsigned given[TP__KEY_RING_MAX]; /* the first line that gives this id, or 0 */
    tp__report report;
    tp__report warnings;
} reader;

static bool key_read(tp__word word, uint8_t key[TP_KEY_SIZE]) {
    char text[TP_KEY_TEXT];
    bool right = tp__word_copy(word, text, sizeof text) && tp_key_parse(text, key);
    tp_secure_wipe(text, sizeof text);
    return right;
}

static bool key_is_zero(const uint8_t key[TP_KEY_SIZE]) {
    uint8_t bits = 0;
    for (size_t i = 0; i < TP_KEY_SIZE; i++) {
        bits |= key[i];
    }
    return bits == 0;
}

/* An id that is given again with the same key is a warning. With another key it is an error,
 * because either key could be meant. */
static void key_ring_repeat(
    reader *in, unsigned line, unsigned id, const uint8_t key[TP_KEY_SIZE]) {
    assert(id < TP__KEY_RING_MAX && in->given[id] != 0 && tp__key_ring_find(in->ring, id));
    if (memcmp(tp__key_ring_find(in->ring, id)->key, key, TP_KEY_SIZE) == 0) {
        tp__report_error(&in->warnings,
            "%s:%u: id %u is given again, with the same key: line %u has it", in->name, line, id,
            in->given[id]);
    } else {
        tp__report_error(&in->report,
            "%s:%u: id %u is given again: expected once, and line %u has it with another key",
            in->name, line, id, in->given[id]);
    }
}

static void key_ring_add(reader *in, unsigned line, const tp__word *words, size_t count) {
    tp_token_key *one = &in->ring->keys[in->ring->count];
    unsigned long long id;
    if (count != 2 || !tp__word_number(words[0], TP__KEY_RING_MAX - 1, &id) ||
        !key_read(words[1], one->key)) {
        tp__report_error(&in->report,
            "%s:%u: expected an id from 0 to %u and a key of %u hexadecimal digits", in->name, line,
            TP__KEY_RING_MAX - 1, 2 * TP_KEY_SIZE);
    } else if (in->given[id] != 0) {
        key_ring_repeat(in, line, (unsigned)id, one->key);
    } else if (key_is_zero(one->key)) {
        tp__report_error(&in->report,
            "%s:%u: the key of id %u is zero: expected a random one, as tp-token --new-key prints "
            "it",
            in->name, line, (unsigned)id);
    } else {
        one->id = (uint8_t)id;
        in->given[id] = line;
        in->ring->count++;
        return;
    }
    tp_secure_wipe(one->key, sizeof one->key);
}

/* An id enters the ring at most once. So when the ring is full, every further line is an error
 * before its key is kept. */
static void key_ring_read(reader *in, const char *text, size_t size) {
    tp__lines lines = tp__lines_of(text, size);
    tp__word words[2];
    size_t count;
    while ((count = tp__lines_next(&lines, words, 2)) > 0) {
        key_ring_add(in, lines.number, words, count);
    }
    if (in->ring->count == 0 && in->report.errors == 0) {
        tp__report_error(&in->report, "%s:%u: no key is given: expected lines of an id and a key",
            in->name, lines.number > 0 ? lines.number : 1);
    }
}

tp_err tp__key_ring_parse(const char *name, const char *text, size_t size, tp__key_ring *ring,
    char *report, size_t report_size) {
    char warnings[WARNINGS_SIZE];
    reader in = {.name = name,
        .ring = ring,
        .report = tp__report_begin(report, report_size),
        .warnings = tp__report_begin(warnings, sizeof warnings)};
    ring->count = 0;
    key_ring_read(&in, text, size);
    if (in.report.errors > 0) {
        tp__key_ring_wipe(ring);
        return tp__report_end(&in.report);
    }
    tp__report_end_warnings(&in.warnings);
    (void)snprintf(report, report_size, "%s", warnings);
    return TP_OK;
}

tp_err tp__key_ring_load(const char *path, tp__key_ring *ring, char *report, size_t report_size) {
    tp__report wrong = tp__report_begin(report, report_size);
    tp__text_file file;
    ring->count = 0;
    tp_err error = tp__text_file_load(path, TP__KEY_RING_MAX_FILE, &file, &wrong);
    if (error) {
        return error;
    }
    error = tp__key_ring_parse(path, file.text, file.size, ring, report, report_size);
    tp__text_file_free(&file);
    return error;
}

const tp_token_key *tp__key_ring_find(const tp__key_ring *ring, unsigned id) {
    for (size_t i = 0; i < ring->count; i++) {
        if (ring->keys[i].id == id) {
            return &ring->keys[i];
        }
    }
    return NULL;
}

void tp__key_ring_wipe(tp__key_ring *ring) {
    tp_secure_wipe(ring, sizeof *ring);
}
