/*
 * Counters: nothing is lost from one writer or from several, and a reader never sees a counter
 * fall.
 */
#include "core/base/counter.h"

#include "check.h"
#include "os/thread.h"

#define THREADS 4u
#define TURNS   2000000u

static _Atomic uint64_t own;
static _Atomic uint64_t shared;
static _Atomic unsigned started;

static void amounts_are_added(void) {
    _Atomic uint64_t counter;
    atomic_init(&counter, UINT32_MAX);
    tp__count_own(&counter, 1);
    CHECK_EQ(tp__count_read(&counter), (uint64_t)UINT32_MAX + 1);
    tp__count_shared(&counter, 5);
    CHECK_EQ(tp__count_read(&counter), (uint64_t)UINT32_MAX + 6);
    tp__count_shared(&counter, 0);
    CHECK_EQ(tp__count_read(&counter), (uint64_t)UINT32_MAX + 6);
}

/* The first thread is the only writer of `own`, and reads `shared` as it grows. */
static void count(void *first) {
    uint64_t before = 0;
    atomic_fetch_add(&started, 1);
    while (atomic_load(&started) < THREADS) {
    }
    for (unsigned i = 0; i < TURNS; i++) {
        if (first) {
            tp__count_own(&own, 3);
        }
        tp__count_shared(&shared, 3);
        uint64_t now = tp__count_read(&shared);
        if (now < before + 3) {
            FAIL("a counter has fallen, or has missed an addition of the thread that reads it");
        }
        before = now;
    }
}

static void several_writers_lose_nothing(void) {
    tp_thread threads[THREADS];
    int mark;
    for (unsigned i = 0; i < THREADS; i++) {
        void *first = i == 0 ? &mark : NULL;
        REQUIRE(tp_thread_start(&threads[i], "counter", count, first) == TP_OK);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&threads[i]);
    }
    CHECK_EQ(tp__count_read(&own), 3u * TURNS);
    CHECK_EQ(tp__count_read(&shared), 3u * TURNS * THREADS);
}

CHECK_MAIN(CASE(amounts_are_added), CASE(several_writers_lose_nothing))
