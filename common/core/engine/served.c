/*
 * Served time: of a worker, of the server, of a session. service_time.h says what it is.
 *
 * A worker keeps its own: it says before each wait until when it waits, and looks after it whether
 * that, or its work before it, took longer. The server's own stands still only while all its
 * workers do: whoever comes back from a stall first finds out, under the server's mutex.
 *
 * A session is judged by the time of the worker that serves it. Where any worker serves any session
 * (iocp) it is judged by the server's: that a single worker is held up there keeps only those
 * sessions unheard whose completions it has taken, and nobody can tell which.
 */
#include "core/engine/server_state.h"
#include "os/clock.h"

/* ---- a worker -------------------------------------------------------------------------------- */

/* Until when any worker has served, or waits for work. */
static uint64_t served_until(const tp_server *server) {
    uint64_t until = tp__service_time_until(&server->time);
    for (unsigned i = 0; i < server->options.workers; i++) {
        uint64_t one = tp__service_time_until(&server->workers[i].time);
        until = one > until ? one : until;
    }
    return until;
}

/* The worker is back from a stall, and says so only after this: so whoever sees it back sees how
 * far the server is behind. */
static void note_stall_of_all(tp_server *server, uint64_t now_ms) {
    tp_mutex_lock(&server->mutex);
    uint64_t until = served_until(server);
    if (tp__stands_still(until, now_ms)) {
        tp__service_time_stall(&server->time, until, now_ms);
        tp__service_time_serve(&server->time, now_ms);
    }
    tp_mutex_unlock(&server->mutex);
}

static void note_stall(tp__worker *worker, uint64_t now_ms) {
    uint64_t until = tp__service_time_until(&worker->time);
    if (TP_UNLIKELY(tp__stands_still(until, now_ms))) {
        tp__service_time_stall(&worker->time, until, now_ms);
        note_stall_of_all(worker->server, now_ms);
    }
}

static void read_times(tp__worker *worker, uint64_t now_ms) {
    const tp_server *server = worker->server;
    bool alone = tp_port_binds(server->port);
    worker->served_ms = alone ? tp__served_ms(&worker->time, now_ms)
                              : tp__server_served_ms(server, TP__ANY_WORKER, now_ms);
    worker->stall_ms = tp__stall_ms(&worker->time, now_ms);
    atomic_store_explicit(&worker->now_ms, now_ms, memory_order_relaxed);
}

void tp__worker_begins(tp__worker *worker, uint64_t now_ms) {
    tp__service_time_start(&worker->time, now_ms);
    read_times(worker, now_ms);
}

void tp__worker_waits(tp__worker *worker, uint64_t now_ms, int wait_ms) {
    note_stall(worker, now_ms);
    tp__service_time_serve(&worker->time, now_ms + (wait_ms > 0 ? (unsigned)wait_ms : 0));
}

void tp__worker_comes_back(tp__worker *worker, uint64_t now_ms) {
    note_stall(worker, now_ms);
    tp__service_time_serve(&worker->time, now_ms);
    read_times(worker, now_ms);
}

bool tp__worker_looks_again(tp__worker *worker) {
    tp__worker_comes_back(worker, tp_clock_ms());
    return worker->stall_ms > 0;
}

/* ---- the server ------------------------------------------------------------------------------ */

uint64_t tp__server_served_ms(const tp_server *server, unsigned worker, uint64_t now_ms) {
    return worker == TP__ANY_WORKER ? tp__served_of(&server->time, served_until(server), now_ms)
                                    : tp__served_ms(&server->workers[worker].time, now_ms);
}

unsigned tp__server_worker_here(const tp_server *server) {
    const tp__worker *worker = tp__worker_here(server);
    return worker && tp_port_binds(server->port) ? worker->index : TP__ANY_WORKER;
}

/* ---- a session ------------------------------------------------------------------------------- */

/* NULL: any. A session that is still coming about has no home yet, but may have a worker. */
static const tp__worker *serving(const tp__session *session) {
    const tp_server *server = session->server;
    const tp__worker *worker = atomic_load_explicit(&session->home, memory_order_relaxed);
    if (worker || !tp_port_binds(server->port)) {
        return worker;
    }
    for (unsigned i = 0; i < server->options.workers && !worker; i++) {
        if (tp_port_serves(server->workers[i].seat, &session->socket)) {
            worker = &server->workers[i];
        }
    }
    return worker;
}

uint64_t tp__session_served_ms(const tp__session *session, uint64_t now_ms) {
    const tp__worker *worker = serving(session);
    return tp__server_served_ms(session->server, worker ? worker->index : TP__ANY_WORKER, now_ms);
}

uint64_t tp__session_by_ms(const tp__session *session, unsigned ms) {
    return tp__session_served_ms(session, tp_clock_ms()) + ms;
}

static uint64_t stall_ms(const tp__session *session, uint64_t now_ms) {
    const tp_server *server = session->server;
    const tp__worker *worker = serving(session);
    return worker ? tp__stall_ms(&worker->time, now_ms)
                  : tp__stall_of(&server->time, served_until(server), now_ms);
}

/* How long, in served time, a send may be in progress before its peer is too slow, whatever we did
 * before. */
#define SEND_PATIENCE_MS 2000u

/*
 * No send in progress: what is queued waits for the worker, which has had no turn since, or is in
 * a long one. One in progress: the peer has not read, unless the worker has stood still and could
 * not see that it has.
 */
bool tp__session_waits_for_us(const tp__session *session) {
    uint64_t since_ms = atomic_load_explicit(&session->sending_since_ms, memory_order_relaxed);
    if (since_ms == 0) {
        return true;
    }
    uint64_t now_ms = tp_clock_ms();
    return stall_ms(session, now_ms) > 0 &&
           tp__session_served_ms(session, now_ms) < since_ms + SEND_PATIENCE_MS;
}
