/*
 * A pool's invariants, as block.h states them: tp__pool_check() those that hold while threads use
 * the pool, tp__pool_check_unused() also those of the magazines.
 *
 * Reads everything and changes nothing; costs a walk over all blocks, so it runs after a trim or a
 * reservation and before the pool is destroyed, and only in builds with assertions.
 */
#include "core/base/invariant.h"
#include "core/memory/block.h"

/* The blocks of all slabs, by their holder. */
typedef struct census {
    uint64_t blocks;
    uint64_t with_users;
    uint64_t on_free_list;
} census;

static uint32_t holder_of(const void *block) {
    const tp__block *header = (const tp__block *)block - 1;
    return atomic_load_explicit(&header->holder, memory_order_relaxed);
}

static const char *sizes_check(const tp_pool *pool) {
    TP__INVARIANT(pool->slot < TP__POOL_SLOTS);
    TP__INVARIANT(pool->block_size > 0 && pool->block_size % 16 == 0);
    TP__INVARIANT(pool->stride == sizeof(tp__block) + pool->block_size);
    TP__INVARIANT(pool->slab_blocks >= 1 && pool->rounds >= 1);
    TP__INVARIANT(pool->magazine_bytes % TP_CACHE_LINE == 0);
    TP__INVARIANT(pool->magazine_bytes >= sizeof(tp__magazine) + pool->rounds * sizeof(void *));
    return NULL;
}

/* Rows exist from the first on, without a gap, and each magazine has its place's index. */
static const char *rows_check(const tp_pool *pool) {
    uint32_t magazines = 0;
    for (uint32_t row = 0; row < TP__ROWS && pool->row_memory[row] != NULL; row++) {
        uintptr_t memory = (uintptr_t)pool->row_memory[row];
        uintptr_t first = (uintptr_t)atomic_load_explicit(&pool->rows[row], memory_order_relaxed);
        TP__INVARIANT(first > memory && first <= memory + TP_CACHE_LINE);
        TP__INVARIANT(first % TP_CACHE_LINE == 0);
        magazines += (uint32_t)TP__ROW_MAGAZINES << row;
    }
    TP__INVARIANT(pool->magazines == magazines);
    for (uint32_t index = 1; index <= magazines; index++) {
        TP__INVARIANT(tp__magazine_at(pool, index)->index == index);
    }
    return NULL;
}

static const char *slab_check(const tp_pool *pool, uint32_t entry, census *count) {
    const tp__slab *slab = &pool->slabs[entry];
    TP__INVARIANT(slab->blocks >= 1 && slab->blocks <= pool->slab_blocks);
    TP__INVARIANT(slab->marked == 0); /* no trim is in progress */
    for (uint32_t i = 0; i < slab->blocks; i++) {
        const uint8_t *block = slab->memory + i * pool->stride + sizeof(tp__block);
        uint32_t holder = holder_of(block);
        TP__INVARIANT(tp__pool_owns(pool, block));
        TP__INVARIANT(((const tp__block *)(const void *)block - 1)->slab == entry);
        TP__INVARIANT(holder == TP__HELD_BY_FREE_LIST || holder <= pool->magazines);
        count->with_users += holder == TP__HELD_BY_USER;
        count->on_free_list += holder == TP__HELD_BY_FREE_LIST;
    }
    count->blocks += slab->blocks;
    return NULL;
}

static const char *slabs_check(const tp_pool *pool, census *count) {
    uint32_t vacant = 0;
    TP__INVARIANT(pool->slab_count <= pool->slab_capacity);
    for (uint32_t entry = 0; entry < pool->slab_count; entry++) {
        bool is_vacant = pool->slabs[entry].memory == NULL;
        const char *broken = is_vacant ? NULL : slab_check(pool, entry, count);
        if (broken) {
            return broken;
        }
        vacant += is_vacant;
    }
    for (uint32_t next = pool->slab_free; next != 0; next = pool->slabs[next - 1].marked) {
        TP__INVARIANT(next <= pool->slab_count);
        TP__INVARIANT(pool->slabs[next - 1].memory == NULL && pool->slabs[next - 1].blocks == 0);
        TP__INVARIANT(vacant > 0); /* exactly the free entries are in the list */
        vacant--;
    }
    TP__INVARIANT(vacant == 0);
    return NULL;
}

/* Exactly the blocks that the free list holds are in it. */
static const char *free_list_check(const tp_pool *pool, uint64_t left) {
    for (void *block = pool->free_list; block != NULL; block = *(void **)block) {
        TP__INVARIANT(tp__pool_owns(pool, block));
        TP__INVARIANT(holder_of(block) == TP__HELD_BY_FREE_LIST);
        TP__INVARIANT(left > 0);
        left--;
    }
    TP__INVARIANT(left == 0);
    return NULL;
}

static const char *depot_check(const tp_pool *pool, census *count) {
    const char *broken = sizes_check(pool);
    broken = broken ? broken : rows_check(pool);
    broken = broken ? broken : slabs_check(pool, count);
    broken = broken ? broken : free_list_check(pool, count->on_free_list);
    if (broken) {
        return broken;
    }
    uint64_t blocks = atomic_load_explicit(&pool->blocks, memory_order_relaxed);
    TP__INVARIANT(blocks == count->blocks);
    TP__INVARIANT(blocks <= pool->limit);
    /* A block is counted before the push and until after the pop, once at a time; and it was added
     * to `blocks` before. So this also says that `ready` never falls below 0. */
    TP__INVARIANT(atomic_load_explicit(&pool->ready, memory_order_relaxed) <= blocks);
    return NULL;
}

const char *tp__pool_check(const tp_pool *pool) {
    TP_ASSERT_LOCKED(&pool->mutex);
    census count = {.blocks = 0};
    return depot_check(pool, &count);
}

/* ---- magazines: while no thread uses the pool ------------------------------------------------ */

static const char *magazine_check(const tp_pool *pool, const tp__magazine *magazine) {
    TP__INVARIANT(magazine->count <= pool->rounds);
    for (uint32_t i = 0; i < magazine->count; i++) {
        TP__INVARIANT(tp__pool_owns(pool, magazine->blocks[i]));
        TP__INVARIANT(holder_of(magazine->blocks[i]) == magazine->index);
    }
    return NULL;
}

static _Atomic uint32_t *next_of(void *pool, uint32_t index) {
    return &tp__magazine_at(pool, index)->next;
}

static uint32_t top_of(const tp__stack *stack) {
    return (uint32_t)atomic_load_explicit(&stack->head, memory_order_relaxed);
}

static uint32_t after(const tp__magazine *magazine) {
    return atomic_load_explicit(&magazine->next, memory_order_relaxed);
}

/* `filled` has magazines with blocks, `empty` those without; what is on neither, threads have. */
static const char *stacks_check(const tp_pool *pool) {
    void *nodes = (void *)(uintptr_t)pool;
    const char *broken = tp__stack_check(&pool->filled, next_of, nodes, pool->magazines);
    broken = broken ? broken : tp__stack_check(&pool->empty, next_of, nodes, pool->magazines);
    if (broken) {
        return broken;
    }
    uint64_t ready = 0;
    uint32_t stacked = 0;
    for (uint32_t index = top_of(&pool->filled); index != 0; stacked++) {
        const tp__magazine *magazine = tp__magazine_at(pool, index);
        TP__INVARIANT(magazine->count > 0);
        ready += magazine->count;
        index = after(magazine);
    }
    for (uint32_t index = top_of(&pool->empty); index != 0; stacked++) {
        const tp__magazine *magazine = tp__magazine_at(pool, index);
        TP__INVARIANT(magazine->count == 0);
        index = after(magazine);
    }
    TP__INVARIANT(stacked <= pool->magazines);
    TP__INVARIANT(atomic_load_explicit(&pool->ready, memory_order_relaxed) == ready);
    return NULL;
}

const char *tp__pool_check_unused(const tp_pool *pool) {
    census count = {.blocks = 0};
    const char *broken = depot_check(pool, &count);
    uint64_t in_magazines = 0;
    for (uint32_t index = 1; !broken && index <= pool->magazines; index++) {
        const tp__magazine *magazine = tp__magazine_at(pool, index);
        broken = magazine_check(pool, magazine);
        in_magazines += magazine->count;
    }
    if (broken) {
        return broken;
    }
    TP__INVARIANT(count.blocks == count.with_users + in_magazines + count.on_free_list);
    return stacks_check(pool);
}
