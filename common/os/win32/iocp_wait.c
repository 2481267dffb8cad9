/*
 * Waiting: what ends it, and what has to be looked at even when the kernel has nothing.
 *
 * Runs on the worker's thread; writes only the worker.
 *
 * A wait is cut into slices of a second. Two things happen without a completion: a retry of a
 * listener comes due, and a request is put on the late list because the kernel had no memory for a
 * packet. Whoever waits already then finds them at the end of its slice; whoever comes to wait
 * finds them at once. An idle worker's look per second costs nothing that could be measured.
 */
#include "os/clock.h"
#include "os/error.h"
#include "os/win32/iocp.h"

#define SLICE_MS 1000

/* True once per wake. */
static bool was_woken(iocp_worker *worker) {
    return atomic_load(&worker->woken) && atomic_exchange(&worker->woken, false);
}

/* How long to block in the kernel: `left_ms` of the caller's time (UINT64_MAX: any). */
static DWORD slice(const iocp_worker *worker, uint64_t left_ms, uint64_t now) {
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

/* What has become due without the kernel. */
static void look_around(iocp_worker *worker, uint64_t now) {
    iocp_port *port = iocp_port_of(worker);
    if (TP_UNLIKELY(atomic_load_explicit(&port->late, memory_order_relaxed) != NULL)) {
        tp__iocp_take_late(worker);
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
        atomic_store(&worker->thread_id, self); /* before `woken` is looked at: see wake() */
    }
    if (worker->taken > 0) { /* found before, not yet dispatched */
        return TP_OK;
    }
    uint64_t begun = tp_clock_ms();
    uint64_t now = begun;
    for (;;) {
        look_around(worker, now);
        if (was_woken(worker) || tp__iocp_has_shared(iocp_port_of(worker))) {
            return TP_OK;
        }
        uint64_t left = UINT64_MAX;
        if (timeout_ms >= 0) {
            uint64_t allowed = (uint64_t)timeout_ms;
            left = now - begun < allowed ? allowed - (now - begun) : 0;
        }
        if (GetQueuedCompletionStatusEx(iocp_port_of(worker)->kernel, worker->entries, IOCP_ENTRIES,
                &worker->taken, slice(worker, left, now), TRUE)) {
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
