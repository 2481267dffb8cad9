/*
 * The epoll back end's port: creates and frees it with its workers, and defines its table.
 *
 * Create and destroy run on the thread of the port's owner while no other thread uses the port. The
 * port owns its workers, and each worker its epoll descriptor, its eventfd and its buffers.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "os/error.h"
#include "os/linux/epoll_listener.h"
#include "os/stream.h"

/* ---- workers --------------------------------------------------------------------------------- */

static void free_worker(epoll_worker *worker) {
    if (worker->alarm >= 0) {
        (void)close(worker->alarm);
    }
    if (worker->epoll >= 0) {
        (void)close(worker->epoll);
    }
    free(worker->receive_buffer);
    free(worker->scratch);
}

static tp_err open_descriptors(epoll_worker *worker) {
    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (worker->epoll < 0) {
        return tp_os_fail_last();
    }
    worker->alarm = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (worker->alarm < 0) {
        return tp_os_fail_last();
    }
    /* An event without a socket is the alarm's. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    event.data.ptr = NULL;
    if (epoll_ctl(worker->epoll, EPOLL_CTL_ADD, worker->alarm, &event) != 0) {
        return tp_os_fail_last();
    }
    return TP_OK;
}

/* Fills a worker that is all zero. After an error free_worker() may be called all the same. */
static tp_err make_worker(
    epoll_worker *worker, epoll_port *port, unsigned index, size_t receive_buffer) {
    worker->head.backend = &tp__epoll_backend;
    worker->head.port = &port->head;
    worker->head.index = index;
    worker->epoll = -1;
    worker->alarm = -1;
    atomic_init(&worker->posts, NULL);
    atomic_init(&worker->sockets, 0);
    atomic_init(&worker->unresponsive, false);
    worker->receive_size = receive_buffer;
    worker->read_budget = receive_buffer;
    worker->receive_buffer = malloc(receive_buffer);
    worker->scratch = malloc(SCRATCH_SIZE);
    if (worker->receive_buffer == NULL || worker->scratch == NULL) {
        (void)tp_os_fail(ENOMEM);
        return TP_ERR_NO_MEMORY;
    }
    return open_descriptors(worker);
}

/* ---- the port -------------------------------------------------------------------------------- */

static void free_port(epoll_port *port, unsigned workers) {
    for (unsigned i = 0; i < workers; i++) {
        free_worker(&port->workers[i]);
    }
    tp_mutex_destroy(&port->shared.mutex);
    free(port->workers);
    free(port);
}

static tp_err epoll_create_port(const tp_port_options *options, tp_port **created) {
    epoll_port *port = calloc(1, sizeof *port);
    epoll_worker *workers = calloc(options->workers, sizeof *workers);
    if (port == NULL || workers == NULL) {
        free(port);
        free(workers);
        (void)tp_os_fail(ENOMEM);
        return TP_ERR_NO_MEMORY;
    }
    port->head.backend = &tp__epoll_backend;
    port->head.workers = options->workers;
    port->workers = workers;
    port->reserve_descriptors = options->reserve_descriptors;
    tp_mutex_init(&port->shared.mutex); /* the other shared fields begin as zero */
    for (unsigned i = 0; i < options->workers; i++) {
        tp_err error = make_worker(&workers[i], port, i, options->receive_buffer);
        if (error != TP_OK) {
            int os_error = tp_os_error();
            free_port(port, i + 1);
            (void)tp_os_fail(os_error);
            return error;
        }
    }
    *created = &port->head;
    return TP_OK;
}

/* Reports sockets and ops that the caller has left behind against the contract; true: none. */
static bool is_left_clean(epoll_port *port) {
    bool clean = true;
    for (unsigned i = 0; i < port->head.workers; i++) {
        epoll_worker *worker = &port->workers[i];
        unsigned sockets = atomic_load(&worker->sockets);
        bool ops = worker->ready.first != NULL || worker->later.first != NULL ||
                   tp__epoll_has_posts(worker);
        if (sockets > 0 || ops) {
            clean = false;
            tp_stream_last_words("port destroyed with %u open sockets%s at worker %u", sockets,
                ops ? " and ops in progress" : "", i);
        }
    }
    if (port->shared.listeners != NULL || atomic_load(&port->shared.waiting) > 0) {
        clean = false;
        tp_stream_last_words("port destroyed with open listeners, or ops in progress");
    }
    return clean;
}

static void epoll_destroy_port(tp_port *head) {
    epoll_port *port = epoll_port_of(head);
    assert(is_left_clean(port));
    (void)is_left_clean;
    free_port(port, port->head.workers);
}

static tp_worker *epoll_worker_at(tp_port *port, unsigned index) {
    return &epoll_port_of(port)->workers[index].head;
}

static void epoll_wake(tp_port *head) {
    epoll_port *port = epoll_port_of(head);
    for (unsigned i = 0; i < port->head.workers; i++) {
        tp__epoll_sound_alarm(&port->workers[i]);
    }
}

const tp__port_backend tp__epoll_backend = {
    .name = "epoll",
    .binds = true,
    .create = epoll_create_port,
    .destroy = epoll_destroy_port,
    .worker = epoll_worker_at,
    .wait = tp__epoll_wait,
    .dispatch = tp__epoll_dispatch,
    .post = tp__epoll_post,
    .wake = epoll_wake,
    .serves = tp__epoll_serves,
    .listen = tp__epoll_listen,
    .attach = tp__epoll_attach,
    .connect = tp__epoll_connect,
    .accept = tp__epoll_accept,
    .receive = tp__epoll_receive,
    .pause = tp__epoll_pause,
    .resume = tp__epoll_resume,
    .send = tp__epoll_send,
    .send_now = tp__epoll_send_now,
    .send_take_back = tp__epoll_send_take_back,
    .send_waits = tp__epoll_send_waits,
    .finish = tp__epoll_finish,
    .close = tp__epoll_close,
};
