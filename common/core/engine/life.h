/*
 * The life of a session in one 64-bit word.
 *
 *      63       20      19         18          17          16       15    0
 *     [  number  ][ RELEASED ][ CLOSING ][ FINISHING ][ OPENING ][ count ]
 *
 * COUNT is the number of references. The open socket has one, a flush in progress has one, and so
 * has every call inside send, disconnect and the like that entered by id.
 *
 * OPENING: the session has not joined yet. FINISHING: it takes no more packets and ends when its
 * queue is empty. CLOSING: its socket is closed, or about to be. Each of the three turns away calls
 * of the application; only CLOSING lets the session be released.
 *
 * RELEASED is set exactly once per life, by the thread that brings the count to 0 while CLOSING is
 * set. The atomic step that sets it is the one that checks both; the thread that succeeds in it
 * releases the session.
 *
 * NUMBER is the number part of the session's id. So one fetch_add both takes a reference and tells
 * whether the id is stale.
 *
 * A late caller (its id is stale, or closing has begun) has raised the count before it can know
 * that. It gives the reference back, and releases the session if it was the last one. Its transient
 * reference may even fall into the slot's next life. It is given back there, and if that life is
 * just ending, the late caller may be the one that releases it.
 *
 * MEMORY ORDER. Taking a reference is acquire: it sees what tp__life_open() published. Giving one
 * back is acq_rel: everything a thread did while it had a reference happens before the release,
 * because the releasing thread has read all other decrements in the word's modification order.
 * tests/model/life.pml explores these steps.
 */
#ifndef TWINPORT_CORE_ENGINE_LIFE_H
#define TWINPORT_CORE_ENGINE_LIFE_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "twinport/session.h"

#define TP__LIFE_NUMBER_SHIFT 20
#define TP__LIFE_COUNT        UINT64_C(0xFFFF)
#define TP__LIFE_OPENING      (UINT64_C(1) << 16)
#define TP__LIFE_FINISHING    (UINT64_C(1) << 17)
#define TP__LIFE_CLOSING      (UINT64_C(1) << 18)
#define TP__LIFE_RELEASED     (UINT64_C(1) << 19)
#define TP__LIFE_NUMBER       (~UINT64_C(0) << TP__LIFE_NUMBER_SHIFT)
#define TP__LIFE_ENDING       (TP__LIFE_FINISHING | TP__LIFE_CLOSING | TP__LIFE_RELEASED)

typedef _Atomic uint64_t tp__life;

typedef enum tp__life_entry {
    TP__LIFE_ENTERED, /* the caller has a reference */
    TP__LIFE_TURNED_AWAY,
    TP__LIFE_TURNED_AWAY_LAST /* no reference, and the caller must release the session */
} tp__life_entry;

static inline uint64_t tp__life_read(const tp__life *life) {
    return atomic_load_explicit(life, memory_order_acquire);
}

/* A slot without a session. */
static inline void tp__life_init(tp__life *life) {
    atomic_init(life, TP__LIFE_RELEASED);
}

/*
 * Begins a life with one reference, for the socket. Called only by the thread that has taken the
 * free slot. While RELEASED is set, only that thread changes the flags and the number. So adding
 * the difference changes exactly these bits, and keeps the transient references that late callers
 * have in the word at the moment.
 */
static inline void tp__life_open(tp__life *life, tp_session_id id) {
    uint64_t old = atomic_load_explicit(life, memory_order_relaxed);
    assert(old & TP__LIFE_RELEASED || !(old & TP__LIFE_NUMBER)); /* or never used */
    assert((id & TP__LIFE_NUMBER) != 0);
    uint64_t from = old & ~TP__LIFE_COUNT;
    uint64_t to = (id & TP__LIFE_NUMBER) | TP__LIFE_OPENING;
    atomic_fetch_add_explicit(life, to - from + 1, memory_order_acq_rel);
}

/* Takes a further reference. The caller must have one. */
static inline void tp__life_retain(tp__life *life) {
    atomic_fetch_add_explicit(life, 1, memory_order_relaxed);
}

/*
 * Gives a reference back. True: it was the last one of a closing session, and the caller must
 * release the session. The exchange fails only if another thread has taken a transient reference in
 * between; then that thread's reference is the last.
 */
static inline bool tp__life_drop(tp__life *life) {
    uint64_t now = atomic_fetch_sub_explicit(life, 1, memory_order_acq_rel) - 1;
    assert((now & TP__LIFE_COUNT) != TP__LIFE_COUNT); /* it was not 0 */
    if ((now & (TP__LIFE_COUNT | TP__LIFE_CLOSING | TP__LIFE_RELEASED)) != TP__LIFE_CLOSING) {
        return false;
    }
    return atomic_compare_exchange_strong_explicit(
        life, &now, now | TP__LIFE_RELEASED, memory_order_acq_rel, memory_order_relaxed);
}

/* Takes a reference to the session with this id, unless one of the `barred` flags is set. */
static inline tp__life_entry tp__life_enter(tp__life *life, tp_session_id id, uint64_t barred) {
    uint64_t old = atomic_fetch_add_explicit(life, 1, memory_order_acquire);
    if (((old ^ id) & TP__LIFE_NUMBER) == 0 && (old & barred) == 0) {
        return TP__LIFE_ENTERED;
    }
    return tp__life_drop(life) ? TP__LIFE_TURNED_AWAY_LAST : TP__LIFE_TURNED_AWAY;
}

/* The session joins: from here on the application may reach it. False: closing has begun before. */
static inline bool tp__life_joined(tp__life *life) {
    uint64_t old = atomic_fetch_and_explicit(life, ~TP__LIFE_OPENING, memory_order_acq_rel);
    assert(old & TP__LIFE_COUNT); /* the caller has a reference */
    return !(old & TP__LIFE_CLOSING);
}

/* Sets CLOSING only if the session has not joined. So either this step or tp__life_joined() comes
 * first, and the other one fails. True: the caller must close the socket; *before is the previous
 * word. The caller must have a reference. */
static inline bool tp__life_begin_closing_unjoined(tp__life *life, uint64_t *before) {
    *before = atomic_load_explicit(life, memory_order_relaxed);
    do {
        if (!(*before & TP__LIFE_OPENING) || *before & TP__LIFE_CLOSING) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(
        life, before, *before | TP__LIFE_CLOSING, memory_order_acq_rel, memory_order_relaxed));
    return true;
}

/* Sets FINISHING and returns the previous word. The thread that finds neither FINISHING nor CLOSING
 * set in it decides the end reason. The caller must have a reference. */
static inline uint64_t tp__life_begin_finishing(tp__life *life) {
    return atomic_fetch_or_explicit(life, TP__LIFE_FINISHING, memory_order_acq_rel);
}

/* Sets CLOSING and returns the previous word. The thread that finds CLOSING unset in it closes the
 * socket. The caller must have a reference. */
static inline uint64_t tp__life_begin_closing(tp__life *life) {
    return atomic_fetch_or_explicit(life, TP__LIFE_CLOSING, memory_order_acq_rel);
}

#endif
