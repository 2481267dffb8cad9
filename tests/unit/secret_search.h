/*
 * Searching this process's own memory for secrets: every writable page, as it is now.
 *
 *     remember("S", secret);     while it is there
 *     REQUIRE(search());         needles[i].found says how often each was found
 *
 * What is remembered is kept only inverted, and halves are looked for, so that a copy in a vector
 * register that was put on the stack is found too. Linux only, and not under an address sanitizer:
 * search() says so. One thread at a time, and nobody else at work meanwhile.
 */
#ifndef TWINPORT_TESTS_SECRET_SEARCH_H
#define TWINPORT_TESTS_SECRET_SEARCH_H

#include "check.h"
#include "os/compiler.h"
#include "proto/suite.h"

#define HALF (TP_KEY_SIZE / 2)

/* ---- what is looked for ---------------------------------------------------------------------- */

typedef struct needle {
    const char *name;
    uint8_t inverted[TP_KEY_SIZE];
    unsigned found;
} needle;

static needle needles[24];
static unsigned needle_count;
static bool begins_one[256]; /* a byte with which a half begins: most bytes of memory do not */

/* Byte by byte, and no compiler sees a copy in it. */
static inline void remember(const char *name, const volatile uint8_t *secret) {
    REQUIRE(needle_count < sizeof needles / sizeof needles[0]);
    needle *n = &needles[needle_count++];
    n->name = name;
    for (unsigned i = 0; i < TP_KEY_SIZE; i++) {
        n->inverted[i] = (uint8_t)~secret[i];
    }
    begins_one[secret[0]] = begins_one[secret[HALF]] = true;
}

static inline void forget(void) {
    needle_count = 0;
    memset(begins_one, 0, sizeof begins_one);
}

static inline bool is_half(const uint8_t *at, const uint8_t *inverted) {
    unsigned i = 0;
    while (i < HALF && (at[i] ^ inverted[i]) == 0xff) {
        i++;
    }
    return i == HALF;
}

static inline void look_at(const uint8_t *bytes, size_t size) {
    if (memcmp(bytes, bytes + 1, size - 1) == 0) {
        return; /* one byte over and over: memory that was never used */
    }
    for (size_t at = 0; at + HALF <= size; at++) {
        for (unsigned n = 0; begins_one[bytes[at]] && n < needle_count; n++) {
            needles[n].found += is_half(bytes + at, needles[n].inverted) ||
                                is_half(bytes + at, needles[n].inverted + HALF);
        }
    }
}

/* ---- where ----------------------------------------------------------------------------------- */

#define PIECE     65536u
#define TOO_LARGE (UINT64_C(1) << 32) /* a sanitizer's shadow, not a heap */

/* The window on other memory, which is not searched itself and is empty between searches. */
static uint8_t window[PIECE + HALF];

static inline void look_through(FILE *memory, uint64_t from, uint64_t to) {
    uint64_t own = (uintptr_t)window;
    while (from < to) {
        uint64_t size = to - from < sizeof window ? to - from : sizeof window;
        uint64_t step = to - from < PIECE ? to - from : PIECE;
        if (from < own + sizeof window && own < from + size) {
            if (from >= own) {
                from = own + sizeof window;
                continue;
            }
            size = step = own - from;
        }
        if (fseek(memory, (long)from, SEEK_SET) != 0 || fread(window, 1, size, memory) != size) {
            clearerr(memory); /* a page that cannot be read */
        } else {
            look_at(window, size);
        }
        from += step;
    }
    tp_secure_wipe(window, sizeof window);
}

/* Searches all that is writable; false if that cannot be done here. */
static inline bool search(void) {
#ifdef TP_ADDRESS_SANITIZER
    return false; /* it keeps frames aside, out of everybody's reach */
#endif
    static char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    FILE *memory = fopen("/proc/self/mem", "rb");
    for (unsigned n = 0; n < needle_count; n++) {
        needles[n].found = 0;
    }
    if (maps == NULL || memory == NULL || sizeof(long) < sizeof(uint64_t)) {
        return false; /* what was opened ends with the process. Wine lets its programs see both. */
    }
    setvbuf(memory, NULL, _IONBF, 0); /* or a buffer would hold what was looked at */
    while (fgets(line, sizeof line, maps) != NULL) {
        uint64_t from;
        uint64_t to;
        char rights[5];
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &from, &to, rights) == 3 &&
            rights[0] == 'r' && rights[1] == 'w' && to - from < TOO_LARGE) {
            look_through(memory, from, to);
        }
    }
    fclose(memory);
    fclose(maps);
    return true;
}

#endif
