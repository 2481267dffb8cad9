/*
 * A worker's loop: wait fetches a batch of events; dispatch runs shared work, handles the batch and
 * runs the ready list.
 *
 * Runs on the worker's thread. See epoll_port.h for why closing is safe.
 */
#include <assert.h>
#include <errno.h>

#include "os/error.h"
#include "os/linux/epoll_port.h"

/* How many ready ops one dispatch runs before new events are fetched. */
enum { READY_BUDGET = 1024 };

static const uint32_t input_events = EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR;
static const uint32_t end_events = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
static const uint32_t output_events = EPOLLOUT | EPOLLHUP | EPOLLERR;

/* ---- wait ------------------------------------------------------------------------------------ */

static bool has_work(epoll_worker *worker) {
    return worker->ready.first != NULL || worker->later.first != NULL ||
           tp__epoll_has_posts(worker) || tp__epoll_may_take(worker);
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
        *limit_ms = tp__epoll_watch(worker, timeout_ms, &watches);
    }
    int count = epoll_wait(worker->epoll, worker->events, EVENTS_AT_ONCE, *limit_ms);
    tp__epoll_awake(worker);
    if (TP_UNLIKELY(watches)) {
        tp__epoll_watched(worker);
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

/* ---- dispatch -------------------------------------------------------------------------------- */

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

size_t tp__epoll_run_op(epoll_worker *worker, epoll_op *op) {
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
        ran += tp__epoll_run_op(worker, op);
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
    size_t ran = tp__epoll_run_shared(worker);
    ran += run_events(worker);
    ran += run_ready(worker);
    tp__epoll_set_current(NULL);
    return ran;
}
