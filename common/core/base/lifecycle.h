/*
 * The lifecycle of a part that is started, stopped and started again: the hub, the gate, lanclient.
 *
 *     start      a start begins; TP_ERR_STATE until a wait has seen the end of the last run
 *     started    the start has ended, well or not; a stop that came meanwhile is carried out now
 *     stop       a stop is requested: the drain begins, which the owner carries out
 *     end        the drain is over, and the owner has begun the last step
 *     wait       waits for the drain and for the last step; then the run is over
 *
 * Any thread. The owner's mutex guards all fields; each function but tp__lifecycle_wait() is called
 * under it. The owner makes its own changes of state under the same lock as these calls. Otherwise
 * one thread's stop could be delayed until others have ended the run and started the next one.
 *
 * Invariants: starting only while started; ending only while stopping.
 */
#ifndef TWINPORT_CORE_BASE_LIFECYCLE_H
#define TWINPORT_CORE_BASE_LIFECYCLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "os/thread.h"
#include "twinport/error.h"

typedef struct tp__lifecycle {
    tp_mutex *mutex; /* the owner's */
    tp_condition changed;
    uint64_t number; /* of runs: a wait that is late does not end the next one */
    bool started;    /* from tp__lifecycle_start() until the run is over */
    bool starting;   /* until tp__lifecycle_started() */
    bool ending;     /* from tp__lifecycle_end() until the next start */
    /* From tp__lifecycle_stop() until the next start; also read without the mutex. An owner that is
     * being destroyed may set it too. */
    _Atomic bool stopping;
    uint64_t drain_by_ms;
    uint64_t end_by_ms; /* UINT64_MAX: the last step has its own limit */
} tp__lifecycle;

void tp__lifecycle_init(tp__lifecycle *lifecycle, tp_mutex *mutex);
void tp__lifecycle_destroy(tp__lifecycle *lifecycle);

/* TP_ERR_STATE: the last run is not over. */
tp_err tp__lifecycle_start(tp__lifecycle *lifecycle);

/* `runs` false: the start has failed, and the run is over. True: a stop was requested during the
 * start, and its last step is due. */
bool tp__lifecycle_started(tp__lifecycle *lifecycle, bool runs);

/* Requests a stop with these limits. In a stop that was requested before, they can only bring its
 * limits forward. True: this is the first request of this run. False also if nothing runs. */
bool tp__lifecycle_stop(tp__lifecycle *lifecycle, uint64_t drain_by_ms, uint64_t end_by_ms);

void tp__lifecycle_end(tp__lifecycle *lifecycle);

/* A stop has been requested, and no start has followed. With or without the mutex. */
static inline bool tp__lifecycle_stopping(const tp__lifecycle *lifecycle) {
    return atomic_load_explicit(&lifecycle->stopping, memory_order_relaxed);
}

/* What a wait needs of the owner. `wait` waits for the end of the last step, without the mutex;
 * after TP_OK the run is over, and `over` (may be NULL) is called under the mutex. */
typedef struct tp__lifecycle_owner {
    void *owner;
    tp_err (*wait)(void *owner, int timeout_ms);
    void (*over)(void *owner);
} tp__lifecycle_owner;

/*
 * Waits until the run is over, at most timeout_ms (-1: for ever). Takes the mutex. A start that is
 * under way is waited for; if it fails, there is nothing left to stop.
 *
 * TP_ERR_STATE (no stop was requested), TP_ERR_TIMED_OUT, or the error of `wait`.
 */
tp_err tp__lifecycle_wait(
    tp__lifecycle *lifecycle, int timeout_ms, const tp__lifecycle_owner *owner);

/* The first invariant that does not hold, or NULL. */
const char *tp__lifecycle_check(const tp__lifecycle *lifecycle);

#endif
