/*
 * A session's send queue: any thread pushes, one flush at a time takes.
 *
 * The queue is one word: the newest node, the rest linked behind it. Two values are not nodes:
 *
 *     IDLE  nothing queued, nobody flushing. An idle queue owns no memory.
 *     BUSY  nothing queued, but a flush owner exists.
 *
 * Who pushes onto IDLE becomes the flush owner; everybody else only pushes. The owner takes all
 * that is queued at once, which leaves BUSY, and turns it round into the order of arrival. It may
 * retire only by the exchange BUSY -> IDLE, which fails if somebody has pushed: so no packet is
 * ever left behind without an owner, and there are never two owners.
 *
 * MEMORY ORDER. A push is release and the take acquire: the nodes are seen whole. It is
 * sequentially consistent besides, as compact.h needs it, which costs the same instruction.
 * Retiring is release and the push that finds IDLE acquire: the next owner sees all that the last
 * one did to the session's part that belongs to the flush owner. tests/model/send_queue.pml
 * explores push, take and retire.
 */
#ifndef TWINPORT_CORE_ENGINE_SEND_QUEUE_H
#define TWINPORT_CORE_ENGINE_SEND_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "twinport/packet.h"

typedef struct tp__send_node {
    struct tp__send_node *next; /* towards older while queued, towards newer once taken */
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

/* True: the caller is the flush owner now. */
static inline bool tp__send_queue_push(tp__send_queue *queue, tp__send_node *node) {
    uintptr_t newest = atomic_load_explicit(&queue->newest, memory_order_relaxed);
    do {
        node->next = newest <= TP__QUEUE_BUSY ? NULL : (tp__send_node *)newest;
    } while (!atomic_compare_exchange_weak_explicit(
        &queue->newest, &newest, (uintptr_t)node, memory_order_seq_cst, memory_order_relaxed));
    return newest == TP__QUEUE_IDLE;
}

/* Makes the caller the flush owner of an idle queue without pushing anything. False: there is
 * one. */
static inline bool tp__send_queue_seize(tp__send_queue *queue) {
    uintptr_t idle = TP__QUEUE_IDLE;
    return atomic_compare_exchange_strong_explicit(
        &queue->newest, &idle, TP__QUEUE_BUSY, memory_order_acquire, memory_order_relaxed);
}

/* Is anything queued? For the flush owner; what is pushed at this moment may be missed. */
static inline bool tp__send_queue_has_more(const tp__send_queue *queue) {
    return atomic_load_explicit(&queue->newest, memory_order_relaxed) > TP__QUEUE_BUSY;
}

/* The same, for who is not the flush owner: in the one order of all pushes and of what compact.h
 * calls open. */
static inline bool tp__send_queue_holds_more(const tp__send_queue *queue) {
    return atomic_load_explicit(&queue->newest, memory_order_seq_cst) > TP__QUEUE_BUSY;
}

/* Everything queued, oldest first, and in *last the newest; NULL if there is nothing. The flush
 * owner's alone. */
static inline tp__send_node *tp__send_queue_take(tp__send_queue *queue, tp__send_node **last) {
    uintptr_t newest =
        atomic_exchange_explicit(&queue->newest, TP__QUEUE_BUSY, memory_order_acquire);
    tp__send_node *node = newest <= TP__QUEUE_BUSY ? NULL : (tp__send_node *)newest;
    tp__send_node *oldest = NULL;
    *last = node;
    while (node) {
        tp__send_node *older = node->next;
        node->next = oldest;
        oldest = node;
        node = older;
    }
    return oldest;
}

/* The owner has nothing left to send. True: it is no longer the owner. False: more was pushed
 * meanwhile, and it still is. */
static inline bool tp__send_queue_retire(tp__send_queue *queue) {
    uintptr_t busy = TP__QUEUE_BUSY;
    return atomic_compare_exchange_strong_explicit(
        &queue->newest, &busy, TP__QUEUE_IDLE, memory_order_release, memory_order_relaxed);
}

#endif
