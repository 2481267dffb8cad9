/*
 * Dispatching: runs shared work, handles the batch of events that the wait has fetched, and runs
 * the ready list.
 *
 * Runs on the worker's thread. It stands above the operations: it calls them by the kind of an op
 * or an event, and none of them calls back. See epoll_port.h for why closing is safe.
 */
#include <assert.h>

#include "os/clock.h"
#include "os/linux/epoll_listener.h"

enum {
    READY_BUDGET = 1024, /* ready ops that one dispatch runs before new events are fetched */
    SHARED_BUDGET = 32,  /* shared entries that it takes before the worker's own connections */
};

static const uint32_t input_events = EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR;
static const uint32_t end_events = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
static const uint32_t output_events = EPOLLOUT | EPOLLHUP | EPOLLERR;

/* ---- events ---------------------------------------------------------------------------------- */

/* Acts on one event; returns how many `done` ran. */
static size_t on_event(epoll_worker *worker, epoll_socket *socket, uint32_t events) {
    if (TP_UNLIKELY(socket == NULL) || socket->closed) {
        return 0; /* the alarm, or a socket that an earlier `done` of this batch has closed */
    }
    socket->readable |= (events & input_events) != 0;
    socket->ended |= (events & end_events) != 0;
    if (TP_UNLIKELY(socket->kind == SOCKET_CONNECTING)) {
        if ((events & output_events) != 0) {
            tp__epoll_connect_done(worker, socket);
        }
        return 0;
    }
    if (socket->output != NULL && (events & output_events) != 0) {
        tp__epoll_send_more(worker, socket);
    }
    if (!socket->readable || socket->input == NULL || socket->input->queued || socket->paused) {
        return 0;
    }
    return tp__epoll_receive_once(worker, socket);
}

/* The more sockets have input, the less each of them reads, because an answer to one waits for all
 * of them. `again`: sockets of the later list that read in this batch too. */
static void set_read_budget(epoll_worker *worker, unsigned again) {
    unsigned sockets = worker->event_count + again;
    size_t share = sockets > 0 ? BATCH_BYTES / sockets : BATCH_BYTES;
    share = share > MIN_READ_BUDGET ? share : MIN_READ_BUDGET;
    worker->read_budget = share < worker->receive_size ? share : worker->receive_size;
}

static size_t run_events(epoll_worker *worker) {
    size_t ran = 0;
    for (unsigned i = 0; i < worker->event_count; i++) {
        ran += on_event(worker, worker->events[i].data.ptr, worker->events[i].events);
    }
    worker->event_count = 0;
    return ran;
}

/* ---- ops ------------------------------------------------------------------------------------- */

static void deliver_result(epoll_worker *worker, epoll_op *op) {
    const tp_completion completion = {
        .worker = &worker->head,
        .error = (tp_err)op->error,
        .os_error = op->os_error,
        .last = true,
        .count = op->sent,
        .handle = TP_NO_HANDLE,
    };
    op->done((tp_op *)op, &completion);
}

/* Runs an op by its kind; returns how many `done` ran. */
static size_t run_op(epoll_worker *worker, epoll_op *op) {
    switch ((epoll_op_kind)op->kind) {
    case OP_RESULT:
        deliver_result(worker, op);
        return 1;
    case OP_RECEIVE:
        return tp__epoll_receive_again(worker, op);
    case OP_ACCEPT:
        return tp__epoll_accept_end(worker, op);
    case OP_CLOSE:
        tp__epoll_close_now(worker, op);
        return 0;
    }
    assert(false);
    return 0;
}

static size_t run_ready(epoll_worker *worker) {
    size_t ran = 0;
    for (unsigned taken = 0; taken < READY_BUDGET; taken++) {
        epoll_op *op = epoll_list_pop(&worker->ready);
        if (op == NULL) {
            break;
        }
        ran += run_op(worker, op);
    }
    return ran;
}

/* ---- shared work ----------------------------------------------------------------------------- */

/* Takes and runs one entry; false if there is none that the worker may take. If there are both
 * kinds, it alternates between them. */
static bool take_one(epoll_worker *worker, size_t *ran) {
    epoll_port *port = epoll_port_of(worker->head.port);
    epoll_shared *shared = &port->shared;
    tp_mutex_lock(&shared->mutex);
    bool accept_first = !worker->took_accept || shared->tasks.first == NULL;
    epoll_listener *listener = accept_first ? tp__epoll_take_accept(worker) : NULL;
    worker->took_accept = listener != NULL;
    if (listener != NULL) {
        *ran += tp__epoll_accept_one(worker, listener); /* unlocks the mutex */
        return true;
    }
    epoll_op *op = tp__epoll_take_task(shared);
    epoll_leftover left = tp__epoll_leftover(port);
    tp_mutex_unlock(&shared->mutex);
    if (op == NULL) {
        return false;
    }
    tp__epoll_wake_next(port, left); /* before a `done` that may block */
    *ran += run_op(worker, op);
    return true;
}

/* Takes and runs shared entries, within a budget. Returns how many `done` ran. */
static size_t run_shared(epoll_worker *worker) {
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
    if (TP_UNLIKELY(waits) && (worker->event_count > 0 || worker->ready.first != NULL)) {
        tp__epoll_wake_watcher(port);
    }
    return ran;
}

size_t tp__epoll_dispatch(tp_worker *head) {
    epoll_worker *worker = epoll_worker_of(head);
    assert(tp__epoll_current() == NULL); /* not from inside a `done` */
    tp__epoll_set_current(worker);
    tp__epoll_take_posts(worker);
    /* Only after a wait: a dispatch without a new wait runs what sends have completed. Sockets that
     * have used up their budget would read several times before a new event is handled. */
    if (worker->waited) {
        worker->waited = false;
        unsigned again = epoll_list_move(&worker->ready, &worker->later, EVENTS_AT_ONCE);
        set_read_budget(worker, again);
    }
    /* Shared work first, which other workers could do as well: what follows may block. */
    size_t ran = run_shared(worker);
    ran += run_events(worker);
    ran += run_ready(worker);
    tp__epoll_set_current(NULL);
    return ran;
}
