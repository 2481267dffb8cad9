/*
 * A session's send queue: any thread pushes, one flusher at a time takes.
 *
 * The queue is one word, which points to the newest node; the older nodes are linked behind it. Two
 * values are not nodes:
 *
 *     IDLE  nothing is queued and there is no flusher. An idle queue owns no memory.
 *     BUSY  nothing is queued, but there is a flusher.
 *
 * A push onto IDLE makes the pushing thread the flusher; any other push only adds a node. The
 * flusher takes all queued nodes at once, which leaves BUSY, and reverses them into the order of
 * arrival. It retires only by the exchange BUSY -> IDLE, which fails if a node has been pushed. So
 * no packet is left behind without a flusher, and there are never two flushers.
 *
 * MEMORY ORDER. A push is release and the take is acquire, so the taker sees whole nodes. A push is
 * also sequentially consistent, which compact.h needs and which costs the same instruction on
 * x86-64. Retiring is release, and the push or seize that finds IDLE is acquire: the next flusher
 * sees everything that the last one did to the flusher's part of the session.
 * tests/model/send_queue.pml explores push, take and retire.
 */
#ifndef TWINPORT_CORE_ENGINE_SEND_QUEUE_H
#define TWINPORT_CORE_ENGINE_SEND_QUEUE_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os/chain.h"
#include "twinport/packet.h"

typedef struct tp__send_node {
    struct tp__send_node *next; /* the next older one while queued, the next newer one once taken */
    tp_packet *packet;
} tp__send_node;

typedef struct tp__send_queue {
    _Atomic(uintptr_t) newest;
} tp__send_queue;

#define TP__QUEUE_IDLE ((uintptr_t)0)
#define TP__QUEUE_BUSY ((uintptr_t)1)

static inline void tp__send_queue_init(tp__send_queue *queue) {
    atomic_init(&queue->newest, TP__QUEUE_IDLE);
}

/* True: the caller is the flusher now. */
static inline bool tp__send_queue_push(tp__send_queue *queue, tp__send_node *node) {
    assert((uintptr_t)node > TP__QUEUE_BUSY);
    uintptr_t newest = atomic_load_explicit(&queue->newest, memory_order_relaxed);
    do {
        node->next = newest <= TP__QUEUE_BUSY ? NULL : (tp__send_node *)newest;
    } while (!atomic_compare_exchange_weak_explicit(
        &queue->newest, &newest, (uintptr_t)node, memory_order_seq_cst, memory_order_relaxed));
    return newest == TP__QUEUE_IDLE;
}

/* Makes the caller the flusher of an idle queue without a push. False: there is a flusher. */
static inline bool tp__send_queue_seize(tp__send_queue *queue) {
    uintptr_t idle = TP__QUEUE_IDLE;
    return atomic_compare_exchange_strong_explicit(
        &queue->newest, &idle, TP__QUEUE_BUSY, memory_order_acquire, memory_order_relaxed);
}

/* Is anything queued? The flusher only. A node that is being pushed at the moment may be missed. */
static inline bool tp__send_queue_has_more(const tp__send_queue *queue) {
    return atomic_load_explicit(&queue->newest, memory_order_relaxed) > TP__QUEUE_BUSY;
}

/* The same for a thread that is not the flusher: one order with all pushes and with all openings of
 * the backlog (compact.h). */
static inline bool tp__send_queue_has_more_ordered(const tp__send_queue *queue) {
    return atomic_load_explicit(&queue->newest, memory_order_seq_cst) > TP__QUEUE_BUSY;
}

/* Takes all queued nodes, oldest first; *last is the newest. NULL if there is none. The flusher
 * only. */
static inline tp__send_node *tp__send_queue_take(tp__send_queue *queue, tp__send_node **last) {
    uintptr_t newest =
        atomic_exchange_explicit(&queue->newest, TP__QUEUE_BUSY, memory_order_acquire);
    *last = newest <= TP__QUEUE_BUSY ? NULL : (tp__send_node *)newest;
    tp__send_node *oldest = tp__chain_reverse(*last, offsetof(tp__send_node, next));
    assert(!*last == !oldest && (!*last || !(*last)->next));
    return oldest;
}

/* The flusher has nothing left to send. True: the caller is no longer the flusher. False: a node
 * has been pushed meanwhile, and the caller still is. */
static inline bool tp__send_queue_retire(tp__send_queue *queue) {
    uintptr_t busy = TP__QUEUE_BUSY;
    return atomic_compare_exchange_strong_explicit(
        &queue->newest, &busy, TP__QUEUE_IDLE, memory_order_release, memory_order_relaxed);
}

/* session_check.c, for the thread that releases the session, when it has taken everything: IDLE or
 * BUSY, no node is left. Returns the first condition that is false, or NULL. */
const char *tp__send_queue_check(const tp__send_queue *queue);

#endif
