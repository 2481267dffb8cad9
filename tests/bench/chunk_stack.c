/*
 * See chunk_stack.h. Any thread may call any function except chunk_table_free().
 *
 * Chunks are never freed while the stack is in use, so `next` of a chunk that another thread has
 * just popped is valid memory. Its value may be stale, but then the head has changed and the
 * exchange fails. Push releases what was written to the chunk, pop acquires it. An index is looked
 * up in the table only after it was read from a head, and its entry was written before the push
 * that put it there.
 */
#include "chunk_stack.h"

#include <stdlib.h>

bool chunk_table_enter(chunk_table *table, chunk_link *chunk) {
    uint32_t at = atomic_fetch_add_explicit(&table->count, 1, memory_order_relaxed);
    if (at >= chunk_table_most) {
        atomic_fetch_sub_explicit(&table->count, 1, memory_order_relaxed);
        return false;
    }
    chunk->place = at + 1;
    table->links[at] = chunk;
    return true;
}

void chunk_table_free(chunk_table *table) {
    uint32_t count = atomic_load(&table->count);
    for (uint32_t i = 0; i < count; i++) {
        free(table->links[i]);
        table->links[i] = NULL;
    }
    atomic_store(&table->count, 0);
}

void chunk_stack_push(chunk_stack *stack, chunk_link *chunk) {
    uint64_t head = atomic_load_explicit(&stack->head, memory_order_relaxed);
    uint64_t wanted;
    do {
        atomic_store_explicit(&chunk->next, (uint32_t)head, memory_order_relaxed);
        wanted = ((head >> 32) + 1) << 32 | chunk->place;
    } while (!atomic_compare_exchange_weak_explicit(
        &stack->head, &head, wanted, memory_order_release, memory_order_relaxed));
}

chunk_link *chunk_stack_pop(chunk_stack *stack, const chunk_table *table) {
    uint64_t head = atomic_load_explicit(&stack->head, memory_order_acquire);
    while ((uint32_t)head != 0) {
        chunk_link *top = table->links[(uint32_t)head - 1];
        uint32_t next = atomic_load_explicit(&top->next, memory_order_relaxed);
        uint64_t wanted = ((head >> 32) + 1) << 32 | next;
        if (atomic_compare_exchange_weak_explicit(
                &stack->head, &head, wanted, memory_order_acquire, memory_order_acquire)) {
            return top;
        }
    }
    return NULL;
}
