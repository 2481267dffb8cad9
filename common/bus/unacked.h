/*
 * What was sent and is not confirmed yet, in the order of sending: a bounded ring of short entries.
 * The hub of the bus keeps one for each peer, lanclient one for its connection to the hub.
 *
 *     head <= tail <= head + limit;   entries head..tail-1 are unconfirmed.
 *
 * THREADS. Pushing, undoing, growing, shrinking and reading entries are the owner's, under the
 * owner's lock: the same lock under which the message itself is queued, which is what keeps both
 * orders equal. Confirming is done without it, by the one thread at a time that receives the
 * confirmations: it moves `head` and never looks into the ring, so growing may move the entries
 * meanwhile.
 *
 * MEMORY ORDER. The tail is stored before the message is queued, so a confirmation, which follows
 * the message round the network, finds a tail that covers it. Head is stored by release and loaded
 * by acquire only so that the counts that depend on it do not run ahead of it; no other memory is
 * published by it.
 */
#ifndef TWINPORT_BUS_UNACKED_H
#define TWINPORT_BUS_UNACKED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "core/memory/memory.h"
#include "os/compiler.h"

typedef struct tp__sent {
    uint32_t source; /* the hub's: the peer to return it to */
    uint32_t correlation;
    uint32_t destination; /* as its sender wrote it */
    uint8_t kind;
    uint8_t reserved[3];
} tp__sent;

typedef struct tp__unconfirmed {
    _Atomic uint64_t head; /* confirmed so far */
    _Atomic uint64_t tail; /* sent so far */
    tp__sent *ring;        /* entry n is ring[n & (room - 1)]; NULL while room is 0 */
    uint32_t room;         /* a power of two, or 0 */
    uint32_t limit;
} tp__unconfirmed;

#define TP__UNCONFIRMED_FIRST_ROOM 64u

typedef enum tp__push { TP__PUSHED, TP__PUSH_FULL, TP__PUSH_NO_MEMORY } tp__push;

/* Empty, both counts 0; `limit` 1..TP_BUS_UNCONFIRMED_MAX. Owns no memory before the first push. */
static inline void tp__unconfirmed_init(tp__unconfirmed *ring, uint32_t limit) {
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
    ring->ring = NULL;
    ring->room = 0;
    ring->limit = limit;
}

/* Frees the ring and forgets what is in it. Under the lock. */
static inline void tp__unconfirmed_clear(tp__unconfirmed *ring) {
    tp__free(ring->ring);
    tp__unconfirmed_init(ring, ring->limit);
}

static inline uint64_t tp__unconfirmed_head(const tp__unconfirmed *ring) {
    return atomic_load_explicit(&ring->head, memory_order_acquire);
}

static inline uint64_t tp__unconfirmed_tail(const tp__unconfirmed *ring) {
    return atomic_load_explicit(&ring->tail, memory_order_acquire);
}

/* How many are unconfirmed. Exact under the lock. Head is read first: the tail it belongs to can
 * only have grown since, but for a push that was undone, which the sign sorts out. */
static inline uint32_t tp__unconfirmed_count(const tp__unconfirmed *ring) {
    uint64_t head = tp__unconfirmed_head(ring);
    int64_t count = (int64_t)(tp__unconfirmed_tail(ring) - head);
    return count > 0 ? (uint32_t)count : 0;
}

/* Doubles the ring. Under the lock. False: no memory, nothing changed. */
static inline bool tp__unconfirmed_grow(tp__unconfirmed *ring) {
    uint32_t room = ring->room ? ring->room * 2 : TP__UNCONFIRMED_FIRST_ROOM;
    tp__sent *larger = tp__allocate(room * sizeof *larger);
    if (!larger) {
        return false;
    }
    uint64_t tail = tp__unconfirmed_tail(ring);
    for (uint64_t n = tp__unconfirmed_head(ring); n < tail; n++) {
        larger[n & (room - 1)] = ring->ring[n & (ring->room - 1)];
    }
    tp__free(ring->ring);
    ring->ring = larger;
    ring->room = room;
    return true;
}

/* Under the lock, directly before the message is queued. */
static inline tp__push tp__unconfirmed_push(tp__unconfirmed *ring, tp__sent entry) {
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint32_t count = tp__unconfirmed_count(ring);
    if (TP_UNLIKELY(count >= ring->limit)) {
        return TP__PUSH_FULL;
    }
    if (TP_UNLIKELY(count == ring->room) && !tp__unconfirmed_grow(ring)) {
        return TP__PUSH_NO_MEMORY;
    }
    ring->ring[tail & (ring->room - 1)] = entry;
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    return TP__PUSHED;
}

/* Takes the last push back: the message could not be queued. Under the same hold of the lock. */
static inline void tp__unconfirmed_undo(tp__unconfirmed *ring) {
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    atomic_store_explicit(&ring->tail, tail - 1, memory_order_release);
}

/*
 * `count` is the cumulative number of messages that the other side confirms, modulo 2^32. False: it
 * confirms what was never sent. An older count than the last is true and says nothing new. One
 * thread at a time, without the lock.
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

/* The n-th entry sent, head <= n < tail. Under the lock. */
static inline tp__sent tp__unconfirmed_at(const tp__unconfirmed *ring, uint64_t n) {
    return ring->ring[n & (ring->room - 1)];
}

/* Gives the ring's memory back if nothing is in it. Under the lock. */
static inline void tp__unconfirmed_trim(tp__unconfirmed *ring) {
    if (ring->ring && tp__unconfirmed_count(ring) == 0) {
        tp__free(ring->ring);
        ring->ring = NULL;
        ring->room = 0;
    }
}

#endif
