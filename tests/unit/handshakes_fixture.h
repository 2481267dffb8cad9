/*
 * Jobs for the handshake threads that record when and where they ran. One translation unit per
 * program.
 */
#ifndef TWINPORT_TESTS_HANDSHAKES_FIXTURE_H
#define TWINPORT_TESTS_HANDSHAKES_FIXTURE_H

#include "check.h"

#include "core/memory/memory.h"
#include "os/clock.h"
#include "os/thread.h"
#include "wanserver/handshake/handshakes.h"

typedef struct job {
    atomic_uint runs;
    atomic_uint deliveries;
    atomic_uint drops;
    uint64_t thread;     /* that ran the job */
    unsigned order;      /* in which the jobs ran, from 1 */
    unsigned position;   /* its position in the batch that it was delivered with, from 1 */
    unsigned batch_size; /* the size of that batch */
} job;

static atomic_uint begun;         /* jobs that run or have run */
static atomic_uint ended;         /* jobs that have run and were delivered */
static atomic_bool blocked;       /* while set, jobs do not end */
static atomic_bool blocked_alone; /* while this is set too, only the first one does not */

static inline void run(void *context) {
    job *it = context;
    it->order = atomic_fetch_add(&begun, 1) + 1;
    it->thread = tp_thread_id();
    while (atomic_load(&blocked) && (it->order == 1 || !atomic_load(&blocked_alone))) {
        tp_thread_yield();
    }
    atomic_fetch_add(&it->runs, 1);
}

static inline void deliver(void *const *contexts, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        job *it = contexts[i];
        it->position = i + 1;
        it->batch_size = count;
        CHECK_EQ(it->thread, tp_thread_id());
        CHECK_EQ(atomic_fetch_add(&it->deliveries, 1) + 1, atomic_load(&it->runs));
        atomic_fetch_add(&ended, 1);
    }
}

static inline void drop(void *context) {
    job *it = context;
    atomic_fetch_add(&it->drops, 1);
}

#define LONG_MS 3600000u

static inline tp__handshakes_options options_of(unsigned threads, unsigned queue) {
    return (tp__handshakes_options){.threads = threads,
        .queue = queue,
        .priority = TP_HANDSHAKE_NORMAL,
        .batch_ms = LONG_MS,
        .run = run,
        .deliver = deliver,
        .drop = drop};
}

static inline tp__handshakes *make_of(const tp__handshakes_options *options) {
    tp__handshakes *handshakes = NULL;
    REQUIRE(tp__handshakes_create(options, &handshakes) == TP_OK);
    atomic_store(&begun, 0);
    atomic_store(&ended, 0);
    atomic_store(&blocked, false);
    return handshakes;
}

static inline tp__handshakes *make(unsigned threads, unsigned queue) {
    tp__handshakes_options options = options_of(threads, queue);
    return make_of(&options);
}

/* No time-out of its own: ctest's is the limit. */
static inline void wait_until(const atomic_uint *count, unsigned value) {
    while (atomic_load(count) < value) {
        tp_thread_yield();
    }
}

#endif
