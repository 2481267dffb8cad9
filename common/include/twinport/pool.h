/*
 * A pool of blocks of one size.
 *
 * Each thread has two magazines (arrays of free blocks) of its own; threads exchange whole
 * magazines through lock-free stacks. A block may be allocated on one thread and freed on another:
 * it goes to a magazine of the thread that frees it.
 *
 * Blocks are not cleared. The magazine scheme follows Bonwick and Adams, "Magazines and Vmem"
 * (2001), and method 1 of this project's requirements.
 */
#ifndef TWINPORT_POOL_H
#define TWINPORT_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "twinport/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tp_pool tp_pool;

typedef struct tp_pool_options {
    size_t size;       /* sizeof(tp_pool_options) */
    const char *name;  /* for messages; not copied: it must outlive the pool */
    size_t block_size; /* bytes, 1..16,777,216 */
    size_t reserve;    /* blocks allocated at creation; 0: none */
    size_t limit;      /* blocks that may exist, including free ones in other threads' magazines;
                          0: limited by memory only */
} tp_pool_options;

typedef struct tp_pool_stats {
    size_t size;        /* sizeof(tp_pool_stats), set by the caller */
    uint64_t blocks;    /* blocks that exist */
    uint64_t main_gets; /* filled magazines taken from the shared stack */
    uint64_t main_puts; /* filled magazines put on it */
    uint64_t failures;  /* failed allocations: limit reached or memory out */
} tp_pool_stats;

/* Creates a pool. At most TP_POOL_MAX exist at the same time. TP_ERR_INVALID, TP_ERR_FULL,
 * TP_ERR_NO_MEMORY; on error *pool is NULL. Any thread. */
#define TP_POOL_MAX 64
tp_err tp_pool_create(const tp_pool_options *options, tp_pool **pool);

/* Frees the pool and all its blocks. No thread may use the pool any more. If blocks are still
 * allocated, the process is ended with a message, because their users would write to freed memory.
 * NULL is ignored. */
void tp_pool_destroy(tp_pool *pool);

/* A block of at least block_size bytes, aligned to 16; NULL if the limit is reached or memory is
 * out. The caller owns it until tp_pool_free(). Any thread. */
void *tp_pool_allocate(tp_pool *pool);

/* Frees a block. Any thread. A block of another pool, a pointer that is not a block, and a block
 * that is already free end the process with a message that names the pool. NULL is ignored. */
void tp_pool_free(tp_pool *pool, void *block);

/* Returns free memory to the system: blocks of 32 KiB and more one by one, smaller ones in slabs of
 * about 64 KiB of which every block is free. Blocks in other threads' magazines stay. Any thread.
 * Returns the bytes freed. */
size_t tp_pool_trim(tp_pool *pool);

/* Any thread. `stats->size` must be set. */

void tp_pool_get_stats(const tp_pool *pool, tp_pool_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
