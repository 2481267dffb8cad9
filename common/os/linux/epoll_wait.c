/*
 * Waiting: fetches a batch of events.
 *
 * Runs on the worker's thread; writes the worker and the port's count of watchers, and through
 * epoll_retries.c and epoll_shared.c what the workers share. A watcher
 * is a worker whose sleep is limited for the sake of shared work (epoll_shared.c). A second watcher
 * sleeps a little longer than the first one; more are not needed.
 */
#include <errno.h>

#include "os/clock.h"
#include "os/error.h"
#include "os/linux/epoll_listener.h"

enum {
    WATCHERS = 2,
    STAND_IN_MS = 10, /* how much longer the second watcher sleeps than the first */
};

/* ---- shared work ----------------------------------------------------------------------------- */

/* When the worker looks for shared work next, in milliseconds from now; 0: there is an entry that
 * it may take. Runs the retries that are due. */
static uint64_t next_look(epoll_worker *worker) {
    epoll_port *port = epoll_port_of(worker->head.port);
    uint64_t now = tp_clock_ms();
    uint64_t due = atomic_load(&port->shared.retry_due);
    if (due != 0 && due <= now) {
        tp__epoll_run_retries(port, now);
        due = atomic_load(&port->shared.retry_due);
    }
    tp_mutex_lock(&port->shared.mutex);
    uint64_t wait_ms = tp__epoll_shared_delay(worker, now);
    tp_mutex_unlock(&port->shared.mutex);
    uint64_t retry_ms = due > now ? due - now : UINT64_MAX;
    return retry_ms < wait_ms ? retry_ms : wait_ms;
}

static bool has_waiting(epoll_port *port) {
    return atomic_load(&port->shared.waiting) > 0 || atomic_load(&port->shared.retry_due) != 0;
}

/* How long the worker may sleep, at most `timeout_ms`, considering the shared work. If the sleep is
 * limited for its sake, *watches is set, and the worker counts as a watcher. */
static int limit_sleep(epoll_worker *worker, int timeout_ms, bool *watches) {
    epoll_port *port = epoll_port_of(worker->head.port);
    if (TP_LIKELY(!has_waiting(port))) {
        return timeout_ms;
    }
    uint64_t limit_ms = next_look(worker);
    unsigned others = atomic_load(&port->shared.watchers);
    if (limit_ms == 0) {
        return 0;
    }
    if (limit_ms == UINT64_MAX || others >= WATCHERS) {
        return timeout_ms;
    }
    limit_ms += others * STAND_IN_MS;
    if (timeout_ms >= 0 && limit_ms >= (uint64_t)timeout_ms) {
        return timeout_ms;
    }
    *watches = true;
    atomic_fetch_add(&port->shared.watchers, 1);
    return (int)limit_ms;
}

/* True if there is a shared entry that the worker may take now. */
static bool has_shared_work(epoll_worker *worker) {
    return TP_UNLIKELY(has_waiting(epoll_port_of(worker->head.port))) && next_look(worker) == 0;
}

/* ---- the wait -------------------------------------------------------------------------------- */

static bool has_work(epoll_worker *worker) {
    return worker->ready.first != NULL || worker->later.first != NULL ||
           tp__epoll_has_posts(worker) || has_shared_work(worker);
}

/* Removes the events of listeners from the batch and puts their accepts on the shared list, so that
 * any free worker takes the connections, and they do not wait for this worker. */
static void note_listeners(epoll_worker *worker) {
    bool readable = false;
    unsigned kept = 0;
    for (unsigned i = 0; i < worker->event_count; i++) {
        if (TP_UNLIKELY(worker->events[i].data.ptr == &tp__epoll_listener_mark)) {
            readable = true;
        } else if (kept++ != i) {
            worker->events[kept - 1] = worker->events[i];
        }
    }
    worker->event_count = kept;
    if (TP_UNLIKELY(readable)) {
        tp__epoll_listeners_readable(worker);
    }
}

/* Fetches events, and sleeps for up to *limit_ms, which is at most `timeout_ms`. Returns the number
 * of events, or -1 with errno. */
static int sleep_and_fetch(epoll_worker *worker, int timeout_ms, int *limit_ms) {
    bool watches = false;
    *limit_ms = timeout_ms;
    if (has_work(worker) || (timeout_ms != 0 && !tp__epoll_fall_asleep(worker))) {
        *limit_ms = 0;
    } else if (timeout_ms != 0) {
        *limit_ms = limit_sleep(worker, timeout_ms, &watches);
    }
    int count = epoll_wait(worker->epoll, worker->events, EVENTS_AT_ONCE, *limit_ms);
    tp__epoll_awake(worker);
    if (TP_UNLIKELY(watches)) {
        atomic_fetch_sub(&epoll_port_of(worker->head.port)->shared.watchers, 1);
    }
    return count;
}

tp_err tp__epoll_wait(tp_worker *head, int timeout_ms) {
    epoll_worker *worker = epoll_worker_of(head);
    worker->waited = true;
    if (TP_UNLIKELY(worker->event_count > 0)) {
        return TP_OK; /* the last batch is not dispatched yet, and an edge is never fetched twice */
    }
    for (;;) {
        int limit_ms;
        int count = sleep_and_fetch(worker, timeout_ms, &limit_ms);
        if (TP_LIKELY(count > 0)) {
            worker->event_count = (unsigned)count;
            note_listeners(worker);
            return TP_OK;
        }
        if (count < 0) {
            /* A signal ends the wait as tp_port_wake() does. To continue the wait, the time left
             * would be needed, and every wait would read the clock. */
            return errno == EINTR ? TP_OK : tp_os_fail_last();
        }
        if (has_work(worker)) {
            return TP_OK;
        }
        if (limit_ms == timeout_ms) {
            (void)tp_os_fail(0);
            return TP_ERR_TIMED_OUT;
        }
        if (timeout_ms > 0) { /* it was a watcher, and another worker has done the work */
            timeout_ms -= limit_ms;
        }
    }
}
