/*
 * The sweep: everything that is done by the clock.
 *
 * Any worker may run it, one at a time (`sweeping`); the others do not wait for it. The sweep's own
 * fields are handed from one worker to the next by that flag, by acquire and release. No function
 * of the application is called while it is set: delayed tasks run beside the sweep.
 *
 * WHICH WORKER WAKES. The timekeeper, the worker that ran the sweep last, wakes when something is
 * due. Every other worker wakes at most STAND_IN_MS later, or TASK_STAND_IN_MS if a delayed task is
 * due, and usually finds that the work has been done. If the timekeeper is blocked in a handler,
 * the other worker does the work, and is the timekeeper from then on. So as long as one worker is
 * free, nothing is late by more than that, and nothing is late once that worker is the timekeeper.
 */
#include "core/engine/server_state.h"
#include "proto/frame.h"

#define TICK_MS          100u /* between sweeps of a running server */
#define STOP_TICK_MS     10u  /* between sweeps of a stopping one */
#define STAND_IN_MS      200u /* how late a timekeeper may be before another worker stands in */
#define TASK_STAND_IN_MS 50u  /* the same for tasks: another worker is promised within 100 ms */
#define SLICE_MIN        4096u

/* ---- one session ----------------------------------------------------------------------------- */

/*
 * A session is ended for silence only after it has been sent PING and has had its time to answer,
 * and not for time in which its worker did not serve it. If the sweep is on time, it ends at the
 * idle time-out.
 */
static void sweep_idle(tp__session *session, uint64_t served_ms) {
    const tp_server_options *options = &session->server->options;
    uint64_t ping_ms = options->ping_interval_ms, idle_ms = options->idle_timeout_ms;
    uint64_t heard_ms = atomic_load_explicit(&session->heard_ms, memory_order_relaxed);
    uint64_t silent_ms = served_ms > heard_ms ? served_ms - heard_ms : 0;
    bool pings = ping_ms && (!idle_ms || ping_ms < idle_ms);
    uint64_t pinged_ms = 0;
    if (pings && silent_ms >= ping_ms &&
        atomic_compare_exchange_strong_explicit(&session->pinged_ms, &pinged_ms, served_ms,
            memory_order_relaxed, memory_order_relaxed)) {
        tp__session_control(session, TP_FRAME_PING, NULL, 0);
    } else if (idle_ms && silent_ms >= idle_ms &&
               (!pings || served_ms >= pinged_ms + (idle_ms - ping_ms))) {
        tp__session_finish(session, TP_END_IDLE, TP_CLOSE_IDLE);
    }
}

/* Is it an outgoing connection that is not established, or one that is pending under a layer? That
 * finish_by_ms is set tells that its socket is attached. */
static bool session_is_unjoined(const tp__session *session, uint64_t life) {
    return (life & (TP__LIFE_OPENING | TP__LIFE_FINISHING)) == TP__LIFE_OPENING &&
           (session->outgoing || session->server->layer.begin);
}

static void sweep_cut_unjoined(tp__session *session, bool stop) {
    tp_end_reason late = session->outgoing ? TP_END_CONNECT_FAILED : TP_END_IDLE;
    tp__session_close_unjoined(session, stop && !session->outgoing ? TP_END_SHUTDOWN : late);
}

/* The caller has a reference. `life` was read before finish_by_ms is read here, so the deadline of
 * a session that it shows as FINISHING is seen. */
static void sweep_session(tp__session *session, uint64_t life, uint64_t now_ms) {
    tp_server *server = session->server;
    uint64_t cut_ms = atomic_load_explicit(&session->finish_by_ms, memory_order_acquire);
    if (!cut_ms && life & TP__LIFE_OPENING) {
        return; /* its socket may not be attached yet */
    }
    uint64_t served_ms = tp__session_served_ms(session, now_ms);
    if (cut_ms && (served_ms >= cut_ms || server->drain_begun) &&
        session_is_unjoined(session, life)) {
        sweep_cut_unjoined(session, server->drain_begun);
    } else if (life & TP__LIFE_FINISHING && (served_ms >= cut_ms || server->cut_begun)) {
        tp__session_close(session, TP_END_SHUTDOWN, 0); /* its own reason stays */
    } else if (life & TP__LIFE_OPENING) {
        return;
    } else if (server->cut_begun) {
        tp__session_close(session, TP_END_SHUTDOWN, 0);
    } else if (server->drain_begun) {
        tp__session_finish(session, TP_END_SHUTDOWN, TP_CLOSE_SHUTDOWN);
    } else {
        sweep_idle(session, served_ms);
    }
}

static void sweep_slot(tp_server *server, uint32_t index, uint64_t now_ms) {
    assert(index < server->slots.count);
    uint64_t life = tp__life_read(&server->sessions[index].life);
    if ((life & TP__LIFE_NUMBER) == 0 || life & (TP__LIFE_CLOSING | TP__LIFE_RELEASED)) {
        return;
    }
    tp__session *session =
        tp__session_enter(server, (life & TP__LIFE_NUMBER) | index, TP__LIFE_CLOSING);
    if (session) {
        sweep_session(session, life, now_ms);
        tp__session_leave(session, TP__REFERENCE_CALL);
    }
}

/* A sweep looks at SLICE_MIN slots, or at a tenth of all if that is more, so each slot is seen once
 * a second. In a stop it looks at all of them. */
static void sweep_slots(tp_server *server, uint64_t now_ms) {
    uint32_t used = atomic_load_explicit(&server->slots.used, memory_order_acquire);
    uint32_t slice = used / 10 > SLICE_MIN ? used / 10 : SLICE_MIN;
    if (server->drain_begun || slice > used) {
        slice = used;
    }
    for (uint32_t i = 0; i < slice; i++) {
        if (server->sweep_from >= used) {
            server->sweep_from = 0;
        }
        sweep_slot(server, server->sweep_from++, now_ms);
    }
}

/* Tries again to post their releases to a worker. */
static void sweep_orphans(tp_server *server) {
    tp__session *session = atomic_exchange_explicit(&server->orphans, NULL, memory_order_acquire);
    while (session) {
        tp__session *next = session->next;
        tp__session_release_later(session);
        session = next;
    }
}

/* ---- a stop's progress ----------------------------------------------------------------------- */

/*
 * No caller enters the port (tp__server_enter_port) after `callers` was found to be 0, because the
 * server is stopping. A caller that was inside before has left, and the slot, task or listener that
 * it leaves behind is seen below. All of this is sequentially consistent. Callers that have a
 * reference to a session may still be on their way out of the port when this is true; wait lets
 * them leave before it frees the port.
 */
static bool stop_is_complete(tp_server *server) {
    return atomic_load(&server->callers) == 0 && !atomic_load(&server->listener.attached) &&
           atomic_load(&server->slots_used) == 0 && atomic_load(&server->tasks.in_port) == 0;
}

/* Peers have their drain time in served time; tp_server_stop_within() promises real time. */
static void sweep_drive_stop(tp_server *server, uint64_t now_ms) {
    assert(atomic_load(&server->sweeping));
    assert(tp__server_state_now(server) > TP__SERVER_RUNNING);
    uint64_t served_ms = tp__server_served_ms(server, TP__ANY_WORKER, now_ms);
    if (!server->drain_begun) {
        server->drain_begun = true;
        server->drain_until_ms = served_ms + server->options.drain_timeout_ms;
    }
    tp__listener_close(server); /* at once, or when start has finished with it */
    bool time_is_over =
        served_ms >= server->drain_until_ms || now_ms >= atomic_load(&server->cut_by_ms);
    if (!server->cut_begun && (time_is_over || atomic_load(&server->no_drain))) {
        server->cut_begun = true;
        atomic_store(&server->state, TP__SERVER_CUTTING);
    }
    if (stop_is_complete(server)) {
        atomic_store(&server->state, TP__SERVER_ENDING);
        tp_port_wake(server->port);
    }
}

/* ---- the sweep ------------------------------------------------------------------------------- */

static bool server_is_stopping(const tp_server *server) {
    return tp__server_state_now(server) > TP__SERVER_RUNNING;
}

/* When the next delayed task is due. Never in a stop, which drops them; nor while a worker runs
 * tasks, because that worker also checks the rest. */
static uint64_t tasks_due_ms(const tp_server *server) {
    bool none = server_is_stopping(server) || atomic_load(&server->tasks.running);
    return none ? UINT64_MAX : atomic_load(&server->tasks.next_due_ms);
}

/* A worker that waits while another runs tasks checks again when that may be over: the next task
 * may be due then, and the other worker blocked in a handler. */
static uint64_t tasks_check_ms(const tp_server *server, uint64_t now) {
    if (!atomic_load(&server->tasks.running) || server_is_stopping(server)) {
        return tasks_due_ms(server);
    }
    uint64_t due = atomic_load(&server->tasks.next_due_ms);
    return due > now ? due : now + TASK_STAND_IN_MS;
}

int tp__sweep_wait_ms(const tp__worker *worker, uint64_t now) {
    tp_server *server = worker->server;
    uint64_t due = atomic_load_explicit(&server->sweep_due_ms, memory_order_relaxed);
    uint64_t task = tasks_check_ms(server, now);
    if (worker->index != atomic_load(&server->timekeeper)) {
        due += STAND_IN_MS;
        task = task < UINT64_MAX ? task + TASK_STAND_IN_MS : task;
    }
    uint64_t next = task < due ? task : due;
    return next > now ? (int)(next - now) : 0;
}

/*
 * Sets when the next sweep is due; true in a stop.
 *
 * A stop sets the state and then this time to 0 (begin_stop() in server_run.c); the sweep sets the
 * time and then reads the state. All four are sequentially consistent: if the sweep's time
 * overwrites that 0, the sweep sees the stop. tests/model/sweep.pml explores this.
 */
static bool sweep_set_next(tp_server *server, uint64_t now) {
    atomic_store(&server->sweep_due_ms, now + TICK_MS);
    if (!server_is_stopping(server)) {
        return false;
    }
    atomic_store(&server->sweep_due_ms, now + STOP_TICK_MS);
    return true;
}

static void sweep_round(tp_server *server, uint64_t now) {
    assert(atomic_load(&server->sweeping));
    bool stop = sweep_set_next(server, now);
    sweep_slots(server, now);
    if (stop) {
        sweep_drive_stop(server, now);
    }
}

static void sweep_try(tp__worker *worker) {
    tp_server *server = worker->server;
    bool idle = false;
    if (atomic_compare_exchange_strong_explicit(
            &server->sweeping, &idle, true, memory_order_acquire, memory_order_relaxed)) {
        atomic_store(&server->timekeeper, worker->index);
        sweep_round(server, tp__worker_now_ms(worker));
        atomic_store_explicit(&server->sweeping, false, memory_order_release);
        sweep_orphans(server);
    }
}

/*
 * One worker at a time, so that delayed tasks run one after another. Meanwhile the other workers
 * ignore the tasks' times. So this worker becomes the timekeeper, and sees in its next wait what
 * has become due first.
 */
static void sweep_run_tasks(tp__worker *worker) {
    tp__tasks *tasks = &worker->server->tasks;
    if (!atomic_exchange(&tasks->running, true)) {
        assert(!worker->runs_tasks);
        worker->runs_tasks = true;
        tp__tasks_run(tasks, tp__worker_now_ms(worker));
        worker->runs_tasks = false;
        atomic_store(&worker->server->timekeeper, worker->index);
        atomic_store(&tasks->running, false);
    }
}

void tp__sweep(tp__worker *worker) {
    TP_ASSERT_ON_WORKER(worker);
    tp_server *server = worker->server;
    uint64_t now = tp__worker_now_ms(worker);
    if (now >= atomic_load_explicit(&server->sweep_due_ms, memory_order_relaxed)) {
        sweep_try(worker);
    }
    if (now >= tasks_due_ms(server)) {
        sweep_run_tasks(worker);
    }
}
