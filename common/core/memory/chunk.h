/*
 * Chunks: 64 KiB pieces of memory that packets are cut from.
 *
 * A chunk belongs to one thread, which cuts by advancing a pointer; a packet may be released by any
 * thread. So the count of packets is kept in two parts:
 *
 *     outstanding   the owner's, not atomic: packets cut, less those that the owner itself released
 *     count         shared, atomic: begins at TP__CHUNK_BIAS; a release by another thread takes 1
 *
 * As long as the chunk is its owner's current one:
 *
 *     packets alive = outstanding - (TP__CHUNK_BIAS - count)
 *
 * The bias is the owner's share, far more than the packets that fit into a chunk, so other threads
 * cannot bring the count to 0 while the owner uses the chunk. When the chunk is full the owner
 * retires it: it subtracts TP__CHUNK_BIAS - outstanding, which leaves exactly the packets alive.
 * From then on every release, by the former owner too, decrements `count`, and the release that
 * brings it to 0 returns the chunk to the chunk pool.
 *
 * Whether a packet's chunk belongs to the calling thread is decided by comparing it with the
 * thread's current chunk. The result is always right: a chunk with a packet alive is never freed,
 * so equal addresses are the same chunk.
 *
 * If outstanding is 0, other threads have released nothing either: no packet is alive, and the
 * owner resets the chunk without accessing the count. That is the usual end of a batch on one
 * worker, whose packets then always use the same few cache lines.
 */
#ifndef TWINPORT_CORE_MEMORY_CHUNK_H
#define TWINPORT_CORE_MEMORY_CHUNK_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/memory/thread_cache.h"
#include "os/compiler.h"
#include "twinport/pool.h"

#define TP__CHUNK_BYTES (((size_t)64 << 10) - 16) /* with the pool's header 64 KiB: whole pages */
#define TP__CHUNK_BIAS  ((uint32_t)1 << 30)
#define TP__CHUNK_ALIGN ((size_t)TP_CACHE_LINE) /* of pieces: no two share a cache line */
/* Larger pieces do not come from chunks, so at most about a quarter of a chunk is wasted. */
#define TP__CHUNK_PIECE_MAX ((size_t)17 << 10)

typedef struct tp__chunk {
    /* Accessed by the owner only. */
    uint8_t *next;        /* where the next piece begins */
    uint8_t *first;       /* where the first piece begins */
    uint8_t *end;         /* of the chunk */
    uint32_t outstanding; /* see above */
    uint8_t apart[TP_CACHE_LINE];
    /* Accessed by all threads. */
    _Atomic uint32_t count;
} tp__chunk;

/* The slow path of tp__chunk_cut(): the piece does not fit into the thread's chunk, or there is
 * none. Resets the chunk or takes another one, and cuts. NULL if memory is out. */
void *tp__chunk_cut_slowly(tp__thread_cache *thread, size_t bytes);

/* Releases a piece of a chunk that is not the calling thread's, or is retired. Any thread. */
void tp__chunk_drop(tp__chunk *chunk);

/* Retires the calling thread's chunk if no packet in it is alive, and returns free chunks to the
 * system, except those in other threads' magazines; returns the bytes. Any thread. */
size_t tp__chunk_trim(void);

/* The chunk pool, or NULL before the first chunk. */
tp_pool *tp__chunk_pool(void);

/* Allocates `count` chunks in advance. tp__pool_reap() leaves that many alone until
 * tp__chunk_unreserve(); a trim does not. TP_ERR_NO_MEMORY, TP_ERR_FULL. */
tp_err tp__chunk_reserve(size_t count);
void tp__chunk_unreserve(size_t count);

/* The first broken invariant of a chunk, or NULL (chunk_check.c): its ends and `next` are in order,
 * and the outstanding pieces fit to both. For its owner. */
const char *tp__chunk_check(const tp__chunk *chunk);

/* Chunks that exist: in use, in magazines and in the pool. */
uint64_t tp__chunk_count(void);

/*
 * Cuts `bytes` (a multiple of TP__CHUNK_ALIGN, at most TP__CHUNK_PIECE_MAX) off the thread's chunk.
 * The chunk is thread->chunk afterwards. NULL if memory is out.
 */
static inline void *tp__chunk_cut(tp__thread_cache *thread, size_t bytes) {
    assert(bytes > 0 && bytes <= TP__CHUNK_PIECE_MAX && bytes % TP__CHUNK_ALIGN == 0);
    tp__chunk *chunk = thread->chunk;
    if (TP_UNLIKELY(chunk == NULL) || TP_UNLIKELY(bytes > (size_t)(chunk->end - chunk->next))) {
        return tp__chunk_cut_slowly(thread, bytes);
    }
    uint8_t *piece = chunk->next;
    chunk->next = piece + bytes;
    chunk->outstanding++;
    TP_UNPOISON(piece, bytes);
    return piece;
}

/* Returns the end of a piece, from `used` bytes on, to the chunk. True if that was possible: only
 * for the newest piece of the thread's chunk. */
static inline bool tp__chunk_cut_back(
    const tp__thread_cache *thread, tp__chunk *chunk, uint8_t *piece, size_t bytes, size_t used) {
    if (thread == NULL || thread->chunk != chunk || chunk->next != piece + bytes) {
        return false;
    }
    assert(used > 0 && used <= bytes && used % TP__CHUNK_ALIGN == 0);
    chunk->next = piece + used;
    TP_POISON(piece + used, bytes - used);
    return true;
}

/*
 * Releases a piece. `thread`: the calling thread's cache, or NULL if it has none.
 *
 * On the owner's thread no shared memory is accessed, so no memory order is needed. Other threads
 * use tp__chunk_drop().
 */
static inline void tp__chunk_release(
    const tp__thread_cache *thread, tp__chunk *chunk, uint8_t *piece, size_t bytes) {
    TP_POISON(piece, bytes);
    if (thread == NULL || thread->chunk != chunk) {
        tp__chunk_drop(chunk);
        return;
    }
    assert(chunk->outstanding > 0);
    assert(piece >= chunk->first && piece < chunk->next);
    if (--chunk->outstanding == 0) {
        chunk->next = chunk->first;
    } else if (chunk->next == piece + bytes) {
        chunk->next = piece;
    }
}

#endif
