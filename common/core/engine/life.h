/*
 * The life of a session in one 64-bit word.
 *
 *     63            20  19        18       17         16       15      0
 *     [ number      ]  [released][closing][finishing][opening][ count  ]
 *
 * COUNT is how many hold the session: the open socket holds one, a flush in progress holds one, and
 * so does every caller inside send, disconnect and the like. RELEASED is set exactly once per life,
 * by the holder who brings the count to 0 while CLOSING is set, in the same atomic step that sees
 * both; that holder releases the session. NUMBER is the number part of the session's id, so that
 * one fetch_add both takes a hold and tells whether the id is stale.
 *
 * A late caller (stale id, or closing has begun) has raised the count before it could know: it
 * gives the count back, and if it was the last, releases. Its transient count may even fall into
 * the slot's next life; it is given back there, and if that life was just ending, the late caller
 * releases that one.
 *
 * MEMORY ORDER. Taking a hold is acquire: it sees what tp__life_open() published. Giving one back
 * is acq_rel: everything a holder did happens before the release, which the last one performs after
 * reading all others' decrements in the word's modification order. tests/model/life.pml explores
 * these steps.
 *
 * OPENING: not joined yet. FINISHING: takes no more sends, ends when its queue is empty. Both turn
 * callers of content away just as CLOSING does, but do not let the session be released.
 */
#ifndef TWINPORT_CORE_ENGINE_LIFE_H
#define TWINPORT_CORE_ENGINE_LIFE_H

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
    TP__LIFE_ENTERED, /* a hold is yours */
    TP__LIFE_TURNED_AWAY,
    TP__LIFE_TURNED_AWAY_LAST /* and you must release the session */
} tp__life_entry;

static inline uint64_t tp__life_read(const tp__life *life) {
    return atomic_load_explicit(life, memory_order_acquire);
}

/* A slot that nobody lives in. */
static inline void tp__life_init(tp__life *life) {
    atomic_init(life, TP__LIFE_RELEASED);
}

/*
 * A new life with one hold, for the socket. Only the owner of a free slot calls it. The flags and
 * the number are the owner's alone while RELEASED is set, so adding their difference changes
 * exactly them and keeps the counts that late callers have in the word at this moment.
 */
static inline void tp__life_open(tp__life *life, tp_session_id id) {
    uint64_t old = atomic_load_explicit(life, memory_order_relaxed);
    uint64_t from = old & ~TP__LIFE_COUNT;
    uint64_t to = (id & TP__LIFE_NUMBER) | TP__LIFE_OPENING;
    atomic_fetch_add_explicit(life, to - from + 1, memory_order_acq_rel);
}

/* Another hold for somebody who has one. */
static inline void tp__life_hold(tp__life *life) {
    atomic_fetch_add_explicit(life, 1, memory_order_relaxed);
}

/*
 * Gives a hold back. True: it was the last of a closing session, and the caller is the one who
 * releases it. The exchange fails only if somebody took a transient hold in between; then that one
 * is the last.
 */
static inline bool tp__life_drop(tp__life *life) {
    uint64_t now = atomic_fetch_sub_explicit(life, 1, memory_order_acq_rel) - 1;
    if ((now & (TP__LIFE_COUNT | TP__LIFE_CLOSING | TP__LIFE_RELEASED)) != TP__LIFE_CLOSING) {
        return false;
    }
    return atomic_compare_exchange_strong_explicit(
        life, &now, now | TP__LIFE_RELEASED, memory_order_acq_rel, memory_order_relaxed);
}

/* Takes a hold of the session with this id, unless one of the `barred` flags is set. */
static inline tp__life_entry tp__life_enter(tp__life *life, tp_session_id id, uint64_t barred) {
    uint64_t old = atomic_fetch_add_explicit(life, 1, memory_order_acquire);
    if (((old ^ id) & TP__LIFE_NUMBER) == 0 && (old & barred) == 0) {
        return TP__LIFE_ENTERED;
    }
    return tp__life_drop(life) ? TP__LIFE_TURNED_AWAY_LAST : TP__LIFE_TURNED_AWAY;
}

/* The session joins: content may reach it from here on. False: closing has begun before. */
static inline bool tp__life_joined(tp__life *life) {
    uint64_t old = atomic_fetch_and_explicit(life, ~TP__LIFE_OPENING, memory_order_acq_rel);
    return !(old & TP__LIFE_CLOSING);
}

/* Sets CLOSING only if the session has not joined; so of this and tp__life_joined() one is first,
 * and the other is told. True: the caller closes the socket, and *before is the word before. A
 * holder calls it. */
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

/* Sets FINISHING; returns the word before. A holder calls it; the one who finds neither FINISHING
 * nor CLOSING set in what it returns decides why the session ends. */
static inline uint64_t tp__life_begin_finishing(tp__life *life) {
    return atomic_fetch_or_explicit(life, TP__LIFE_FINISHING, memory_order_acq_rel);
}

/* Sets CLOSING; returns the word before. A holder calls it; the one who finds CLOSING unset in what
 * it returns closes the socket. */
static inline uint64_t tp__life_begin_closing(tp__life *life) {
    return atomic_fetch_or_explicit(life, TP__LIFE_CLOSING, memory_order_acq_rel);
}

#endif
