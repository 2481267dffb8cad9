/*
 * Listeners that the system has refused something, and that are to try again.
 *
 * Runs on workers, and on any thread that accepts or closes; under shared.mutex, which
 * tp__epoll_run_retries() takes itself. Owns nothing: a listener has its own time, and the port the
 * first of them.
 *
 * A listener that the system refuses a descriptor (or memory) is tried again RETRY_MS later, by the
 * first worker that wakes up then; a watcher does (epoll_shared.c). It stays registered; edges that
 * come meanwhile are remembered like any other, and the connections wait in the backlog, so that
 * nothing is lost and nothing spins.
 */
#include "os/clock.h"
#include "os/linux/epoll_listener.h"

enum { RETRY_MS = 100 };

void tp__epoll_note_retry_due(epoll_shared *shared) {
    uint64_t first = 0;
    for (const epoll_listener *it = shared->listeners; it != NULL; it = it->next) {
        if (epoll_awaits_retry(it) && (first == 0 || it->retry_at < first)) {
            first = it->retry_at;
        }
    }
    atomic_store(&shared->retry_due, first);
}

void tp__epoll_retry_later(epoll_listener *listener) {
    listener->retry_at = tp_clock_ms() + RETRY_MS;
    tp__epoll_note_retry_due(&epoll_listener_port(listener)->shared);
}

void tp__epoll_offer_if_ready(epoll_port *port, epoll_listener *listener) {
    if (listener->accept != NULL && !listener->accept->queued && !epoll_awaits_retry(listener)) {
        tp__epoll_offer(port, listener);
    }
}

void tp__epoll_run_retries(epoll_port *port, uint64_t now) {
    epoll_shared *shared = &port->shared;
    tp_mutex_lock(&shared->mutex);
    for (epoll_listener *it = shared->listeners; it != NULL; it = it->next) {
        if (epoll_awaits_retry(it) && it->retry_at <= now) {
            it->retry_at = 0;
            tp__epoll_offer_if_ready(port, it);
        }
    }
    tp__epoll_note_retry_due(shared);
    tp_mutex_unlock(&shared->mutex);
}
