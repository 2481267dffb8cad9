/*
 * The part of a pool that its threads share: two stacks of whole magazines, and under them, behind
 * the mutex, growth and trimming. Any thread; visited once per magazine of blocks.
 *
 * A block cannot always find a magazine: when memory is out there may be none to put it into. Such
 * blocks wait on the loose list, so that freeing never fails.
 */
#include "core/memory/block.h"
#include "core/memory/memory.h"

/* ---- magazines ------------------------------------------------------------------------------- */

/* Index 1 is the first of row 0; row r begins at 1 + TP__ROW_MAGAZINES * (2^r - 1). */
static tp__magazine *magazine_at(const tp_pool *pool, uint32_t index) {
    uint32_t within = index - 1;
    uint32_t row = 0;
    while (within >= (uint32_t)TP__ROW_MAGAZINES << row) {
        within -= (uint32_t)TP__ROW_MAGAZINES << row;
        row++;
    }
    /* Relaxed: who knows the index got it from a stack or a mutex, after the row was stored. */
    uint8_t *first = atomic_load_explicit(&pool->rows[row], memory_order_relaxed);
    return (tp__magazine *)(void *)(first + within * pool->magazine_bytes);
}

static _Atomic uint32_t *next_of(void *pool, uint32_t index) {
    return &magazine_at(pool, index)->next;
}

static tp__magazine *pop(tp_pool *pool, tp__stack *stack) {
    uint32_t index = tp__stack_pop(stack, next_of, pool);
    return index != 0 ? magazine_at(pool, index) : NULL;
}

static void push(tp_pool *pool, tp__stack *stack, tp__magazine *magazine) {
    tp__stack_push(stack, next_of, pool, magazine->index);
}

/* With the account of what is ready. Two who note a new low at the same moment may leave the
 * higher: then a little more is given back than nobody has used. */
static tp__magazine *pop_filled(tp_pool *pool) {
    tp__magazine *magazine = pop(pool, &pool->filled);
    uint64_t count = magazine != NULL ? magazine->count : 0;
    uint64_t left = atomic_fetch_sub_explicit(&pool->ready, count, memory_order_relaxed) - count;
    if (left < atomic_load_explicit(&pool->ready_low, memory_order_relaxed)) {
        atomic_store_explicit(&pool->ready_low, left, memory_order_relaxed);
    }
    return magazine;
}

/* Counted first: what is ready is never taken for less than nothing. */
static void push_filled(tp_pool *pool, tp__magazine *magazine) {
    atomic_fetch_add_explicit(&pool->ready, magazine->count, memory_order_relaxed);
    push(pool, &pool->filled, magazine);
}

/* Under the mutex. Allocates the next row of magazines, all of them empty. */
static bool add_row(tp_pool *pool) {
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
    /* Each magazine begins a cache line: one thread counts in it, others in its neighbours. */
    uint8_t *first = (uint8_t *)memory + (TP_CACHE_LINE - (uintptr_t)memory % TP_CACHE_LINE);
    pool->row_memory[row] = memory;
    atomic_store_explicit(&pool->rows[row], first, memory_order_relaxed);
    for (size_t i = 0; i < count; i++) {
        tp__magazine *magazine = (tp__magazine *)(void *)(first + i * pool->magazine_bytes);
        magazine->index = ++pool->magazines;
        magazine->count = 0;
        atomic_init(&magazine->next, 0);
        push(pool, &pool->empty, magazine);
    }
    return true;
}

/* Others take from the stack without the mutex: what a row brought may be gone before we look. */
static tp__magazine *get_empty_locked(tp_pool *pool) {
    tp__magazine *magazine = pop(pool, &pool->empty);
    while (magazine == NULL && add_row(pool)) {
        magazine = pop(pool, &pool->empty);
    }
    return magazine;
}

tp__magazine *tp__depot_get_empty(tp_pool *pool) {
    tp__magazine *magazine = pop(pool, &pool->empty);
    if (magazine == NULL) {
        tp_mutex_lock(&pool->mutex);
        magazine = get_empty_locked(pool);
        tp_mutex_unlock(&pool->mutex);
    }
    return magazine;
}

void tp__depot_put(tp_pool *pool, tp__magazine *magazine) {
    if (magazine->count > 0) {
        tp__pool_raise(&pool->puts);
        push_filled(pool, magazine);
    } else {
        push(pool, &pool->empty, magazine);
    }
}

/* ---- loose blocks: under the mutex ----------------------------------------------------------- */

static void put_loose(tp_pool *pool, void *block) {
    atomic_store_explicit(&tp__block_of(block)->holder, TP__HELD_LOOSE, memory_order_relaxed);
    *(void **)block = pool->loose;
    pool->loose = block;
}

static void *get_loose(tp_pool *pool) {
    void *block = pool->loose;
    if (block == NULL) {
        return NULL;
    }
    tp__block *header = tp__block_of(block);
    if (atomic_load_explicit(&header->holder, memory_order_relaxed) != TP__HELD_LOOSE) {
        tp__pool_stop(pool, block);
    }
    pool->loose = *(void **)block;
    atomic_store_explicit(&header->holder, TP__HELD_BY_USER, memory_order_relaxed);
    return block;
}

/* ---- growth: under the mutex ----------------------------------------------------------------- */

static bool stack_loose(tp_pool *pool) {
    tp__magazine *magazine = pool->loose != NULL ? get_empty_locked(pool) : NULL;
    if (magazine == NULL) {
        return false;
    }
    while (pool->loose != NULL && magazine->count < pool->rounds) {
        tp__magazine_put(pool, magazine, get_loose(pool));
    }
    push_filled(pool, magazine);
    return true;
}

/* From the last block to the first, so that they are taken in the order of their addresses. */
static size_t grow(tp_pool *pool, size_t count) {
    size_t cut = 0;
    uint8_t *memory = tp__slabs_grow(pool, count, &cut);
    tp__magazine *magazine = NULL;
    for (size_t i = cut; i > 0; i--) {
        void *block = memory + (i - 1) * pool->stride + sizeof(tp__block);
        if (magazine == NULL) {
            magazine = get_empty_locked(pool);
        }
        if (magazine == NULL) {
            put_loose(pool, block);
            continue;
        }
        tp__magazine_put(pool, magazine, block);
        if (magazine->count == pool->rounds || i == 1) {
            push_filled(pool, magazine);
            magazine = NULL;
        }
    }
    return cut;
}

bool tp__depot_reserve(tp_pool *pool, size_t count) {
    size_t had = 0;
    tp_mutex_lock(&pool->mutex);
    while (had < count) {
        size_t cut = grow(pool, count - had);
        if (cut == 0) {
            break;
        }
        had += cut;
    }
    tp_mutex_unlock(&pool->mutex);
    return had >= count;
}

tp__magazine *tp__depot_get_filled(tp_pool *pool) {
    tp__magazine *magazine = pop_filled(pool);
    if (magazine == NULL) {
        tp_mutex_lock(&pool->mutex);
        magazine = pop_filled(pool);
        while (magazine == NULL && (stack_loose(pool) || grow(pool, pool->slab_blocks) > 0)) {
            magazine = pop_filled(pool);
        }
        tp_mutex_unlock(&pool->mutex);
    }
    if (magazine != NULL) {
        tp__pool_raise(&pool->gets);
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
    block = get_loose(pool);
    tp_mutex_unlock(&pool->mutex);
    return block;
}

void tp__depot_put_block(tp_pool *pool, void *block) {
    tp_mutex_lock(&pool->mutex);
    put_loose(pool, block);
    tp_mutex_unlock(&pool->mutex);
}

/* ---- trimming and the end -------------------------------------------------------------------- */

/* Takes the blocks out of a magazine whose slab goes; the others keep their place and holder. */
static void thin_out(tp_pool *pool, tp__magazine *magazine) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < magazine->count; i++) {
        if (!tp__slabs_goes(pool, magazine->blocks[i])) {
            magazine->blocks[kept++] = magazine->blocks[i];
        }
    }
    magazine->count = kept;
}

/* Loose blocks whose slab goes are dropped. */
static void thin_out_loose(tp_pool *pool) {
    void **link = &pool->loose;
    while (*link != NULL) {
        if (tp__slabs_goes(pool, *link)) {
            *link = *(void **)*link;
        } else {
            link = *link;
        }
    }
}

/* Every filled magazine is taken off the stack, at most as many as there are: what other threads
 * put meanwhile waits for the next trim. A thread that finds the stack empty meanwhile waits at the
 * mutex, and finds it filled again. */
size_t tp__depot_trim(tp_pool *pool, uint64_t most) {
    tp_mutex_lock(&pool->mutex);
    tp__magazine *taken = NULL;
    for (uint32_t i = 0; i < pool->magazines; i++) {
        tp__magazine *magazine = pop_filled(pool);
        if (magazine == NULL) {
            break;
        }
        for (uint32_t j = 0; j < magazine->count; j++) {
            tp__slabs_show(pool, magazine->blocks[j]);
        }
        atomic_store_explicit(
            &magazine->next, taken != NULL ? taken->index : 0, memory_order_relaxed);
        taken = magazine;
    }
    for (void *block = pool->loose; block != NULL; block = *(void **)block) {
        tp__slabs_show(pool, block);
    }
    tp__slabs_choose(pool, most);
    thin_out_loose(pool);
    while (taken != NULL) {
        uint32_t next = atomic_load_explicit(&taken->next, memory_order_relaxed);
        thin_out(pool, taken);
        if (taken->count > 0) {
            push_filled(pool, taken);
        } else {
            push(pool, &pool->empty, taken);
        }
        taken = next != 0 ? magazine_at(pool, next) : NULL;
    }
    size_t bytes = tp__slabs_let_go(pool);
    tp_mutex_unlock(&pool->mutex);
    return bytes;
}

uint64_t tp__depot_count_free(const tp_pool *pool) {
    uint64_t count = 0;
    for (uint32_t index = 1; index <= pool->magazines; index++) {
        count += magazine_at(pool, index)->count;
    }
    for (void *block = pool->loose; block != NULL; block = *(void **)block) {
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
