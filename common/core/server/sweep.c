/*
 * The sweep: everything that happens by the clock.
 *
 * Any worker may do it, one at a time (`sweeping`); the others go on. What belongs to the sweep
 * alone is handed from one to the next by that flag, acquire and release. No function of the
 * content's is called under it: delayed tasks run beside it.
 *
 * WHO WAKES. The keeper, the worker that did it last, wakes when something is due. Every other one
 * wakes STAND_IN_MS later at the latest, or TASK_STAND_IN_MS where a delayed task is due, and finds
 * most times that it has been done; if the keeper is held up in a handler, that worker does it and
 * is the keeper from then on. So as long as one worker is free, nothing is late by more than that,
 * and once it is the keeper, not even so much.
 */
#include "core/engine/server_state.h"
#include "proto/frame.h"

#define TICK_MS          100u /* between sweeps of a running server */
#define STOP_TICK_MS     10u  /* ... of a stopping one */
#define STAND_IN_MS      200u /* what a keeper may be late before another worker stands in */
#define TASK_STAND_IN_MS 50u /* ... with a task: those are promised to go to others within 100 ms */
#define SLICE_MIN                                                                                  \
    4096u /* slots looked at in one sweep, or a tenth of all: each is seen once a second */

/* ---- one session ----------------------------------------------------------------------------- */

/*
 * Nobody is ended for silence that has not been sent PING and been given its time to answer, nor
 * for what its own worker did not listen to. With a sweep in time that is when the idle time-out
 * says.
 */
static void tend_idle(tp__session *session, uint64_t served_ms) {
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

/* An outgoing connection that is not established, or one that is pending under a layer;
 * finish_by_ms says that its socket is attached. */
static bool coming_about(const tp__session *session, uint64_t life) {
    return (life & (TP__LIFE_OPENING | TP__LIFE_FINISHING)) == TP__LIFE_OPENING &&
           (session->outgoing || session->server->layer.begin);
}

static void give_up_waiting(tp__session *session, bool stop) {
    tp_end_reason late = session->outgoing ? TP_END_CONNECT_FAILED : TP_END_IDLE;
    tp__session_close_unjoined(session, stop && !session->outgoing ? TP_END_SHUTDOWN : late);
}

/* The session is held. `life` is its word as it was read before: what FINISHING promises about
 * finish_by_ms is seen, for that is read after it. */
static void tend(tp__session *session, uint64_t life, uint64_t now_ms) {
    tp_server *server = session->server;
    uint64_t cut_ms = atomic_load_explicit(&session->finish_by_ms, memory_order_acquire);
    if (!cut_ms && life & TP__LIFE_OPENING) {
        return; /* its socket may not be there yet */
    }
    uint64_t served_ms = tp__session_served_ms(session, now_ms);
    if (cut_ms && (served_ms >= cut_ms || server->drain_begun) && coming_about(session, life)) {
        give_up_waiting(session, server->drain_begun);
    } else if (life & TP__LIFE_FINISHING && (served_ms >= cut_ms || server->cut_begun)) {
        tp__session_close(session, TP_END_SHUTDOWN, 0); /* its own reason stands */
    } else if (life & TP__LIFE_OPENING) {
        return;
    } else if (server->cut_begun) {
        tp__session_close(session, TP_END_SHUTDOWN, 0);
    } else if (server->drain_begun) {
        tp__session_finish(session, TP_END_SHUTDOWN, TP_CLOSE_SHUTDOWN);
    } else {
        tend_idle(session, served_ms);
    }
}

static void look_at(tp_server *server, uint32_t index, uint64_t now_ms) {
    uint64_t life = tp__life_read(&server->sessions[index].life);
    if ((life & TP__LIFE_NUMBER) == 0 || life & (TP__LIFE_CLOSING | TP__LIFE_RELEASED)) {
        return;
    }
    tp__session *session =
        tp__session_enter(server, (life & TP__LIFE_NUMBER) | index, TP__LIFE_CLOSING);
    if (session) {
        tend(session, life, now_ms);
        tp__session_leave(session);
    }
}

static void look_at_slots(tp_server *server, uint64_t now_ms) {
    uint32_t used = atomic_load_explicit(&server->slots.used, memory_order_acquire);
    uint32_t slice = used / 10 > SLICE_MIN ? used / 10 : SLICE_MIN;
    if (server->drain_begun || slice > used) {
        slice = used;
    }
    for (uint32_t i = 0; i < slice; i++) {
        if (server->sweep_from >= used) {
            server->sweep_from = 0;
        }
        look_at(server, server->sweep_from++, now_ms);
    }
}

/* Tries again to have them carried to their workers. */
static void release_orphans(tp_server *server) {
    tp__session *session = atomic_exchange_explicit(&server->orphans, NULL, memory_order_acquire);
    while (session) {
        tp__session *next = session->next;
        tp__session_release_later(session);
        session = next;
    }
}

/* ---- a stop's progress ----------------------------------------------------------------------- */

/*
 * Nobody who comes through the door (tp__server_enter_port) after `callers` was found to be 0 gets
 * in, for the server is stopping; who was in before has left, and the slot, task or listener he
 * leaves behind is seen below. All of it is sequentially consistent. Callers that hold a session
 * may still be on their way out of the port when this is true: wait lets them leave before it frees
 * the port.
 */
static bool nothing_left(tp_server *server) {
    return atomic_load(&server->callers) == 0 && !atomic_load(&server->listener.attached) &&
           atomic_load(&server->slots_used) == 0 && atomic_load(&server->tasks.in_port) == 0;
}

/* What peers may take is served time; what whoever stops it is promised is the clock's. */
static void drive_stop(tp_server *server, uint64_t now_ms) {
    uint64_t served_ms = tp__server_served_ms(server, TP__ANY_WORKER, now_ms);
    if (!server->drain_begun) {
        server->drain_begun = true;
        server->drain_until_ms = served_ms + server->options.drain_timeout_ms;
    }
    tp__listener_close(server); /* at once, or when start has done with it */
    bool time_is_over =
        served_ms >= server->drain_until_ms || now_ms >= atomic_load(&server->cut_by_ms);
    if (!server->cut_begun && (time_is_over || atomic_load(&server->hurry))) {
        server->cut_begun = true;
        atomic_store(&server->state, TP__SERVER_CUTTING);
    }
    if (nothing_left(server)) {
        atomic_store(&server->state, TP__SERVER_ENDING);
        tp_port_wake(server->port);
    }
}

/* ---- the sweep ------------------------------------------------------------------------------- */

static bool stopping(const tp_server *server) {
    return tp__server_state_now(server) > TP__SERVER_RUNNING;
}

/* When the next delayed task is due, or never: not in a stop, which drops them, nor while somebody
 * runs some, who then looks at the rest as well. */
static uint64_t tasks_due_ms(const tp_server *server) {
    bool none = stopping(server) || atomic_load(&server->tasks.running);
    return none ? UINT64_MAX : atomic_load(&server->tasks.next_due_ms);
}

/* Who goes to sleep while another runs tasks looks again when it may have ended: the next one may
 * be due, and that other one in a handler. */
static uint64_t tasks_look_ms(const tp_server *server, uint64_t now) {
    if (!atomic_load(&server->tasks.running) || stopping(server)) {
        return tasks_due_ms(server);
    }
    uint64_t due = atomic_load(&server->tasks.next_due_ms);
    return due > now ? due : now + TASK_STAND_IN_MS;
}

int tp__sweep_wait_ms(const tp__worker *worker, uint64_t now) {
    tp_server *server = worker->server;
    uint64_t due = atomic_load_explicit(&server->sweep_due_ms, memory_order_relaxed);
    uint64_t task = tasks_look_ms(server, now);
    if (worker->index != atomic_load(&server->keeper)) {
        due += STAND_IN_MS;
        task = task < UINT64_MAX ? task + TASK_STAND_IN_MS : task;
    }
    uint64_t next = task < due ? task : due;
    return next > now ? (int)(next - now) : 0;
}

/*
 * Says when the next sweep is due; true in a stop.
 *
 * A stop sets the state and then the time to 0 (begin_stop); this sets the time and then looks at
 * the state. All four are sequentially consistent: if this time overwrites that 0, the stop is
 * seen here. tests/model/sweep.pml explores it.
 */
static bool set_next(tp_server *server, uint64_t now) {
    atomic_store(&server->sweep_due_ms, now + TICK_MS);
    if (!stopping(server)) {
        return false;
    }
    atomic_store(&server->sweep_due_ms, now + STOP_TICK_MS);
    return true;
}

static void sweep_now(tp_server *server, uint64_t now) {
    bool stop = set_next(server, now);
    look_at_slots(server, now);
    if (stop) {
        drive_stop(server, now);
    }
}

static void sweep(tp__worker *worker) {
    tp_server *server = worker->server;
    bool idle = false;
    if (atomic_compare_exchange_strong_explicit(
            &server->sweeping, &idle, true, memory_order_acquire, memory_order_relaxed)) {
        atomic_store(&server->keeper, worker->index);
        sweep_now(server, tp__worker_now_ms(worker));
        atomic_store_explicit(&server->sweeping, false, memory_order_release);
        release_orphans(server);
    }
}

/*
 * One worker at a time, so that delayed tasks come one after another. While it runs them the others
 * leave the tasks' times out of account; so it is the keeper afterwards, and sees in its next wait
 * what has become due first.
 */
static void run_tasks(tp__worker *worker) {
    tp__tasks *tasks = &worker->server->tasks;
    if (!atomic_exchange(&tasks->running, true)) {
        worker->runs_tasks = true;
        tp__tasks_run(tasks, tp__worker_now_ms(worker));
        worker->runs_tasks = false;
        atomic_store(&worker->server->keeper, worker->index);
        atomic_store(&tasks->running, false);
    }
}

void tp__sweep(tp__worker *worker) {
    tp_server *server = worker->server;
    uint64_t now = tp__worker_now_ms(worker);
    if (now >= atomic_load_explicit(&server->sweep_due_ms, memory_order_relaxed)) {
        sweep(worker);
    }
    if (now >= tasks_due_ms(server)) {
        run_tasks(worker);
    }
}
