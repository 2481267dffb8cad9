/*
 * Searches this process's own memory for secrets: every writable page, as it is at the moment.
 *
 *     remember("S", secret);     while the secret exists
 *     REQUIRE(search());         needles[i].found is how often each was found
 *
 * A remembered secret is stored only inverted, and its halves are searched for, so that a copy in a
 * vector register that was spilled to the stack is found, too. Linux only, and not with an address
 * sanitizer: search() then returns false. One thread at a time, while no other thread runs.
 */
#ifndef TWINPORT_TESTS_SECRET_SEARCH_H
#define TWINPORT_TESTS_SECRET_SEARCH_H

#include "check.h"
#include "os/compiler.h"
#include "proto/suite.h"

#define HALF (TP_KEY_SIZE / 2)

/* ---- the secrets ----------------------------------------------------------------------------- */

typedef struct needle {
    const char *name;
    uint8_t inverted[TP_KEY_SIZE];
    unsigned found;
} needle;

static needle needles[24];
static unsigned needle_count;
/* Set for each byte with which a half begins; most bytes of memory begin none. */
static bool begins_one[256];

/* Copies byte by byte, so that the compiler makes no copy of the secret. */
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

static inline void search_bytes(const uint8_t *bytes, size_t size) {
    if (memcmp(bytes, bytes + 1, size - 1) == 0) {
        return; /* one byte repeated: memory that was never used */
    }
    for (size_t at = 0; at + HALF <= size; at++) {
        for (unsigned n = 0; begins_one[bytes[at]] && n < needle_count; n++) {
            needles[n].found += is_half(bytes + at, needles[n].inverted) ||
                                is_half(bytes + at, needles[n].inverted + HALF);
        }
    }
}

/* ---- the memory ------------------------------------------------------------------------------ */

#define PIECE     65536u
#define TOO_LARGE (UINT64_C(1) << 32) /* a sanitizer's shadow, not a heap */

/* A buffer for the searched memory. It is not searched itself, and empty between searches. */
static uint8_t window[PIECE + HALF];

static inline void search_range(FILE *memory, uint64_t from, uint64_t to) {
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
            clearerr(memory); /* an unreadable page */
        } else {
            search_bytes(window, size);
        }
        from += step;
    }
    tp_secure_wipe(window, sizeof window);
}

/* Searches all writable memory. False if that is not possible here. */
static inline bool search(void) {
#ifdef TP_ADDRESS_SANITIZER
    return false; /* its stack frames are kept where they cannot be found */
#endif
    static char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    FILE *memory = fopen("/proc/self/mem", "rb");
    for (unsigned n = 0; n < needle_count; n++) {
        needles[n].found = 0;
    }
    if (maps == NULL || memory == NULL || sizeof(long) < sizeof(uint64_t)) {
        return false; /* open files end with the process; under Wine both exist */
    }
    setvbuf(memory, NULL, _IONBF, 0); /* without a buffer, which would keep what was read */
    while (fgets(line, sizeof line, maps) != NULL) {
        uint64_t from;
        uint64_t to;
        char rights[5];
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &from, &to, rights) == 3 &&
            rights[0] == 'r' && rights[1] == 'w' && to - from < TOO_LARGE) {
            search_range(memory, from, to);
        }
    }
    fclose(memory);
    fclose(maps);
    return true;
}

#endif
