/*
 * A pool of blocks of one size.
 *
 * Each thread keeps two magazines of free blocks to itself; whole magazines travel between threads
 * over one lock-free stack. A block may be allocated on one thread and freed on another: it goes to
 * the freeing thread's magazine. The user never thinks about threads.
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
    const char *name;  /* for messages; kept, not copied: it must outlive the pool */
    size_t block_size; /* bytes, 1..16,777,216 */
    size_t reserve;    /* blocks allocated at creation; 0: none */
    size_t limit;      /* blocks that exist at most, free ones in the magazines of other threads
                          included; 0: no limit but memory */
} tp_pool_options;

typedef struct tp_pool_stats {
    size_t size;        /* sizeof(tp_pool_stats), set by the caller */
    uint64_t blocks;    /* blocks that exist */
    uint64_t main_gets; /* magazines taken from the shared stack */
    uint64_t main_puts; /* magazines given to it */
    uint64_t failures;  /* allocations refused: limit or memory */
} tp_pool_stats;

/* Creates a pool. At most TP_POOL_MAX exist at once. TP_ERR_INVALID, TP_ERR_FULL, TP_ERR_NO_MEMORY;
 * on error *pool is NULL. Any thread. */
#define TP_POOL_MAX 64
tp_err tp_pool_create(const tp_pool_options *options, tp_pool **pool);

/* Frees the pool and every block of it. No thread may use the pool any more; blocks still out make
 * it stop the process with a message, since somebody would write to freed memory. NULL is
 * ignored. */
void tp_pool_destroy(tp_pool *pool);

/* A block of at least block_size bytes, aligned to 16; or NULL (limit reached, or out of memory).
 * The caller owns it until tp_pool_free(). Any thread. */
void *tp_pool_allocate(tp_pool *pool);

/* Gives a block back, from any thread. A block of another pool, one that was never a pool's, and
 * one that is free already stop the process with a message that names the pool. NULL is ignored. */
void tp_pool_free(tp_pool *pool, void *block);

/* Frees the memory of blocks that nobody uses, as far as it is whole: blocks of 32 KiB and more one
 * by one, smaller ones by pieces of about 64 KiB of which every block is free. What other threads
 * keep in their magazines stays. Any thread. Returns the bytes freed. */
size_t tp_pool_trim(tp_pool *pool);

void tp_pool_get_stats(const tp_pool *pool, tp_pool_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
