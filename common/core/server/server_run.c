/*
 * A run of a server: start, stop, wait.
 *
 * These run on the application's threads; stop on any thread, also inside a handler. The port and
 * the threads exist from start to the end of wait. What the workers do is in worker.c, what a stop
 * does in sweep.c; server_state.h shows the states.
 */
#include <string.h>

#include "core/base/invariant.h"
#include "core/engine/server_state.h"
#include "os/clock.h"
#include "os/error.h"

/* ---- the end of a run ------------------------------------------------------------------------ */

/* Changes the state from `from` to `to`, and wakes the threads that wait for it. */
static bool change_state(tp_server *server, int from, int to) {
    tp_mutex_lock(&server->mutex);
    bool changed = atomic_compare_exchange_strong(&server->state, &from, to);
    if (changed) {
        tp_condition_wake_all(&server->changed);
    }
    tp_mutex_unlock(&server->mutex);
    return changed;
}

/* The port stays while this call is in it: stop_is_complete() waits for `callers`. */
static void begin_stop(tp_server *server, int from) {
    atomic_fetch_add(&server->callers, 1);
    if (change_state(server, from, TP__SERVER_DRAINING)) {
        atomic_store(&server->sweep_due_ms, 0);
        tp_port_wake(server->port);
    }
    atomic_fetch_sub(&server->callers, 1);
}

static void close_port(tp_server *server) {
    assert(server->port && server->workers_started == 0);
    tp_port_destroy(server->port);
    server->port = NULL;
    tp_mutex_lock(&server->mutex);
    memset(&server->listener.bound, 0, sizeof server->listener.bound);
    tp_mutex_unlock(&server->mutex);
}

static void free_run(tp_server *server) {
    assert(tp__server_state_now(server) == TP__SERVER_ENDING);
    for (unsigned i = 0; i < server->workers_started; i++) {
        tp_thread_join(&server->workers[i].thread);
    }
    server->workers_started = 0;
    /* A caller that is done may still be on its way out of the port: a few instructions. */
    while (atomic_load(&server->callers) > 0) {
        tp_thread_yield();
    }
    assert(!atomic_load(&server->orphans) && atomic_load(&server->session_count) == 0);
    TP__VERIFY(tp__slots_check(&server->slots, atomic_load(&server->slots_used)));
    tp__tasks_clear(&server->tasks);
    close_port(server);
}

typedef enum run_end { RUN_ACTIVE, RUN_TO_BE_FREED, RUN_OVER } run_end;

/* STARTING and RUNNING: another thread has freed the run and started a
 * new one. */
static run_end run_check_end(tp_server *server) {
    TP_ASSERT_LOCKED(&server->mutex);
    switch (tp__server_state_now(server)) {
    case TP__SERVER_CALLED_OFF:
    case TP__SERVER_DRAINING:
    case TP__SERVER_CUTTING:
        return RUN_ACTIVE;
    case TP__SERVER_ENDING:
        return server->workers_running > 0 || server->freeing ? RUN_ACTIVE : RUN_TO_BE_FREED;
    default:
        return RUN_OVER;
    }
}

static run_end wait_for_end(tp_server *server, int timeout_ms) {
    uint64_t until = timeout_ms < 0 ? UINT64_MAX : tp_clock_ms() + (unsigned)timeout_ms;
    tp_mutex_lock(&server->mutex);
    run_end end = run_check_end(server);
    while (end == RUN_ACTIVE) {
        uint64_t now = tp_clock_ms();
        if (now >= until) {
            break;
        }
        int wait_ms = timeout_ms < 0 ? -1 : (int)(until - now);
        tp_condition_wait(&server->changed, &server->mutex, wait_ms);
        end = run_check_end(server);
    }
    server->freeing |= end == RUN_TO_BE_FREED;
    tp_mutex_unlock(&server->mutex);
    return end;
}

/* Any number of threads may wait; one of them frees the run and wakes the others. */
static tp_err finish_stop(tp_server *server, int timeout_ms) {
    switch (wait_for_end(server, timeout_ms)) {
    case RUN_ACTIVE:
        return TP_ERR_TIMED_OUT;
    case RUN_OVER:
        return TP_OK;
    case RUN_TO_BE_FREED:
        break;
    }
    free_run(server);
    tp_mutex_lock(&server->mutex);
    assert(server->freeing && server->workers_running == 0);
    server->freeing = false;
    atomic_store(&server->state, TP__SERVER_IDLE);
    tp_condition_wake_all(&server->changed);
    tp_mutex_unlock(&server->mutex);
    return TP_OK;
}

/* ---- start ----------------------------------------------------------------------------------- */

static tp_err open_port(tp_server *server) {
    const tp_server_options *options = &server->options;
    const tp_port_options port = {
        .size = sizeof port,
        .backend = options->io,
        .workers = options->workers,
        .running = options->running,
        .receive_buffer = options->receive_buffer,
        .post_receive_buffers = options->post_receive_buffers,
        .reserve_descriptors = options->reserve_descriptors,
    };
    tp_err error = tp_port_create(&port, &server->port);
    if (!error) {
        tp_mutex_lock(&server->mutex);
        server->io_in_use = tp_port_backend(server->port);
        tp_mutex_unlock(&server->mutex);
    }
    return error;
}

/* Before there are workers no other thread reads these. */
static void reset_run(tp_server *server) {
    atomic_store(&server->no_drain, false);
    atomic_store(&server->cut_by_ms, UINT64_MAX);
    server->drain_begun = false;
    server->cut_begun = false;
    server->sweep_from = 0;
    server->budget_due_ms = 0;
    server->budget_ended = TP_NO_SESSION;
    atomic_store(&server->timekeeper, 0);
    uint64_t now_ms = tp_clock_ms();
    tp__service_time_start(&server->time, now_ms);
    for (unsigned i = 0; i < server->options.workers; i++) {
        tp__service_time_start(&server->workers[i].time, now_ms);
    }
    atomic_store(&server->sweep_due_ms, now_ms);
}

/* Starts the thread and waits until it is at its worker slot, or has found no memory for its thread
 * cache. */
static tp_err start_worker(tp_server *server, unsigned index) {
    assert(index < server->options.workers && index == server->workers_started);
    tp__worker *worker = &server->workers[index];
    worker->server = server;
    worker->index = index;
    worker->port_worker = tp_port_worker(server->port, index);
    worker->up = TP__WORKER_STARTING;
    tp_worker_set_context(worker->port_worker, worker);
    tp_err error = tp_thread_start(&worker->thread, server->name, tp__worker_main, worker);
    if (error) {
        return error;
    }
    tp_mutex_lock(&server->mutex);
    while (worker->up == TP__WORKER_STARTING) {
        tp_condition_wait(&server->changed, &server->mutex, -1);
    }
    bool ready = worker->up == TP__WORKER_READY;
    server->workers_running += ready;
    tp_mutex_unlock(&server->mutex);
    if (!ready) {
        tp_thread_join(&worker->thread);
        (void)tp_os_fail(0); /* no system call of this thread has failed */
        return TP_ERR_NO_MEMORY;
    }
    server->workers_started++;
    return TP_OK;
}

static tp_err start_workers(tp_server *server) {
    tp_err error = TP_OK;
    for (unsigned i = 0; i < server->options.workers && !error; i++) {
        error = start_worker(server, i);
    }
    return error;
}

/* Without a worker, this thread takes the first worker slot until the listener is closed. */
static void close_listener_alone(tp_server *server) {
    tp_worker *port_worker = tp_port_worker(server->port, 0);
    tp__listener_close(server);
    while (atomic_load(&server->listener.attached)) {
        tp_port_wait(port_worker, 100);
        tp_port_dispatch(port_worker);
    }
}

/* A server with workers is undone in the same way as by a stop. */
static tp_err fail_start(tp_server *server, tp_err error, int os_error, const char *where) {
    if (server->workers_started > 0) {
        atomic_store(&server->no_drain, true);
        tp_server_stop(server); /* the server may be running already, or only starting */
        begin_stop(server, TP__SERVER_CALLED_OFF);
        (void)finish_stop(server, -1);
    } else {
        if (server->port) {
            close_listener_alone(server);
            close_port(server);
        }
        tp_server_stop(server);
        (void)change_state(server, TP__SERVER_CALLED_OFF, TP__SERVER_IDLE);
    }
    tp__server_error(server, NULL, error, os_error, where);
    return error;
}

tp_err tp_server_start(tp_server *server) {
    if (!change_state(server, TP__SERVER_IDLE, TP__SERVER_STARTING)) {
        return TP_ERR_STATE;
    }
    reset_run(server);
    tp_err error = open_port(server);
    if (error) {
        return fail_start(server, error, tp_os_error(), "port");
    }
    /* Before any thread runs: a port in use is the failure that users will meet. */
    error = tp__listener_open(server);
    if (error) {
        return fail_start(server, error, tp_os_error(), "listen");
    }
    error = start_workers(server);
    if (error) {
        int os_error = tp_os_error();
        (void)tp__listener_accept(server, true); /* from here on it may be closed */
        return fail_start(server, error, os_error, "threads");
    }
    bool called_off = !change_state(server, TP__SERVER_STARTING, TP__SERVER_RUNNING);
    if (called_off) {
        begin_stop(server, TP__SERVER_CALLED_OFF);
    }
    error = tp__listener_accept(server, called_off);
    if (error) {
        return fail_start(server, error, tp_os_error(), "accept");
    }
    return TP_OK;
}

/* ---- stop and wait --------------------------------------------------------------------------- */

void tp_server_stop(tp_server *server) {
    int starting = TP__SERVER_STARTING;
    if (!atomic_compare_exchange_strong(&server->state, &starting, TP__SERVER_CALLED_OFF) &&
        starting == TP__SERVER_RUNNING) {
        begin_stop(server, TP__SERVER_RUNNING);
    }
}

/* The time is set before the stop can begin, and each sweep of the stop reads it. */
void tp_server_stop_within(tp_server *server, unsigned drain_ms) {
    uint64_t asked = tp_clock_ms() + drain_ms;
    uint64_t earliest = atomic_load(&server->cut_by_ms);
    while (
        asked < earliest && !atomic_compare_exchange_weak(&server->cut_by_ms, &earliest, asked)) {
    }
    tp_server_stop(server);
}

tp_err tp_server_wait(tp_server *server, int timeout_ms) {
    if (tp__worker_here(server)) {
        return TP_ERR_WRONG_THREAD;
    }
    switch (tp__server_state_now(server)) {
    case TP__SERVER_IDLE:
    case TP__SERVER_STARTING:
    case TP__SERVER_RUNNING:
        return TP_ERR_STATE;
    default:
        return finish_stop(server, timeout_ms);
    }
}
