/*
 * The invariants of a stack, as stack.h states them. While no thread pushes or pops. Reads
 * everything and changes nothing.
 */
#include "core/base/invariant.h"
#include "core/memory/stack.h"

const char *tp__stack_check(
    const tp__stack *stack, tp__stack_next *next_of, void *nodes, uint32_t count) {
    uint32_t index = (uint32_t)atomic_load_explicit(&stack->head, memory_order_acquire);
    uint32_t left = count;
    while (index != 0) {
        TP__INVARIANT(index <= count); /* it is one of the nodes */
        TP__INVARIANT(left > 0);       /* no node is there twice */
        index = atomic_load_explicit(next_of(nodes, index), memory_order_relaxed);
        left--;
    }
    return NULL;
}
