/*
 * The memory that a pool's blocks are cut from. All functions run under the pool's mutex, except
 * tp__slabs_free_all(), when no thread uses the pool any more, and what it calls.
 *
 * A slab is one allocation of about 64 KiB, or of one block if blocks are large, so that a trim can
 * return large blocks one by one.
 */
#include <assert.h>
#include <string.h>

#include "core/memory/block.h"
#include "core/memory/grow.h"
#include "core/memory/memory.h"

#define FIRST_SLABS 16u

static uint64_t blocks_now(const tp_pool *pool) {
    return atomic_load_explicit(&pool->blocks, memory_order_relaxed);
}

static void set_blocks(tp_pool *pool, uint64_t blocks) {
    assert(blocks <= pool->limit);
    atomic_store_explicit(&pool->blocks, blocks, memory_order_relaxed);
}

/* Index of a free entry of the table, or UINT32_MAX. */
static uint32_t slab_take_entry(tp_pool *pool) {
    TP_ASSERT_LOCKED(&pool->mutex);
    if (pool->slab_free != 0) {
        uint32_t entry = pool->slab_free - 1;
        assert(entry < pool->slab_count && pool->slabs[entry].memory == NULL);
        pool->slab_free = pool->slabs[entry].marked;
        return entry;
    }
    if (pool->slab_count == pool->slab_capacity) {
        uint32_t capacity = tp__doubled(pool->slab_capacity, FIRST_SLABS);
        tp__slab *slabs = tp__larger_copy(pool->slabs, pool->slab_count, capacity, sizeof *slabs);
        if (slabs == NULL) {
            return UINT32_MAX;
        }
        tp__free(pool->slabs);
        pool->slabs = slabs;
        pool->slab_capacity = capacity;
    }
    return pool->slab_count++;
}

static void slab_give_entry(tp_pool *pool, uint32_t entry) {
    TP_ASSERT_LOCKED(&pool->mutex);
    assert(entry < pool->slab_count);
    pool->slabs[entry] = (tp__slab){.memory = NULL, .blocks = 0, .marked = pool->slab_free};
    pool->slab_free = entry + 1;
}

static void slab_write_header(const tp_pool *pool, uint8_t *at, uint32_t entry) {
    tp__block *header = (tp__block *)(void *)at;
    atomic_init(&header->holder, TP__HELD_BY_USER);
    header->slab = entry;
    header->mark = pool->mark ^ (uint64_t)(uintptr_t)(header + 1);
}

uint8_t *tp__slabs_grow(tp_pool *pool, size_t count, size_t *cut) {
    TP_ASSERT_LOCKED(&pool->mutex);
    uint64_t left = pool->limit - blocks_now(pool);
    count = count > pool->slab_blocks ? pool->slab_blocks : count;
    count = count > left ? (size_t)left : count;
    *cut = 0;
    if (count == 0) {
        return NULL;
    }
    uint32_t entry = slab_take_entry(pool);
    if (entry == UINT32_MAX) {
        return NULL;
    }
    uint8_t *memory = tp__allocate_piece(count * pool->stride);
    if (memory == NULL) {
        slab_give_entry(pool, entry);
        return NULL;
    }
    pool->slabs[entry] = (tp__slab){.memory = memory, .blocks = (uint32_t)count, .marked = 0};
    for (size_t i = 0; i < count; i++) {
        slab_write_header(pool, memory + i * pool->stride, entry);
    }
    set_blocks(pool, blocks_now(pool) + count);
    *cut = count;
    return memory;
}

void tp__slabs_mark(tp_pool *pool, void *block) {
    TP_ASSERT_LOCKED(&pool->mutex);
    tp__slab *slab = &pool->slabs[tp__block_of(block)->slab];
    assert(slab->memory != NULL && slab->marked < slab->blocks);
    slab->marked++;
}

void tp__slabs_choose(tp_pool *pool, uint64_t most) {
    TP_ASSERT_LOCKED(&pool->mutex);
    for (uint32_t entry = 0; entry < pool->slab_count; entry++) {
        tp__slab *slab = &pool->slabs[entry];
        if (slab->memory == NULL) {
            continue;
        }
        if (slab->marked == slab->blocks && slab->blocks <= most) {
            most -= slab->blocks;
        } else {
            slab->marked = 0;
        }
    }
}

bool tp__slabs_reclaimable(const tp_pool *pool, void *block) {
    TP_ASSERT_LOCKED(&pool->mutex);
    const tp__slab *slab = &pool->slabs[tp__block_of(block)->slab];
    assert(slab->memory != NULL); /* until tp__slabs_reclaim() */
    return slab->marked == slab->blocks;
}

/* The headers are erased, so that a block that is freed once more after its slab is not mistaken
 * for one of the pool, as long as the memory is not written again. */
static size_t slab_free_memory(tp_pool *pool, tp__slab *slab) {
    size_t bytes = slab->blocks * pool->stride;
    TP_UNPOISON(slab->memory, bytes);
    for (uint32_t i = 0; i < slab->blocks; i++) {
        memset(slab->memory + i * pool->stride, 0, sizeof(tp__block));
    }
    tp__free_piece(slab->memory, bytes);
    return bytes;
}

size_t tp__slabs_reclaim(tp_pool *pool) {
    TP_ASSERT_LOCKED(&pool->mutex);
    size_t bytes = 0;
    for (uint32_t entry = 0; entry < pool->slab_count; entry++) {
        tp__slab *slab = &pool->slabs[entry];
        if (slab->memory == NULL) {
            continue;
        }
        if (slab->marked == slab->blocks) {
            assert(blocks_now(pool) >= slab->blocks);
            set_blocks(pool, blocks_now(pool) - slab->blocks);
            bytes += slab_free_memory(pool, slab);
            slab_give_entry(pool, entry);
        } else {
            slab->marked = 0;
        }
    }
    return bytes;
}

void tp__slabs_free_all(tp_pool *pool) {
    for (uint32_t entry = 0; entry < pool->slab_count; entry++) {
        if (pool->slabs[entry].memory != NULL) {
            (void)slab_free_memory(pool, &pool->slabs[entry]);
        }
    }
    tp__free(pool->slabs);
}
