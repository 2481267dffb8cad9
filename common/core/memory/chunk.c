/*
 * Chunks: taking one from the pool, resetting it, retiring it. Cutting runs on the owner's thread,
 * releasing on any thread.
 *
 * A chunk belongs to the thread whose cache points to it, until it is retired; then to the packets
 * in it together; after the last of them is released, to the chunk pool.
 */
#include "core/memory/chunk.h"

#include "core/base/invariant.h"
#include "core/memory/block.h"
#include "core/memory/shared_pool.h"

/* ---- the chunk pool -------------------------------------------------------------------------- */

/* Created with the first chunk and never destroyed: a packet may outlive every server. */
static _Atomic(tp_pool *) chunk_pool;

static tp_err chunk_open_pool(tp_pool **pool) {
    tp_err error = tp__shared_pool_open(&chunk_pool, "chunks", TP__CHUNK_BYTES);
    *pool = atomic_load_explicit(&chunk_pool, memory_order_acquire);
    return error;
}

tp_err tp__chunk_reserve(size_t count) {
    tp_pool *pool;
    tp_err error = chunk_open_pool(&pool);
    if (error != TP_OK) {
        return error;
    }
    if (!tp__depot_reserve(pool, count)) {
        return TP_ERR_NO_MEMORY;
    }
    atomic_fetch_add_explicit(&pool->reserved, count, memory_order_relaxed);
    return TP_OK;
}

void tp__chunk_unreserve(size_t count) {
    tp_pool *pool = tp__chunk_pool();
    assert(pool != NULL);
    uint64_t before = atomic_fetch_sub_explicit(&pool->reserved, count, memory_order_relaxed);
    assert(before >= count);
    (void)before;
}

tp_pool *tp__chunk_pool(void) {
    return atomic_load_explicit(&chunk_pool, memory_order_acquire);
}

uint64_t tp__chunk_count(void) {
    tp_pool *pool = tp__chunk_pool();
    tp_pool_stats stats = {.size = sizeof stats};
    if (pool != NULL) {
        tp_pool_get_stats(pool, &stats);
    }
    return stats.blocks;
}

/* ---- a chunk's life -------------------------------------------------------------------------- */

static uint8_t *first_piece(tp__chunk *chunk) {
    uint8_t *start = (uint8_t *)(chunk + 1);
    size_t beyond = (uintptr_t)start % TP__CHUNK_ALIGN;
    return beyond > 0 ? start + (TP__CHUNK_ALIGN - beyond) : start;
}

static void chunk_reset(tp__chunk *chunk) {
    chunk->next = chunk->first;
    chunk->outstanding = 0;
    atomic_store_explicit(&chunk->count, TP__CHUNK_BIAS, memory_order_relaxed);
}

static tp__chunk *chunk_take(tp__thread_cache *thread) {
    tp_pool *pool;
    tp__chunk *chunk = chunk_open_pool(&pool) == TP_OK ? tp__pool_allocate_on(thread, pool) : NULL;
    if (chunk == NULL) {
        return NULL;
    }
    chunk->first = first_piece(chunk);
    chunk->end = (uint8_t *)chunk + TP__CHUNK_BYTES;
    TP_POISON(chunk->first, chunk->end - chunk->first);
    chunk_reset(chunk);
    TP__VERIFY(tp__chunk_check(chunk));
    return chunk;
}

static void chunk_give(tp__thread_cache *thread, tp__chunk *chunk) {
    tp__pool_free_on(thread, atomic_load_explicit(&chunk_pool, memory_order_acquire), chunk);
}

/* For the owner: true if every packet is released. Acquire pairs with the release of each
 * tp__chunk_drop(): what other threads did with their packets happens before the next packet is cut
 * from the same memory. If it is true, no other thread has a reference to the chunk, so the owner
 * may write the count with a plain store. */
static bool chunk_is_unused(const tp__chunk *chunk) {
    return atomic_load_explicit(&chunk->count, memory_order_acquire) ==
           TP__CHUNK_BIAS - chunk->outstanding;
}

/* Subtracts the owner's share. Acquire and release: if this brings the count to 0, other threads'
 * use of their packets happens before the chunk's next use; if it does not, the owner's use happens
 * before it. */
static void chunk_retire(tp__thread_cache *thread, tp__chunk *chunk) {
    TP__VERIFY(tp__chunk_check(chunk));
    uint32_t share = TP__CHUNK_BIAS - chunk->outstanding;
    uint32_t before = atomic_fetch_sub_explicit(&chunk->count, share, memory_order_acq_rel);
    assert(before >= share);
    if (before == share) {
        chunk_give(thread, chunk);
    }
}

void tp__chunk_drop(tp__chunk *chunk) {
    uint32_t before = atomic_fetch_sub_explicit(&chunk->count, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before == 1) {
        chunk_give(tp__thread_cache_get(), chunk);
    }
}

/* The thread ends, or does not need its chunk. */
static void chunk_thread_exit(tp__thread_cache *thread) {
    if (thread->chunk != NULL) {
        chunk_retire(thread, thread->chunk);
        thread->chunk = NULL;
    }
}

void *tp__chunk_cut_slowly(tp__thread_cache *thread, size_t bytes) {
    tp__chunk *chunk = thread->chunk;
    if (chunk != NULL && chunk_is_unused(chunk)) {
        TP__VERIFY(tp__chunk_check(chunk));
        chunk_reset(chunk);
        return tp__chunk_cut(thread, bytes);
    }
    /* The old chunk is kept until there is a new one: smaller packets may still fit into it. */
    tp__chunk *fresh = chunk_take(thread);
    if (fresh == NULL) {
        return NULL;
    }
    thread->chunk = fresh;
    thread->exit_hooks[TP__EXIT_CHUNK] = chunk_thread_exit;
    if (chunk != NULL) {
        chunk_retire(thread, chunk);
    }
    return tp__chunk_cut(thread, bytes);
}

size_t tp__chunk_trim(void) {
    tp_pool *pool = atomic_load_explicit(&chunk_pool, memory_order_acquire);
    tp__thread_cache *thread = tp_thread_record();
    if (pool == NULL) {
        return 0;
    }
    if (thread != NULL && thread->chunk != NULL && chunk_is_unused(thread->chunk)) {
        chunk_thread_exit(thread);
    }
    return tp_pool_trim(pool);
}
