/*
 * Waiting: what ends a wait, and what is looked at even if the kernel has no completion.
 *
 * Runs on the worker's thread; writes only the worker.
 *
 * A wait is cut into slices of a second, because two things happen without a completion: a
 * listener's retry becomes due, and a request goes on the overflow list because the kernel had no
 * memory for a packet. A worker that is waiting already finds them at the end of its slice; a
 * worker that begins to wait finds them at once. One look per second costs an idle worker nothing
 * that could be measured.
 */
#include "os/clock.h"
#include "os/error.h"
#include "os/win32/iocp_port.h"

#define SLICE_MS 1000

/* True once for each wake. */
static bool was_woken(iocp_worker *worker) {
    return atomic_load(&worker->woken) && atomic_exchange(&worker->woken, false);
}

/* How long to block in the kernel, in milliseconds. `left_ms`: what is left of the caller's
 * time-out; UINT64_MAX: no limit. */
static DWORD wait_slice(const iocp_worker *worker, uint64_t left_ms, uint64_t now) {
    if (worker->ready_first != NULL) {
        return 0;
    }
    uint64_t limit = left_ms < SLICE_MS ? left_ms : SLICE_MS;
    uint64_t due = atomic_load_explicit(&iocp_port_of(worker)->retry_due, memory_order_relaxed);
    if (due != 0) {
        uint64_t until = due > now ? due - now : 0;
        limit = until < limit ? until : limit;
    }
    return (DWORD)limit;
}

/* Takes what has become due without a completion: the overflow list, and retries. */
static void take_due(iocp_worker *worker, uint64_t now) {
    iocp_port *port = iocp_port_of(worker);
    if (TP_UNLIKELY(atomic_load_explicit(&port->overflow, memory_order_relaxed) != NULL)) {
        tp__iocp_take_overflow(worker);
    }
    uint64_t due = atomic_load_explicit(&port->retry_due, memory_order_relaxed);
    if (TP_UNLIKELY(due != 0 && due <= now)) {
        tp__iocp_run_retries(worker, now);
    }
}

tp_err tp__iocp_wait(tp_worker *head, int timeout_ms) {
    iocp_worker *worker = (iocp_worker *)(void *)head;
    DWORD self = GetCurrentThreadId();
    if (TP_UNLIKELY(atomic_load_explicit(&worker->thread_id, memory_order_relaxed) != self)) {
        atomic_store(&worker->thread_id, self); /* before `woken` is read: see iocp_port.c */
    }
    if (worker->taken > 0) { /* by an earlier wait, and not dispatched yet */
        return TP_OK;
    }
    uint64_t begun = tp_clock_ms();
    uint64_t now = begun;
    for (;;) {
        take_due(worker, now);
        if (was_woken(worker) || tp__iocp_has_shared(iocp_port_of(worker))) {
            return TP_OK;
        }
        uint64_t left = UINT64_MAX;
        if (timeout_ms >= 0) {
            uint64_t allowed = (uint64_t)timeout_ms;
            left = now - begun < allowed ? allowed - (now - begun) : 0;
        }
        if (GetQueuedCompletionStatusEx(iocp_port_of(worker)->kernel, worker->entries, IOCP_ENTRIES,
                &worker->taken, wait_slice(worker, left, now), TRUE)) {
            return TP_OK;
        }
        DWORD error = GetLastError();
        worker->taken = 0;
        if (error != WAIT_TIMEOUT && error != WAIT_IO_COMPLETION) {
            return tp_os_fail((int)error);
        }
        if (worker->ready_first != NULL) {
            return TP_OK;
        }
        if (error == WAIT_TIMEOUT && left == 0) {
            (void)tp_os_fail(0);
            return TP_ERR_TIMED_OUT;
        }
        now = tp_clock_ms();
    }
}
