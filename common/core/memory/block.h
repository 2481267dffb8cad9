/*
 * The internals of tp_pool: the fast paths (at the end of this file), pool.c (a thread's magazines;
 * creating, trimming and destroying pools), registry.c (the register of pools), depot.c (what
 * threads share), slabs.c (the memory that blocks are cut from).
 *
 * WHERE A BLOCK IS. At every moment each block of a pool is in exactly one of these places:
 *     with the user                                   holder = TP__HELD_BY_USER
 *     in a magazine, of a thread or of the depot      holder = the magazine's index
 *     on the free list                                holder = TP__HELD_BY_FREE_LIST
 * and     blocks = with users + sum of all magazines' counts + on the free list
 * whenever no call is in progress.
 *
 * WHERE A MAGAZINE IS. `loaded` or `previous` of one thread's cache, or on the stack `filled`
 * (count >= 1), or on the stack `empty` (count = 0), or in use by a call in progress. Its count and
 * blocks are accessed only from that place; the stacks pass it from thread to thread (see stack.h).
 * Its memory stays until the pool is destroyed.
 */
#ifndef TWINPORT_CORE_MEMORY_BLOCK_H
#define TWINPORT_CORE_MEMORY_BLOCK_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/counter.h"
#include "core/memory/stack.h"
#include "core/memory/thread_cache.h"
#include "os/compiler.h"
#include "os/thread.h"
#include "twinport/pool.h"

#define TP__HELD_BY_USER      ((uint32_t)0)
#define TP__HELD_BY_FREE_LIST UINT32_MAX

/* In front of every block. */
typedef struct tp__block {
    _Atomic uint32_t holder;
    uint32_t slab; /* index in pool->slabs of the slab it was cut from */
    uint64_t mark; /* the pool's mark ^ the block's address */
} tp__block;

_Static_assert(sizeof(tp__block) == 16, "blocks stay aligned to 16 behind their headers");

typedef struct tp__magazine {
    _Atomic uint32_t next; /* belongs to the stacks */
    uint32_t index;        /* 1, 2, ... within the pool; never changes */
    uint32_t count;        /* 0..pool->rounds */
    uint32_t reserved;
    void *blocks[]; /* [0, count) are free blocks */
} tp__magazine;

/* Magazines are allocated in rows that double in size: row r has TP__ROW_MAGAZINES << r of them.
 * So an index leads to its magazine through a table of fixed size, and no magazine ever moves. */
#define TP__ROWS          20
#define TP__ROW_MAGAZINES 16

typedef struct tp__slab {
    uint8_t *memory; /* NULL: the entry is free, and `marked` is the next free entry + 1, or 0 */
    uint32_t blocks; /* cut from it */
    uint32_t marked; /* during a trim: how many of them are marked as free; otherwise 0 */
} tp__slab;

struct tp_pool {
    /* Constant after creation. */
    uint64_t mark;     /* identifies this pool; no two pools of the process ever have the same */
    uint32_t slot;     /* in the register and in every thread cache */
    uint32_t rounds;   /* blocks that a magazine can hold */
    size_t block_size; /* rounded up to 16 */
    size_t stride;     /* header and block */
    size_t slab_blocks;
    size_t limit; /* SIZE_MAX: none */
    size_t magazine_bytes;
    const char *name;
    uint8_t apart[TP_CACHE_LINE];

    /* The depot: touched once per magazine, not once per block. */
    tp__stack filled;
    uint8_t filled_apart[TP_CACHE_LINE - sizeof(tp__stack)];
    tp__stack empty;
    uint8_t empty_apart[TP_CACHE_LINE - sizeof(tp__stack)];
    _Atomic uint64_t ready;     /* blocks in `filled`; approximate while calls are in progress */
    _Atomic uint64_t ready_low; /* the lowest `ready` since the last tp__pool_reap() */
    _Atomic uint64_t reserved;  /* blocks that tp__pool_reap() does not free, used or not */
    _Atomic uint64_t gets;
    _Atomic uint64_t puts;
    _Atomic uint64_t failures;
    _Atomic uint64_t blocks; /* changed under the mutex, read by any thread */
    _Atomic(uint8_t *) rows[TP__ROWS];

    /* Growth, trimming and the free list: under the mutex. */
    tp_mutex mutex;
    void *row_memory[TP__ROWS];
    uint32_t magazines; /* that exist */
    tp__slab *slabs;
    uint32_t slab_capacity;
    uint32_t slab_count; /* entries ever used */
    uint32_t slab_free;  /* first free entry + 1, or 0 */
    void *free_list;     /* linked through the blocks' first bytes */
};

static inline tp__block *tp__block_of(void *block) {
    return (tp__block *)block - 1;
}

/* Index 1 is the first of row 0; row r begins at 1 + TP__ROW_MAGAZINES * (2^r - 1). */
static inline tp__magazine *tp__magazine_at(const tp_pool *pool, uint32_t index) {
    assert(index >= 1);
    uint32_t within = index - 1;
    uint32_t row = 0;
    while (within >= (uint32_t)TP__ROW_MAGAZINES << row) {
        within -= (uint32_t)TP__ROW_MAGAZINES << row;
        row++;
    }
    assert(row < TP__ROWS);
    /* Relaxed: the index came from a stack or was read under the mutex, which orders the load after
     * the store of the row. */
    uint8_t *first = atomic_load_explicit(&pool->rows[row], memory_order_relaxed);
    assert(first != NULL);
    return (tp__magazine *)(void *)(first + within * pool->magazine_bytes);
}

/* ---- pool.c ---------------------------------------------------------------------------------- */

/* Creates a pool of the core, in the slots that users' pools cannot take. */
tp_err tp__pool_create_own(const tp_pool_options *options, tp_pool **pool);

/* The slow paths of tp__pool_allocate_on() and tp__pool_free_on() (below): the loaded magazine is
 * empty or full, or the thread has none of this pool. */
void *tp__pool_allocate_slowly(tp__thread_cache *thread, tp_pool *pool);
void tp__pool_free_slowly(tp__thread_cache *thread, tp_pool *pool, void *block);

/* Returns the thread's magazines of the core's own pools to their depots, if they look as they did
 * at the last call: the thread has probably not used them since. */
void tp__pool_return_idle(tp__thread_cache *thread);

/* Frees memory that was not used since the last call, at most `most` bytes; returns how much. Less
 * than 256 KiB is not worth a trim, and stays. Any thread, one at a time for each pool. */
size_t tp__pool_reap(tp_pool *pool, size_t most);

/* ---- pool_check.c: the first broken invariant, or NULL --------------------------------------- */

/* Slabs cover their entries, their blocks are the pool's and add up to `blocks`, the free list has
 * exactly the blocks that it holds, and no magazine is missing. Under the pool's mutex; other
 * threads may use the pool. */
const char *tp__pool_check(const tp_pool *pool);

/* The same without the mutex, while no thread uses the pool; and the magazines: each within its
 * rounds and with its own blocks, on the right stack, and all blocks add up. */
const char *tp__pool_check_unused(const tp_pool *pool);

/* ---- registry.c: any thread ------------------------------------------------------------------ */

/* Gives the pool a mark and one of the slots first..end-1. TP_ERR_FULL: none of them is free. */
tp_err tp__registry_add(tp_pool *pool, uint32_t first, uint32_t end);
void tp__registry_remove(const tp_pool *pool);

/* The lock also separates the destruction of a pool from the end of threads that used it. */
void tp__registry_lock(void);
void tp__registry_unlock(void);

/* The pool in the slot, or NULL. Under the registry's lock, unless the pool is one of the core's
 * own, which exist for the life of the process. */
tp_pool *tp__registry_pool(uint32_t slot);

static inline bool tp__block_is_aligned(const void *block) {
    return ((uintptr_t)block & 15) == 0;
}

/* True if it is a block of this pool, in use or free. */
static inline bool tp__pool_owns(const tp_pool *pool, const void *block) {
    return TP_LIKELY(tp__block_is_aligned(block)) &&
           (((const tp__block *)block - 1)->mark ^ (uint64_t)(uintptr_t)block) == pool->mark;
}

/* Ends the process: `block`, freed to `pool` or found in it, was freed twice or is not a block of
 * the pool. */
TP_NORETURN void tp__pool_stop(const tp_pool *pool, const void *block);

/* ---- depot.c: any thread --------------------------------------------------------------------- */

/* A magazine with at least one block, from the stack or from fresh memory; NULL if the limit is
 * reached or memory is out. */
tp__magazine *tp__depot_get_filled(tp_pool *pool);
/* A magazine without blocks; NULL if memory is out. */
tp__magazine *tp__depot_get_empty(tp_pool *pool);
/* Puts a magazine on the stack `filled` or `empty`, by its count. */
void tp__depot_put(tp_pool *pool, tp__magazine *magazine);

/* Allocates and frees one block for a thread that has no magazine, because memory is out.
 * tp__depot_get_block(): NULL if the limit is reached or memory is out. */
void *tp__depot_get_block(tp_pool *pool);
void tp__depot_put_block(tp_pool *pool, void *block);

/* Frees the memory of slabs all of whose blocks are in the depot, at most `most` blocks; returns
 * the bytes. */
size_t tp__depot_trim(tp_pool *pool, uint64_t most);

/* Allocates `count` more blocks. False: the limit is reached or memory is out; blocks allocated up
 * to then stay in the depot. */
bool tp__depot_reserve(tp_pool *pool, size_t count);

/* The number of free blocks, in the magazines of all threads too. Only while no thread uses the
 * pool. */
uint64_t tp__depot_count_free(const tp_pool *pool);
/* Frees all memory of the pool except the struct itself. */
void tp__depot_free_all(tp_pool *pool);

/* ---- slabs.c: under the mutex ---------------------------------------------------------------- */

/* Allocates a slab of at most `count` blocks (at most a slab's number, and what the limit allows)
 * and writes their headers; `cut` receives their number. NULL: limit reached or memory out. Block i
 * is at memory + i * stride + sizeof(tp__block). */
uint8_t *tp__slabs_grow(tp_pool *pool, size_t count, size_t *cut);

/* A trim, in four steps:
 *     1. tp__slabs_mark() for every free block;
 *     2. tp__slabs_choose(): chooses slabs whose blocks are all marked, with at most `most` blocks
 *        together, and erases the marks of all other slabs;
 *     3. tp__slabs_reclaimable() for every free block: if it returns true, the block's slab is one
 *        of the chosen, and the caller must drop the block from its list or magazine;
 *     4. tp__slabs_reclaim(): frees the chosen slabs; returns their bytes. */
void tp__slabs_mark(tp_pool *pool, void *block);
void tp__slabs_choose(tp_pool *pool, uint64_t most);
bool tp__slabs_reclaimable(const tp_pool *pool, void *block);
size_t tp__slabs_reclaim(tp_pool *pool);

void tp__slabs_free_all(tp_pool *pool);

/* ---- one block in and out of a magazine that the caller owns --------------------------------- */

/*
 * The field `holder` detects a double free without a read-modify-write:
 *   - the second of two ordered frees finds that the block is not with the user, and ends the
 *     process;
 *   - two simultaneous frees of one block, on two threads, may both find it with the user, and each
 *     puts it into a magazine of its thread. The holder names only one of the two magazines, so the
 *     take from the other one ends the process, or the next free does.
 * All accesses are relaxed: between one user's free and the next user's take, the block is passed
 * on, with the necessary order, by what passes its magazine on.
 */
static inline void *tp__magazine_take(const tp_pool *pool, tp__magazine *magazine) {
    assert(magazine->count > 0);
    void *block = magazine->blocks[--magazine->count];
    tp__block *header = tp__block_of(block);
    if (TP_UNLIKELY(
            atomic_load_explicit(&header->holder, memory_order_relaxed) != magazine->index)) {
        tp__pool_stop(pool, block);
    }
    atomic_store_explicit(&header->holder, TP__HELD_BY_USER, memory_order_relaxed);
    TP_UNPOISON(block, pool->block_size);
    return block;
}

static inline void tp__magazine_put(const tp_pool *pool, tp__magazine *magazine, void *block) {
    assert(magazine->count < pool->rounds);
    TP_POISON(block, pool->block_size);
    atomic_store_explicit(&tp__block_of(block)->holder, magazine->index, memory_order_relaxed);
    magazine->blocks[magazine->count++] = block;
}

/* ---- one block from and to a thread's cache -------------------------------------------------- */

static inline bool tp__pool_cache_is_open(const tp__pool_cache *cache, const tp_pool *pool) {
    return TP_LIKELY(cache->mark == pool->mark);
}

/* tp_pool_allocate() and tp_pool_free(), with the calling thread's cache; `thread` is NULL if it
 * has none. */
static inline void *tp__pool_allocate_on(tp__thread_cache *thread, tp_pool *pool) {
    if (TP_LIKELY(thread != NULL)) {
        tp__pool_cache *cache = &thread->pools[pool->slot];
        if (tp__pool_cache_is_open(cache, pool) && TP_LIKELY(cache->loaded->count > 0)) {
            return tp__magazine_take(pool, cache->loaded);
        }
    }
    return tp__pool_allocate_slowly(thread, pool);
}

static inline void tp__pool_free_on(tp__thread_cache *thread, tp_pool *pool, void *block) {
    if (TP_UNLIKELY(!tp__pool_owns(pool, block)) ||
        TP_UNLIKELY(atomic_load_explicit(&tp__block_of(block)->holder, memory_order_relaxed) !=
                    TP__HELD_BY_USER)) {
        tp__pool_stop(pool, block);
    }
    if (TP_LIKELY(thread != NULL)) {
        tp__pool_cache *cache = &thread->pools[pool->slot];
        if (tp__pool_cache_is_open(cache, pool) && TP_LIKELY(cache->loaded->count < pool->rounds)) {
            tp__magazine_put(pool, cache->loaded, block);
            return;
        }
    }
    tp__pool_free_slowly(thread, pool, block);
}

#endif
