/*
 * The lifecycle of a part that is started and stopped. Any thread; the state belongs to the owner.
 */
#include "core/base/lifecycle.h"

#include <assert.h>

#include "core/base/deadline.h"
#include "core/base/invariant.h"

void tp__lifecycle_init(tp__lifecycle *lifecycle, tp_mutex *mutex) {
    *lifecycle = (tp__lifecycle){.mutex = mutex};
    tp_condition_init(&lifecycle->changed);
}

void tp__lifecycle_destroy(tp__lifecycle *lifecycle) {
    tp_condition_destroy(&lifecycle->changed);
}

const char *tp__lifecycle_check(const tp__lifecycle *lifecycle) {
    TP_ASSERT_LOCKED(lifecycle->mutex);
    TP__INVARIANT(lifecycle->started || !lifecycle->starting);
    TP__INVARIANT(tp__lifecycle_stopping(lifecycle) || !lifecycle->ending);
    return NULL;
}

/* ---- start ----------------------------------------------------------------------------------- */

tp_err tp__lifecycle_start(tp__lifecycle *lifecycle) {
    TP_ASSERT_LOCKED(lifecycle->mutex);
    if (lifecycle->started) {
        return TP_ERR_STATE;
    }
    lifecycle->number++;
    lifecycle->started = true;
    lifecycle->starting = true;
    lifecycle->ending = false;
    atomic_store_explicit(&lifecycle->stopping, false, memory_order_relaxed);
    TP__VERIFY(tp__lifecycle_check(lifecycle));
    return TP_OK;
}

bool tp__lifecycle_started(tp__lifecycle *lifecycle, bool runs) {
    TP_ASSERT_LOCKED(lifecycle->mutex);
    assert(lifecycle->started && lifecycle->starting);
    lifecycle->starting = false;
    lifecycle->started = runs;
    tp_condition_wake_all(&lifecycle->changed);
    return runs && tp__lifecycle_stopping(lifecycle);
}

/* ---- stop ------------------------------------------------------------------------------------ */

static uint64_t earlier_of(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

bool tp__lifecycle_stop(tp__lifecycle *lifecycle, uint64_t drain_by_ms, uint64_t end_by_ms) {
    TP_ASSERT_LOCKED(lifecycle->mutex);
    if (!lifecycle->started) {
        return false;
    }
    bool first = !tp__lifecycle_stopping(lifecycle);
    lifecycle->drain_by_ms = first ? drain_by_ms : earlier_of(drain_by_ms, lifecycle->drain_by_ms);
    lifecycle->end_by_ms = first ? end_by_ms : earlier_of(end_by_ms, lifecycle->end_by_ms);
    atomic_store_explicit(&lifecycle->stopping, true, memory_order_relaxed);
    return first;
}

void tp__lifecycle_end(tp__lifecycle *lifecycle) {
    TP_ASSERT_LOCKED(lifecycle->mutex);
    lifecycle->ending = true;
    TP__VERIFY(tp__lifecycle_check(lifecycle));
    tp_condition_wake_all(&lifecycle->changed);
}

/* ---- wait ------------------------------------------------------------------------------------ */

/* The stop of run `number` has been requested, and the run is not over. */
static bool lifecycle_is_stopping(const tp__lifecycle *lifecycle, uint64_t number) {
    return lifecycle->number == number && lifecycle->started && tp__lifecycle_stopping(lifecycle);
}

static bool lifecycle_is_draining(const tp__lifecycle *lifecycle, uint64_t number) {
    return lifecycle_is_stopping(lifecycle, number) && (lifecycle->starting || !lifecycle->ending);
}

/* `wait` has seen the end of run `number`. Another thread may have seen it before, and started the
 * next run. */
static void lifecycle_set_over(
    tp__lifecycle *lifecycle, uint64_t number, const tp__lifecycle_owner *owner) {
    tp_mutex_lock(lifecycle->mutex);
    if (lifecycle_is_stopping(lifecycle, number)) {
        lifecycle->started = false;
        if (owner->over) {
            owner->over(owner->owner);
        }
    }
    tp_mutex_unlock(lifecycle->mutex);
}

tp_err tp__lifecycle_wait(
    tp__lifecycle *lifecycle, int timeout_ms, const tp__lifecycle_owner *owner) {
    uint64_t since = tp_clock_ms();
    tp_mutex_lock(lifecycle->mutex);
    uint64_t number = lifecycle->number;
    bool requested = lifecycle_is_stopping(lifecycle, number);
    int left = timeout_ms;
    while (lifecycle_is_draining(lifecycle, number) && left != 0) {
        tp_condition_wait(&lifecycle->changed, lifecycle->mutex, left);
        left = tp__left_of(timeout_ms, since);
    }
    bool over = !lifecycle_is_stopping(lifecycle, number);
    bool draining = lifecycle_is_draining(lifecycle, number);
    tp_mutex_unlock(lifecycle->mutex);
    if (over) {
        return requested ? TP_OK : TP_ERR_STATE;
    }
    tp_err error = draining ? TP_ERR_TIMED_OUT : owner->wait(owner->owner, left);
    if (!error) {
        lifecycle_set_over(lifecycle, number, owner);
    }
    return error;
}
