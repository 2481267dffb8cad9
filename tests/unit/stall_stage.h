/*
 * A clock that the test moves, and workers that it holds up: for the tests of what a stall of ours
 * does to others. However slow this machine is, no time passes but what the test says.
 *
 * The product's files that are compiled for such a test (stall.cmake) ask stall_clock_ms() for the
 * time. A step is less than TP__HELD_UP_MS: a larger one is a stall, of the whole process or of
 * the workers that are in a handler. Include once.
 */
#ifndef TWINPORT_TESTS_STALL_STAGE_H
#define TWINPORT_TESTS_STALL_STAGE_H

#undef tp_clock_ms
#include "check.h"
#include "core/engine/server_state.h"
#include "os/clock.h"
#include "raw_peer.h"

enum { STALL_STEP_MS = 25 };

static atomic_ullong stall_stopped_at_ms; /* 0: the clock goes */

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

/* Gives up when it never comes true. */
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
    _Atomic(tp__worker *) worker; /* NULL: none is held up */
    atomic_bool begun, over, done;
} held;

/* Each worker that is not held up has read the clock as it is now: so none sees several steps as
 * one, which it would take for a stall. */
static inline bool all_read_the_clock(tp_server *server, uint64_t now_ms) {
    for (unsigned i = 0; i < server->options.workers; i++) {
        tp__worker *worker = &server->workers[i];
        if (tp__worker_now_ms(worker) < now_ms && worker != atomic_load(&held.worker)) {
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

/* Somebody has done what is due by the clock, as it is now. */
static inline void let_sweep(tp_server *server) {
    STALL_WAIT(has_swept(server));
}

/* Time passes, and is seen. */
static inline void pass(tp_server *server, unsigned ms) {
    for (unsigned passed = 0; passed < ms; passed += STALL_STEP_MS) {
        clock_jump(STALL_STEP_MS);
        let_sweep(server);
    }
}

/* Until it holds: at most 100 s pass. */
#define PASS_UNTIL(server, condition)                                                              \
    do {                                                                                           \
        for (unsigned step_ = 0; step_ < 4000 && !(condition); step_++) {                          \
            pass(server, STALL_STEP_MS);                                                           \
        }                                                                                          \
        STALL_WAIT(condition);                                                                     \
    } while (0)

/* ---- a worker is held up --------------------------------------------------------------------- */

static void hold_up(tp_op *op, const tp_completion *completion) {
    (void)op;
    atomic_store(&held.worker, tp_worker_context(completion->worker));
    atomic_store(&held.begun, true);
    while (!atomic_load(&held.over)) {
        tp_thread_yield();
    }
    tp__session_drop(held.session, tp_worker_context(completion->worker));
    atomic_store(&held.done, true);
}

/* The worker that serves the session; where any does, any. */
static inline void hold_worker_of(tp_server *server, tp_session_id session) {
    atomic_store(&held.begun, false);
    atomic_store(&held.over, false);
    atomic_store(&held.done, false);
    held.op.done = hold_up;
    held.session = tp__session_enter(server, session, TP__LIFE_CLOSING);
    REQUIRE(held.session != NULL);
    REQUIRE(tp__session_post(held.session, &held.op));
    STALL_WAIT(atomic_load(&held.begun));
}

/* The worker has read the clock before more time passes. */
static inline void let_worker_go(tp_server *server) {
    atomic_store(&held.over, true);
    STALL_WAIT(atomic_load(&held.done));
    atomic_store(&held.worker, NULL);
    STALL_WAIT(all_read_the_clock(server, stall_clock_ms()));
}

/* The same, and time passes meanwhile, all at once. */
static inline void worker_has_stood_still(tp_server *server, unsigned ms) {
    clock_jump(ms);
    let_worker_go(server);
}

/* NULL: sessions have no workers of their own here. */
static inline tp__worker *home_of(tp_server *server, tp_session_id session) {
    return atomic_load(&server->sessions[tp_session_slot(session)].home);
}

#endif
