/*
 * The key ring's lines. One thread at a time; what is read is the caller's, and whatever else a key has
 * passed through is wiped here.
 */
#include "wanserver/key_ring.h"

#include <string.h>

#include "core/report.h"
#include "proto/keys.h"
#include "wanserver/lines.h"
#include "wanserver/text_file.h"

typedef struct reader {
    const char *name;
    tp__key_ring *ring;
    unsigned given[TP__KEY_RING_MAX]; /* the line that gave an id first, or 0 */
    tp__report report;
} reader;

static bool read_key(tp__word word, uint8_t key[TP_KEY_SIZE]) {
    char text[TP_KEY_TEXT];
    bool right = tp__word_copy(word, text, sizeof text) && tp_key_parse(text, key);
    tp_secure_wipe(text, sizeof text);
    return right;
}

static bool is_zero(const uint8_t key[TP_KEY_SIZE]) {
    uint8_t bits = 0;
    for (size_t i = 0; i < TP_KEY_SIZE; i++) {
        bits |= key[i];
    }
    return bits == 0;
}

static void take_line(reader *in, unsigned line, const tp__word *words, size_t count) {
    tp_token_key *one = &in->ring->keys[in->ring->count];
    unsigned long long id;
    if (count != 2 || !tp__word_number(words[0], TP__KEY_RING_MAX - 1, &id) ||
        !read_key(words[1], one->key)) {
        tp__report_error(&in->report,
            "%s:%u: expected an id from 0 to %u and a key of %u hexadecimal digits", in->name, line,
            TP__KEY_RING_MAX - 1, 2 * TP_KEY_SIZE);
    } else if (in->given[id] != 0) {
        tp__report_error(&in->report,
            "%s:%u: id %u is given again: expected once, and line %u has it", in->name, line,
            (unsigned)id, in->given[id]);
    } else if (is_zero(one->key)) {
        tp__report_error(&in->report,
            "%s:%u: the key of id %u is zero: expected a random one, as tp-token --new-key makes",
            in->name, line, (unsigned)id);
    } else {
        one->id = (uint8_t)id;
        in->given[id] = line;
        in->ring->count++;
        return;
    }
    tp_secure_wipe(one->key, sizeof one->key);
}

/* Every id is given at most once, so when the ring is full, every further line is an error before its
 * key is kept. */
static void take_lines(reader *in, const char *text, size_t size) {
    tp__lines lines = tp__lines_of(text, size);
    tp__word words[2];
    size_t count;
    while ((count = tp__lines_next(&lines, words, 2)) > 0) {
        take_line(in, lines.number, words, count);
    }
    if (in->ring->count == 0 && in->report.errors == 0) {
        tp__report_error(&in->report, "%s:%u: no key is given: expected lines of an id and a key",
            in->name, lines.number > 0 ? lines.number : 1);
    }
}

static void parse(reader *in, const char *text, size_t size) {
    take_lines(in, text, size);
    if (in->report.errors > 0) {
        tp__key_ring_wipe(in->ring);
    }
}

tp_err tp__key_ring_parse(const char *name, const char *text, size_t size, tp__key_ring *ring,
    char *report, size_t room) {
    reader in = {.name = name, .ring = ring, .report = tp__report_begin(report, room)};
    ring->count = 0;
    parse(&in, text, size);
    return tp__report_end(&in.report);
}

tp_err tp__key_ring_load(const char *path, tp__key_ring *ring, char *report, size_t room) {
    reader in = {.name = path, .ring = ring, .report = tp__report_begin(report, room)};
    tp__text_file file;
    ring->count = 0;
    tp_err error = tp__text_file_load(path, TP__KEY_RING_MAX_FILE, &file, &in.report);
    if (error) {
        return error;
    }
    parse(&in, file.text, file.size);
    tp__text_file_free(&file);
    return tp__report_end(&in.report);
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
