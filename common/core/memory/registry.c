/*
 * The register of pools, and the end of a process that gives back what is no block.
 *
 * The register gives each living pool a slot, by which every thread finds its magazines of that
 * pool without a search. A slot is used again after a pool's end; what other threads still have in
 * that slot is told by the mark, which no two pools ever share. Any thread.
 */
#include "core/base/fatal.h"
#include "core/memory/block.h"
#include "os/thread.h"

/* Under the lock, which also keeps a pool's end apart from the end of threads that used it. */
static struct {
    tp_pool *pools[TP__POOL_SLOTS];
    uint64_t created; /* pools that ever were */
} registry;
static tp_mutex lock;
static tp_once once;

static void initialise(void) {
    tp_mutex_init(&lock);
}

void tp__registry_lock(void) {
    tp_once_run(&once, initialise);
    tp_mutex_lock(&lock);
}

void tp__registry_unlock(void) {
    tp_mutex_unlock(&lock);
}

/* An odd factor maps the numbers of pools to as many marks, none of them 0, that differ in many
 * bits. */
static uint64_t mark_of(uint64_t number) {
    return number * UINT64_C(0x9E3779B97F4A7C15);
}

tp_err tp__registry_add(tp_pool *pool, uint32_t first, uint32_t end) {
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
    return registry.pools[slot];
}

void tp__registry_remove(const tp_pool *pool) {
    tp__registry_lock();
    registry.pools[pool->slot] = NULL;
    tp__registry_unlock();
}

/* The living pool whose block this is, or NULL. */
static const tp_pool *find(const void *block) {
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
    const tp_pool *owner = tp__block_is_aligned(block) ? find(block) : NULL;
    if (owner != NULL) {
        tp__fatal("pool \"%s\": block %p belongs to pool \"%s\"", pool->name, block, owner->name);
    }
    tp__fatal("pool \"%s\": %p was never a block of a pool, or is overwritten", pool->name, block);
}
