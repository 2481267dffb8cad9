/*
 * libcrypto's heap, counted, with allocations that fail on request.
 *
 * Allocations of the test's own thread (the players' clients) are counted separately and never
 * fail. A block counts for the thread that allocated it, whichever frees it. One translation unit
 * per program.
 */
#ifndef TWINPORT_TESTS_LIBCRYPTO_HEAP_H
#define TWINPORT_TESTS_LIBCRYPTO_HEAP_H

#include <openssl/crypto.h>

#include "check.h"
#include "os/thread.h"

static struct {
    atomic_size_t held[2];     /* bytes of other threads, and of the test's thread */
    atomic_long until_failure; /* 0: none fails; 1: the next one of another thread */
    atomic_uint failures;
    /* Blocks freed by another thread than the one that allocated them (the test's own excepted). */
    atomic_uint strayed;
    uint64_t test_thread;
} libcrypto;

/* Each block begins with its size and its thread. The allocator's overhead is estimated as one
 * word, rounded up to two words. */
#define LIBCRYPTO_FRONT 32u

typedef struct libcrypto_front {
    size_t size;
    uint64_t thread; /* that allocated it */
    bool own;        /* allocated by the test's thread */
} libcrypto_front;

static inline size_t libcrypto_cost(size_t size) {
    return (size + 8 + 15) / 16 * 16;
}

static inline bool libcrypto_fails(void) {
    return atomic_load(&libcrypto.until_failure) > 0 &&
           atomic_fetch_sub(&libcrypto.until_failure, 1) == 1;
}

static inline void *libcrypto_take(size_t size, const char *file, int line) {
    (void)file, (void)line;
    uint64_t thread = tp_thread_id();
    libcrypto_front at_front = {size, thread, thread == libcrypto.test_thread};
    if (!at_front.own && libcrypto_fails()) {
        atomic_fetch_add(&libcrypto.failures, 1);
        return NULL;
    }
    uint8_t *block = malloc(LIBCRYPTO_FRONT + size);
    REQUIRE(block != NULL);
    memcpy(block, &at_front, sizeof at_front);
    atomic_fetch_add(&libcrypto.held[at_front.own], libcrypto_cost(size));
    return block + LIBCRYPTO_FRONT;
}

static inline void libcrypto_give(void *memory, const char *file, int line) {
    (void)file, (void)line;
    if (memory) {
        libcrypto_front at_front;
        memcpy(&at_front, (uint8_t *)memory - LIBCRYPTO_FRONT, sizeof at_front);
        bool strayed = !at_front.own && at_front.thread != tp_thread_id();
        atomic_fetch_add(&libcrypto.strayed, strayed);
        atomic_fetch_sub(&libcrypto.held[at_front.own], libcrypto_cost(at_front.size));
        free((uint8_t *)memory - LIBCRYPTO_FRONT);
    }
}

static inline void *libcrypto_change(void *memory, size_t size, const char *file, int line) {
    if (size == 0) {
        libcrypto_give(memory, file, line);
        return NULL;
    }
    void *changed = libcrypto_take(size, file, line);
    if (memory && changed) {
        libcrypto_front before;
        memcpy(&before, (uint8_t *)memory - LIBCRYPTO_FRONT, sizeof before);
        memcpy(changed, memory, before.size < size ? before.size : size);
        libcrypto_give(memory, file, line);
    }
    return changed;
}

/* Installs the counting allocator. libcrypto accepts one only before its first allocation, so this
 * is the first call in each case. */
static inline void libcrypto_watch(void) {
    if (libcrypto.test_thread == 0) {
        libcrypto.test_thread = tp_thread_id();
        REQUIRE(CRYPTO_set_mem_functions(libcrypto_take, libcrypto_change, libcrypto_give) == 1);
    }
}

/* Bytes in use by other threads than the test's. */
static inline size_t libcrypto_held(void) {
    return atomic_load(&libcrypto.held[0]);
}

#endif
