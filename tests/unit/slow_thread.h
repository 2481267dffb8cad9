/*
 * A thread that makes one call and is blocked in it after its first unlock of a mutex, so that
 * other threads can act in between. The source under test is compiled with tp_mutex_unlock renamed
 * to moment_mutex_unlock.
 *
 *     slow_begin(stop_it);   // returns when the thread is blocked
 *     ...
 *     slow_end();            // unblocks it and waits for its end
 */
#ifndef TWINPORT_TESTS_SLOW_THREAD_H
#define TWINPORT_TESTS_SLOW_THREAD_H

#include <stdatomic.h>

#include "check.h"
#include "os/thread.h"

static tp_thread slow_thread;
static void (*slow_call)(void);
static _Atomic uint64_t slow_id; /* the id of the thread that is to be blocked; 0: none */
static atomic_bool slow_is_held, slow_goes_on;

void moment_mutex_unlock(tp_mutex *mutex);
void moment_mutex_unlock(tp_mutex *mutex) {
    tp_mutex_unlock(mutex);
    if (atomic_load(&slow_id) == tp_thread_id()) {
        atomic_store(&slow_id, 0);
        atomic_store(&slow_is_held, true);
        while (!atomic_load(&slow_goes_on)) {
            tp_thread_yield();
        }
    }
}

static void slow_main(void *unused) {
    (void)unused;
    atomic_store(&slow_id, tp_thread_id());
    slow_call();
}

static inline void slow_begin(void (*call)(void)) {
    slow_call = call;
    atomic_store(&slow_is_held, false);
    atomic_store(&slow_goes_on, false);
    REQUIRE(tp_thread_start(&slow_thread, "slow", slow_main, NULL) == TP_OK);
    while (!atomic_load(&slow_is_held)) {
        tp_thread_yield();
    }
}

static inline void slow_end(void) {
    atomic_store(&slow_goes_on, true);
    tp_thread_join(&slow_thread);
}

#endif
