/*
 * The worker: one thread at one seat of the port.
 *
 * It waits, takes a batch of completions, works through it, and then sends what the batch had to
 * say. The sends that complete at once come back within the same turn, so that a turn costs one
 * wait.
 */
#include "core/engine/server_state.h"
#include "core/memory/thread_cache.h"
#include "core/server/budget.h"
#include "core/server/trim.h"
#include "os/clock.h"

#define FLUSH_ROUNDS 4 /* of sends and their completions, before the next wait looks for new ones */

static void work_through_batch(tp__worker *worker) {
    tp_server *server = worker->server;
    if (server->handlers.on_worker_begin) {
        server->handlers.on_worker_begin(server, worker->index);
    }
    tp_port_dispatch(worker->seat);
    for (unsigned round = 0; worker->flush_first && round < FLUSH_ROUNDS; round++) {
        tp__worker_flush(worker);
        tp_port_dispatch(worker->seat);
    }
    if (server->handlers.on_worker_end) {
        server->handlers.on_worker_end(server, worker->index);
    }
}

static int wait_ms(tp__worker *worker) {
    if (worker->flush_first) {
        return 0;
    }
    uint64_t now_ms = tp_clock_ms();
    int most_ms = tp__sweep_wait_ms(worker, now_ms);
    tp__worker_waits(worker, now_ms, most_ms);
    return most_ms;
}

static void run(tp__worker *worker) {
    while (tp__server_state_now(worker->server) != TP__SERVER_ENDING) {
        tp_err error = tp_port_wait(worker->seat, wait_ms(worker));
        tp__worker_comes_back(worker, tp_clock_ms());
        if (error != TP_OK && error != TP_ERR_TIMED_OUT) {
            tp__server_report(worker->server, worker, error, tp_os_error(), "wait");
        }
        if (error == TP_OK || worker->flush_first) {
            work_through_batch(worker);
        }
        tp__sweep(worker);
        tp__trim(worker);
        tp__budget(worker);
    }
}

static void tell_seated(tp__worker *worker, tp__worker_up up) {
    tp_server *server = worker->server;
    tp_mutex_lock(&server->mutex);
    worker->up = up;
    tp_condition_wake_all(&server->changed);
    tp_mutex_unlock(&server->mutex);
}

static void tell_ended(tp_server *server) {
    tp_mutex_lock(&server->mutex);
    if (--server->workers_running == 0) {
        tp_condition_wake_all(&server->changed);
    }
    tp_mutex_unlock(&server->mutex);
}

void tp__worker_main(void *argument) {
    tp__worker *worker = argument;
    tp__local *local = tp__local_get();
    if (!local) {
        tell_seated(worker, TP__WORKER_FAILED);
        return;
    }
    local->worker = worker;
    worker->local = local;
    tp__worker_take_latency(worker);
    tp__worker_begins(worker, tp_clock_ms());
    tell_seated(worker, TP__WORKER_SEATED);
    run(worker);
    local->worker = NULL;
    worker->local = NULL;
    tell_ended(worker->server);
}
