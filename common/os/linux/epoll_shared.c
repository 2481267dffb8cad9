/*
 * What any worker may do: posts that name no socket, and newcomers. None of it hangs on one worker.
 *
 * Two lists under one mutex, which no callee ever runs with. Neither is on the way of what is sent,
 * received or released.
 *   tasks      in the order in which they were posted;
 *   newcomers  the accepts of listeners where somebody waits (epoll_accept.c).
 * One at a time is taken, so that a callee that blocks keeps nothing but itself.
 *
 * WHO IS CALLED. Who puts something there wakes one worker that sleeps; who takes one and leaves
 * more behind wakes the next. If nobody sleeps, all are awake, and each of them looks here before
 * it runs anything of its own, and again before it sleeps.
 *
 * NO LOST WAKE-UP. Who puts something there raises `waiting` and then reads who is asleep; a worker
 * says that it is asleep (`posts`, epoll_post.c) and then reads `waiting`. All four are
 * sequentially consistent, so one of them sees the other. tests/model/rouse.pml explores it.
 *
 * FOR WHOM NEWCOMERS ARE. Who accepts a connection serves it for life, so those with the fewest
 * sockets come first: for GRACE_MS a newcomer is only theirs. When that is over, anybody takes him,
 * and those who were called and did not come are `late` until they come round: nothing waits for
 * them any more.
 *
 * WATCHERS. As long as something waits for somebody who may block before he comes, some worker's
 * sleep is cut to that time: a watcher's. Who finds such a thing and has work of its own to run
 * first wakes one, if there is none. A second watcher sleeps a little longer than the first; more
 * are not needed.
 */
#include "os/clock.h"
#include "os/linux/epoll_port.h"

enum {
    SHARED_PER_TURN = 32, /* of what is shared; then the worker's own connections have theirs */
    GRACE_MS = 30,
    STAND_IN_MS = 10, /* what the second watcher leaves to the first */
    WATCHERS = 2,
    BURST_SLACK = 8, /* sockets that a worker may have more while many newcomers wait */
};

/* ---- who is called --------------------------------------------------------------------------- */

/* The one with the fewest sockets of those that sleep, this thread's own not counted; or NULL. */
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

void tp__epoll_call_one(epoll_port *port) {
    /* If somebody else wakes it first, it comes for them, and another one has to come for this. */
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

/* The fewest sockets of those who come when they are called. */
#define NO_WORKER (UINT32_MAX / 2) /* as a number of sockets: something may be added to it */

static unsigned fewest_sockets(epoll_port *port) {
    unsigned fewest = NO_WORKER;
    for (unsigned i = 0; i < port->head.workers; i++) {
        epoll_worker *worker = &port->workers[i];
        if (atomic_load_explicit(&worker->late, memory_order_relaxed) &&
            !tp__epoll_is_asleep(worker)) {
            continue;
        }
        unsigned sockets = atomic_load_explicit(&worker->sockets, memory_order_relaxed);
        fewest = sockets < fewest ? sockets : fewest;
    }
    return fewest;
}

/* Calls the one for whom the newcomers are, if it sleeps. If it is awake it comes by itself. */
void tp__epoll_call_for_newcomers(epoll_worker *finder) {
    epoll_port *port = epoll_port_of(finder->head.port);
    unsigned fewest = fewest_sockets(port);
    if (atomic_load_explicit(&finder->sockets, memory_order_relaxed) <= fewest) {
        return; /* the finder itself */
    }
    epoll_worker *worker = least_loaded_asleep(port);
    if (worker != NULL && atomic_load_explicit(&worker->sockets, memory_order_relaxed) <= fewest) {
        (void)tp__epoll_rouse(worker); /* if it fails it is awake */
    }
}

/* For newcomers a watcher does, if nobody for whom they are sleeps: a burst wakes nobody in
 * vain. */
static void call_for_newcomers_left(epoll_port *port) {
    epoll_worker *next = least_loaded_asleep(port);
    if (next == NULL) {
        return;
    }
    unsigned most = fewest_sockets(port) + BURST_SLACK;
    if (!has_watcher(port) || atomic_load_explicit(&next->sockets, memory_order_relaxed) <= most) {
        tp__epoll_call_one(port);
    }
}

void tp__epoll_call_next(epoll_port *port, epoll_leftover left) {
    if (left == LEFT_TASKS) {
        tp__epoll_call_one(port);
    } else if (left == LEFT_NEWCOMERS) {
        call_for_newcomers_left(port);
    } else if (left == LEFT_PAUSE && !has_watcher(port)) {
        tp__epoll_call_one(port);
    }
}

epoll_leftover tp__epoll_leftover(const epoll_port *port) {
    const epoll_shared *shared = &port->shared;
    if (shared->tasks.first != NULL) {
        return LEFT_TASKS;
    }
    if (shared->newcomers.first != NULL) {
        return LEFT_NEWCOMERS;
    }
    return atomic_load(&shared->rest_due) != 0 ? LEFT_PAUSE : LEFT_NOTHING;
}

/* ---- putting --------------------------------------------------------------------------------- */

void tp__epoll_share_locked(epoll_port *port, epoll_op *op) {
    epoll_list_push(&port->shared.tasks, op);
    atomic_fetch_add(&port->shared.waiting, 1);
}

void tp__epoll_share(epoll_port *port, epoll_op *op) {
    tp_mutex_lock(&port->shared.mutex);
    tp__epoll_share_locked(port, op);
    tp_mutex_unlock(&port->shared.mutex);
    tp__epoll_call_one(port);
}

void tp__epoll_offer(epoll_port *port, epoll_listener *listener) {
    listener->offered_ms = tp_clock_ms();
    epoll_list_push(&port->shared.newcomers, listener->accept);
    atomic_fetch_add(&port->shared.waiting, 1);
}

void tp__epoll_withdraw(epoll_port *port, epoll_listener *listener) {
    epoll_list others = {NULL, NULL};
    epoll_op *op;
    while ((op = epoll_list_pop(&port->shared.newcomers)) != NULL) {
        if (op == listener->accept) {
            atomic_fetch_sub(&port->shared.waiting, 1);
        } else {
            epoll_list_push(&others, op);
        }
    }
    port->shared.newcomers = others;
}

/* ---- taking ---------------------------------------------------------------------------------- */

static bool is_overdue(const epoll_listener *listener, uint64_t now) {
    return now >= listener->offered_ms + GRACE_MS;
}

static bool is_for(epoll_worker *worker, const epoll_listener *listener, uint64_t now) {
    unsigned most = fewest_sockets(epoll_port_of(worker->head.port));
    most += listener->ahead.there ? BURST_SLACK : 0;
    return atomic_load_explicit(&worker->sockets, memory_order_relaxed) <= most ||
           is_overdue(listener, now);
}

/* They were called, or came round as others do; it is nobody's fault but a slow machine's if they
 * are not blocked, and then they are late for a moment only. */
static void note_late(epoll_worker *punctual) {
    epoll_port *port = epoll_port_of(punctual->head.port);
    unsigned mine = atomic_load_explicit(&punctual->sockets, memory_order_relaxed);
    for (unsigned i = 0; i < port->head.workers; i++) {
        epoll_worker *worker = &port->workers[i];
        if (worker != punctual && !tp__epoll_is_asleep(worker) &&
            atomic_load_explicit(&worker->sockets, memory_order_relaxed) < mine) {
            atomic_store_explicit(&worker->late, true, memory_order_relaxed);
        }
    }
}

/* With the mutex: one that is for this worker, taken off the list; or NULL. */
static epoll_listener *take_newcomer(epoll_worker *worker) {
    epoll_shared *shared = &epoll_port_of(worker->head.port)->shared;
    uint64_t now = shared->newcomers.first != NULL ? tp_clock_ms() : 0;
    for (epoll_op *op = shared->newcomers.first; op != NULL; op = op->next) {
        epoll_listener *listener = op->socket->listener;
        if (is_for(worker, listener, now)) {
            if (is_overdue(listener, now)) {
                note_late(worker);
            }
            tp__epoll_withdraw(epoll_port_of(worker->head.port), listener);
            return listener;
        }
    }
    return NULL;
}

/* With the mutex. */
static epoll_op *take_task(epoll_shared *shared) {
    epoll_op *op = epoll_list_pop(&shared->tasks);
    if (op != NULL) {
        atomic_fetch_sub(&shared->waiting, 1);
    }
    return op;
}

/* False: nothing is there that this worker may take. By turns, if both kinds are there. */
static bool take_one(epoll_worker *worker, size_t *ran) {
    epoll_port *port = epoll_port_of(worker->head.port);
    epoll_shared *shared = &port->shared;
    tp_mutex_lock(&shared->mutex);
    bool newcomer_first = !worker->took_newcomer || shared->tasks.first == NULL;
    epoll_listener *listener = newcomer_first ? take_newcomer(worker) : NULL;
    worker->took_newcomer = listener != NULL;
    if (listener != NULL) {
        *ran += tp__epoll_accept_one(worker, listener); /* gives the mutex back */
        return true;
    }
    epoll_op *op = take_task(shared);
    epoll_leftover left = tp__epoll_leftover(port);
    tp_mutex_unlock(&shared->mutex);
    if (op == NULL) {
        return false;
    }
    tp__epoll_call_next(port, left); /* before a callee that may block */
    *ran += tp__epoll_run_op(worker, op);
    return true;
}

size_t tp__epoll_run_shared(epoll_worker *worker) {
    epoll_port *port = epoll_port_of(worker->head.port);
    size_t ran = 0;
    unsigned taken = 0;
    /* A worker that always has something to do does not come to look before it sleeps. */
    uint64_t rest_due = atomic_load(&port->shared.rest_due);
    if (TP_UNLIKELY(rest_due != 0)) {
        uint64_t now = tp_clock_ms();
        if (now >= rest_due) {
            tp__epoll_end_rests(port, now);
        }
    }
    while (TP_UNLIKELY(atomic_load(&port->shared.waiting) > 0) && taken < SHARED_PER_TURN &&
           take_one(worker, &ran)) {
        taken++;
    }
    bool waits = atomic_load(&port->shared.waiting) > 0 || atomic_load(&port->shared.rest_due) != 0;
    if (TP_UNLIKELY(waits) && !has_watcher(port) &&
        (worker->event_count > 0 || worker->ready.first != NULL)) {
        tp__epoll_call_one(port);
    }
    return ran;
}

/* ---- sleeping -------------------------------------------------------------------------------- */

/* What is there for this worker, with the mutex: 0; or how long something else may wait. */
static uint64_t time_to_wait(epoll_worker *worker, uint64_t now) {
    epoll_shared *shared = &epoll_port_of(worker->head.port)->shared;
    uint64_t wait_ms = shared->tasks.first != NULL ? 0 : UINT64_MAX;
    for (epoll_op *op = shared->newcomers.first; op != NULL && wait_ms > 0; op = op->next) {
        epoll_listener *listener = op->socket->listener;
        uint64_t left = is_for(worker, listener, now) ? 0 : listener->offered_ms + GRACE_MS - now;
        wait_ms = left < wait_ms ? left : wait_ms;
    }
    return wait_ms;
}

/* The same for what rests as well. */
static uint64_t look(epoll_worker *worker) {
    epoll_port *port = epoll_port_of(worker->head.port);
    uint64_t now = tp_clock_ms();
    uint64_t due = atomic_load(&port->shared.rest_due);
    if (due != 0 && due <= now) {
        tp__epoll_end_rests(port, now);
        due = atomic_load(&port->shared.rest_due);
    }
    tp_mutex_lock(&port->shared.mutex);
    uint64_t wait_ms = time_to_wait(worker, now);
    tp_mutex_unlock(&port->shared.mutex);
    uint64_t rest_ms = due > now ? due - now : UINT64_MAX;
    return rest_ms < wait_ms ? rest_ms : wait_ms;
}

static bool anything_waits(epoll_port *port) {
    return atomic_load(&port->shared.waiting) > 0 || atomic_load(&port->shared.rest_due) != 0;
}

bool tp__epoll_may_take(epoll_worker *worker) {
    return TP_UNLIKELY(anything_waits(epoll_port_of(worker->head.port))) && look(worker) == 0;
}

int tp__epoll_watch(epoll_worker *worker, int timeout_ms, bool *watches) {
    epoll_port *port = epoll_port_of(worker->head.port);
    if (TP_LIKELY(!anything_waits(port))) {
        return timeout_ms;
    }
    uint64_t limit_ms = look(worker);
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

/* ---- placing --------------------------------------------------------------------------------- */

/* The fewest sockets of all who come when they are called; if nobody does, of all. */
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

epoll_worker *tp__epoll_place(epoll_port *port) {
    epoll_worker *least = least_loaded(port);
    epoll_worker *asleep = least_loaded_asleep(port);
    unsigned fewest = atomic_load_explicit(&least->sockets, memory_order_relaxed);
    /* Who sleeps is not blocked. */
    return asleep != NULL &&
                   atomic_load_explicit(&asleep->sockets, memory_order_relaxed) <= fewest + 1
               ? asleep
               : least;
}
