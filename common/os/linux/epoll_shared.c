/*
 * Work that any worker may take: posts without a socket, and accepting. None of it depends on one
 * worker, because any worker may be blocked.
 *
 * Any thread adds work, and workers take it. The port owns two lists under one mutex, which is not
 * held while a `done` runs. Sending, receiving and releasing use neither list.
 *   tasks    posts without a socket, and the ends of listeners, in the order in which they came
 *   accepts  the accept ops of listeners at which a connection waits (epoll_accept.c)
 * A worker takes one entry at a time, so that a `done` that blocks delays no other entry.
 *
 * WHICH WORKER IS WOKEN. A thread that adds an entry wakes one sleeping worker. A worker that takes
 * an entry and leaves others wakes the next. If no worker sleeps, all are awake, and each of them
 * looks at the lists before it runs anything of its own, and again before it sleeps.
 *
 * NO LOST WAKE-UP. A thread that adds an entry raises `waiting` and then reads which workers are
 * asleep. A worker announces that it is asleep (`posts`, epoll_ready.c) and then reads `waiting`.
 * All four accesses are sequentially consistent, so one of the two sees the other.
 * tests/model/rouse.pml explores all interleavings.
 *
 * WHICH WORKER ACCEPTS. The worker that accepts a connection serves it for life, so the workers
 * with the fewest sockets come first: for GRACE_MS an accept is reserved for them. After that any
 * worker takes it, and the workers that it was reserved for and that are awake are marked
 * `unresponsive` until they run again. No accept is reserved for an unresponsive worker.
 *
 * WATCHERS. While an entry is reserved for workers that may block before they take it, or a retry
 * is due later, the sleep of some worker is limited to that time: this worker is a watcher. A
 * worker that finds such an entry and has work of its own to run first wakes another worker, unless
 * there is a watcher. A second watcher sleeps a little longer than the first one; more are not
 * needed.
 */
#include "os/clock.h"
#include "os/linux/epoll_port.h"

enum {
    SHARED_BUDGET = 32, /* entries that one dispatch takes before the worker's own connections */
    GRACE_MS = 30,      /* how long an accept is reserved for the workers with the fewest sockets */
    STAND_IN_MS = 10,   /* how much longer the second watcher sleeps than the first */
    WATCHERS = 2,
    BURST_SLACK = 8, /* how many more sockets a worker may have while several connections wait */
};

/* ---- waking ---------------------------------------------------------------------------------- */

/* The sleeping worker with the fewest sockets, or NULL. (The calling thread's own worker is
 * awake.) */
static epoll_worker *least_loaded_asleep(epoll_port *port) {
    epoll_worker *least = NULL;
    unsigned fewest = 0;
    for (unsigned i = 0; i < port->head.workers; i++) {
        epoll_worker *worker = &port->workers[i];
        if (!tp__epoll_is_asleep(worker)) {
            continue;
        }
        unsigned sockets = atomic_load_explicit(&worker->sockets, memory_order_relaxed);
        if (least == NULL || sockets < fewest) {
            fewest = sockets;
            least = worker;
        }
    }
    return least;
}

void tp__epoll_wake_one(epoll_port *port) {
    /* If another thread wakes the worker first, it comes for that thread's entry: wake another. */
    for (;;) {
        epoll_worker *worker = least_loaded_asleep(port);
        if (worker == NULL || tp__epoll_rouse(worker)) {
            return;
        }
    }
}

static bool has_watcher(epoll_port *port) {
    return atomic_load(&port->shared.watchers) > 0;
}

#define NO_WORKER (UINT32_MAX / 2) /* as a number of sockets; a slack may be added to it */

/* The fewest sockets of a worker that is asleep or not unresponsive; NO_WORKER if there is none. */
static unsigned fewest_sockets(epoll_port *port) {
    unsigned fewest = NO_WORKER;
    for (unsigned i = 0; i < port->head.workers; i++) {
        epoll_worker *worker = &port->workers[i];
        if (atomic_load_explicit(&worker->unresponsive, memory_order_relaxed) &&
            !tp__epoll_is_asleep(worker)) {
            continue;
        }
        unsigned sockets = atomic_load_explicit(&worker->sockets, memory_order_relaxed);
        fewest = sockets < fewest ? sockets : fewest;
    }
    return fewest;
}

/* A worker that is awake looks at the lists by itself, so only a sleeping one is woken. */
void tp__epoll_wake_for_accepts(epoll_worker *finder) {
    epoll_port *port = epoll_port_of(finder->head.port);
    unsigned fewest = fewest_sockets(port);
    if (atomic_load_explicit(&finder->sockets, memory_order_relaxed) <= fewest) {
        return; /* they are reserved for the finder itself */
    }
    epoll_worker *worker = least_loaded_asleep(port);
    if (worker != NULL && atomic_load_explicit(&worker->sockets, memory_order_relaxed) <= fewest) {
        (void)tp__epoll_rouse(worker); /* false: it is awake by now */
    }
}

/* Wakes a worker for the accepts that are left, if it may take them now. Otherwise a watcher is
 * enough, so that a burst of connections wakes no worker for nothing. */
static void wake_for_accepts_left(epoll_port *port) {
    epoll_worker *next = least_loaded_asleep(port);
    if (next == NULL) {
        return;
    }
    unsigned most = fewest_sockets(port) + BURST_SLACK;
    if (!has_watcher(port) || atomic_load_explicit(&next->sockets, memory_order_relaxed) <= most) {
        tp__epoll_wake_one(port);
    }
}

void tp__epoll_wake_next(epoll_port *port, epoll_leftover left) {
    if (left == LEFT_TASKS) {
        tp__epoll_wake_one(port);
    } else if (left == LEFT_ACCEPTS) {
        wake_for_accepts_left(port);
    } else if (left == LEFT_RETRY && !has_watcher(port)) {
        tp__epoll_wake_one(port);
    }
}

epoll_leftover tp__epoll_leftover(const epoll_port *port) {
    const epoll_shared *shared = &port->shared;
    if (shared->tasks.first != NULL) {
        return LEFT_TASKS;
    }
    if (shared->accepts.first != NULL) {
        return LEFT_ACCEPTS;
    }
    return atomic_load(&shared->retry_due) != 0 ? LEFT_RETRY : LEFT_NOTHING;
}

/* ---- adding ---------------------------------------------------------------------------------- */

void tp__epoll_share_locked(epoll_port *port, epoll_op *op) {
    epoll_list_push(&port->shared.tasks, op);
    atomic_fetch_add(&port->shared.waiting, 1);
}

void tp__epoll_share(epoll_port *port, epoll_op *op) {
    tp_mutex_lock(&port->shared.mutex);
    tp__epoll_share_locked(port, op);
    tp_mutex_unlock(&port->shared.mutex);
    tp__epoll_wake_one(port);
}

void tp__epoll_offer(epoll_port *port, epoll_listener *listener) {
    listener->offered_ms = tp_clock_ms();
    epoll_list_push(&port->shared.accepts, listener->accept);
    atomic_fetch_add(&port->shared.waiting, 1);
}

void tp__epoll_withdraw(epoll_port *port, epoll_listener *listener) {
    epoll_list others = {NULL, NULL};
    epoll_op *op;
    while ((op = epoll_list_pop(&port->shared.accepts)) != NULL) {
        if (op == listener->accept) {
            atomic_fetch_sub(&port->shared.waiting, 1);
        } else {
            epoll_list_push(&others, op);
        }
    }
    port->shared.accepts = others;
}

/* ---- taking ---------------------------------------------------------------------------------- */

static bool is_overdue(const epoll_listener *listener, uint64_t now) {
    return now >= listener->offered_ms + GRACE_MS;
}

/* May the worker take the listener's accept? It may if the accept is reserved for it, or for no
 * worker any more. */
static bool may_take(epoll_worker *worker, const epoll_listener *listener, uint64_t now) {
    unsigned most = fewest_sockets(epoll_port_of(worker->head.port));
    most += listener->ahead.present ? BURST_SLACK : 0;
    return atomic_load_explicit(&worker->sockets, memory_order_relaxed) <= most ||
           is_overdue(listener, now);
}

/* Marks the workers that an overdue accept was reserved for and that have not come: those that are
 * awake and have fewer sockets than `punctual`, the worker that takes it. On a slow machine a
 * worker may be marked that is not blocked; the mark is removed as soon as it runs. */
static void note_unresponsive(epoll_worker *punctual) {
    epoll_port *port = epoll_port_of(punctual->head.port);
    unsigned mine = atomic_load_explicit(&punctual->sockets, memory_order_relaxed);
    for (unsigned i = 0; i < port->head.workers; i++) {
        epoll_worker *worker = &port->workers[i];
        if (worker != punctual && !tp__epoll_is_asleep(worker) &&
            atomic_load_explicit(&worker->sockets, memory_order_relaxed) < mine) {
            atomic_store_explicit(&worker->unresponsive, true, memory_order_relaxed);
        }
    }
}

/* Takes an accept that the worker may take off the list; NULL: none. Under shared.mutex. */
static epoll_listener *take_accept(epoll_worker *worker) {
    epoll_shared *shared = &epoll_port_of(worker->head.port)->shared;
    uint64_t now = shared->accepts.first != NULL ? tp_clock_ms() : 0;
    for (epoll_op *op = shared->accepts.first; op != NULL; op = op->next) {
        epoll_listener *listener = op->socket->listener;
        if (may_take(worker, listener, now)) {
            if (is_overdue(listener, now)) {
                note_unresponsive(worker);
            }
            tp__epoll_withdraw(epoll_port_of(worker->head.port), listener);
            return listener;
        }
    }
    return NULL;
}

/* Under shared.mutex. */
static epoll_op *take_task(epoll_shared *shared) {
    epoll_op *op = epoll_list_pop(&shared->tasks);
    if (op != NULL) {
        atomic_fetch_sub(&shared->waiting, 1);
    }
    return op;
}

/* Takes and runs one entry; false if there is none that the worker may take. If there are both
 * kinds, it alternates between them. */
static bool take_one(epoll_worker *worker, size_t *ran) {
    epoll_port *port = epoll_port_of(worker->head.port);
    epoll_shared *shared = &port->shared;
    tp_mutex_lock(&shared->mutex);
    bool accept_first = !worker->took_accept || shared->tasks.first == NULL;
    epoll_listener *listener = accept_first ? take_accept(worker) : NULL;
    worker->took_accept = listener != NULL;
    if (listener != NULL) {
        *ran += tp__epoll_accept_one(worker, listener); /* unlocks the mutex */
        return true;
    }
    epoll_op *op = take_task(shared);
    epoll_leftover left = tp__epoll_leftover(port);
    tp_mutex_unlock(&shared->mutex);
    if (op == NULL) {
        return false;
    }
    tp__epoll_wake_next(port, left); /* before a `done` that may block */
    *ran += tp__epoll_run_op(worker, op);
    return true;
}

size_t tp__epoll_run_shared(epoll_worker *worker) {
    epoll_port *port = epoll_port_of(worker->head.port);
    size_t ran = 0;
    unsigned taken = 0;
    /* A worker that always has something to do never sleeps, and looks for due retries here. */
    uint64_t retry_due = atomic_load(&port->shared.retry_due);
    if (TP_UNLIKELY(retry_due != 0)) {
        uint64_t now = tp_clock_ms();
        if (now >= retry_due) {
            tp__epoll_run_retries(port, now);
        }
    }
    while (TP_UNLIKELY(atomic_load(&port->shared.waiting) > 0) && taken < SHARED_BUDGET &&
           take_one(worker, &ran)) {
        taken++;
    }
    bool waits =
        atomic_load(&port->shared.waiting) > 0 || atomic_load(&port->shared.retry_due) != 0;
    if (TP_UNLIKELY(waits) && !has_watcher(port) &&
        (worker->event_count > 0 || worker->ready.first != NULL)) {
        tp__epoll_wake_one(port);
    }
    return ran;
}

/* ---- sleeping -------------------------------------------------------------------------------- */

/* 0 if there is an entry that the worker may take; otherwise how long the first of the other
 * entries may wait, UINT64_MAX: there is none. Under shared.mutex. */
static uint64_t time_to_wait(epoll_worker *worker, uint64_t now) {
    epoll_shared *shared = &epoll_port_of(worker->head.port)->shared;
    uint64_t wait_ms = shared->tasks.first != NULL ? 0 : UINT64_MAX;
    for (epoll_op *op = shared->accepts.first; op != NULL && wait_ms > 0; op = op->next) {
        epoll_listener *listener = op->socket->listener;
        uint64_t left = may_take(worker, listener, now) ? 0 : listener->offered_ms + GRACE_MS - now;
        wait_ms = left < wait_ms ? left : wait_ms;
    }
    return wait_ms;
}

/* The same, for retries as well: when the worker looks next, in milliseconds from now. Runs the
 * retries that are due. */
static uint64_t next_look(epoll_worker *worker) {
    epoll_port *port = epoll_port_of(worker->head.port);
    uint64_t now = tp_clock_ms();
    uint64_t due = atomic_load(&port->shared.retry_due);
    if (due != 0 && due <= now) {
        tp__epoll_run_retries(port, now);
        due = atomic_load(&port->shared.retry_due);
    }
    tp_mutex_lock(&port->shared.mutex);
    uint64_t wait_ms = time_to_wait(worker, now);
    tp_mutex_unlock(&port->shared.mutex);
    uint64_t retry_ms = due > now ? due - now : UINT64_MAX;
    return retry_ms < wait_ms ? retry_ms : wait_ms;
}

static bool has_waiting(epoll_port *port) {
    return atomic_load(&port->shared.waiting) > 0 || atomic_load(&port->shared.retry_due) != 0;
}

bool tp__epoll_may_take(epoll_worker *worker) {
    return TP_UNLIKELY(has_waiting(epoll_port_of(worker->head.port))) && next_look(worker) == 0;
}

int tp__epoll_watch(epoll_worker *worker, int timeout_ms, bool *watches) {
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

void tp__epoll_watched(epoll_worker *worker) {
    atomic_fetch_sub(&epoll_port_of(worker->head.port)->shared.watchers, 1);
}

/* ---- assigning connections ------------------------------------------------------------------- */

/* The worker with the fewest sockets of those that are asleep or not unresponsive; if there are
 * none, of all. */
static epoll_worker *least_loaded(epoll_port *port) {
    unsigned fewest = fewest_sockets(port);
    epoll_worker *least = &port->workers[0];
    for (unsigned i = 0; i < port->head.workers; i++) {
        epoll_worker *worker = &port->workers[i];
        unsigned sockets = atomic_load_explicit(&worker->sockets, memory_order_relaxed);
        if (sockets == fewest) {
            return worker;
        }
        if (sockets < atomic_load_explicit(&least->sockets, memory_order_relaxed)) {
            least = worker;
        }
    }
    return least;
}

epoll_worker *tp__epoll_assign_worker(epoll_port *port) {
    epoll_worker *least = least_loaded(port);
    epoll_worker *asleep = least_loaded_asleep(port);
    unsigned fewest = atomic_load_explicit(&least->sockets, memory_order_relaxed);
    /* A worker that sleeps is not blocked. */
    return asleep != NULL &&
                   atomic_load_explicit(&asleep->sockets, memory_order_relaxed) <= fewest + 1
               ? asleep
               : least;
}
