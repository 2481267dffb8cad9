/*
 * The register of pools, and the end of a process that frees something that is not a block. Any
 * thread.
 *
 * The register gives each existing pool a slot, the index of the pool's magazines in every thread
 * cache. A slot is reused after its pool is destroyed; magazines of the old pool that are still in
 * a thread cache are recognised by the mark, which no two pools of the process share.
 */
#include <assert.h>

#include "core/base/fatal.h"
#include "core/memory/block.h"
#include "os/thread.h"

/* Under the lock, which also separates the destruction of a pool from the end of threads that used
 * it. */
static struct {
    tp_pool *pools[TP__POOL_SLOTS];
    uint64_t created; /* pools in the life of the process */
} registry;
static tp_mutex lock;
static tp_once once;

static void registry_init(void) {
    tp_mutex_init(&lock);
}

void tp__registry_lock(void) {
    tp_once_run(&once, registry_init);
    tp_mutex_lock(&lock);
}

void tp__registry_unlock(void) {
    tp_mutex_unlock(&lock);
}

/* Multiplication by an odd factor is one-to-one: different pools have different marks, which differ
 * in many bits, and none is 0. */
static uint64_t mark_of(uint64_t number) {
    return number * UINT64_C(0x9E3779B97F4A7C15);
}

tp_err tp__registry_add(tp_pool *pool, uint32_t first, uint32_t end) {
    assert(first < end && end <= TP__POOL_SLOTS);
    tp_err error = TP_ERR_FULL;
    tp__registry_lock();
    for (uint32_t slot = first; slot < end; slot++) {
        if (registry.pools[slot] == NULL) {
            pool->slot = slot;
            pool->mark = mark_of(++registry.created);
            registry.pools[slot] = pool;
            error = TP_OK;
            break;
        }
    }
    tp__registry_unlock();
    return error;
}

tp_pool *tp__registry_pool(uint32_t slot) {
    assert(slot < TP__POOL_SLOTS);
    if (slot < TP_POOL_MAX) {
        TP_ASSERT_LOCKED(&lock);
    }
    return registry.pools[slot];
}

void tp__registry_remove(const tp_pool *pool) {
    tp__registry_lock();
    assert(registry.pools[pool->slot] == pool);
    registry.pools[pool->slot] = NULL;
    tp__registry_unlock();
}

/* The existing pool whose block this is, or NULL. */
static const tp_pool *registry_find(const void *block) {
    const tp_pool *found = NULL;
    uint64_t mark = ((const tp__block *)block - 1)->mark ^ (uint64_t)(uintptr_t)block;
    tp__registry_lock();
    for (uint32_t slot = 0; slot < TP__POOL_SLOTS; slot++) {
        if (registry.pools[slot] != NULL && registry.pools[slot]->mark == mark) {
            found = registry.pools[slot];
        }
    }
    tp__registry_unlock();
    return found;
}

void tp__pool_stop(const tp_pool *pool, const void *block) {
    if (tp__pool_owns(pool, block)) {
        tp__fatal("pool \"%s\": block %p was freed twice", pool->name, block);
    }
    const tp_pool *owner = tp__block_is_aligned(block) ? registry_find(block) : NULL;
    if (owner != NULL) {
        tp__fatal("pool \"%s\": block %p belongs to pool \"%s\"", pool->name, block, owner->name);
    }
    tp__fatal("pool \"%s\": %p was never a block of a pool, or is overwritten", pool->name, block);
}
