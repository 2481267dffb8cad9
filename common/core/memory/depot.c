/*
 * The part of a pool that its threads share: two stacks of magazines, and growth and trimming,
 * which run under the pool's mutex. Any thread; called once per magazine of blocks.
 *
 * When memory is out there may be no magazine to put a block into. Such blocks go to the free list,
 * so that freeing never fails.
 */
#include "core/base/invariant.h"
#include "core/memory/block.h"
#include "core/memory/memory.h"

/* ---- magazines ------------------------------------------------------------------------------- */

static _Atomic uint32_t *depot_next(void *pool, uint32_t index) {
    return &tp__magazine_at(pool, index)->next;
}

static tp__magazine *depot_pop(tp_pool *pool, tp__stack *stack) {
    uint32_t index = tp__stack_pop(stack, depot_next, pool);
    return index != 0 ? tp__magazine_at(pool, index) : NULL;
}

static void depot_push(tp_pool *pool, tp__stack *stack, tp__magazine *magazine) {
    assert(magazine->count <= pool->rounds);
    tp__stack_push(stack, depot_next, pool, magazine->index);
}

/* Also maintains `ready` and `ready_low`. Of two threads that store a new low at the same moment
 * the higher value may remain: tp__pool_reap() then frees a little more than was unused. */
static tp__magazine *depot_pop_filled(tp_pool *pool) {
    tp__magazine *magazine = depot_pop(pool, &pool->filled);
    uint64_t count = magazine != NULL ? magazine->count : 0;
    assert(magazine == NULL || count > 0);
    uint64_t left = atomic_fetch_sub_explicit(&pool->ready, count, memory_order_relaxed) - count;
    assert(left <= UINT64_MAX - count); /* `ready` was not below `count` */
    if (left < atomic_load_explicit(&pool->ready_low, memory_order_relaxed)) {
        atomic_store_explicit(&pool->ready_low, left, memory_order_relaxed);
    }
    return magazine;
}

/* The blocks are counted before the push, so that `ready` never falls below 0. */
static void depot_push_filled(tp_pool *pool, tp__magazine *magazine) {
    assert(magazine->count > 0);
    atomic_fetch_add_explicit(&pool->ready, magazine->count, memory_order_relaxed);
    depot_push(pool, &pool->filled, magazine);
}

/* Allocates the next row of magazines, all of them empty. False: memory is out. */
static bool depot_add_row(tp_pool *pool) {
    TP_ASSERT_LOCKED(&pool->mutex);
    uint32_t row = 0;
    while (row < TP__ROWS && pool->row_memory[row] != NULL) {
        row++;
    }
    size_t count = (size_t)TP__ROW_MAGAZINES << row;
    void *memory =
        row < TP__ROWS ? tp__allocate(count * pool->magazine_bytes + TP_CACHE_LINE) : NULL;
    if (memory == NULL) {
        return false;
    }
    /* Each magazine begins at a cache line, because one thread writes its count while others write
     * those of its neighbours. */
    uint8_t *first = (uint8_t *)memory + (TP_CACHE_LINE - (uintptr_t)memory % TP_CACHE_LINE);
    pool->row_memory[row] = memory;
    atomic_store_explicit(&pool->rows[row], first, memory_order_relaxed);
    for (size_t i = 0; i < count; i++) {
        tp__magazine *magazine = (tp__magazine *)(void *)(first + i * pool->magazine_bytes);
        magazine->index = ++pool->magazines;
        magazine->count = 0;
        atomic_init(&magazine->next, 0);
        depot_push(pool, &pool->empty, magazine);
    }
    return true;
}

/* Other threads pop without the mutex, so a new row may be used up before the pop here. */
static tp__magazine *depot_get_empty_locked(tp_pool *pool) {
    TP_ASSERT_LOCKED(&pool->mutex);
    tp__magazine *magazine = depot_pop(pool, &pool->empty);
    while (magazine == NULL && depot_add_row(pool)) {
        magazine = depot_pop(pool, &pool->empty);
    }
    return magazine;
}

tp__magazine *tp__depot_get_empty(tp_pool *pool) {
    tp__magazine *magazine = depot_pop(pool, &pool->empty);
    if (magazine == NULL) {
        tp_mutex_lock(&pool->mutex);
        magazine = depot_get_empty_locked(pool);
        tp_mutex_unlock(&pool->mutex);
    }
    assert(magazine == NULL || magazine->count == 0);
    return magazine;
}

void tp__depot_put(tp_pool *pool, tp__magazine *magazine) {
    if (magazine->count > 0) {
        tp__count_shared(&pool->puts, 1);
        depot_push_filled(pool, magazine);
    } else {
        depot_push(pool, &pool->empty, magazine);
    }
}

/* ---- the free list: under the pool's mutex --------------------------------------------------- */

static void free_list_push(tp_pool *pool, void *block) {
    TP_ASSERT_LOCKED(&pool->mutex);
    assert(tp__pool_owns(pool, block));
    atomic_store_explicit(
        &tp__block_of(block)->holder, TP__HELD_BY_FREE_LIST, memory_order_relaxed);
    *(void **)block = pool->free_list;
    pool->free_list = block;
}

static void *free_list_pop(tp_pool *pool) {
    TP_ASSERT_LOCKED(&pool->mutex);
    void *block = pool->free_list;
    if (block == NULL) {
        return NULL;
    }
    tp__block *header = tp__block_of(block);
    if (atomic_load_explicit(&header->holder, memory_order_relaxed) != TP__HELD_BY_FREE_LIST) {
        tp__pool_stop(pool, block);
    }
    pool->free_list = *(void **)block;
    atomic_store_explicit(&header->holder, TP__HELD_BY_USER, memory_order_relaxed);
    return block;
}

/* ---- growth: under the pool's mutex ---------------------------------------------------------- */

static bool depot_fill_from_free_list(tp_pool *pool) {
    TP_ASSERT_LOCKED(&pool->mutex);
    tp__magazine *magazine = pool->free_list != NULL ? depot_get_empty_locked(pool) : NULL;
    if (magazine == NULL) {
        return false;
    }
    while (pool->free_list != NULL && magazine->count < pool->rounds) {
        tp__magazine_put(pool, magazine, free_list_pop(pool));
    }
    depot_push_filled(pool, magazine);
    return true;
}

/* Allocates a slab of up to `count` blocks and puts them into filled magazines; returns their
 * number. From the last block to the first, so that they are allocated in the order of their
 * addresses. */
static size_t depot_grow(tp_pool *pool, size_t count) {
    TP_ASSERT_LOCKED(&pool->mutex);
    size_t cut = 0;
    uint8_t *memory = tp__slabs_grow(pool, count, &cut);
    assert(cut <= count && (memory != NULL || cut == 0));
    tp__magazine *magazine = NULL;
    for (size_t i = cut; i > 0; i--) {
        void *block = memory + (i - 1) * pool->stride + sizeof(tp__block);
        if (magazine == NULL) {
            magazine = depot_get_empty_locked(pool);
        }
        if (magazine == NULL) {
            free_list_push(pool, block);
            continue;
        }
        tp__magazine_put(pool, magazine, block);
        if (magazine->count == pool->rounds || i == 1) {
            depot_push_filled(pool, magazine);
            magazine = NULL;
        }
    }
    return cut;
}

bool tp__depot_reserve(tp_pool *pool, size_t count) {
    size_t had = 0;
    tp_mutex_lock(&pool->mutex);
    while (had < count) {
        size_t cut = depot_grow(pool, count - had);
        if (cut == 0) {
            break;
        }
        had += cut;
    }
    assert(had <= count);
    TP__VERIFY(tp__pool_check(pool));
    tp_mutex_unlock(&pool->mutex);
    return had >= count;
}

tp__magazine *tp__depot_get_filled(tp_pool *pool) {
    tp__magazine *magazine = depot_pop_filled(pool);
    if (magazine == NULL) {
        tp_mutex_lock(&pool->mutex);
        magazine = depot_pop_filled(pool);
        while (magazine == NULL &&
               (depot_fill_from_free_list(pool) || depot_grow(pool, pool->slab_blocks) > 0)) {
            magazine = depot_pop_filled(pool);
        }
        tp_mutex_unlock(&pool->mutex);
    }
    if (magazine != NULL) {
        assert(magazine->count > 0 && magazine->count <= pool->rounds);
        tp__count_shared(&pool->gets, 1);
    }
    return magazine;
}

void *tp__depot_get_block(tp_pool *pool) {
    void *block;
    tp__magazine *magazine = tp__depot_get_filled(pool);
    if (magazine != NULL) {
        block = tp__magazine_take(pool, magazine);
        tp__depot_put(pool, magazine);
        return block;
    }
    tp_mutex_lock(&pool->mutex);
    block = free_list_pop(pool);
    tp_mutex_unlock(&pool->mutex);
    return block;
}

void tp__depot_put_block(tp_pool *pool, void *block) {
    tp_mutex_lock(&pool->mutex);
    free_list_push(pool, block);
    tp_mutex_unlock(&pool->mutex);
}

/* ---- trimming and the end -------------------------------------------------------------------- */

/* Removes the blocks of chosen slabs from a magazine; the others stay in it, in their order. */
static void magazine_drop_reclaimable(tp_pool *pool, tp__magazine *magazine) {
    TP_ASSERT_LOCKED(&pool->mutex);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < magazine->count; i++) {
        if (!tp__slabs_reclaimable(pool, magazine->blocks[i])) {
            magazine->blocks[kept++] = magazine->blocks[i];
        }
    }
    magazine->count = kept;
}

/* Removes the blocks of chosen slabs from the free list. */
static void free_list_drop_reclaimable(tp_pool *pool) {
    TP_ASSERT_LOCKED(&pool->mutex);
    void **link = &pool->free_list;
    while (*link != NULL) {
        if (tp__slabs_reclaimable(pool, *link)) {
            *link = *(void **)*link;
        } else {
            link = *link;
        }
    }
}

/* Takes every filled magazine off the stack, at most as many as exist in all: magazines that other
 * threads put there meanwhile are left to the next trim. A thread that finds the stack empty
 * meanwhile waits for the mutex; when it has it, the stack is filled again. */
size_t tp__depot_trim(tp_pool *pool, uint64_t most) {
    tp_mutex_lock(&pool->mutex);
    tp__magazine *taken = NULL;
    for (uint32_t i = 0; i < pool->magazines; i++) {
        tp__magazine *magazine = depot_pop_filled(pool);
        if (magazine == NULL) {
            break;
        }
        for (uint32_t j = 0; j < magazine->count; j++) {
            tp__slabs_mark(pool, magazine->blocks[j]);
        }
        atomic_store_explicit(
            &magazine->next, taken != NULL ? taken->index : 0, memory_order_relaxed);
        taken = magazine;
    }
    for (void *block = pool->free_list; block != NULL; block = *(void **)block) {
        tp__slabs_mark(pool, block);
    }
    tp__slabs_choose(pool, most);
    free_list_drop_reclaimable(pool);
    while (taken != NULL) {
        uint32_t next = atomic_load_explicit(&taken->next, memory_order_relaxed);
        magazine_drop_reclaimable(pool, taken);
        if (taken->count > 0) {
            depot_push_filled(pool, taken);
        } else {
            depot_push(pool, &pool->empty, taken);
        }
        taken = next != 0 ? tp__magazine_at(pool, next) : NULL;
    }
    size_t bytes = tp__slabs_reclaim(pool);
    TP__VERIFY(tp__pool_check(pool));
    tp_mutex_unlock(&pool->mutex);
    return bytes;
}

uint64_t tp__depot_count_free(const tp_pool *pool) {
    uint64_t count = 0;
    for (uint32_t index = 1; index <= pool->magazines; index++) {
        count += tp__magazine_at(pool, index)->count;
    }
    for (void *block = pool->free_list; block != NULL; block = *(void **)block) {
        count++;
    }
    return count;
}

void tp__depot_free_all(tp_pool *pool) {
    tp__slabs_free_all(pool);
    for (uint32_t row = 0; row < TP__ROWS; row++) {
        tp__free(pool->row_memory[row]);
    }
}
