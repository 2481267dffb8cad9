/*
 * The size of a session's send queue, in packets and bytes. A packet counts from the moment when it
 * is admitted until the send that carried it is done.
 *
 * The size is kept in two words, so that a packet that the owner worker queues costs no locked
 * instruction:
 *
 *     own      written only by the session's owner: what the owner admitted, minus everything sent
 *     others   what all other threads admitted, by atomic addition; on ports without owners (iocp)
 *              everything, what was sent being subtracted here
 *
 * Each word is packets << 36 | bytes. Only their sum modulo 2^64 has a meaning, because the owner
 * subtracts from `own` what other threads added to `others`. The largest limits are 2^32 - 1 bytes
 * and 2^24 - 1 packets, both times TP_QUEUE_STALL_FACTOR. The two fields of the sum leave 48 GiB
 * and 12 times 2^24 packets beyond that, for what many threads add at the same moment.
 *
 * MEMORY ORDER. A reader loads `own` first, by acquire, and then `others`. If it sees a subtraction
 * in `own`, the addition of the same packet to `others` happened before that: the packet was added,
 * pushed (release), taken (acquire), sent and subtracted (release). So the reader's later load of
 * `others` sees the addition. The sum can miss only what is being admitted at that moment, and
 * never falls below 0. It may be too high by what the owner has sent between the two loads; a
 * thread that would reject a packet for that reads again (tp__queue_size_stable).
 */
#ifndef TWINPORT_CORE_ENGINE_QUEUE_SIZE_H
#define TWINPORT_CORE_ENGINE_QUEUE_SIZE_H

#include <assert.h>
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
 * The same, but not outdated. Between the two loads the owner may have sent much of what is in
 * `others`, and the sum is then too high by that. So both are read again until `own` has not
 * changed in between; after TP__QUEUE_SIZE_READS reads, more than a running reader needs, the last
 * sum is returned. Any thread.
 */
#define TP__QUEUE_SIZE_READS 64
static inline uint64_t tp__queue_size_stable(const tp__queue_size *size) {
    uint64_t own = atomic_load_explicit(&size->own, memory_order_acquire);
    uint64_t sum = 0;
    for (unsigned reads = 0; reads < TP__QUEUE_SIZE_READS; reads++) {
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

/* Adds to `own`, or subtracts from it with UINT64_C(0) - amount. The owner only. */
static inline void tp__queue_size_add_own(tp__queue_size *size, uint64_t amount) {
    uint64_t own = atomic_load_explicit(&size->own, memory_order_relaxed);
    atomic_store_explicit(&size->own, own + amount, memory_order_release);
}

/* Adds to `others`; returns the sum, this amount included. Any thread. */
static inline uint64_t tp__queue_size_add(tp__queue_size *size, uint64_t amount) {
    assert(amount > 0);
    uint64_t own = atomic_load_explicit(&size->own, memory_order_acquire);
    return own + amount + atomic_fetch_add_explicit(&size->others, amount, memory_order_relaxed);
}

/* Subtracts from `others` what this thread has added or, on ports without owners, what was sent.
 * Any thread. */
static inline void tp__queue_size_subtract(tp__queue_size *size, uint64_t amount) {
    atomic_fetch_sub_explicit(&size->others, amount, memory_order_relaxed);
}

/* Adds `amount` if the size is 0. Any thread. */
static inline bool tp__queue_size_add_if_zero(tp__queue_size *size, uint64_t amount) {
    uint64_t others;
    assert(amount > 0);
    do {
        if (tp__queue_size_stable(size) != 0) {
            return false;
        }
        others = UINT64_C(0) - atomic_load_explicit(&size->own, memory_order_acquire);
    } while (!atomic_compare_exchange_weak_explicit(
        &size->others, &others, others + amount, memory_order_relaxed, memory_order_relaxed));
    return true;
}

#endif
