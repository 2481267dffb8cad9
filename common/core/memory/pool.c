/*
 * tp_pool: a thread's magazines; creating, trimming and destroying pools.
 *
 * Allocating and freeing run on any thread and usually access only that thread's two magazines and
 * the block itself. There are two of them, so that a thread that alternates between allocating and
 * freeing at the end of a magazine does not call the depot each time: between two calls of the
 * depot lie at least as many calls in one direction as a magazine holds blocks.
 */
#include <string.h>

#include "core/base/fatal.h"
#include "core/base/invariant.h"
#include "core/memory/block.h"
#include "core/memory/memory.h"

#define BLOCK_MAX  ((size_t)16 << 20)
#define ROUNDS_MAX ((size_t)128)
#define ROUNDS_MIN ((size_t)2)
#define MAGAZINE_WORTH                                                                             \
    ((size_t)128 << 10) /* bytes of blocks that a thread may keep in a magazine */
#define SLAB_BYTES ((size_t)64 << 10)
#define REAP_LEAST ((size_t)256 << 10) /* bytes: less is not worth a trim */

/* ---- a thread's two magazines ---------------------------------------------------------------- */

/* Gives the cache two empty magazines at the first use of the pool on this thread. What an earlier
 * pool left in the slot is overwritten: its magazines no longer exist. False: memory is out. */
static bool cache_open(tp__pool_cache *cache, tp_pool *pool) {
    if (tp__pool_cache_is_open(cache, pool)) {
        return true;
    }
    tp__magazine *loaded = tp__depot_get_empty(pool);
    tp__magazine *previous = loaded != NULL ? tp__depot_get_empty(pool) : NULL;
    if (previous == NULL) {
        if (loaded != NULL) {
            tp__depot_put(pool, loaded);
        }
        return false;
    }
    assert(loaded != previous);
    *cache = (tp__pool_cache){.mark = pool->mark, .loaded = loaded, .previous = previous};
    return true;
}

static void cache_close(tp__pool_cache *cache, tp_pool *pool) {
    if (tp__pool_cache_is_open(cache, pool)) {
        tp__depot_put(pool, cache->loaded);
        tp__depot_put(pool, cache->previous);
        cache->mark = 0;
    }
}

/* The thread ends: returns its magazines to their depots, for all pools that still exist. */
static void pool_thread_exit(tp__thread_cache *thread) {
    tp__registry_lock();
    for (uint32_t slot = 0; slot < TP__POOL_SLOTS; slot++) {
        if (tp__registry_pool(slot) != NULL) {
            cache_close(&thread->pools[slot], tp__registry_pool(slot));
        }
    }
    tp__registry_unlock();
}

/* The thread's magazines of the pool, or NULL if memory is out. */
static tp__pool_cache *cache_get(tp__thread_cache *thread, tp_pool *pool) {
    if (thread == NULL || !cache_open(&thread->pools[pool->slot], pool)) {
        return NULL;
    }
    thread->exit_hooks[TP__EXIT_POOLS] = pool_thread_exit;
    return &thread->pools[pool->slot];
}

static void cache_swap(tp__pool_cache *cache) {
    tp__magazine *loaded = cache->loaded;
    cache->loaded = cache->previous;
    cache->previous = loaded;
}

/* Loads a fresh magazine: the previous one goes to the depot, and the loaded one becomes the
 * previous one. */
static void cache_load(tp__pool_cache *cache, tp_pool *pool, tp__magazine *fresh) {
    assert(tp__pool_cache_is_open(cache, pool));
    assert(fresh != cache->loaded && fresh != cache->previous);
    tp__depot_put(pool, cache->previous);
    cache->previous = cache->loaded;
    cache->loaded = fresh;
}

/* The loaded magazine and both counts as one number; 0 if the cache has no blocks. */
static uint64_t cache_state(const tp__pool_cache *cache) {
    assert(cache->loaded->count <= ROUNDS_MAX && cache->previous->count <= ROUNDS_MAX);
    uint64_t counts = (uint64_t)cache->loaded->count << 16 | cache->previous->count;
    return counts > 0 ? (uint64_t)cache->loaded->index << 32 | counts : 0;
}

/* The core's pools exist for the life of the process, so no lock is needed to find them. A cache
 * that was used may have the same state as before: returning it costs only that it must be filled
 * again. */
void tp__pool_return_idle(tp__thread_cache *thread) {
    for (uint32_t slot = TP_POOL_MAX; slot < TP__POOL_SLOTS; slot++) {
        tp__pool_cache *cache = &thread->pools[slot];
        tp_pool *pool = cache->mark != 0 ? tp__registry_pool(slot) : NULL;
        if (pool == NULL || !tp__pool_cache_is_open(cache, pool)) {
            continue;
        }
        uint64_t state = cache_state(cache);
        if (state != 0 && state == cache->seen) {
            cache_close(cache, pool);
        } else {
            cache->seen = state;
        }
    }
}

/* ---- blocks ---------------------------------------------------------------------------------- */

TP_NOINLINE void *tp__pool_allocate_slowly(tp__thread_cache *thread, tp_pool *pool) {
    tp__pool_cache *cache = cache_get(thread, pool);
    if (cache != NULL) {
        if (cache->loaded->count == 0 && cache->previous->count > 0) {
            cache_swap(cache);
        }
        tp__magazine *filled = cache->loaded->count > 0 ? NULL : tp__depot_get_filled(pool);
        if (filled != NULL) {
            cache_load(cache, pool, filled);
        }
        if (cache->loaded->count > 0) {
            return tp__magazine_take(pool, cache->loaded);
        }
    }
    void *block = tp__depot_get_block(pool);
    if (block == NULL) {
        tp__count_shared(&pool->failures, 1);
    }
    return block;
}

void *tp_pool_allocate(tp_pool *pool) {
    return tp__pool_allocate_on(tp__thread_cache_get(), pool);
}

TP_NOINLINE void tp__pool_free_slowly(tp__thread_cache *thread, tp_pool *pool, void *block) {
    tp__pool_cache *cache = cache_get(thread, pool);
    if (cache != NULL) {
        if (cache->loaded->count == pool->rounds && cache->previous->count < pool->rounds) {
            cache_swap(cache);
        }
        tp__magazine *empty =
            cache->loaded->count < pool->rounds ? NULL : tp__depot_get_empty(pool);
        if (empty != NULL) {
            cache_load(cache, pool, empty);
        }
        if (cache->loaded->count < pool->rounds) {
            tp__magazine_put(pool, cache->loaded, block);
            return;
        }
    }
    tp__depot_put_block(pool, block);
}

void tp_pool_free(tp_pool *pool, void *block) {
    if (TP_LIKELY(block != NULL)) {
        tp__pool_free_on(tp__thread_cache_get(), pool, block);
    }
}

/* ---- pools ----------------------------------------------------------------------------------- */

static size_t at_least(size_t value, size_t least) {
    return value < least ? least : value;
}

static size_t at_most(size_t value, size_t most) {
    return value > most ? most : value;
}

static size_t rounded_up(size_t value, size_t to) {
    return (value + to - 1) / to * to;
}

static bool pool_options_are_valid(const tp_pool_options *options) {
    return options != NULL && options->size >= sizeof *options && options->name != NULL &&
           options->block_size >= 1 && options->block_size <= BLOCK_MAX &&
           (options->limit == 0 || options->reserve <= options->limit);
}

static void pool_set_sizes(tp_pool *pool, const tp_pool_options *options) {
    pool->name = options->name;
    pool->block_size = rounded_up(options->block_size, 16);
    pool->stride = sizeof(tp__block) + pool->block_size;
    pool->limit = options->limit > 0 ? options->limit : SIZE_MAX;
    pool->slab_blocks = at_least(SLAB_BYTES / pool->stride, 1);
    pool->rounds =
        (uint32_t)at_most(at_least(MAGAZINE_WORTH / pool->stride, ROUNDS_MIN), ROUNDS_MAX);
    pool->magazine_bytes =
        rounded_up(sizeof(tp__magazine) + pool->rounds * sizeof(void *), TP_CACHE_LINE);
    assert(pool->rounds >= ROUNDS_MIN && pool->rounds <= ROUNDS_MAX);
    assert(pool->slab_blocks <= UINT32_MAX);
}

static tp_err pool_create(
    const tp_pool_options *options, uint32_t first_slot, uint32_t end_slot, tp_pool **created) {
    *created = NULL;
    if (!pool_options_are_valid(options)) {
        return TP_ERR_INVALID;
    }
    tp_pool *pool = tp__allocate_zeroed(1, sizeof *pool);
    if (pool == NULL) {
        return TP_ERR_NO_MEMORY;
    }
    pool_set_sizes(pool, options);
    tp_mutex_init(&pool->mutex);
    tp_err error = tp__registry_add(pool, first_slot, end_slot);
    if (error != TP_OK) {
        tp_mutex_destroy(&pool->mutex);
        tp__free(pool);
        return error;
    }
    if (!tp__depot_reserve(pool, options->reserve)) {
        tp_pool_destroy(pool);
        return TP_ERR_NO_MEMORY;
    }
    *created = pool;
    return TP_OK;
}

tp_err tp_pool_create(const tp_pool_options *options, tp_pool **pool) {
    return pool_create(options, 0, TP_POOL_MAX, pool);
}

tp_err tp__pool_create_own(const tp_pool_options *options, tp_pool **pool) {
    return pool_create(options, TP_POOL_MAX, TP__POOL_SLOTS, pool);
}

/* After the pool is removed from the register, an ending thread does not find it any more, and no
 * thread uses it (the caller's duty). So the magazines that threads still have are counted and
 * freed with all others. */
void tp_pool_destroy(tp_pool *pool) {
    if (pool == NULL) {
        return;
    }
    tp__registry_remove(pool);
    uint64_t blocks = atomic_load_explicit(&pool->blocks, memory_order_relaxed);
    uint64_t out = blocks - tp__depot_count_free(pool);
    if (out != 0) {
        tp__fatal("pool \"%s\": destroyed while %llu of its blocks are in use", pool->name,
            (unsigned long long)out);
    }
    TP__VERIFY(tp__pool_check_unused(pool));
    tp__depot_free_all(pool);
    tp_mutex_destroy(&pool->mutex);
    tp__free(pool);
}

size_t tp_pool_trim(tp_pool *pool) {
    tp__thread_cache *thread = tp_thread_record();
    if (thread != NULL) {
        cache_close(&thread->pools[pool->slot], pool);
    }
    return tp__depot_trim(pool, UINT64_MAX);
}

/* Blocks that were in the depot all the time since the last call are unused: ready_low of them.
 * ready_low starts again from what is left, because a trim takes everything out for a moment. */
size_t tp__pool_reap(tp_pool *pool, size_t most) {
    uint64_t unused = atomic_load_explicit(&pool->ready_low, memory_order_relaxed);
    uint64_t blocks = atomic_load_explicit(&pool->blocks, memory_order_relaxed);
    uint64_t reserved = atomic_load_explicit(&pool->reserved, memory_order_relaxed);
    uint64_t spare = blocks > reserved ? blocks - reserved : 0;
    size_t bytes = 0;
    unused = unused < spare ? unused : spare;
    if (unused * pool->stride >= REAP_LEAST) {
        uint64_t allowed = most / pool->stride;
        bytes = tp__depot_trim(pool, unused < allowed ? unused : allowed);
    }
    atomic_store_explicit(&pool->ready_low,
        atomic_load_explicit(&pool->ready, memory_order_relaxed), memory_order_relaxed);
    return bytes;
}

void tp_pool_get_stats(const tp_pool *pool, tp_pool_stats *stats) {
    tp_pool_stats now = {
        .size = stats->size,
        .blocks = tp__count_read(&pool->blocks),
        .main_gets = tp__count_read(&pool->gets),
        .main_puts = tp__count_read(&pool->puts),
        .failures = tp__count_read(&pool->failures),
    };
    memcpy(stats, &now, at_most(stats->size, sizeof now));
}
