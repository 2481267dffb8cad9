/*
 * A clock that the test moves, and workers that it stalls, for tests of what a stall of the server
 * does to others. However slow the machine is, no time passes but what the test adds.
 *
 * The product's files that stall.cmake lists are compiled with stall_clock_ms() as their clock. A
 * step is shorter than TP__STALL_GRACE_MS: a larger one is a stall, of the whole process or of the
 * workers that are in a handler. Include once per program.
 */
#ifndef TWINPORT_TESTS_STALL_FIXTURE_H
#define TWINPORT_TESTS_STALL_FIXTURE_H

#undef tp_clock_ms
#include "check.h"
#include "core/engine/server_state.h"
#include "os/clock.h"
#include "raw_peer.h"

enum { STALL_STEP_MS = 25 };

static atomic_ullong stall_stopped_at_ms; /* 0: the real clock */

uint64_t stall_clock_ms(void);
uint64_t stall_clock_ms(void) {
    uint64_t at_ms = atomic_load(&stall_stopped_at_ms);
    return at_ms ? at_ms : tp_clock_ms();
}

static inline void clock_stop(void) {
    atomic_store(&stall_stopped_at_ms, tp_clock_ms());
}

static inline void clock_jump(unsigned ms) {
    atomic_fetch_add(&stall_stopped_at_ms, ms);
}

/* Waits, and gives up after the deadline. */
#define STALL_WAIT(condition)                                                                      \
    do {                                                                                           \
        uint64_t deadline_ = raw_deadline();                                                       \
        bool holds_ = (condition);                                                                 \
        while (!holds_ && tp_clock_ms() < deadline_) {                                             \
            tp_thread_yield();                                                                     \
            holds_ = (condition);                                                                  \
        }                                                                                          \
        check_true(holds_, "in time: " #condition, __FILE__, __LINE__);                            \
        REQUIRE(holds_);                                                                           \
    } while (0)

static struct {
    tp_op op;
    tp__session *session;
    _Atomic(tp__worker *) worker; /* NULL: no worker is stalled */
    atomic_bool begun, ended, done;
} stalled;

/* Whether each worker that is not stalled has read the current time. Otherwise a worker could see
 * several steps as one, which it would take for a stall. */
static inline bool all_read_the_clock(tp_server *server, uint64_t now_ms) {
    for (unsigned i = 0; i < server->options.workers; i++) {
        tp__worker *worker = &server->workers[i];
        if (tp__worker_now_ms(worker) < now_ms && worker != atomic_load(&stalled.worker)) {
            return false;
        }
    }
    return true;
}

static inline bool has_swept(tp_server *server) {
    tp_port_wake(server->port);
    uint64_t now_ms = stall_clock_ms();
    return atomic_load(&server->sweep_due_ms) > now_ms &&
           (atomic_load(&server->tasks.next_due_ms) > now_ms) &&
           !atomic_load(&server->tasks.running) && !atomic_load(&server->sweeping) &&
           all_read_the_clock(server, now_ms);
}

/* Waits until all that is due at the current time has been done. */
static inline void await_sweep(tp_server *server) {
    STALL_WAIT(has_swept(server));
}

/* Lets time pass, in steps that all workers see. */
static inline void pass_time(tp_server *server, unsigned ms) {
    for (unsigned passed = 0; passed < ms; passed += STALL_STEP_MS) {
        clock_jump(STALL_STEP_MS);
        await_sweep(server);
    }
}

/* Lets time pass until the condition holds, 100 s at most. */
#define PASS_UNTIL(server, condition)                                                              \
    do {                                                                                           \
        for (unsigned step_ = 0; step_ < 4000 && !(condition); step_++) {                          \
            pass_time(server, STALL_STEP_MS);                                                      \
        }                                                                                          \
        STALL_WAIT(condition);                                                                     \
    } while (0)

/* ---- a stalled worker ------------------------------------------------------------------------ */

static void stall_here(tp_op *op, const tp_completion *completion) {
    (void)op;
    atomic_store(&stalled.worker, tp_worker_context(completion->worker));
    atomic_store(&stalled.begun, true);
    while (!atomic_load(&stalled.ended)) {
        tp_thread_yield();
    }
    tp__session_drop(stalled.session, TP__REFERENCE_CALL, tp_worker_context(completion->worker));
    atomic_store(&stalled.done, true);
}

/* Stalls the worker that serves the session; any worker, where sessions have no owner. */
static inline void stall_worker_of(tp_server *server, tp_session_id session) {
    atomic_store(&stalled.begun, false);
    atomic_store(&stalled.ended, false);
    atomic_store(&stalled.done, false);
    stalled.op.done = stall_here;
    stalled.session = tp__session_enter(server, session, TP__LIFE_CLOSING);
    REQUIRE(stalled.session != NULL);
    REQUIRE(tp__session_post(stalled.session, &stalled.op));
    STALL_WAIT(atomic_load(&stalled.begun));
}

/* Ends the stall, and waits until the worker has read the clock, before more time passes. */
static inline void end_stall(tp_server *server) {
    atomic_store(&stalled.ended, true);
    STALL_WAIT(atomic_load(&stalled.done));
    atomic_store(&stalled.worker, NULL);
    STALL_WAIT(all_read_the_clock(server, stall_clock_ms()));
}

/* The same after a jump of the clock: the whole time passes in one step. */
static inline void end_stall_after(tp_server *server, unsigned ms) {
    clock_jump(ms);
    end_stall(server);
}

/* NULL: sessions have no owner here. */
static inline tp__worker *owner_of(tp_server *server, tp_session_id session) {
    return atomic_load(&server->sessions[tp_session_slot(session)].owner);
}

#endif
