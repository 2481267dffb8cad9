/*
 * Chunks: 64 KiB pieces of memory that packets are cut from.
 *
 * A chunk belongs to one thread, which cuts by moving a pointer; a packet may be released by any
 * thread. So the chunk's count is kept in two halves that need not meet:
 *
 *     outstanding   the owner's, not atomic: packets cut, less those that the owner itself released
 *     count         shared, atomic: begins at TP__CHUNK_BIAS; a release by another thread takes 1
 *
 * As long as the chunk is its owner's current one:
 *
 *     packets alive = outstanding - (TP__CHUNK_BIAS - count)
 *
 * The bias is what the owner holds: far more than a chunk has packets, so other threads cannot
 * bring the count to 0 while the owner has the chunk. When it is full the owner retires it: takes
 * TP__CHUNK_BIAS - outstanding away, which leaves exactly the packets alive; from then on every
 * release, the former owner's too, goes to `count`, and the one who brings it to 0 gives the chunk
 * back to the chunk pool.
 *
 * "Is this packet's chunk mine?" is asked by comparing it with the thread's current chunk. The
 * answer cannot be wrong: a chunk with a packet alive is never freed, so the address names the same
 * chunk.
 *
 * If outstanding is 0, so is what others released: nothing is alive, and the owner begins the chunk
 * anew without touching the count. That is the usual end of a batch on one worker, whose packets
 * then stay in the same few cache lines for ever.
 */
#ifndef TWINPORT_CORE_MEMORY_CHUNK_H
#define TWINPORT_CORE_MEMORY_CHUNK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/memory/thread_cache.h"
#include "os/compiler.h"
#include "twinport/pool.h"

#define TP__CHUNK_BYTES (((size_t)64 << 10) - 16) /* with the pool's header 64 KiB: whole pages */
#define TP__CHUNK_BIAS  ((uint32_t)1 << 30)
#define TP__CHUNK_ALIGN ((size_t)TP_CACHE_LINE) /* of pieces: no two share a line */
/* Larger pieces do not come from chunks: a quarter is wasted at worst. */
#define TP__CHUNK_PIECE_MAX ((size_t)17 << 10)

typedef struct tp__chunk {
    /* The owner's. */
    uint8_t *next;        /* where the next piece begins */
    uint8_t *first;       /* where the first one begins */
    uint8_t *end;         /* of the chunk */
    uint32_t outstanding; /* see above */
    uint8_t apart[TP_CACHE_LINE];
    /* Everybody's. */
    _Atomic uint32_t count;
} tp__chunk;

/* The thread's chunk cannot hold the piece, or it has none: begins it anew or takes another, and
 * cuts. NULL if memory is out. */
void *tp__chunk_cut_slowly(tp__local *local, size_t bytes);

/* A release from a thread that does not own the chunk, or after it was retired. */
void tp__chunk_drop(tp__chunk *chunk);

/* Retires the calling thread's chunk if nothing in it is alive, and gives the chunks that nobody
 * uses back to the system; returns the bytes. Any thread. */
size_t tp__chunk_trim(void);

/* The chunk pool, or NULL before the first chunk. */
tp_pool *tp__chunk_pool(void);

/* Makes `count` chunks ready, which stay until tp__chunk_unreserve(), if they are not trimmed.
 * TP_ERR_NO_MEMORY, TP_ERR_FULL. */
tp_err tp__chunk_reserve(size_t count);
void tp__chunk_unreserve(size_t count);

/* Chunks that exist: in use, in magazines and in the pool. */
uint64_t tp__chunk_count(void);

/*
 * Cuts `bytes` (a multiple of TP__CHUNK_ALIGN, at most TP__CHUNK_PIECE_MAX) off the thread's chunk.
 * The chunk is local->chunk afterwards. NULL if memory is out.
 */
static inline void *tp__chunk_cut(tp__local *local, size_t bytes) {
    tp__chunk *chunk = local->chunk;
    if (TP_UNLIKELY(chunk == NULL) || TP_UNLIKELY(bytes > (size_t)(chunk->end - chunk->next))) {
        return tp__chunk_cut_slowly(local, bytes);
    }
    uint8_t *piece = chunk->next;
    chunk->next = piece + bytes;
    chunk->outstanding++;
    TP_UNPOISON(piece, bytes);
    return piece;
}

/* Gives the end of a piece back, from `used` bytes on, if it is the thread's newest. True if it
 * did. */
static inline bool tp__chunk_cut_back(
    const tp__local *local, tp__chunk *chunk, uint8_t *piece, size_t bytes, size_t used) {
    if (local == NULL || local->chunk != chunk || chunk->next != piece + bytes) {
        return false;
    }
    chunk->next = piece + used;
    TP_POISON(piece + used, bytes - used);
    return true;
}

/*
 * Releases a piece. `local`: the calling thread's record, or NULL if it has none.
 *
 * On the owner's thread nothing is shared and nothing needs an order. On another, see
 * tp__chunk_drop().
 */
static inline void tp__chunk_release(
    const tp__local *local, tp__chunk *chunk, uint8_t *piece, size_t bytes) {
    TP_POISON(piece, bytes);
    if (local == NULL || local->chunk != chunk) {
        tp__chunk_drop(chunk);
        return;
    }
    if (--chunk->outstanding == 0) {
        chunk->next = chunk->first;
    } else if (chunk->next == piece + bytes) {
        chunk->next = piece;
    }
}

#endif
