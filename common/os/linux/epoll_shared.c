/*
 * Work that any worker may take: posts without a socket, and accepting. None of it depends on one
 * worker, because any worker may be blocked.
 *
 * Any thread adds work, and workers take it and run it (epoll_dispatch.c). The port owns two lists
 * under one mutex, which is not held while a `done` runs. Sending, receiving and releasing use
 * neither list.
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
 * is due later, the sleep of some worker is limited to that time (epoll_wait.c): this worker is a
 * watcher. A worker that finds such an entry and has work of its own to run first wakes another
 * worker, unless there is a watcher.
 */
#include "os/clock.h"
#include "os/linux/epoll_listener.h"

enum {
    GRACE_MS = 30,   /* how long an accept is reserved for the workers with the fewest sockets */
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

void tp__epoll_wake_watcher(epoll_port *port) {
    if (!has_watcher(port)) {
        tp__epoll_wake_one(port);
    }
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
    } else if (left == LEFT_RETRY) {
        tp__epoll_wake_watcher(port);
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

epoll_listener *tp__epoll_take_accept(epoll_worker *worker) {
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

epoll_op *tp__epoll_take_task(epoll_shared *shared) {
    epoll_op *op = epoll_list_pop(&shared->tasks);
    if (op != NULL) {
        atomic_fetch_sub(&shared->waiting, 1);
    }
    return op;
}

uint64_t tp__epoll_shared_delay(epoll_worker *worker, uint64_t now) {
    epoll_shared *shared = &epoll_port_of(worker->head.port)->shared;
    uint64_t wait_ms = shared->tasks.first != NULL ? 0 : UINT64_MAX;
    for (epoll_op *op = shared->accepts.first; op != NULL && wait_ms > 0; op = op->next) {
        epoll_listener *listener = op->socket->listener;
        uint64_t left = may_take(worker, listener, now) ? 0 : listener->offered_ms + GRACE_MS - now;
        wait_ms = left < wait_ms ? left : wait_ms;
    }
    return wait_ms;
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
