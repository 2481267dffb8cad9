/*
 * The list of unacknowledged messages, in the order of sending: a bounded ring buffer of short
 * entries. The hub has one for each peer, lanclient has one for its connection to the hub. The
 * names use `unconfirmed`, like the setting.
 *
 *     head <= tail <= head + limit;   entries head..tail-1 are unacknowledged.
 *
 * Exception: a receiver that acknowledges a message before it has it, while that message is pushed
 * and then undone, leaves head at tail + 1. Until the next push the list is empty.
 *
 * THREADS. Pushing, undoing, growing, trimming and reading entries happen under the lock of the
 * ring's owner. It is the lock under which the message itself is queued; so both have the same
 * order. tp__unconfirmed_confirm() needs no lock. It is called by the one thread at a time that
 * receives the acknowledgements; it moves `head` and never reads the entries, so the ring may grow
 * meanwhile.
 *
 * MEMORY ORDER. The tail is stored before the message is queued. An acknowledgement follows the
 * message over the network, so it finds a tail that covers it. Head is stored with release and
 * loaded with acquire only so that counts which depend on it do not run ahead of it; it publishes
 * no other memory.
 */
#ifndef TWINPORT_BUS_UNACKED_H
#define TWINPORT_BUS_UNACKED_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "core/base/invariant.h"
#include "core/memory/grow.h"
#include "core/memory/memory.h"
#include "os/compiler.h"

typedef struct tp__sent {
    uint32_t source; /* hub: the peer to return it to */
    uint32_t correlation;
    uint32_t destination; /* as its sender wrote it */
    uint8_t kind;
    uint8_t reserved[3];
} tp__sent;

typedef struct tp__unconfirmed {
    _Atomic uint64_t head; /* acknowledged so far */
    _Atomic uint64_t tail; /* sent so far */
    tp__sent *ring;        /* entry n is ring[n & (capacity - 1)]; NULL while capacity is 0 */
    uint32_t capacity;     /* a power of two, or 0 */
    uint32_t limit;
} tp__unconfirmed;

#define TP__UNCONFIRMED_FIRST_SIZE 64u

typedef enum tp__push { TP__PUSHED, TP__PUSH_FULL, TP__PUSH_NO_MEMORY } tp__push;

/* An empty ring, both counts 0; `limit` 1..TP_BUS_UNCONFIRMED_MAX. It has no memory before the
 * first push. */
static inline void tp__unconfirmed_init(tp__unconfirmed *ring, uint32_t limit) {
    assert(limit > 0);
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
    ring->ring = NULL;
    ring->capacity = 0;
    ring->limit = limit;
}

static inline uint64_t tp__unconfirmed_head(const tp__unconfirmed *ring) {
    return atomic_load_explicit(&ring->head, memory_order_acquire);
}

static inline uint64_t tp__unconfirmed_tail(const tp__unconfirmed *ring) {
    return atomic_load_explicit(&ring->tail, memory_order_acquire);
}

/* The number of acknowledged messages. A receiver may acknowledge a message whose push is then
 * undone; that is none. Exact under the lock. */
static inline uint64_t tp__unconfirmed_acknowledged(const tp__unconfirmed *ring) {
    uint64_t head = tp__unconfirmed_head(ring);
    uint64_t tail = tp__unconfirmed_tail(ring);
    return head < tail ? head : tail;
}

/* The number of unacknowledged messages. Exact under the lock. Head is read first: since then the
 * tail can only have grown, except for a push that was undone, which the sign accounts for. */
static inline uint32_t tp__unconfirmed_count(const tp__unconfirmed *ring) {
    uint64_t head = tp__unconfirmed_head(ring);
    int64_t count = (int64_t)(tp__unconfirmed_tail(ring) - head);
    return count > 0 ? (uint32_t)count : 0;
}

/* The first invariant that does not hold, or NULL. Under the lock. `head` may grow meanwhile, so it
 * is read once, and first: a growing head only lowers the count, and it never passes tail + 1. */
static inline const char *tp__unconfirmed_check(const tp__unconfirmed *ring) {
    uint64_t head = tp__unconfirmed_head(ring);
    uint64_t tail = tp__unconfirmed_tail(ring);
    uint64_t count = head < tail ? tail - head : 0;
    TP__INVARIANT(head <= tail + 1);
    TP__INVARIANT(count <= ring->limit);
    TP__INVARIANT(count <= ring->capacity);
    TP__INVARIANT((ring->capacity & (ring->capacity - 1)) == 0);
    TP__INVARIANT(ring->capacity <= TP__UNCONFIRMED_FIRST_SIZE || ring->capacity / 2 < ring->limit);
    TP__INVARIANT((ring->ring == NULL) == (ring->capacity == 0));
    return NULL;
}

/* Frees the memory and empties the ring. Under the lock. */
static inline void tp__unconfirmed_clear(tp__unconfirmed *ring) {
    TP__VERIFY(tp__unconfirmed_check(ring));
    tp__free(ring->ring);
    tp__unconfirmed_init(ring, ring->limit);
}

/* Doubles the capacity. False: no memory, nothing changed. Under the lock. */
static inline bool tp__unconfirmed_grow(tp__unconfirmed *ring) {
    assert(ring->capacity < ring->limit);
    uint32_t capacity = tp__doubled(ring->capacity, TP__UNCONFIRMED_FIRST_SIZE);
    tp__sent *larger = tp__allocate(capacity * sizeof *larger);
    if (!larger) {
        return false;
    }
    uint64_t tail = tp__unconfirmed_tail(ring);
    for (uint64_t n = tp__unconfirmed_head(ring); n < tail; n++) {
        larger[n & (capacity - 1)] = ring->ring[n & (ring->capacity - 1)];
    }
    tp__free(ring->ring);
    ring->ring = larger;
    ring->capacity = capacity;
    TP__VERIFY(tp__unconfirmed_check(ring));
    return true;
}

/* Appends an entry. Under the lock, directly before the message is queued. */
static inline tp__push tp__unconfirmed_push(tp__unconfirmed *ring, tp__sent entry) {
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint32_t count = tp__unconfirmed_count(ring);
    if (TP_UNLIKELY(count >= ring->limit)) {
        return TP__PUSH_FULL;
    }
    if (TP_UNLIKELY(count == ring->capacity) && !tp__unconfirmed_grow(ring)) {
        return TP__PUSH_NO_MEMORY;
    }
    assert(count < ring->capacity && ring->ring);
    ring->ring[tail & (ring->capacity - 1)] = entry;
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    return TP__PUSHED;
}

/* Undoes the last push, because the message could not be queued. Without releasing the lock in
 * between. */
static inline void tp__unconfirmed_undo(tp__unconfirmed *ring) {
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    assert(tail > 0);
    atomic_store_explicit(&ring->tail, tail - 1, memory_order_release);
}

/*
 * Processes an acknowledgement. `count` is the cumulative number of messages that the other side
 * has processed, modulo 2^32. False: more than were sent. A count that is not newer than the last
 * has no effect, and the result is true. One thread at a time, without the lock.
 */
static inline bool tp__unconfirmed_confirm(tp__unconfirmed *ring, uint32_t count) {
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint32_t more = count - (uint32_t)head;
    if (more == 0 || more > UINT32_MAX / 2) {
        return true;
    }
    if (TP_UNLIKELY((int64_t)(tp__unconfirmed_tail(ring) - head) < (int64_t)more)) {
        return false;
    }
    atomic_store_explicit(&ring->head, head + more, memory_order_release);
    return true;
}

/* Entry n, head <= n < tail. Under the lock. */
static inline tp__sent tp__unconfirmed_at(const tp__unconfirmed *ring, uint64_t n) {
    assert(ring->ring && n < tp__unconfirmed_tail(ring));
    return ring->ring[n & (ring->capacity - 1)];
}

/* Frees the memory if the ring is empty. Under the lock. */
static inline void tp__unconfirmed_trim(tp__unconfirmed *ring) {
    TP__VERIFY(tp__unconfirmed_check(ring));
    if (ring->ring && tp__unconfirmed_count(ring) == 0) {
        tp__free(ring->ring);
        ring->ring = NULL;
        ring->capacity = 0;
    }
}

#endif
