/*
 * Served time (service_time.h) of a worker, of the server, and of a session.
 *
 * Each worker has a clock of its own. Before each wait the worker publishes until when it waits;
 * after the wait it checks whether the wait, or the work before it, took longer. The server's clock
 * stands still only while all its workers do: the worker that is the first to come back from a
 * stall finds this out, under the server's mutex.
 *
 * A session goes by the clock of the worker that serves it. Where any worker serves any session
 * (iocp), it goes by the server's clock: there a single blocked worker affects only the sessions
 * whose completions it has taken, and these are not known.
 */
#include "core/engine/server_state.h"
#include "os/clock.h"

/* ---- of a worker ----------------------------------------------------------------------------- */

/* Until when at least one worker has served, or waits for work. */
static uint64_t served_until(const tp_server *server) {
    uint64_t until = tp__service_time_until(&server->time);
    for (unsigned i = 0; i < server->options.workers; i++) {
        uint64_t one = tp__service_time_until(&server->workers[i].time);
        until = one > until ? one : until;
    }
    return until;
}

/* Called by a worker that is back from a stall, before it publishes that it is back. So a thread
 * that sees the worker back also sees how far the server's clock is behind. */
static void note_server_stall(tp_server *server, uint64_t now_ms) {
    tp_mutex_lock(&server->mutex);
    uint64_t until = served_until(server);
    if (tp__is_stalled(until, now_ms)) {
        tp__service_time_stall(&server->time, until, now_ms);
        tp__service_time_serve(&server->time, now_ms);
    }
    tp_mutex_unlock(&server->mutex);
}

static void note_worker_stall(tp__worker *worker, uint64_t now_ms) {
    TP_ASSERT_ON_WORKER(worker);
    uint64_t until = tp__service_time_until(&worker->time);
    if (TP_UNLIKELY(tp__is_stalled(until, now_ms))) {
        tp__service_time_stall(&worker->time, until, now_ms);
        note_server_stall(worker->server, now_ms);
    }
}

static void worker_read_times(tp__worker *worker, uint64_t now_ms) {
    const tp_server *server = worker->server;
    TP_ASSERT_ON_WORKER(worker);
    bool binds = tp_port_binds(server->port);
    worker->served_ms = binds ? tp__served_ms(&worker->time, now_ms)
                              : tp__server_served_ms(server, TP__ANY_WORKER, now_ms);
    uint64_t own_ms = tp__stall_ms(&worker->time, now_ms);
    uint64_t all_ms = binds ? 0 : tp__server_stall_ms(server, now_ms);
    worker->stall_ms = own_ms > all_ms ? own_ms : all_ms;
    atomic_store_explicit(&worker->now_ms, now_ms, memory_order_relaxed);
}

void tp__worker_clock_start(tp__worker *worker, uint64_t now_ms) {
    tp__service_time_start(&worker->time, now_ms);
    worker_read_times(worker, now_ms);
}

void tp__worker_clock_wait(tp__worker *worker, uint64_t now_ms, int wait_ms) {
    note_worker_stall(worker, now_ms);
    tp__service_time_serve(&worker->time, now_ms + (wait_ms > 0 ? (unsigned)wait_ms : 0));
}

void tp__worker_clock_resume(tp__worker *worker, uint64_t now_ms) {
    note_worker_stall(worker, now_ms);
    tp__service_time_serve(&worker->time, now_ms);
    worker_read_times(worker, now_ms);
}

bool tp__worker_check_stall(tp__worker *worker) {
    tp__worker_clock_resume(worker, tp_clock_ms());
    return worker->stall_ms > 0;
}

/* ---- of the server --------------------------------------------------------------------------- */

uint64_t tp__server_served_ms(const tp_server *server, unsigned worker, uint64_t now_ms) {
    assert(worker == TP__ANY_WORKER || worker < server->options.workers);
    return worker == TP__ANY_WORKER ? tp__served_of(&server->time, served_until(server), now_ms)
                                    : tp__served_ms(&server->workers[worker].time, now_ms);
}

uint64_t tp__server_stall_ms(const tp_server *server, uint64_t now_ms) {
    return tp__stall_of(&server->time, served_until(server), now_ms);
}

unsigned tp__server_worker_here(const tp_server *server) {
    const tp__worker *worker = tp__worker_here(server);
    assert(!worker || worker->index < server->options.workers);
    return worker && tp_port_binds(server->port) ? worker->index : TP__ANY_WORKER;
}

/* ---- of a session ---------------------------------------------------------------------------- */

/* The worker whose clock the session goes by; NULL: the server's clock. A session that is being
 * established has no owner yet, but its socket may already have a worker. */
static const tp__worker *session_worker(const tp__session *session) {
    const tp_server *server = session->server;
    const tp__worker *worker = atomic_load_explicit(&session->owner, memory_order_relaxed);
    if (worker || !tp_port_binds(server->port)) {
        return worker;
    }
    for (unsigned i = 0; i < server->options.workers && !worker; i++) {
        if (tp_port_serves(server->workers[i].port_worker, &session->socket)) {
            worker = &server->workers[i];
        }
    }
    return worker;
}

uint64_t tp__session_served_ms(const tp__session *session, uint64_t now_ms) {
    const tp__worker *worker = session_worker(session);
    return tp__server_served_ms(session->server, worker ? worker->index : TP__ANY_WORKER, now_ms);
}

uint64_t tp__session_deadline_ms(const tp__session *session, unsigned ms) {
    return tp__session_served_ms(session, tp_clock_ms()) + ms;
}

static uint64_t session_stall_ms(const tp__session *session, uint64_t now_ms) {
    const tp_server *server = session->server;
    const tp__worker *worker = session_worker(session);
    return worker ? tp__stall_ms(&worker->time, now_ms) : tp__server_stall_ms(server, now_ms);
}

/* How long, in served time, a send may be in progress before the peer counts as too slow, whatever
 * stalls there were before. */
#define SEND_PATIENCE_MS 2000u

/*
 * True: the server is the reason why the queue is full. If no send is in progress, the packets wait
 * for the worker, which has had no turn since or is in a long one. If one is in progress, the peer
 * has not read, unless the worker has stalled recently and could not see that it has.
 */
bool tp__session_awaits_server(const tp__session *session) {
    uint64_t since_ms = atomic_load_explicit(&session->sending_since_ms, memory_order_relaxed);
    if (since_ms == 0) {
        return true;
    }
    uint64_t now_ms = tp_clock_ms();
    return session_stall_ms(session, now_ms) > 0 &&
           tp__session_served_ms(session, now_ms) < since_ms + SEND_PATIENCE_MS;
}
