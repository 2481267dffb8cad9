/*
 * The worker: one thread at one worker slot of the port.
 *
 * It waits, takes a batch of completions, handles it, and then sends what the batch has queued.
 * Sends that complete at once are handled in the same turn, so that a turn costs one wait.
 */
#include "core/engine/server_state.h"
#include "core/memory/thread_cache.h"
#include "core/server/budget.h"
#include "core/server/trim.h"
#include "os/clock.h"

#define FLUSH_ROUNDS 4 /* of sends and their completions, before the next wait takes new ones */

static void worker_handle_batch(tp__worker *worker) {
    TP_ASSERT_ON_WORKER(worker);
    tp_server *server = worker->server;
    if (server->handlers.on_worker_begin) {
        server->handlers.on_worker_begin(server, worker->index);
    }
    tp_port_dispatch(worker->port_worker);
    for (unsigned round = 0; worker->flush_first && round < FLUSH_ROUNDS; round++) {
        tp__worker_flush(worker);
        tp_port_dispatch(worker->port_worker);
    }
    if (server->handlers.on_worker_end) {
        server->handlers.on_worker_end(server, worker->index);
    }
}

static int worker_wait_ms(tp__worker *worker) {
    if (worker->flush_first) {
        return 0;
    }
    uint64_t now_ms = tp_clock_ms();
    int most_ms = tp__sweep_wait_ms(worker, now_ms);
    tp__worker_clock_wait(worker, now_ms, most_ms);
    return most_ms;
}

static void worker_run(tp__worker *worker) {
    while (tp__server_state_now(worker->server) != TP__SERVER_ENDING) {
        tp_err error = tp_port_wait(worker->port_worker, worker_wait_ms(worker));
        tp__worker_clock_resume(worker, tp_clock_ms());
        if (error != TP_OK && error != TP_ERR_TIMED_OUT) {
            tp__server_error(worker->server, worker, error, tp_os_error(), "wait");
        }
        if (error == TP_OK || worker->flush_first) {
            worker_handle_batch(worker);
        }
        tp__sweep(worker);
        tp__trim(worker);
        tp__budget(worker);
    }
}

static void worker_report_up(tp__worker *worker, tp__worker_up up) {
    tp_server *server = worker->server;
    tp_mutex_lock(&server->mutex);
    assert(worker->up == TP__WORKER_STARTING);
    worker->up = up;
    tp_condition_wake_all(&server->changed);
    tp_mutex_unlock(&server->mutex);
}

static void worker_report_ended(tp_server *server) {
    tp_mutex_lock(&server->mutex);
    assert(server->workers_running > 0);
    if (--server->workers_running == 0) {
        tp_condition_wake_all(&server->changed);
    }
    tp_mutex_unlock(&server->mutex);
}

void tp__worker_main(void *argument) {
    tp__worker *worker = argument;
    tp__thread_cache *thread = tp__thread_cache_get();
    if (!thread) {
        worker_report_up(worker, TP__WORKER_FAILED);
        return;
    }
    thread->worker = worker;
    worker->thread_cache = thread;
    tp__worker_apply_low_latency(worker);
    tp__worker_clock_start(worker, tp_clock_ms());
    worker_report_up(worker, TP__WORKER_READY);
    worker_run(worker);
    assert(!worker->flush_first && !worker->flush_last);
    thread->worker = NULL;
    worker->thread_cache = NULL;
    worker_report_ended(worker->server);
}
