/*
 * A lock-free stack of indexes, with an 8-byte compare-and-swap.
 *
 * The nodes are owned by the user of the stack and identified by indexes from 1 on; each has one
 * `next`, which belongs to the stack while the node is on it. A node's memory must stay readable as
 * long as any thread may pop, not only while the node is on the stack: a pop may read the `next` of
 * a node that another thread has just taken.
 *
 * ABA: the head has a tag that every push and pop increments. A pop that has read `next` of a node
 * which is then taken and pushed again finds a different tag and tries again. It would fail to
 * notice only if a multiple of 2^32 operations happened between its load and its compare-and-swap.
 *
 * Memory order: push releases, so that the node's contents and its `next` are visible to every
 * thread that reads the head it installed; pop acquires with its load, before it reads `next`.
 * Every change of the head is a read-modify-write, so later pushes and pops continue the release
 * sequence of an earlier push, and the node below the top is covered as well.
 */
#ifndef TWINPORT_CORE_MEMORY_STACK_H
#define TWINPORT_CORE_MEMORY_STACK_H

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>

typedef struct tp__stack {
    _Atomic uint64_t head; /* low half: index of the top, 0 if empty; high half: tag */
} tp__stack;

/* A function that returns the address of the `next` of node `index`. */
typedef _Atomic uint32_t *tp__stack_next(void *nodes, uint32_t index);

static inline uint64_t tp__stack_head(uint64_t before, uint32_t index) {
    return (((before >> 32) + 1) << 32) | index;
}

static inline void tp__stack_push(
    tp__stack *stack, tp__stack_next *next_of, void *nodes, uint32_t index) {
    assert(index != 0);
    _Atomic uint32_t *next = next_of(nodes, index);
    uint64_t head = atomic_load_explicit(&stack->head, memory_order_relaxed);
    do {
        atomic_store_explicit(next, (uint32_t)head, memory_order_relaxed);
    } while (!atomic_compare_exchange_weak_explicit(&stack->head, &head,
        tp__stack_head(head, index), memory_order_release, memory_order_relaxed));
}

/* The index taken off, or 0. */
static inline uint32_t tp__stack_pop(tp__stack *stack, tp__stack_next *next_of, void *nodes) {
    uint64_t head = atomic_load_explicit(&stack->head, memory_order_acquire);
    uint32_t next;
    do {
        if ((uint32_t)head == 0) {
            return 0;
        }
        next = atomic_load_explicit(next_of(nodes, (uint32_t)head), memory_order_relaxed);
    } while (!atomic_compare_exchange_weak_explicit(&stack->head, &head, tp__stack_head(head, next),
        memory_order_acquire, memory_order_acquire));
    return (uint32_t)head;
}

/* The first broken invariant of a stack of nodes 1..count, or NULL (stack_check.c): it ends, and no
 * node is there twice. While no thread pushes or pops. */
const char *tp__stack_check(
    const tp__stack *stack, tp__stack_next *next_of, void *nodes, uint32_t count);

#endif
