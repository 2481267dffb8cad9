/*
 * How much a session's send queue holds: packets and bytes, counted from the moment when a packet
 * is let in until the send that carried it is done.
 *
 * One number, kept in two halves, so that what a session's own worker sends it costs no locked
 * instruction:
 *
 *     own      written by the session's home alone: what home let in, less all that was sent
 *     others   what any other thread let in, by atomic addition; without a home (iocp) everything
 *
 * Both are packets << 36 | bytes, and only their sum modulo 2^64 means something: home takes off
 * `own` what other threads added to `others`. The sum's halves have room beyond the largest limits
 * (2^32 - 1 bytes, 2^24 - 1 packets, both times TP_QUEUE_STALL_FACTOR) for what many threads try at
 * the same moment: 48 GiB, 12 times 2^24 packets.
 *
 * MEMORY ORDER. A reader loads `own` first, by acquire, and `others` after it. If it sees a
 * subtraction in `own`, then the addition of the same packet to `others` happened before that: it
 * was added, pushed (release), taken (acquire), sent and subtracted (release). So the reader's
 * later load of `others` sees the addition, and the sum is never too low by more than what was let
 * in at this very moment: it never falls below 0. It may be too high by what home has sent between
 * the two loads; whoever would turn a packet away for it looks again (tp__queue_size_surely).
 */
#ifndef TWINPORT_CORE_ENGINE_QUEUE_SIZE_H
#define TWINPORT_CORE_ENGINE_QUEUE_SIZE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define TP__QUEUED_SHIFT 36
#define TP__QUEUED_ONE   (UINT64_C(1) << TP__QUEUED_SHIFT)
#define TP__QUEUED_BYTES (TP__QUEUED_ONE - 1)

typedef struct tp__queue_size {
    _Atomic uint64_t own;
    _Atomic uint64_t others;
} tp__queue_size;

static inline void tp__queue_size_init(tp__queue_size *size) {
    atomic_init(&size->own, 0);
    atomic_init(&size->others, 0);
}

/* Any thread. */
static inline uint64_t tp__queue_size_now(const tp__queue_size *size) {
    uint64_t own = atomic_load_explicit(&size->own, memory_order_acquire);
    return own + atomic_load_explicit(&size->others, memory_order_relaxed);
}

/*
 * The same, but not stale: between the two loads home may have sent much of what is in `others`,
 * and the sum is then too high by that. It is looked again until home did nothing in between; after
 * TP__QUEUE_SIZE_LOOKS, which no reader that runs needs, the sum stands as it is. Any thread.
 */
#define TP__QUEUE_SIZE_LOOKS 64
static inline uint64_t tp__queue_size_surely(const tp__queue_size *size) {
    uint64_t own = atomic_load_explicit(&size->own, memory_order_acquire);
    uint64_t sum = 0;
    for (unsigned looks = 0; looks < TP__QUEUE_SIZE_LOOKS; looks++) {
        /* Acquire: the second load of `own` stays behind it. */
        sum = own + atomic_load_explicit(&size->others, memory_order_acquire);
        uint64_t again = atomic_load_explicit(&size->own, memory_order_acquire);
        if (again == own) {
            break;
        }
        own = again;
    }
    return sum;
}

/* Adds to the own half, or, with UINT64_C(0) - amount, takes off it. Home's alone. */
static inline void tp__queue_size_add_own(tp__queue_size *size, uint64_t amount) {
    uint64_t own = atomic_load_explicit(&size->own, memory_order_relaxed);
    atomic_store_explicit(&size->own, own + amount, memory_order_release);
}

/* Adds as any thread may; returns the sum with it. */
static inline uint64_t tp__queue_size_add(tp__queue_size *size, uint64_t amount) {
    uint64_t own = atomic_load_explicit(&size->own, memory_order_acquire);
    return own + amount + atomic_fetch_add_explicit(&size->others, amount, memory_order_relaxed);
}

/* Takes off what this thread has added, or, without a home, what was sent. Any thread. */
static inline void tp__queue_size_take_off(tp__queue_size *size, uint64_t amount) {
    atomic_fetch_sub_explicit(&size->others, amount, memory_order_relaxed);
}

/* Adds if there is nothing. Any thread. */
static inline bool tp__queue_size_add_to_none(tp__queue_size *size, uint64_t amount) {
    uint64_t others;
    do {
        if (tp__queue_size_surely(size) != 0) {
            return false;
        }
        others = UINT64_C(0) - atomic_load_explicit(&size->own, memory_order_acquire);
    } while (!atomic_compare_exchange_weak_explicit(
        &size->others, &others, others + amount, memory_order_relaxed, memory_order_relaxed));
    return true;
}

#endif
