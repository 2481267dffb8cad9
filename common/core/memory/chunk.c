/*
 * Chunks: taking one, beginning it anew, retiring it. Cutting runs on the owner's thread, dropping
 * on any.
 *
 * Who owns a chunk: the thread whose record names it, until it is retired; then whoever holds its
 * last packet; then the chunk pool.
 */
#include "core/memory/chunk.h"

#include "core/memory/block.h"
#include "core/memory/shared_pool.h"

/* ---- the chunk pool -------------------------------------------------------------------------- */

/* Made at the first chunk and never destroyed: a packet may outlive every server. */
static _Atomic(tp_pool *) chunk_pool;

static tp_err get_pool(tp_pool **pool) {
    tp_err error = tp__shared_pool_open(&chunk_pool, "chunks", TP__CHUNK_BYTES);
    *pool = atomic_load_explicit(&chunk_pool, memory_order_acquire);
    return error;
}

tp_err tp__chunk_reserve(size_t count) {
    tp_pool *pool;
    tp_err error = get_pool(&pool);
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
    atomic_fetch_sub_explicit(&tp__chunk_pool()->reserved, count, memory_order_relaxed);
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

static void begin(tp__chunk *chunk) {
    chunk->next = chunk->first;
    chunk->outstanding = 0;
    atomic_store_explicit(&chunk->count, TP__CHUNK_BIAS, memory_order_relaxed);
}

static tp__chunk *take(tp__local *local) {
    tp_pool *pool;
    tp__chunk *chunk = get_pool(&pool) == TP_OK ? tp__pool_allocate_on(local, pool) : NULL;
    if (chunk == NULL) {
        return NULL;
    }
    chunk->first = first_piece(chunk);
    chunk->end = (uint8_t *)chunk + TP__CHUNK_BYTES;
    TP_POISON(chunk->first, chunk->end - chunk->first);
    begin(chunk);
    return chunk;
}

static void give(tp__local *local, tp__chunk *chunk) {
    tp__pool_free_on(local, atomic_load_explicit(&chunk_pool, memory_order_acquire), chunk);
}

/* The owner asks whether every packet is released. Acquire pairs with the release of each
 * tp__chunk_drop(): what the others did with their packets comes before what is cut from here next.
 * After a yes nobody but the owner knows of the chunk, so it may write the count without an
 * exchange. */
static bool is_unused(const tp__chunk *chunk) {
    return atomic_load_explicit(&chunk->count, memory_order_acquire) ==
           TP__CHUNK_BIAS - chunk->outstanding;
}

/* Takes the owner's share away. Acquire and release: if this brings the count to 0 the others' use
 * of their packets comes before the chunk's next use; if it does not, the owner's use comes before
 * it. */
static void retire(tp__local *local, tp__chunk *chunk) {
    uint32_t share = TP__CHUNK_BIAS - chunk->outstanding;
    if (atomic_fetch_sub_explicit(&chunk->count, share, memory_order_acq_rel) == share) {
        give(local, chunk);
    }
}

void tp__chunk_drop(tp__chunk *chunk) {
    if (atomic_fetch_sub_explicit(&chunk->count, 1, memory_order_acq_rel) == 1) {
        give(tp__local_get(), chunk);
    }
}

/* The thread is ending, or has no use for its chunk. */
static void leave(tp__local *local) {
    if (local->chunk != NULL) {
        retire(local, local->chunk);
        local->chunk = NULL;
    }
}

void *tp__chunk_cut_slowly(tp__local *local, size_t bytes) {
    tp__chunk *chunk = local->chunk;
    if (chunk != NULL && is_unused(chunk)) {
        begin(chunk);
        return tp__chunk_cut(local, bytes);
    }
    /* The old chunk is kept until there is a new one: smaller packets may still find room in it. */
    tp__chunk *fresh = take(local);
    if (fresh == NULL) {
        return NULL;
    }
    local->chunk = fresh;
    local->leave[TP__LEAVE_CHUNK] = leave;
    if (chunk != NULL) {
        retire(local, chunk);
    }
    return tp__chunk_cut(local, bytes);
}

size_t tp__chunk_trim(void) {
    tp_pool *pool = atomic_load_explicit(&chunk_pool, memory_order_acquire);
    tp__local *local = tp_thread_record();
    if (pool == NULL) {
        return 0;
    }
    if (local != NULL && local->chunk != NULL && is_unused(local->chunk)) {
        leave(local);
    }
    return tp_pool_trim(pool);
}
